"""`/v1/stores`."""

import json
from typing import Any

import pytest

from libs.common.auth import create_key
from services.ingest.headers import signed
from services.ingest.signatures import sign
from tests.integration.ingest.ground import STORE, Ground
from tests.unit.ingest.payloads import woocommerce_order

ABSENT = object()


async def test_a_new_store(ground: Ground) -> None:
    answer = await ground.http.post("/v1/stores", json=STORE | {"domain": "HTTPS://Demo.MyShopify.com/admin"})
    assert answer.status_code == 201
    store = answer.json()
    key = store["store_key"]
    assert key.startswith("st_")
    assert store == {
        "store_key": key,
        "webhook_url": f"{ground.settings.public_url}/webhooks/shopify/{key}",
        "platform": "shopify",
        "domain": "demo.myshopify.com",
        "currency": "EUR",
        "timezone": "Europe/Berlin",
        "name": "demo.myshopify.com",
        "consent": "explicit",
        "email": None,
        "postal_address": None,
        "created_at": "2026-03-02T12:00:00Z",
        "state": "active",
    }
    assert await ground.get(f"/v1/stores/{key}") == store
    assert (await ground.get("/v1/stores")) == {"data": [store], "next": None}


async def test_the_same_domain_again_changes_the_store(ground: Ground) -> None:
    key = await ground.register(name="Tea & Co", consent="soft_opt_in")
    answer = await ground.http.post("/v1/stores", json=STORE | {"currency": "chf"})
    assert answer.status_code == 200
    changed = answer.json()
    assert (changed["store_key"], changed["currency"]) == (key, "CHF")
    assert (changed["name"], changed["consent"]) == ("Tea & Co", "soft_opt_in")
    assert await ground.register(platform="woocommerce") != key


async def test_shops_of_one_host_are_stores_of_their_own(ground: Ground) -> None:
    german = await ground.register(platform="woocommerce", domain="https://multi.example/de/", secrets=["secret of de"])
    french = await ground.register(platform="woocommerce", domain="https://multi.example/fr/", secrets=["secret of fr"])
    assert french != german
    assert (await ground.get(f"/v1/stores/{german}"))["domain"] == "multi.example/de"
    for store, secret in ((german, b"secret of de"), (french, b"secret of fr")):
        body = json.dumps(woocommerce_order()).encode()
        headed = signed("woocommerce", "order.created", "1", sign(secret, body).decode())
        answer = await ground.http.post(f"/webhooks/woocommerce/{store}", content=body, headers=headed)
        assert answer.status_code == 200
    made = await ground.http.post(f"/v1/stores/{german}/public-keys", json={})
    assert made.json()["origins"] == ["https://multi.example"]


async def test_each_change_is_told_to_the_others(ground: Ground) -> None:
    key = await ground.register()
    await ground.register(name="Tea")
    async with ground.database.autocommit() as pg:
        rows = await pg.fetch("""SELECT type, key, data FROM log_commerce ORDER BY "offset" """)
    data = rows[-1]["data"].decode()
    assert [(row["type"], row["key"]) for row in rows] == [("store.observed", f"{key}:store:{key}")] * 2
    assert '"position":2' in data
    assert '"name":"Tea"' in data
    assert '"consent_policy":"explicit"' in data


async def test_where_its_customers_write_to(ground: Ground) -> None:
    key = await ground.register(email="post@tea.example", postal_address="Tea & Co, 1 Tea Street, Leeds")
    answer = await ground.http.patch(f"/v1/stores/{key}", json={"email": "hello@tea.example"})
    assert (answer.json()["email"], answer.json()["postal_address"]) == (
        "hello@tea.example",
        "Tea & Co, 1 Tea Street, Leeds",
    )
    async with ground.database.autocommit() as pg:
        told = await pg.fetchval("""SELECT data FROM log_commerce ORDER BY "offset" DESC LIMIT 1""")
    assert b'"email":"hello@tea.example"' in told
    assert b'"postal_address":"Tea & Co, 1 Tea Street, Leeds"' in told


async def test_where_its_customers_write_to_may_end(ground: Ground) -> None:
    given = {"email": "post@tea.example", "postal_address": "Tea & Co, 1 Tea Street, Leeds"}
    key = await ground.register(**given)
    kept = (await ground.http.post("/v1/stores", json=STORE)).json()
    assert {name: kept[name] for name in given} == given
    told = (await ground.http.patch(f"/v1/stores/{key}", json={"email": None})).json()
    assert (told["email"], told["postal_address"]) == (None, given["postal_address"])
    told = (await ground.http.post("/v1/stores", json=STORE | {"postal_address": None})).json()
    assert (told["store_key"], told["email"], told["postal_address"]) == (key, None, None)
    changes = (await ground.http.get(f"/v1/stores/{key}/changes")).json()["data"]
    assert {"email": None} in [change["changes"] for change in changes]
    for field in ("name", "currency", "timezone", "consent"):
        refused = await ground.http.patch(f"/v1/stores/{key}", json={field: None})
        assert [error["pointer"] for error in refused.json()["errors"]] == [f"/{field}"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", "tea.example"),
        ("email", "tëa@tea.example"),
        ("email", "=?utf-8?q?x?=@tea.example"),
        ("email", f"{'x' * 65}@tea.example"),
        ("email", "a@tea.example\r\nBcc: b@tea.example"),
        ("postal_address", "1 Tea Street\nLeeds"),
        ("postal_address", " "),
    ],
)
async def test_no_address_of_a_store(ground: Ground, field: str, value: str) -> None:
    answer = await ground.http.post("/v1/stores", json=STORE | {field: value})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == f"/{field}"


async def test_secrets_are_nowhere_to_be_read(ground: Ground) -> None:
    secret = "canary-secret-canary"
    key = await ground.register(secrets=[secret])
    async with ground.database.autocommit() as pg:
        stored = await pg.fetchval("SELECT string_agg(s::text, '') FROM stores s")
    assert secret not in stored
    assert secret.encode().hex() not in stored
    for path in ("/v1/stores", f"/v1/stores/{key}"):
        assert "secret" not in (await ground.http.get(path)).text


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"secrets": [""]}, "/secrets/0"),
        ({"secrets": ["long enough", "short"]}, "/secrets/1"),
        ({"secrets": []}, "/secrets"),
        ({"secrets": ["x" * 256]}, "/secrets/0"),
        ({"secrets": [f"secret number {n}" for n in range(9)]}, "/secrets"),
        ({"secrets": "hush hush hush"}, "/secrets"),
        ({"secrets": [None]}, "/secrets/0"),
        ({"secrets": ABSENT}, "/secrets"),
        ({"platform": "magento"}, "/platform"),
        ({"platform": "events"}, "/secrets"),
        ({"platform": ABSENT}, "/platform"),
        ({"secrets": ["whsec_3f9a7c52e1d84b06\n"]}, "/secrets/0"),
        ({"secrets": [" whsec_3f9a7c52e1d84b06"]}, "/secrets/0"),
        ({"domain": ""}, "/domain"),
        ({"domain": "127.0.0.1:99999"}, "/domain"),
        ({"domain": "shop.example:0"}, "/domain"),
        ({"domain": "not a host"}, "/domain"),
        ({"domain": "a\x00b"}, "/domain"),
        ({"domain": "xn--a.example"}, "/domain"),
        ({"domain": "ada@shop.example"}, "/domain"),
        ({"domain": "shop.example#b"}, "/domain"),
        ({"domain": "shop.xn--.example"}, "/domain"),
        ({"domain": "\u2764.example"}, "/domain"),
        ({"domain": ABSENT}, "/domain"),
        ({"currency": "EURO"}, "/currency"),
        ({"currency": "XXX"}, "/currency"),
        ({"currency": ABSENT}, "/currency"),
        ({"timezone": "Mars/Olympus"}, "/timezone"),
        ({"timezone": "../etc/passwd"}, "/timezone"),
        ({"timezone": ABSENT}, "/timezone"),
        ({"consent": "whatever"}, "/consent"),
        ({"name": ""}, "/name"),
        ({"name": "a\x00b"}, "/name"),
        ({"name": "x" * 300}, "/name"),
        ({"colour": "red"}, "/colour"),
    ],
)
async def test_what_is_wrong_is_pointed_at(ground: Ground, change: dict[str, Any], pointer: str) -> None:
    body = {name: value for name, value in (STORE | change).items() if value is not ABSENT}
    answer = await ground.http.post("/v1/stores", json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]
    for secret in change.get("secrets", []) if isinstance(change.get("secrets"), list) else []:
        assert not secret or secret not in answer.text


async def test_every_bad_field_is_named_at_once(ground: Ground) -> None:
    bad = {"platform": "x", "domain": "", "secrets": ["s"], "currency": "?"}
    answer = await ground.http.post("/v1/stores", json=bad)
    pointers = {error["pointer"] for error in answer.json()["errors"]}
    assert pointers == {"/platform", "/domain", "/secrets/0", "/currency", "/timezone"}


@pytest.mark.parametrize(("content", "status"), [(b"{", 400), (b"", 422), (b"[]", 422), (b"\xff", 400)])
async def test_a_body_that_is_no_object(ground: Ground, content: bytes, status: int) -> None:
    answer = await ground.http.post("/v1/stores", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


async def test_pages_of_stores(ground: Ground) -> None:
    keys = [await ground.register(domain=f"shop{n}.example") for n in range(5)]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for size in (2, 2, 1):
        page = await ground.get("/v1/stores", limit=2, **cursor)
        assert len(page["data"]) == size
        seen += [store["store_key"] for store in page["data"]]
        cursor = {"cursor": page["next"]}
    assert cursor == {"cursor": None}
    assert sorted(seen) == sorted(keys)


@pytest.mark.parametrize("query", ["limit=0", "limit=251", "limit=x", "cursor=nonsense", "cursor=WzFd"])
async def test_bad_pages(ground: Ground, query: str) -> None:
    answer = await ground.http.get(f"/v1/stores?{query}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/" + query.partition("=")[0]


async def test_a_store_is_asked_about_as_soon_as_it_is_registered(ground: Ground) -> None:
    key = await ground.register()
    assert (await ground.get("/v1/deliveries", store=key))["data"] == []
    assert (await ground.get("/v1/deliveries/counts", store=key))["observed"] == 0


async def test_another_tenant_sees_and_changes_nothing_of_ours(ground: Ground) -> None:
    key = await ground.register()
    await ground.shopify(key, {"id": 1})
    [delivery] = (await ground.get("/v1/deliveries"))["data"]
    other = {"authorization": f"Bearer {await create_key(ground.database, 'other', {'*'}, 'of the other tenant')}"}
    assert (await ground.http.get("/v1/stores", headers=other)).json()["data"] == []
    assert (await ground.http.get(f"/v1/stores/{key}", headers=other)).status_code == 404
    assert (await ground.http.get("/v1/deliveries", headers=other)).json()["data"] == []
    assert (await ground.http.get(f"/v1/deliveries/{delivery['id']}", headers=other)).status_code == 404
    for path in ("/v1/deliveries", "/v1/deliveries/counts"):
        for headers, store in ((other, key), ({}, "st_none")):
            answer = await ground.http.get(path, params={"store": store}, headers=headers)
            assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (404, "store")
    assert (await ground.http.get("/v1/deliveries/counts", headers=other)).json()["pending"] == 0
    event = {"id": "e", "type": "product.viewed", "store": key, "profile": {"phone": "+4930901820"}}
    answer = await ground.http.post("/v1/events", json=event | {"properties": {"product_id": "1"}}, headers=other)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/store")
    # The same domain is another store of theirs.
    theirs = (await ground.http.post("/v1/stores", json=STORE, headers=other)).json()["store_key"]
    assert theirs != key


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/v1/stores", "stores:write"),
        ("GET", "/v1/stores", "stores:read"),
        ("GET", "/v1/stores/st_1", "stores:read"),
        ("PATCH", "/v1/stores/st_1", "stores:write"),
        ("GET", "/v1/stores/st_1/secrets", "stores:read"),
        ("GET", "/v1/stores/st_1/changes", "stores:read"),
        ("GET", "/v1/deliveries", "deliveries:read"),
        ("GET", "/v1/deliveries/counts", "deliveries:read"),
        ("GET", "/v1/deliveries/0190f1a0-0000-7000-8000-000000000000", "deliveries:read"),
        ("POST", "/v1/deliveries/replays", "deliveries:write"),
        ("GET", "/v1/deliveries/replays", "deliveries:read"),
        ("GET", "/v1/deliveries/replays/0190f1a0-0000-7000-8000-000000000000", "deliveries:read"),
        ("POST", "/v1/deliveries/replays/0190f1a0-0000-7000-8000-000000000000/cancel", "deliveries:write"),
        ("POST", "/v1/events", "events:write"),
        ("GET", "/v1/stores/st_1/public-keys", "stores:read"),
        ("POST", "/v1/stores/st_1/public-keys", "stores:write"),
        ("DELETE", "/v1/stores/st_1/public-keys/pk_1", "stores:write"),
        ("POST", "/v1/stores/st_1/proofs", "events:write"),
        ("POST", "/v1/privacy-requests", "privacy:write"),
        ("GET", "/v1/privacy-requests", "privacy:read"),
        ("GET", "/v1/privacy-requests/0190f1a0-0000-7000-8000-000000000000", "privacy:read"),
        ("GET", "/v1/privacy-requests/0190f1a0-0000-7000-8000-000000000000/export", "privacy:read"),
    ],
)
async def test_keys_and_scopes(ground: Ground, method: str, path: str, scope: str) -> None:
    assert (await ground.http.request(method, path, headers={"authorization": ""})).status_code == 401
    poor = await create_key(ground.database, "default", {"profiles:read"}, "poor")
    answer = await ground.http.request(method, path, headers={"authorization": f"Bearer {poor}"})
    assert (answer.status_code, scope in answer.json()["detail"]) == (403, True)

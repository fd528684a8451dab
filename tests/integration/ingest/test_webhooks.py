"""The webhook route: what is answered, and what is in the journal then."""

import asyncio
import gzip
import json

import pytest

from tests.integration.ingest.ground import SECRET, Ground, shopify_headers, sign
from tests.unit.ingest.payloads import shopify_order, woocommerce_order


async def test_a_signed_order_is_journalled_before_it_is_answered(ground: Ground) -> None:
    store = await ground.register()
    answer = await ground.shopify(store, shopify_order())
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert await ground.journalled() == 1
    # The request's id is the delivery's.
    found = await ground.get(f"/v1/deliveries/{answer.headers['x-request-id']}")
    assert (found["outcome"], found["topic"], found["delivery_id"]) == ("pending", "orders/create", "w-1")


async def test_the_header_family_without_x_is_taken_in_any_case(ground: Ground) -> None:
    store = await ground.register()
    body = json.dumps(shopify_order()).encode()
    headers = {
        "Shopify-Topic": "orders/create",
        "SHOPIFY-HMAC-SHA256": sign(body),
        "Shopify-Webhook-Id": "w-9",
    }
    answer = await ground.http.post(f"/webhooks/shopify/{store}", content=body, headers=headers)
    assert answer.status_code == 200
    [found] = (await ground.get("/v1/deliveries"))["data"]
    assert (found["topic"], found["delivery_id"]) == ("orders/create", "w-9")


async def test_a_repeat_is_answered_200_and_kept_once(ground: Ground) -> None:
    store = await ground.register()
    for _ in range(3):
        assert (await ground.shopify(store, shopify_order())).status_code == 200
    assert await ground.journalled() == 1
    counts = await ground.get("/v1/deliveries/counts", store=store)
    assert (counts["pending"], counts["duplicates"]) == (1, 2)


async def test_only_the_same_store_topic_id_and_body_are_a_repeat(ground: Ground) -> None:
    one, other = await ground.register(), await ground.register(domain="other.myshopify.com")
    order = shopify_order()
    await ground.shopify(one, order)
    await ground.shopify(one, order, topic="orders/paid")
    await ground.shopify(one, order, id_="w-2")
    await ground.shopify(one, order | {"note": "later"})
    await ground.shopify(other, order)
    assert await ground.journalled() == 5


async def test_woocommerce_reuses_delivery_ids(ground: Ground) -> None:
    store = await ground.register(platform="woocommerce", domain="shop.example")
    for status in ("pending", "processing"):
        answer = await ground.woocommerce(store, woocommerce_order(status=status), id_="same")
        assert answer.status_code == 200
    assert await ground.journalled() == 2


@pytest.mark.parametrize("form", [{"content-type": "application/x-www-form-urlencoded"}, {}])
async def test_the_ping_is_answered_200_and_leaves_nothing(ground: Ground, form: dict[str, str]) -> None:
    store = await ground.register(platform="woocommerce", domain="shop.example")
    for key in (store, "st_unknown"):
        answer = await ground.http.post(f"/webhooks/woocommerce/{key}", content=b"webhook_id=12", headers=form)
        assert answer.status_code == 200
    assert await ground.journalled() == 0


async def test_bad_signatures_and_unknown_stores_get_the_same_answer(ground: Ground) -> None:
    store = await ground.register()
    body = b'{"id": 1}'
    good = shopify_headers(body)
    path = f"/webhooks/shopify/{store}"
    answers = [
        await ground.http.post(path, content=body, headers=good | {"x-shopify-hmac-sha256": bad})
        for bad in (sign(body, "another secret"), "", "not base64", sign(body) + "AAAA", "A" * 5000)
    ]
    without = {name: value for name, value in good.items() if "hmac" not in name}
    answers.append(await ground.http.post(f"/webhooks/shopify/{store}", content=body, headers=without))
    answers.append(await ground.http.post(f"/webhooks/shopify/{store}", content=body + b" ", headers=good))
    answers.append(await ground.http.post("/webhooks/shopify/st_unknown", content=body, headers=good))
    # The right key under the other platform is no store either.
    answers.append(await ground.http.post(f"/webhooks/woocommerce/{store}", content=body, headers=good))
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1
    assert answers[0].headers["content-type"] == "application/problem+json"
    assert answers[0].json()["code"] == "unverified"
    assert await ground.journalled() == 0
    counts = await ground.get("/v1/deliveries/counts", store=store)
    assert counts["refused"] == {"bad_signature": 7, "wrong_platform": 1}


async def test_a_signature_may_end_in_a_newline(ground: Ground) -> None:
    store = await ground.register()
    body = b'{"id": 1}'
    raw = [(b"x-shopify-topic", b"orders/create"), (b"x-shopify-hmac-sha256", sign(body).encode() + b"\n")]
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body}

    async def send(message: object) -> None:
        assert isinstance(message, dict)
        sent.append(message)

    path = f"/webhooks/shopify/{store}"
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "headers": raw}
    await ground.app(scope | {"query_string": b"", "root_path": "", "http_version": "1.1"}, receive, send)
    assert sent[0]["status"] == 200


async def test_both_secrets_are_valid_during_a_rotation(ground: Ground) -> None:
    store = await ground.register()
    assert await ground.register(secrets=["the new secret", SECRET]) == store
    assert (await ground.shopify(store, {"id": 1})).status_code == 200
    assert (await ground.shopify(store, {"id": 2}, secret="the new secret")).status_code == 200
    await ground.register(secrets=["the new secret"])
    assert (await ground.shopify(store, {"id": 3})).status_code == 401
    assert (await ground.shopify(store, {"id": 3}, secret="the new secret")).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'"a string"',
        b"[]",
        b"<xml/>",
        b"\x00\xff\xfe",
        gzip.compress(b"{}", mtime=0),
        b'{"note": "\\u0000"}',
        b"[" * 20_000,
    ],
)
async def test_whatever_is_signed_is_kept_as_it_came(ground: Ground, body: bytes) -> None:
    store = await ground.register()
    answer = await ground.shopify(store, body)
    assert answer.status_code == 200
    found = await ground.get(f"/v1/deliveries/{answer.headers['x-request-id']}")
    kept = found["body"].encode() if found["body_encoding"] == "text" else None
    assert kept == body or found["body_encoding"] == "base64"
    await ground.drain()
    found = await ground.get(f"/v1/deliveries/{answer.headers['x-request-id']}")
    assert found["outcome"] in {"observed", "dead"}


async def test_a_delivery_without_a_topic_is_kept(ground: Ground) -> None:
    store = await ground.register()
    body = b'{"id": 1}'
    answer = await ground.http.post(
        f"/webhooks/shopify/{store}", content=body, headers={"x-shopify-hmac-sha256": sign(body)}
    )
    assert answer.status_code == 200
    await ground.drain()
    found = await ground.get(f"/v1/deliveries/{answer.headers['x-request-id']}")
    assert (found["topic"], found["delivery_id"], found["outcome"]) == ("", "", "parked")


async def test_other_platforms_and_methods(ground: Ground) -> None:
    store = await ground.register()
    assert (await ground.http.post(f"/webhooks/magento/{store}", content=b"{}")).status_code == 404
    assert (await ground.http.post(f"/webhooks/events/{store}", content=b"{}")).status_code == 404
    assert (await ground.http.get(f"/webhooks/shopify/{store}")).status_code == 405


async def test_concurrent_deliveries_share_commits_and_leave_no_gap(ground: Ground) -> None:
    store = await ground.register()
    answers = await asyncio.gather(*(ground.shopify(store, {"id": n // 2}, id_=str(n // 2)) for n in range(400)))
    assert {answer.status_code for answer in answers} == {200}
    assert await ground.journalled() == 200
    async with ground.database.autocommit() as pg:
        rows = await pg.fetch(
            """
            SELECT p.next_offset, count(l.*) AS n, coalesce(max(l."offset"), -1) AS last
            FROM log_partitions p LEFT JOIN log_journal l USING (partition)
            WHERE p.topic = 'journal' GROUP BY 1, p.partition
            """
        )
        commits = await pg.fetchval("SELECT count(DISTINCT xmin::text) FROM log_journal")
    assert all(row["next_offset"] == row["n"] == row["last"] + 1 for row in rows)
    assert commits < 100
    assert (await ground.get("/v1/deliveries/counts", store=store))["duplicates"] == 200


async def test_signatures_and_credentials_are_not_stored(ground: Ground) -> None:
    store = await ground.register()
    answer = await ground.shopify(store, {"id": 1})
    found = await ground.get(f"/v1/deliveries/{answer.headers['x-request-id']}")
    assert found["headers"]["x-shopify-topic"] == "orders/create"
    assert not {"x-shopify-hmac-sha256", "authorization"} & set(found["headers"])

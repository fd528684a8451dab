"""`POST /v1/browser/events`: pages, and those who only pretend to be one."""

import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from services.ingest.browser_api import LARGEST_BODY
from services.ingest.browser_models import MOST_BROWSER_EVENTS
from tests.integration.ingest.conftest import Grounds
from tests.integration.ingest.ground import Ground
from tests.integration.ingest.pages import ORIGIN, PATH, TOKEN, browsing, proof, public_key, view

EVENTS = {"platform": "events", "secrets": []}
CUP = {"title": "Cup", "quantity": 2, "price": {"amount": "9.50", "currency": "EUR"}}
CORS = "access-control-allow-origin"
FEW = 4
"""In a minute: the fifth is there after 15 s."""


async def test_a_beacon_is_observed_once(ground: Ground) -> None:
    store = await ground.register()
    async with browsing(ground, await public_key(ground, store)) as page:
        for _ in range(2):
            answer = await page.send(view())
            assert (answer.status_code, answer.json()["accepted"]) == (202, 1)
            assert (answer.headers[CORS], answer.headers["vary"]) == (ORIGIN, "Origin")
        answer = await page.post(json.dumps({"events": [view("e-2")]}), "application/json")
        assert answer.status_code == 202
        key = page.key
    await ground.drain()
    [one, two] = await ground.commerce()
    assert [one[2]["source_id"], two[2]["source_id"]] == [f"{key}:e-1", f"{key}:e-2"]
    assert (one[0], one[2]["activity"], one[2]["platform"]) == ("activity.observed", "product.viewed", "events")
    assert one[2]["identifiers"] == {"cart_token": TOKEN}
    [newest, _] = (await ground.get("/v1/deliveries", store=store))["data"]
    assert (newest["platform"], newest["topic"], newest["outcome"]) == ("browser", "product.viewed", "observed")


async def test_a_browser_asks_first(ground: Ground) -> None:
    store = await ground.register()
    async with browsing(ground, await public_key(ground, store)) as page:
        answer = await page.ask()
        assert (answer.status_code, answer.headers[CORS]) == (200, ORIGIN)
        assert answer.headers["vary"].startswith("Origin,")
        assert answer.headers["access-control-allow-methods"] == "POST"
        assert answer.headers["access-control-allow-headers"] == "content-type"
        # A beacon always comes with credentials: without this a browser keeps one of JSON to itself.
        assert answer.headers["access-control-allow-credentials"] == "true"


async def test_a_browser_asks_for_another_method(ground: Ground) -> None:
    store = await ground.register()
    asks = {"origin": ORIGIN, "access-control-request-method": "PUT"}
    key = {"key": await public_key(ground, store)}
    answer = await ground.http.options(PATH, params=key, headers=asks)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert (answer.json()["code"], answer.json()["status"]) == ("bad_request", 400)
    assert (answer.headers[CORS], answer.headers["access-control-allow-methods"]) == (ORIGIN, "POST")


async def test_other_paths_are_for_no_page(ground: Ground) -> None:
    asks = {"origin": ORIGIN, "access-control-request-method": "POST"}
    for path in ("/v1/events", "/v1/stores", PATH + "/", "/webhooks/shopify/st_1"):
        for answer in (await ground.http.options(path, headers=asks), await ground.http.post(path, headers=asks)):
            assert not [name for name in answer.headers if name.startswith("access-control-")], path


@pytest.mark.parametrize(
    "origin",
    [
        None, "null", "", "*", "https://evil.example", "http://demo.myshopify.com", ORIGIN + ".evil.example",
        ORIGIN + ":8443", ORIGIN + "/", ORIGIN.upper(), f"{ORIGIN}, https://evil.example",
    ],
)  # fmt: skip
async def test_a_page_of_another_origin(ground: Ground, origin: str | None) -> None:
    store = await ground.register()
    async with browsing(ground, await public_key(ground, store), origin) as page:
        answer = await page.send(view())
        assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
        # It holds nothing that curl is not told as well.
        assert answer.headers.get(CORS) == origin
        asked = await page.ask()
        assert (asked.status_code, asked.json()["detail"]) == (403, answer.json()["detail"])
        assert asked.json()["request_id"] == asked.headers["x-request-id"]
        assert not [name for name in asked.headers if name.startswith("access-control-")]
    assert await ground.journalled() == 0
    await ground.app.state.ingest.tally.flush()
    counts = await ground.get("/v1/deliveries/counts", store=store)
    assert counts["refused"] == {"browser_origin": 2}


async def test_a_key_that_is_none(ground: Ground) -> None:
    store = await ground.register()
    async with browsing(ground, "pk_nobody") as page:
        for page.key in ("pk_nobody", store, ""):
            answer = await page.send(view())
            assert (answer.status_code, answer.headers[CORS]) == (401, ORIGIN)
            asked = await page.ask()
            assert (asked.status_code, asked.json()["detail"]) == (401, answer.json()["detail"])
            assert CORS not in asked.headers
        answer = await page.http.post(PATH, content=b"{}", headers=page.says)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/key")
        assert answer.headers[CORS] == ORIGIN
    assert await ground.journalled() == 0


async def test_a_store_cannot_be_chosen(ground: Ground) -> None:
    mine, other = [await ground.register(domain=f"{name}.example") for name in ("mine", "other")]
    key = await public_key(ground, mine)
    async with browsing(ground, key, "https://mine.example") as page:
        answer = await page.send(view(store=other))
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/events/0/store")
        page.origin = "https://other.example"
        assert (await page.send(view())).status_code == 403


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"type": "order.placed"}, "/type"),
        ({"type": "consent.changed", "properties": {"channel": "email", "state": "subscribed"}}, "/type"),
        ({"type": "profile.updated"}, "/type"),
        ({"type": "nonsense"}, "/type"),
        ({"profile": {"email": "ada@example.com"}}, "/profile/email"),
        ({"profile": {"cart_token": TOKEN, "customer_id": "7"}}, "/profile/customer_id"),
        ({"profile": {"phone": "+4930901820"}}, "/profile/phone"),
        ({"profile": {"cart_token": "1001"}}, "/profile/cart_token"),
        ({"profile": {}}, "/profile"),
        ({"properties": {}}, "/properties/product_id"),
        ({"id": ""}, "/id"),
        ({"time": "yesterday"}, "/time"),
    ],
)
async def test_what_a_page_cannot_tell(ground: Ground, change: dict[str, Any], pointer: str) -> None:
    store = await ground.register()
    async with browsing(ground, await public_key(ground, store)) as page:
        answer = await page.send(view(**change))
        assert (answer.status_code, answer.headers[CORS]) == (422, ORIGIN)
        assert answer.json()["errors"][0]["pointer"] == f"/events/0{pointer}"
        assert "ada@" not in answer.text
        assert await ground.journalled() == 0
        answer = await page.send(view(), view(**change))
        assert (answer.status_code, answer.json()["accepted"], answer.json()["rejected"]) == (202, 1, 1)
    assert await ground.journalled() == 1


async def test_no_id_of_the_server_can_be_taken_away(ground: Ground) -> None:
    store = await ground.register()
    key, second = await public_key(ground, store), await public_key(ground, store)
    async with browsing(ground, key) as page:
        # Whatever a page does with its ids, `o-1` of the server is another.
        for id_ in ("o-1", f"{key}:o-1"):
            assert (await page.send(view(id_))).status_code == 202
        page.key = second
        assert (await page.send(view("o-1"))).status_code == 202
    served = view("o-1", store=store, profile={"email": "ada@example.com"})
    assert (await ground.http.post("/v1/events", json=served)).status_code == 202
    await ground.drain()
    told = [data["source_id"] for _, _, data in await ground.commerce()]
    assert sorted(told) == sorted([f"{key}:o-1", f"{key}:{key}:o-1", f"{second}:o-1", "o-1"])


async def test_a_proof_names_who_is_logged_in(ground: Ground) -> None:
    store = await ground.register(**EVENTS)
    proven = await proof(ground, store, customer_id="7", email="ada@example.com")
    cart = view(type="cart.changed", properties={"lines": [CUP]})
    async with browsing(ground, await public_key(ground, store)) as page:
        assert (await page.send(view("e-1"), cart | {"id": "e-2"}, proof=proven)).status_code == 202
        # Another one's name is not proven by it.
        answer = await page.send(view("e-3", profile={"email": "eve@example.com"}), proof=proven)
        assert answer.json()["errors"][0]["pointer"] == "/events/0/profile/email"
    await ground.drain()
    told = {type_: data for type_, _, data in await ground.commerce()}
    assert told.keys() == {"activity.observed", "cart.observed"}
    assert told["cart.observed"]["customer_id"] == "7"
    assert told["cart.observed"]["source_id"] == TOKEN
    who = {"customer_id": "7", "email": "ada@example.com", "cart_token": TOKEN}
    assert told["activity.observed"]["identifiers"] == who


async def test_a_proof_names_as_of_when_it_was_made(ground: Ground) -> None:
    store = await ground.register(**EVENTS)
    made_at = ground.clock.now()
    proven = await proof(ground, store, email="ada@example.com")
    # One of the version before does not say: it is a day old at most.
    before = ground.app.state.ingest.keyring.sign_token(
        {"tenant": "default", "store": store, "who": {"email": "ada@example.com"}},
        purpose="browser events",
        expires=made_at + timedelta(days=1),
    )
    now = made_at + timedelta(minutes=30)
    ground.clock.set(now)
    async with browsing(ground, await public_key(ground, store)) as page:
        for id_, each in (("e-1", proven), ("e-2", before)):
            assert (await page.send(view(id_), proof=each)).status_code == 202
    await ground.drain()
    told = [datetime.fromisoformat(data["named_at"]) for _, _, data in await ground.commerce()]
    assert sorted(told) == [now - timedelta(days=1), made_at]


async def test_without_a_proof_a_cart_is_what_somebody_did(ground: Ground) -> None:
    store = await ground.register(**EVENTS)
    async with browsing(ground, await public_key(ground, store)) as page:
        cart = view(type="cart.changed", properties={"lines": [CUP], "total": CUP["price"]})
        assert (await page.send(cart)).status_code == 202
    await ground.drain()
    [(type_, _, data)] = await ground.commerce()
    assert (type_, data["activity"], data["properties"]) == ("activity.observed", "cart.changed", {"items": 2})


async def test_proofs_that_are_none(ground: Ground) -> None:
    store, other = [await ground.register(**EVENTS, domain=f"{name}.example") for name in ("a", "b")]
    good = await proof(ground, store, email="ada@example.com", expires_in_seconds=600)
    head, claims, signature = good.split(".")
    forged = [
        "nonsense",
        "",
        await proof(ground, other, email="ada@example.com"),
        f"{head}.{claims}.{signature[::-1]}",
        f"{head}.{claims}.",
        # Signed by us, for another purpose.
        ground.app.state.ingest.keyring.sign_token(
            {"tenant": "default", "store": store, "who": {"email": "ada@example.com"}},
            purpose="unsubscribe",
            expires=ground.clock.now() + timedelta(days=1),
        ),
    ]
    async with browsing(ground, await public_key(ground, store), "https://a.example") as page:
        for each in forged:
            answer = await page.send(view(), proof=each)
            assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/proof"), each
        assert (await page.send(view(), proof=good)).status_code == 202
        ground.clock.set(ground.clock.now() + timedelta(seconds=600))
        answer = await page.send(view("e-2"), proof=good)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/proof")
        assert "expired" in answer.json()["errors"][0]["detail"]
    assert await ground.journalled() == 1


async def test_times_of_browsers(ground: Ground) -> None:
    store = await ground.register()
    now = ground.clock.now()
    times = {"ahead": now + timedelta(days=400), "old": now - timedelta(hours=25), "fine": now - timedelta(hours=1)}
    async with browsing(ground, await public_key(ground, store)) as page:
        answer = await page.send(*(view(name, time=time.isoformat()) for name, time in times.items()))
        assert answer.json()["accepted"] == 3
    await ground.drain()
    told = {data["source_id"].partition(":")[2]: data for _, _, data in await ground.commerce()}
    assert told["ahead"]["updated_at"] == "2026-03-02T12:00:00Z"
    assert [told[name].get("origin") for name in ("ahead", "old", "fine")] == [None, "backfill", None]


async def test_bodies_that_are_none(ground: Ground) -> None:
    store = await ground.register()
    many = [view(f"e-{n}") for n in range(MOST_BROWSER_EVENTS + 1)]
    large = json.dumps({"events": [view(properties={"product_id": "1", "x": "x" * LARGEST_BODY})]})
    async with browsing(ground, await public_key(ground, store)) as page:
        for body, status in (
            (b"", 400),
            (b"{broken", 400),
            (b"\xff\xfe", 400),
            (b"[]", 422),
            (b"7", 422),
            (b'{"events": []}', 422),
            (b'{"events": {}}', 422),
            (b'{"events": [7]}', 422),
            (b'{"events": [null], "keys": 1}', 422),
            (json.dumps({"events": many}).encode(), 422),
            (large.encode(), 413),
            (b"[" * 60_000, 400),
        ):
            assert (await page.post(body)).status_code == status, body[:40]
        # Nor is one that does not say how long it is. The page may read that, too.
        answer = await page.http.post(PATH, params={"key": page.key}, content=_pieces(large), headers=page.says)
        assert (answer.status_code, answer.headers[CORS]) == (413, ORIGIN)
        assert (await page.post(b"a=b", "application/x-www-form-urlencoded")).status_code == 415
        answer = await page.send(*many[:-1])
        assert answer.json()["accepted"] == MOST_BROWSER_EVENTS
    assert await ground.journalled() == MOST_BROWSER_EVENTS


async def test_half_an_emoji_loses_no_beacon(ground: Ground) -> None:
    """As JSON.stringify prints a text that was cut in the midst of one."""
    store = await ground.register()
    async with browsing(ground, await public_key(ground, store)) as page:
        events = [view("e-1", properties={"product_id": "1", "search": "shoes \ud83d"}), view("e-2")]
        answer = await page.post(json.dumps({"events": events}).encode())
        assert (answer.status_code, answer.json()["accepted"]) == (202, 2)
    await ground.drain()
    told = [data["properties"] for _, _, data in await ground.commerce()]
    assert {"product_id": "1", "search": "shoes \ufffd"} in told


async def test_a_beacon_of_bytes_does_not_say_what_it_is(ground: Ground) -> None:
    store = await ground.register()
    async with browsing(ground, await public_key(ground, store)) as page:
        body = json.dumps({"events": [view()]}).encode()
        answer = await page.http.post(PATH, params={"key": page.key}, content=body, headers=page.says)
        assert "content-type" not in answer.request.headers
        assert answer.status_code == 202


async def test_the_merchant_is_told_what_beacons_are_not(grounds: Grounds) -> None:
    async with grounds(browser_address_rate=FEW) as ground:
        store = await ground.register()
        async with browsing(ground, await public_key(ground, store)) as page:
            for event in (view("e-1"), view("e-2", type="order.placed")):
                await page.send(event)
            await page.send(view("e-3"), proof="none")
            await page.post(b"{broken")
            await page.send(view("e-4"))
        await ground.app.state.ingest.tally.flush()
        counts = await ground.get("/v1/deliveries/counts", store=store)
        refused = dict.fromkeys(("browser_address_rate", "browser_body", "browser_events", "browser_proof"), 1)
        assert counts["refused"] == refused


async def _pieces(body: str) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 1000):
        yield body[start : start + 1000].encode()


async def test_servers_may_send_more(ground: Ground) -> None:
    store = await ground.register()
    served = [view(f"e-{n}", store=store, properties={"product_id": "1", "x": "x" * 1000}) for n in range(100)]
    assert len(json.dumps(served)) > LARGEST_BODY
    answer = await ground.http.post("/v1/events/batch", json=served)
    assert (answer.status_code, answer.json()["accepted"]) == (202, 100)


async def test_a_flood_from_one_address(grounds: Grounds) -> None:
    async with grounds(browser_address_rate=FEW, trusted_proxies="10.0.0.0/8") as ground:
        store = await ground.register()
        key = await public_key(ground, store)
        async with browsing(ground, key) as page:
            answers = [await page.send(view(f"{n}-1"), view(f"{n}-2")) for n in range(4)]
            assert [answer.status_code for answer in answers] == [202, 202, 429, 429]
            late = answers[-1]
            assert 1 <= int(late.headers["retry-after"]) <= 60 / FEW
            assert (late.headers[CORS], late.json()["code"]) == (ORIGIN, "too_many_requests")
        # It cannot pass for another by a header, and those at another address are not held back.
        async with browsing(ground, key, **{"x-forwarded-for": "198.51.100.1"}) as page:
            assert (await page.send(view("x"))).status_code == 429
        async with browsing(ground, key, address="203.0.113.8") as page:
            assert (await page.send(view("y"))).status_code == 202
        async with browsing(ground, key, address="10.1.1.1", **{"x-forwarded-for": "6.6.6.6, 203.0.113.7"}) as page:
            assert (await page.send(view("z"))).status_code == 429
        # Nor are webhooks, and what has an API key.
        assert (await ground.http.post("/v1/events", json=view(store=store))).status_code == 202
        assert await ground.journalled() == 6


async def test_a_flood_with_one_key(grounds: Grounds) -> None:
    async with grounds(browser_key_rate=FEW) as ground:
        store = await ground.register()
        key, other = await public_key(ground, store), await public_key(ground, store)
        answers = []
        for n in range(6):
            async with browsing(ground, key, address=f"203.0.113.{n}") as page:
                answers.append((await page.send(view(f"e-{n}"))).status_code)
        assert answers == [202] * FEW + [429] * 2
        async with browsing(ground, other) as page:
            assert (await page.send(view())).status_code == 202


async def test_half_of_the_queue_is_kept_for_webhooks(grounds: Grounds) -> None:
    async with grounds(journal_queue_length=8) as ground:
        store = await ground.register()
        key = await public_key(ground, store)
        async with browsing(ground, key) as page:
            # All of one request are in the queue before the first commit is.
            answer = await page.send(*(view(f"e-{n}") for n in range(5)))
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
            assert (await page.send(*(view(f"e-{n}") for n in range(4)))).status_code == 202
        served = [view(f"s-{n}", store=store) for n in range(8)]
        assert (await ground.http.post("/v1/events/batch", json=served)).status_code == 202


async def test_what_is_counted_names_nobody(ground: Ground) -> None:
    store = await ground.register()
    async with browsing(ground, await public_key(ground, store)) as page:
        await page.send(view(), view(type="order.placed"))
        page.origin = "https://evil.example"
        await page.send(view())
    text = (await ground.http.get("/metrics")).text
    assert 'regulars_ingest_browser_events_total{status="accepted"}' in text
    assert 'regulars_ingest_browser_refused_total{reason="origin"}' in text
    for told in (page.key, "evil.example", TOKEN, "203.0.113.7"):
        assert told not in text

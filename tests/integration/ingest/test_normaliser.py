"""From the journal to observations, and what the API says of it."""

import base64
import json
from datetime import timedelta
from typing import Any

import pytest

from tests.integration.ingest.ground import Ground
from tests.unit.ingest.payloads import shopify_order, woocommerce_order

REFUSAL = {"code": "woocommerce_rest_shop_order_invalid_id", "message": "Invalid ID.", "data": {"status": 404}}


async def test_orders_become_observations(ground: Ground) -> None:
    shopify = await ground.register()
    woocommerce = await ground.register(platform="woocommerce", domain="shop.example")
    await ground.shopify(shopify, shopify_order())
    await ground.woocommerce(woocommerce, woocommerce_order())
    await ground.drain()
    observed = {key: (type_, data) for type_, key, data in await ground.commerce()}
    assert {key: type_ for key, (type_, _) in observed.items()} == {
        f"{shopify}:order:9007199254740993": "order.observed",
        f"{woocommerce}:order:727": "order.observed",
    }
    _, order = observed[f"{shopify}:order:9007199254740993"]
    [_, delivery] = (await ground.get("/v1/deliveries"))["data"]
    assert (order["store"], order["delivery"], order["currency"]) == (shopify, delivery["id"], "EUR")
    assert (delivery["outcome"], delivery["object"], delivery["store"]) == (
        "observed",
        "order:9007199254740993",
        shopify,
    )


async def test_every_outcome_is_listed_and_counted_once(ground: Ground) -> None:
    shopify = await ground.register()
    woocommerce = await ground.register(platform="woocommerce", domain="shop.example")
    await ground.shopify(shopify, shopify_order(), id_="1")
    await ground.shopify(shopify, {"id": 1}, topic="themes/publish", id_="2")
    await ground.shopify(shopify, b"<xml/>", id_="3")
    await ground.woocommerce(woocommerce, REFUSAL, id_="4")
    await ground.drain()
    await ground.shopify(shopify, shopify_order(note="later"), id_="5")

    page = (await ground.get("/v1/deliveries"))["data"]
    outcomes = [(one["delivery_id"], one["outcome"]) for one in page]
    assert outcomes[0] == ("5", "pending")
    assert dict(outcomes) | {"4": "?"} == {"1": "observed", "2": "parked", "3": "dead", "4": "?", "5": "pending"}
    assert [one["id"] for one in page] == sorted((one["id"] for one in page), reverse=True)
    for one in page:
        same = (await ground.get("/v1/deliveries", outcome=one["outcome"]))["data"]
        assert one in same
        assert (one["outcome"] in {"pending", "observed"}) == (one["reason"] is None)
        assert (await ground.get(f"/v1/deliveries/{one['id']}")).items() >= one.items()
    assert {one["delivery_id"] for one in (await ground.get("/v1/deliveries", store=woocommerce))["data"]} == {"4"}
    assert {one["delivery_id"] for one in (await ground.get("/v1/deliveries", topic="orders/create"))["data"]} == {
        "1",
        "3",
        "5",
    }
    counts = await ground.get("/v1/deliveries/counts", store=shopify)
    assert counts == {
        "store": shopify,
        "pending": 1,
        "observed": 1,
        "parked": 1,
        "dead": 1,
        "ignored": 0,
        "refused": {},
        "duplicates": 0,
    }
    everything = await ground.get("/v1/deliveries/counts")
    assert sum(everything[name] for name in ("pending", "observed", "parked", "dead", "ignored")) == 5


@pytest.mark.parametrize("limit", [1, 2, 3, 250])
async def test_pages_hold_each_delivery_once_whatever_its_outcome(ground: Ground, limit: int) -> None:
    store = await ground.register()
    bodies: list[Any] = [shopify_order(), b"[]", {"id": 3}, b"<xml/>"]
    for n, body in enumerate(bodies):
        await ground.shopify(store, body, id_=str(n), topic="themes/publish" if n == 2 else "orders/create")
    await ground.drain()
    for n in range(4, 8):
        await ground.shopify(store, shopify_order(), id_=str(n))
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await ground.get("/v1/deliveries", limit=limit, **cursor)
        seen += [one["delivery_id"] for one in page["data"]]
        if page["next"] is None:
            break
        assert len(page["data"]) == limit
        cursor = {"cursor": page["next"]}
    assert seen == ["7", "6", "5", "4", "3", "2", "1", "0"]


async def test_filters(ground: Ground) -> None:
    store = await ground.register()
    await ground.shopify(store, shopify_order(), id_="1")
    await ground.shopify(store, shopify_order(currency="none"), id_="2")
    await ground.shopify(store, {"id": 7}, topic="themes/publish", id_="3")
    await ground.drain()
    ground.clock.set(ground.clock.now() + timedelta(hours=1))
    await ground.shopify(store, shopify_order(note="later"), id_="4")

    async def found(**filters: str) -> list[str]:
        return [one["delivery_id"] for one in (await ground.get("/v1/deliveries", **filters))["data"]]

    order = f"order:{shopify_order()['id']}"
    assert await found(object=order) == ["4", "2", "1"]
    assert await found(object=order, outcome="observed") == ["1"]
    assert await found(object="order:7") == []
    assert await found(reason="currency: ") == ["2"]
    assert await found(reason="no normaliser") == await found(outcome="parked") == ["3"]
    now = ground.clock.now().isoformat()
    assert await found(since=now) == ["4"]
    assert await found(until=now) == ["3", "2", "1"]
    assert await found(until=now, outcome="pending") == []


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("outcome=lost", "/outcome"),
        ("limit=0", "/limit"),
        ("limit=1000", "/limit"),
        ("cursor=%00", "/cursor"),
        ("cursor=WyJub3QgYW4gaWQiXQ", "/cursor"),
        ("store=" + "x" * 65, "/store"),
        ("since=2026-03-01", "/since"),
        ("until=x", "/until"),
        ("object=" + "x" * 301, "/object"),
        ("reason=%00", "/reason"),
        ("topic=" + "x" * 129, "/topic"),
    ],
)
async def test_bad_filters(ground: Ground, query: str, pointer: str) -> None:
    answer = await ground.http.get(f"/v1/deliveries?{query}")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


async def test_filters_that_match_nothing(ground: Ground) -> None:
    for query, status in (("store=st_none", 404), ("topic=x", 200), ("store=a%00b", 422), ("topic=%25", 200)):
        answer = await ground.http.get(f"/v1/deliveries?{query}")
        assert answer.status_code == status
        assert answer.json().get("data", []) == []
    assert (await ground.http.get("/v1/deliveries/not-an-id")).status_code == 422
    assert (await ground.http.get("/v1/deliveries/0190f1a0-0000-7000-8000-000000000000")).status_code == 404
    assert (await ground.http.get("/v1/stores/st_none")).status_code == 404
    assert (await ground.http.get("/v1/stores/a%00b")).status_code in {404, 422}


async def test_headers_and_body_are_shown_before_and_after(ground: Ground) -> None:
    store = await ground.register()
    binary = bytes(range(256))
    ids = [
        (await ground.shopify(store, body)).headers["x-request-id"]
        for body in (json.dumps(shopify_order()).encode(), binary)
    ]
    for _ in range(2):
        order, junk = [await ground.get(f"/v1/deliveries/{id_}") for id_ in ids]
        assert json.loads(order["body"]) == shopify_order()
        assert (order["body_encoding"], order["headers"]["x-shopify-topic"]) == ("text", "orders/create")
        assert (base64.b64decode(junk["body"]), junk["body_encoding"]) == (binary, "base64")
        await ground.drain()


async def test_a_dead_letter_that_is_replayed_is_dead_or_observed_and_never_both(ground: Ground) -> None:
    store = await ground.register()
    await ground.shopify(store, b"<xml/>", id_="bad")
    await ground.shopify(store, shopify_order(), id_="good")
    async with ground.database.autocommit() as pg:
        # As though the store had been lost and found again.
        await pg.execute("ALTER TABLE stores RENAME TO stores_lost; CREATE TABLE stores (LIKE stores_lost)")
        await ground.drain()
        assert (await ground.get("/v1/deliveries/counts"))["dead"] == 2
        await pg.execute("DROP TABLE stores; ALTER TABLE stores_lost RENAME TO stores")
    letters = (await ground.get("/v1/dead-letters/ingest"))["data"]
    assert {letter["reason"] for letter in letters} == {"no such store"}
    for letter in letters:
        assert (await ground.http.post(f"/v1/dead-letters/ingest/{letter['id']}/replay")).status_code < 300
    await ground.drain()
    found = {one["delivery_id"]: one for one in (await ground.get("/v1/deliveries"))["data"]}
    assert (found["good"]["outcome"], found["good"]["reason"]) == ("observed", None)
    assert found["bad"]["outcome"] == "dead"
    assert found["bad"]["reason"] != "no such store"
    counts = await ground.get("/v1/deliveries/counts")
    assert (counts["observed"], counts["dead"], counts["pending"]) == (1, 1, 0)
    assert len(await ground.commerce()) == 1


async def test_reading_the_journal_again_changes_nothing(ground: Ground) -> None:
    store = await ground.register()
    for n in range(20):
        await ground.shopify(store, shopify_order(id=n + 1), id_=str(n))
    await ground.drain()
    before = await ground.get("/v1/deliveries/counts")
    async with ground.database.autocommit() as pg:
        await pg.execute("UPDATE positions SET next_offset = 0")
        ids = await pg.fetch("SELECT id FROM log_commerce WHERE type <> 'store.observed'")
    await ground.drain()
    assert await ground.get("/v1/deliveries/counts") == before
    async with ground.database.autocommit() as pg:
        again = await pg.fetch("SELECT id FROM log_commerce WHERE type <> 'store.observed'")
    # Told twice, under the same ids.
    assert len(again) == 2 * len(ids)
    assert {row["id"] for row in again} == {row["id"] for row in ids}

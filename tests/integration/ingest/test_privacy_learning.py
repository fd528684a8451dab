"""Privacy requests find all that is a person's by any one of his names, and nothing that is somebody else's."""

import json
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from services.ingest.redacting import PrivacyRequests
from tests.integration.ingest.aged import read_all
from tests.integration.ingest.ground import Ground
from tests.integration.ingest.test_privacy import PATH, asked, redacted, unreadable
from tests.integration.ingest.test_privacy_api import exported
from tests.unit.ingest.payloads import shopify_order, woocommerce_order

LINES = [{"title": "Cup", "quantity": 1, "price": {"amount": "9.50", "currency": "EUR"}}]
EVE = {"customer_id": "7", "email": "eve@example.com"}
Event = tuple[str, dict[str, Any], dict[str, Any]]
"""Type, profile, properties."""

HERS: list[Event] = [
    ("profile.updated", EVE, {"first_name": "Eve"}),
    ("cart.changed", {"cart_token": "T", "email": "eve@example.com"}, {"lines": LINES}),
    ("product.viewed", {"cart_token": "T"}, {"product_id": "77"}),
    ("order.placed", {"customer_id": "7"}, {"order_id": "1001", "lines": LINES, "buyer": {"first_name": "Eve"}}),
    ("custom.quiz.finished", {"customer_id": "7"}, {"score": 3}),
    ("cart.changed", {"cart_token": "T"}, {"lines": LINES}),
]
OTHERS: list[Event] = [
    ("profile.updated", {"customer_id": "8", "email": "adam@example.com"}, {"first_name": "Adam"}),
    ("cart.changed", {"cart_token": "U", "email": "adam@example.com"}, {"lines": LINES}),
    ("product.viewed", {"cart_token": "U"}, {"product_id": "77"}),
    ("product.viewed", {"cart_token": "T", "email": "adam@example.com"}, {"product_id": "77"}),
    ("order.placed", {}, {"order_id": "1002", "lines": LINES}),
]


async def told(ground: Ground, events: list[Event], domain: str = "till.example") -> tuple[str, list[str]]:
    """Key of a store that told these in one batch, and ids of their deliveries in the same order."""
    store = await ground.register(platform="events", domain=domain, secrets=[])
    batch = [
        {"id": str(n), "type": type_, "store": store, "profile": profile, "properties": properties}
        for n, (type_, profile, properties) in enumerate(events)
    ]
    answer = await ground.http.post("/v1/events/batch", json=batch)
    assert answer.json()["accepted"] == len(events), answer.text
    await ground.drain()
    rows = (await ground.get("/v1/deliveries", store=store, limit=250))["data"]
    by_event = {row["delivery_id"]: row["id"] for row in rows}
    return store, [by_event[str(n)] for n in range(len(events))]


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize(
    "customer", [{"email": "Eve@example.com"}, {"id": "7"}, {"id": "7", "email": "eve@example.com"}]
)
async def test_any_name_of_hers_finds_all_of_hers(ground: Ground, customer: dict[str, str], direction: int) -> None:
    events = [*HERS, *OTHERS][::direction]
    store, ids = await told(ground, events)
    hers = {id_ for id_, event in zip(ids, events, strict=True) if event in HERS}
    shown = await asked(ground, store, "data_request", **customer)
    assert {line["id"] for line in await exported(ground, f"{PATH}/{shown['id']}/export")} == hers
    done = await redacted(ground, store, **customer)
    assert await unreadable(ground, store) == hers
    [receipt] = done["receipts"]
    assert (receipt["state"], receipt["looked_at"], receipt["found"]) == ("done", len(events), len(hers))


async def test_a_household_s_phone_finds_what_names_it_and_teaches_nothing(ground: Ground) -> None:
    phone = {"phone": "+49 30 123456"}
    events: list[Event] = [
        ("profile.updated", EVE | phone, {}),
        ("custom.quiz.finished", {"customer_id": "7"}, {}),
        ("profile.updated", {"customer_id": "8", "email": "adam@example.com"} | phone, {}),
        ("custom.quiz.finished", {"customer_id": "8"}, {}),
        ("custom.call.made", {"phone": "0049 30 123456"}, {}),
    ]
    store, ids = await told(ground, events)
    assert await found(ground, store, email="eve@example.com") == set(ids[:2])
    assert await found(ground, store, id="8") == set(ids[2:4])
    assert await found(ground, store, **phone) == {ids[0], ids[2], ids[4]}


async def test_a_phone_that_is_hers_alone_leads_to_her_and_back(ground: Ground) -> None:
    events: list[Event] = [
        ("profile.updated", EVE | {"phone": "+49 30 123456"}, {}),
        ("custom.quiz.finished", {"customer_id": "7"}, {}),
        ("custom.call.made", {"phone": "004930123456"}, {}),
    ]
    store, ids = await told(ground, events)
    assert await found(ground, store, email="eve@example.com") == set(ids)
    assert await found(ground, store, phone="+49 30 123456") == set(ids)


async def found(ground: Ground, store: str, **customer: str) -> set[str]:
    """Ids of the deliveries that somebody is shown."""
    shown = await asked(ground, store, "data_request", **customer)
    return {line["id"] for line in await exported(ground, f"{PATH}/{shown['id']}/export")}


async def test_a_number_that_guests_share_is_nobody_s(ground: Ground) -> None:
    walk_in = {"customer_id": "1"}
    events: list[Event] = [
        ("order.placed", walk_in | {"email": f"{name}@example.com"}, {"order_id": name, "lines": LINES})
        for name in ("eve", "adam", "bob")
    ]
    store, ids = await told(ground, events)
    assert await found(ground, store, email="eve@example.com") == {ids[0]}
    assert await found(ground, store, id="1") == set(ids)


async def test_another_s_account_that_ordered_for_her_stays_his_own(ground: Ground) -> None:
    """Shopify prints the account within the order; WooCommerce its number alone."""
    shop, woo = await ground.register(), await ground.register(platform="woocommerce", domain="shop.example")
    bob = {"id": 99, "email": "bob@example.com"}
    orders = [
        shopify_order(id=1, customer=bob, email="eve@example.com", cart_token="c-1"),
        shopify_order(id=2, customer=bob, email="bob@example.com", cart_token="c-2"),
    ]
    for n, order in enumerate(orders):
        await ground.shopify(shop, order, id_=str(n))
    for n, token in enumerate(("c-1", "c-2")):
        cart = {"id": token, "token": token, "line_items": [], "updated_at": "2026-03-01T09:00:00Z"}
        await ground.shopify(shop, cart, topic="carts/update", id_=f"c{n}")
    for n, (email, topic) in enumerate(
        [("eve", "order.created"), ("bob", "order.created"), ("bob", "customer.updated")]
    ):
        billing = {"email": f"{email}@example.com", "phone": "", "country": "DE"}
        payload = woocommerce_order(id=n + 1, customer_id=99, billing=billing)
        if topic == "customer.updated":
            payload = bob | {"billing": billing}
        await ground.woocommerce(woo, payload, topic=topic, id_=str(n))
    await ground.drain()
    for store in (shop, woo):
        await redacted(ground, store, email="eve@example.com")
    left = {}
    for store in (shop, woo):
        gone = await unreadable(ground, store)
        rows = (await ground.get("/v1/deliveries", store=store))["data"]
        left[store] = sorted(row["object"] for row in rows if row["id"] not in gone)
    assert left == {shop: ["cart:c-2", "order:2"], woo: ["customer:99", "order:2"]}


async def test_both_platforms_teach_by_their_records_dead_letters_too(ground: Ground) -> None:
    shop, woo = await ground.register(), await ground.register(platform="woocommerce", domain="shop.example")
    broken = [{"price": "a lot"}]
    eve = {"id": 7, "email": "eve@example.com", "updated_at": "2026-03-01T09:00:00Z"}
    for n, (topic, payload) in enumerate(
        [
            ("orders/create", shopify_order(id=1, customer={"id": 7}, email=None, billing_address=None, phone=None)),
            ("refunds/create", {"id": 5, "order_id": 1, "created_at": "2026-03-01T09:00:00Z"}),
            ("orders/create", {**shopify_order(id=2), "customer": eve, "email": None, "line_items": broken}),
            ("orders/create", shopify_order(id=3)),
        ]
    ):
        await ground.shopify(shop, payload, topic=topic, id_=str(n))
    for n, (topic, payload) in enumerate(
        [
            ("order.created", woocommerce_order(id=1, customer_id=7, billing={})),
            ("customer.created", {"id": 7, "email": "eve@example.com", "date_created_gmt": "no date"}),
            ("order.created", woocommerce_order(id=3)),
        ]
    ):
        await ground.woocommerce(woo, payload, topic=topic, id_=str(n))
    await ground.drain()
    assert (await ground.get("/v1/deliveries/counts"))["dead"] == 2
    for store in (shop, woo):
        await redacted(ground, store, email="eve@example.com")
        gone = await unreadable(ground, store)
        rows = (await ground.get("/v1/deliveries", store=store))["data"]
        assert [row["object"] for row in rows if row["id"] not in gone] == ["order:3"]


async def test_who_dies_while_it_learns_goes_on_where_he_was(ground: Ground) -> None:
    events = [*OTHERS, *HERS][::-1]
    store, ids = await told(ground, events)
    other, _ = await told(ground, HERS, "other.example")
    asking = {"store": store, "kind": "redact", "customer": {"id": "7"}}
    path = f"{PATH}/{(await ground.http.post(PATH, json=asking)).json()['id']}"
    # What comes while it runs is taken as ever, and teaches nothing.
    ground.clock.set(ground.clock.now() + timedelta(hours=1))
    late = {"id": "late", "type": "profile.updated", "store": store, "profile": EVE | {"email": "adam@example.com"}}
    assert (await ground.http.post("/v1/events", json=late)).status_code == 202

    async def step() -> None:
        # A worker of its own each time: what is known is in the database.
        await PrivacyRequests(ground.database, ground.keyring, rate=2).run(ground.clock.now())

    async with ground.database.autocommit() as pg:
        # The normaliser has come to the end.
        await read_all(ground.database)
        steps = 0
        while (await ground.get(path))["state"] != "done":
            await pg.execute("ALTER TABLE privacy_requests ADD CONSTRAINT dies CHECK (false) NOT VALID")
            before = await pg.fetchrow("SELECT learning, names, roots, reached, receipts FROM privacy_requests")
            with pytest.raises(asyncpg.CheckViolationError):
                await step()
            assert await pg.fetchrow("SELECT learning, names, roots, reached, receipts FROM privacy_requests") == before
            await pg.execute("ALTER TABLE privacy_requests DROP CONSTRAINT dies")
            await step()
            steps += 1
    # Eleven deliveries are six steps; several turns were needed to learn, and one more to act.
    assert 3 * 6 <= steps <= 6 * 6
    hers = {id_ for id_, event in zip(ids, events, strict=True) if event in HERS}
    await ground.drain()
    assert await unreadable(ground, store) == hers
    assert await unreadable(ground, other) == set()


async def test_what_was_learned_of_who_is_erased_is_forgotten(ground: Ground) -> None:
    phone = {"phone": "+49 30 123456"}
    store, _ = await told(ground, [*HERS, ("profile.updated", EVE | phone, {})])
    shown = [await asked(ground, store, "data_request", **who) for who in ({"email": "eve@example.com"}, phone)]
    await redacted(ground, store, id="7")
    for each in shown:
        assert (await ground.get(f"{PATH}/{each['id']}"))["customer"] == {"id": None, "email": None, "phone": None}
    async with ground.database.autocommit() as pg:
        rows = await pg.fetch("SELECT subject, names, learning FROM privacy_requests")
    assert "eve@" not in json.dumps([list(map(str, row.values())) for row in rows])

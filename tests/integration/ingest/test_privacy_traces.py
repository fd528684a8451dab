"""What is left of somebody's name after his redaction, and of an order, customer or delivery that was called by it."""

import json
from datetime import timedelta
from typing import Any

import cramjam
import pytest

from libs.common.contracts.topics import COMMERCE
from libs.common.db import Database
from libs.common.upkeep import log_upkeep
from services.ingest import seen
from tests.integration.ingest.ground import Ground
from tests.integration.ingest.test_privacy import PATH, redacted, unreadable

EVE = "eve@example.com"
LINES = [{"title": "Cup", "quantity": 1, "price": {"amount": "9.50", "currency": "EUR"}}]
EVENTS: list[dict[str, Any]] = [
    {"id": EVE, "type": "profile.updated", "profile": {"customer_id": EVE}, "properties": {"first_name": "Eve"}},
    {"id": f"1 {EVE}", "type": "order.placed", "profile": {}, "properties": {"order_id": EVE, "lines": LINES}},
    {"id": "2", "type": "checkout.started", "profile": {"checkout_token": EVE}, "properties": {"lines": LINES}},
    {"id": "3", "type": "profile.updated", "profile": {"customer_id": "+4930123456"}, "properties": {}},
    {"id": "4", "type": "order.placed", "profile": {}, "properties": {"order_id": "9", "lines": LINES}},
]  # fmt: skip


async def traces(database: Database, text: str) -> set[str]:
    """Tables and columns that hold it, in whatever is kept compressed, too; what was observed is not ingest's alone."""
    found = set()
    async with database.autocommit() as pg:
        for schema, table in await pg.fetch(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('common', 'ingest')"
        ):
            for row in await pg.fetch(f"SELECT * FROM {schema}.{table}"):
                found |= {f"{table}.{name}" for name, value in row.items() if text in _text(value).lower()}
    return {each for each in found if not each.startswith("log_commerce")}


def _text(value: object) -> str:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return bytes(cramjam.snappy.decompress(value)).decode(errors="replace")
    except cramjam.DecompressionError:
        return value.decode(errors="replace")


async def told(ground: Ground) -> str:
    store = await ground.register(platform="events", domain="till.example", secrets=[])
    answer = await ground.http.post("/v1/events/batch", json=[event | {"store": store} for event in EVENTS])
    assert answer.json()["accepted"] == len(EVENTS), answer.text
    await ground.drain()
    return store


async def test_a_name_that_things_are_called_by_goes_from_them(ground: Ground) -> None:
    store = await told(ground)
    dead = {"id": EVE, "email": EVE, "updated_at": EVE}
    shop = await ground.register()
    for topic in ("customers/update", f"metaobjects/{EVE}"):
        await ground.shopify(shop, dead, topic=topic, id_=f"{topic} of {EVE}")
    await ground.drain()
    assert (await ground.get("/v1/deliveries", object=f"customer:{EVE}"))["data"]
    for each in (store, shop):
        await redacted(ground, each, email=EVE)
        await redacted(ground, each, email=EVE)
    assert await traces(ground.database, EVE) == set()
    assert (await ground.get("/v1/deliveries", object=f"customer:{EVE}"))["data"] == []
    rows = {row["id"]: row for row in (await ground.get("/v1/deliveries", store=store))["data"]}
    gone = await unreadable(ground, store)
    assert len(gone) == 3
    assert all(rows[id_]["object"].startswith("redacted:") for id_ in gone)
    assert {row["object"] for id_, row in rows.items() if id_ not in gone} == {"customer:+4930123456", "order:9"}
    await redacted(ground, store, phone="0049 30 123456")
    assert await traces(ground.database, "4930123456") == set()


async def test_what_was_told_of_an_object_is_told_still(ground: Ground) -> None:
    store = await told(ground)
    for n in (1, 2):
        event = EVENTS[0] | {"id": f"again {n}", "store": store}
        assert (await ground.http.post("/v1/events", json=event)).status_code == 202
    await ground.drain()
    await redacted(ground, store, email=EVE)
    rows = (await ground.get("/v1/deliveries", store=store))["data"]
    [called] = {row["object"] for row in rows if row["topic"] == "profile.updated"} - {"customer:+4930123456"}
    newest = max(row["id"] for row in rows if row["object"] == called)
    async with ground.database.reading() as tx:
        last = await seen.last(tx, "default", store, [called])
        roots = [each.root for each in await seen.known(tx, "default", store, after=None, limit=10)]
    assert last[called].delivery == newest
    # Nothing that a platform could be asked about.
    assert roots == ["customer:+4930123456", "order:9"]
    # One that comes again is the same one, and a replay passes what is gone over.
    assert (await ground.http.post("/v1/events", json=EVENTS[0] | {"store": store})).status_code == 202
    assert await ground.journalled() == 7
    ground.clock.set(ground.clock.now() + timedelta(hours=1))
    replay = (await ground.http.post("/v1/deliveries/replays", json={"store": store})).json()["id"]
    await ground.drain()
    done = await ground.get(f"/v1/deliveries/replays/{replay}")
    assert (done["state"], done["gone"], done["looked_at"]) == ("done", 5, 7)


async def test_what_redactions_of_before_left_called_so_is_called_so_no_longer(ground: Ground) -> None:
    store = await told(ground)
    async with ground.database.autocommit() as pg:
        await pg.execute("UPDATE log_journal SET data = '\\x00'::bytea || sha256(data)")
    await redacted(ground, store, email=EVE)
    assert await traces(ground.database, EVE) == set()


async def test_an_order_called_by_his_name_is_known_again(ground: Ground) -> None:
    store = await told(ground)
    await redacted(ground, store, email=EVE)
    ground.clock.set(ground.clock.now() + timedelta(hours=1))
    refund = {"order_id": EVE, "refund_id": "5", "amount": {"amount": "1.00", "currency": "EUR"}}
    event = {"id": "5", "type": "order.refunded", "store": store, "profile": {}, "properties": refund}
    assert (await ground.http.post("/v1/events", json=event)).status_code == 202, event
    await ground.drain()
    await redacted(ground, store, email=EVE)
    assert await traces(ground.database, EVE) == set()


@pytest.mark.parametrize(
    "body",
    [
        {EVE: {"a": 1}},
        {"note": f"please write to {EVE}"},
        {"meta": json.dumps({"email": EVE})},
        {"email": f"Eve <{EVE}>"},
        {"customer": EVE},
        {"phone_or_email": EVE},
        {"landing_site": "/?email=eve%40example.com"},
        b"email=eve%40example.com&x=1",
    ],
)
async def test_whatever_mentions_a_person_is_about_him(ground: Ground, body: object) -> None:
    store = await ground.register()
    await ground.shopify(store, body, topic="some/topic", id_="1")
    await ground.shopify(store, {"note": "x" + EVE, "sku": "491701111111"}, topic="some/topic", id_="2")
    await ground.drain()
    done = await redacted(ground, store, id="77", email=EVE, phone="+491701111111")
    assert done["receipts"][0]["found"] == 1


async def test_an_order_whose_note_mentions_him_is_not_his(ground: Ground) -> None:
    store = await ground.register()
    order = {"id": 1, "email": "bob@example.com", "note": f"for {EVE}", "created_at": "2026-03-01T09:00:00Z"}
    refund = {"id": 2, "order_id": 1, "created_at": "2026-03-01T09:00:00Z"}
    for topic, body in (("orders/create", order), ("orders/updated", order | {"note": ""}), ("refunds/create", refund)):
        await ground.shopify(store, body, topic=topic, id_=topic)
    await ground.drain()
    done = await redacted(ground, store, email=EVE)
    assert done["receipts"][0]["found"] == 0


async def test_an_idempotency_key_remembers_nobody(ground: Ground) -> None:
    store = await told(ground)
    asking = {"store": store, "kind": "redact", "customer": {"email": EVE}}
    first = await ground.http.post(PATH, json=asking, headers={"idempotency-key": "his"})
    assert first.headers["location"] == f"{PATH}/{first.json()['id']}"
    assert first.json()["customer"]["email"] == EVE
    await ground.drain()
    assert await traces(ground.database, EVE) == set()
    again = await ground.http.post(PATH, json=asking, headers={"idempotency-key": "his"})
    assert (again.status_code, again.headers["idempotency-replayed"]) == (202, "true")
    assert again.json() == await ground.get(first.headers["location"])
    assert (again.json()["state"], again.json()["customer"]["email"]) == ("done", None)
    other = await ground.http.post(PATH, json=asking | {"kind": "data_request"}, headers={"idempotency-key": "his"})
    assert other.json()["code"] == "idempotency_key_reused"


async def test_answers_are_forgotten_though_nobody_asks(ground: Ground) -> None:
    store = await ground.register()
    answer = await ground.http.post("/v1/deliveries/replays", json={"store": store}, headers={"idempotency-key": "k"})
    assert answer.status_code == 202
    upkeep = log_upkeep(ground.database, COMMERCE)
    counts = []
    for hours in (0, 25):
        async with ground.database.autocommit() as pg:
            await pg.execute(
                "UPDATE common.idempotency_keys SET started_at = now() - make_interval(hours => $1)", hours
            )
            await upkeep.run(ground.clock.now())
            counts.append(await pg.fetchval("SELECT count(*) FROM common.idempotency_keys"))
    assert counts == [1, 0]

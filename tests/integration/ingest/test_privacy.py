"""Redactions and requests for data: what they find, what they leave, and what becomes of it when somebody dies."""

import json
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import asyncpg
import pytest
from prometheus_client import Gauge

from libs.common.auth import create_key
from libs.common.contracts.journal import removal_of
from services.ingest.privacy_watch import OLDEST, privacy_watch
from services.ingest.redacting import PrivacyRequests
from tests.integration.ingest.ground import STORE, Ground, shopify_headers
from tests.unit.ingest.payloads import shopify_order

PATH = "/v1/privacy-requests"
SHOP = {"shop_domain": "demo.myshopify.com"}
ADA = {"id": 88, "email": "ada@example.com", "phone": None}
GUEST = {"customer": None, "email": "ada@example.com", "billing_address": None}
BOB = {"customer": {"id": 99, "email": "bob@example.com"}, "email": "bob@example.com"}


async def sent(ground: Ground, store: str) -> list[str]:
    """Ids of the deliveries about Ada, who bought as a customer and as a guest, oldest first; Bob bought, too."""
    theirs: list[tuple[str, Any]] = [
        ("customers/create", ADA | {"updated_at": "2026-03-01T09:00:00Z"}),
        ("orders/create", shopify_order(id=1)),
        ("orders/create", shopify_order(id=2, **GUEST)),
        ("refunds/create", {"id": 5, "order_id": 2, "created_at": "2026-03-01T09:00:00Z"}),
        ("fulfillments/create", {"id": 6, "order_id": 2, "destination": {"address1": "Ada's street"}}),
        ("orders/create", shopify_order(id=3, total_price="a lot", line_items=[{"price": "a lot"}])),
        ("customers/create", b'{"id": "of nobody", "email": "ada@example.com", '),
    ]
    others: list[tuple[str, Any]] = [
        ("orders/create", shopify_order(id=7, **BOB)),
        ("refunds/create", {"id": 8, "order_id": 7, "created_at": "2026-03-01T09:00:00Z"}),
        ("products/create", {"id": 88, "title": "Tea", "updated_at": "2026-03-01T09:00:00Z"}),
    ]
    for n, (topic, payload) in enumerate([*theirs, *others]):
        assert (await ground.shopify(store, payload, topic=topic, id_=f"{store}-{n}")).status_code == 200
    await ground.drain()
    ids = [row["id"] for row in reversed((await ground.get("/v1/deliveries", store=store, limit=250))["data"])]
    return ids[: len(theirs)]


async def redacted(ground: Ground, store: str, **customer: object) -> dict[str, Any]:
    """The redaction at its end."""
    return await asked(ground, store, "redact", **customer)


async def asked(ground: Ground, store: str, kind: str, **customer: object) -> dict[str, Any]:
    answer = await ground.http.post(PATH, json={"store": store, "kind": kind, "customer": customer})
    assert answer.status_code == 202, answer.text
    assert answer.json()["state"] == "waiting"
    await ground.drain()
    found: dict[str, Any] = await ground.get(f"{PATH}/{answer.json()['id']}")
    return found


async def unreadable(ground: Ground, store: str) -> set[str]:
    """Ids of the store's deliveries that have no body any more."""
    rows = (await ground.get("/v1/deliveries", store=store, limit=250))["data"]
    whole = [await ground.get(f"/v1/deliveries/{row['id']}") for row in rows]
    for one in whole:
        assert (one["removed"] is None) == (one["body"] is not None) == (one["headers"] is not None)
    return {one["id"] for one in whole if one["removed"] == "redacted"}


@pytest.mark.parametrize("customer", [{"id": "88", "email": "ADA@example.com"}, {"email": "ada@example.com"}])
async def test_what_is_about_a_person_has_no_body_any_more_and_the_rest_has(
    ground: Ground, customer: dict[str, str]
) -> None:
    store = await ground.register()
    about_ada = await sent(ground, store)
    counts = await ground.get("/v1/deliveries/counts")
    rows = (await ground.get("/v1/deliveries", store=store, limit=250))["data"]
    async with ground.database.autocommit() as pg:
        before = {row["id"]: row["data"] for row in await pg.fetch("SELECT id, data FROM log_journal")}
    done = await redacted(ground, store, **customer)
    assert await unreadable(ground, store) == set(about_ada)
    [receipt] = done["receipts"]
    assert (receipt["service"], receipt["state"], receipt["looked_at"], receipt["found"]) == ("ingest", "done", 10, 7)
    # What is left of each is its digest; the dead ones lie in two places.
    async with ground.database.autocommit() as pg:
        after = {row["id"]: row["data"] for row in await pg.fetch("SELECT id, data FROM log_journal")}
        dead = {row["id"]: row["data"] for row in await pg.fetch("SELECT event_id AS id, data FROM dead_letters")}
    left = {id_: b"\x00" + sha256(data).digest() if id_ in about_ada else data for id_, data in before.items()}
    assert after == left
    assert len(dead) == 2
    assert dead == {id_: left[id_] for id_ in dead}
    # Nothing else about them has changed; how the shop had numbered a dead one stood in what is gone.
    assert await ground.get("/v1/deliveries/counts") == counts
    numberless = [row | ({"delivery_id": ""} if row["id"] in dead else {}) for row in rows]
    assert (await ground.get("/v1/deliveries", store=store, limit=250))["data"] == numberless


async def test_orders_that_the_platform_names_are_his_whoever_stands_in_them(ground: Ground) -> None:
    store = await ground.register()
    await sent(ground, store)
    request = SHOP | {"customer": {"id": 4711}, "orders_to_redact": [7]}
    await ground.shopify(store, request, topic="customers/redact", id_="r-1")
    await ground.drain()
    gone = {(await ground.get(f"/v1/deliveries/{id_}"))["topic"] for id_ in await unreadable(ground, store)}
    assert gone == {"orders/create", "refunds/create", "customers/redact"}
    [done] = (await ground.get(PATH))["data"]
    assert (done["state"], done["orders"], done["asked_by"]) == ("done", ["7"], "shopify")


async def test_nobody_s_else_are_touched(ground: Ground) -> None:
    store, other = await ground.register(), await ground.register(domain="other.myshopify.com")
    key = {"authorization": f"Bearer {await create_key(ground.database, 'other', {'*'}, 'theirs')}"}
    theirs = (await ground.http.post("/v1/stores", json=STORE, headers=key)).json()["store_key"]
    for each in (store, other, theirs):
        body = json.dumps(shopify_order()).encode()
        await ground.http.post(f"/webhooks/shopify/{each}", content=body, headers=shopify_headers(body))
    await ground.drain()
    done = await redacted(ground, store, id="88", email="ada@example.com")
    async with ground.database.autocommit() as pg:
        rows = await pg.fetch("SELECT key, data FROM log_journal")
    assert [row["key"].partition(":")[0] for row in rows if removal_of(row["data"]) == "redacted"] == [store]
    # Nor are requests seen by another tenant, nor made about what is not his.
    assert (await ground.http.get(PATH, headers=key)).json()["data"] == []
    for path in (f"{PATH}/{done['id']}", f"{PATH}/{done['id']}/export", f"{PATH}?store={store}"):
        assert (await ground.http.get(path, headers=key)).status_code == 404, path
    asking = {"store": store, "kind": "redact", "customer": {"id": "88"}}
    answer = await ground.http.post(PATH, json=asking, headers=key)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/store")


async def test_a_whole_shop_is_gone_but_for_what_comes_later(ground: Ground) -> None:
    store = await ground.register()
    await sent(ground, store)
    await asked(ground, store, "data_request", email="ada@example.com")
    await ground.shopify(store, {"shop_id": 1, "shop_domain": "demo.myshopify.com"}, topic="shop/redact", id_="s-1")
    await ground.drain()
    assert len(await unreadable(ground, store)) == 11
    ground.clock.set(ground.clock.now() + timedelta(hours=1))
    await ground.shopify(store, shopify_order(id=20), id_="later")
    await ground.drain()
    newest = (await ground.get("/v1/deliveries", store=store))["data"][0]
    assert (await ground.get(f"/v1/deliveries/{newest['id']}"))["body"] is not None
    kinds = {row["kind"]: row for row in (await ground.get(PATH))["data"]}
    assert kinds["redact_store"]["receipts"][0]["found"] == 11
    # Who was asked about before is as unknown as the rest.
    assert kinds["data_request"]["customer"]["email"] is None


async def test_a_step_that_fails_leaves_nothing_and_the_next_one_goes_on(ground: Ground) -> None:
    store = await ground.register()
    about_ada = await sent(ground, store)
    answer = await ground.http.post(PATH, json={"store": store, "kind": "redact", "customer": {"id": "88"}})
    path = f"{PATH}/{answer.json()['id']}"

    async def step() -> None:
        # A worker of its own each time: what is known is in the database.
        await PrivacyRequests(ground.database, ground.keyring, rate=3).run(ground.clock.now())

    seen: list[int] = []
    while (before := (await ground.get(path), await unreadable(ground, store)))[0]["state"] != "done":
        seen.append(len(before[1]))
        async with ground.database.autocommit() as pg:
            # All that the step does is done when it notes how far it came.
            await pg.execute("ALTER TABLE privacy_requests ADD CONSTRAINT dies CHECK (false) NOT VALID")
            with pytest.raises(asyncpg.CheckViolationError):
                await step()
            await pg.execute("ALTER TABLE privacy_requests DROP CONSTRAINT dies")
        assert (await ground.get(path), await unreadable(ground, store)) == before
        await step()
    # Ten deliveries are four steps to look at, as often as it takes, and the last four do something.
    assert (seen[-4:], {*seen[:-4]}) == ([0, 3, 6, 7], {0})
    receipt = before[0]["receipts"][0]
    assert (receipt["looked_at"], receipt["found"]) == (10, 7)
    # By her number her record is found, and by its e-mail what she ordered as a guest.
    assert before[1] == set(about_ada)


async def test_it_waits_for_what_was_received_before_and_not_read(ground: Ground) -> None:
    store = await ground.register()
    await ground.shopify(store, shopify_order(id=1), id_="1")
    asking = {"store": store, "kind": "redact", "customer": {"email": "ada@example.com"}}
    id_ = (await ground.http.post(PATH, json=asking)).json()["id"]
    working = PrivacyRequests(ground.database, ground.keyring, rate=100)
    await working.run(ground.clock.now())
    assert (await ground.get(f"{PATH}/{id_}"))["state"] == "waiting"
    assert (await ground.get("/v1/pipeline/ingest"))["drained"] is False
    await ground.drain()
    assert (await ground.get(f"{PATH}/{id_}"))["state"] == "done"
    assert len(await unreadable(ground, store)) == 1
    # It was observed before.
    assert {type_ for type_, *_ in await ground.commerce()} == {"order.observed", "privacy.requested"}


async def test_a_run_takes_as_many_steps_as_its_rate_allows(ground: Ground) -> None:
    store = await ground.register()
    for n in range(5):
        await ground.shopify(store, shopify_order(id=n + 1), id_=f"{n}")
    await ground.drain()
    asking = {"store": store, "kind": "redact", "customer": {"email": "ada@example.com"}}
    id_ = (await ground.http.post(PATH, json=asking)).json()["id"]
    await PrivacyRequests(ground.database, ground.keyring, rate=4, batch=1).run(ground.clock.now())
    [receipt] = (await ground.get(f"{PATH}/{id_}"))["receipts"]
    assert receipt["looked_at"] == 4


async def test_what_is_removed_before_it_is_read_is_skipped_and_counted(ground: Ground) -> None:
    store = await ground.register()
    await ground.shopify(store, shopify_order(), id_="1")
    async with ground.database.autocommit() as pg:
        await pg.execute("UPDATE log_journal SET data = '\\x00'::bytea || sha256(data)")
    [pending] = (await ground.get("/v1/deliveries"))["data"]
    assert pending["outcome"] == "pending"
    assert (await ground.get(f"/v1/deliveries/{pending['id']}"))["removed"] == "redacted"
    await ground.drain()
    found = await ground.get(f"/v1/deliveries/{pending['id']}")
    assert (found["outcome"], found["topic"], found["body"]) == ("ignored", "orders/create", None)
    assert found["reason"] == "its body was removed before it was read"
    assert (await ground.get("/v1/deliveries/counts"))["ignored"] == 1
    assert await ground.commerce() == []


async def test_a_replay_counts_what_is_removed_and_goes_on(ground: Ground) -> None:
    store = await ground.register()
    await sent(ground, store)
    await redacted(ground, store, id="88", email="ada@example.com")
    letters = (await ground.get("/v1/dead-letters/ingest"))["data"]
    answer = await ground.http.post("/v1/dead-letters/ingest/replay", json={"ids": [letters[0]["id"]]})
    assert answer.json() == {"marked": 1}
    ground.clock.set(ground.clock.now() + timedelta(days=1))
    id_ = (await ground.http.post("/v1/deliveries/replays", json={"store": store})).json()["id"]
    await ground.drain()
    told = await ground.get(f"/v1/deliveries/replays/{id_}")
    assert (told["state"], told["observed"], told["unreadable"]) == ("done", 3, 0)
    assert (told["gone"], told["looked_at"]) in {(7, 10), (6, 9)}
    states = {letter["id"]: letter["state"] for letter in (await ground.get("/v1/dead-letters/ingest"))["data"]}
    assert states == {letters[0]["id"]: "replayed", letters[1]["id"]: "dead"}


async def test_what_older_releases_parked_is_asked_for_once_it_is_replayed(ground: Ground) -> None:
    store = await ground.register()
    await ground.shopify(store, SHOP | {"customer": ADA}, topic="customers/data_request", id_="1")
    await ground.drain()
    async with ground.database.autocommit() as pg:
        [taken] = await pg.fetch("DELETE FROM privacy_requests RETURNING id::text, received_at")
        await pg.execute("UPDATE deliveries SET outcome = 'parked', reason = 'no normaliser', object = NULL")
    ground.clock.set(ground.clock.now() + timedelta(days=3))
    for dry_run, made in ((True, 0), (False, 1), (False, 1)):
        asking = {"store": store, "dry_run": dry_run}
        assert (await ground.http.post("/v1/deliveries/replays", json=asking)).status_code == 202
        await ground.drain()
        assert len((await ground.get(PATH))["data"]) == made
    [request] = (await ground.get(PATH))["data"]
    # Its time runs from when it came.
    due = taken["received_at"] + timedelta(days=30)
    assert (request["id"], datetime.fromisoformat(request["due_at"])) == (taken["id"], due)


async def test_for_how_long_the_oldest_has_waited_is_told(ground: Ground) -> None:
    store = await ground.register()
    watch = privacy_watch(ground.database)
    answer = await ground.http.post(
        PATH, json={"store": store, "kind": "redact", "customer": {"email": "ada@example.com"}}
    )
    assert answer.status_code == 202
    async with ground.database.transaction() as tx:
        await tx.pg.execute("UPDATE privacy_requests SET taken_at = taken_at - interval '7 hours'")
    await watch.run(ground.clock.now())
    assert 7 * 3600 <= _value(OLDEST) < 8 * 3600
    while await PrivacyRequests(ground.database, ground.keyring, rate=100).run(ground.clock.now()):
        pass
    await watch.run(ground.clock.now())
    assert _value(OLDEST) == 0


def _value(gauge: Gauge) -> float:
    [metric] = gauge.collect()
    return metric.samples[0].value

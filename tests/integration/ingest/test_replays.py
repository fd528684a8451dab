"""The journal read again: what it tells, what it changes, and what it leaves alone."""

import asyncio
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest

from libs.common.auth import create_key
from libs.common.ids import new_id
from services.ingest import replaying, replays
from services.ingest.replaying import Replays
from tests.integration.ingest.ground import Ground
from tests.waiting import eventually

ORDER = {"id": 1, "currency": "EUR", "created_at": "2026-03-01T10:00:00Z", "updated_at": "2026-03-01T10:00:00Z"}
LINE = {"id": 11, "title": "Cup", "quantity": 2, "price": "9.50"}
PATH = "/v1/deliveries/replays"


async def sent(ground: Ground, *, orders: int = 3) -> str:
    """A store that has sent some orders, a topic that nobody reads, and one that is dead."""
    store = await ground.register()
    for n in range(orders):
        await ground.shopify(store, ORDER | {"id": n + 1, "line_items": [LINE]}, id_=f"o-{n}")
    await ground.shopify(store, {"id": 9}, topic="themes/publish", id_="t-1")
    await ground.shopify(store, ORDER | {"id": 8, "line_items": [LINE | {"price": "a lot"}]}, id_="d-1")
    await ground.drain()
    return store


async def replayed(ground: Ground, store: str, **asked: Any) -> dict[str, Any]:
    """The replay at its end."""
    ground.clock.set(ground.clock.now().replace(year=2027))
    answer = await ground.http.post(PATH, json={"store": store, **asked})
    assert answer.status_code == 202, answer.text
    assert (answer.json()["state"], answer.json()["total"]) == ("waiting", None)
    await ground.drain()
    found: dict[str, Any] = await ground.get(f"{PATH}/{answer.json()['id']}")
    return found


async def test_a_replay_tells_what_it_saw_and_marks_what_it_observed(ground: Ground) -> None:
    store = await sent(ground)
    before = await ground.commerce()
    told = await replayed(ground, store)
    assert (told["state"], told["total"], told["looked_at"]) == ("done", 5, 5)
    assert (told["observed"], told["parked"], told["unreadable"], told["changed"]) == (3, 1, 1, 0)
    assert told["left_out"] == 0
    assert told["reasons"] == [{"reason": "line_items[0].price: not a decimal amount", "count": 1}]
    after = await ground.commerce()
    assert len(after) == 2 * len(before)
    live, again = (
        [data for *_, data in after if data.get("origin", "live") == origin] for origin in ("live", "replayed")
    )
    assert [{**data, "origin": "live"} for data in again] == [{**data, "origin": "live"} for data in live]
    assert {one["id"] for one in (await ground.get(PATH))["data"]} == {told["id"]}


async def test_a_dry_run_changes_nothing(ground: Ground) -> None:
    store = await sent(ground)
    before = await ground.commerce()
    told = await replayed(ground, store, dry_run=True)
    assert (told["looked_at"], told["observed"]) == (5, 3)
    assert await ground.commerce() == before


@pytest.mark.parametrize(
    ("asked", "looked_at"),
    [
        ({"topic": "orders/create"}, 4),
        ({"topic": "orders/create", "outcome": "dead"}, 1),
        ({"topic": "themes/publish", "outcome": "dead"}, 0),
        ({"outcome": "parked"}, 1),
        ({"since": "2027-01-01T00:00:00Z"}, 0),
        ({"until": "2026-01-01T00:00:00Z"}, 0),
        ({"since": "2026-01-01T00:00:00Z", "until": "2026-12-31T00:00:00Z"}, 5),
    ],
)
async def test_what_is_asked_for(ground: Ground, asked: dict[str, str], looked_at: int) -> None:
    store = await sent(ground)
    told = await replayed(ground, store, **asked)
    assert (told["total"], told["looked_at"]) == (looked_at, looked_at)


async def test_what_an_older_release_could_not_read_is_read_now(ground: Ground) -> None:
    store = await sent(ground)
    live = len(await ground.commerce())
    async with ground.database.autocommit() as pg:
        # As it would have left them: one parked, one dead.
        await pg.execute("UPDATE deliveries SET outcome = 'parked', reason = 'no normaliser' WHERE object = 'order:1'")
        await pg.execute(
            "DELETE FROM outcome_counts; INSERT INTO outcome_counts"
            " SELECT tenant, store, outcome, journal_partition, count(*) FROM deliveries GROUP BY 1, 2, 3, 4"
        )
        await pg.execute("UPDATE dead_letters SET data = (SELECT data FROM log_journal WHERE id IN"
                         " (SELECT id::text FROM deliveries WHERE object = 'order:2'))")  # fmt: skip
    told = await replayed(ground, store)
    assert (told["changed"], told["unreadable"]) == (2, 0)
    counts = await ground.get("/v1/deliveries/counts")
    assert (counts["observed"], counts["parked"], counts["dead"]) == (4, 1, 0)
    assert (await ground.get("/v1/deliveries", outcome="parked"))["data"][0]["topic"] == "themes/publish"
    # Nothing of it is news: what was dead starts no message either.
    origins = [data.get("origin", "live") for _, _, data in await ground.commerce()]
    assert (origins.count("live"), origins.count("replayed"), len(origins)) == (live, 4, live + 4)
    async with ground.database.autocommit() as pg:
        assert await pg.fetchval("SELECT state FROM dead_letters") == "replayed"


@pytest.mark.parametrize(
    ("asked", "left_out"),
    [({}, 1), ({"outcome": "dead"}, 1), ({"outcome": "parked"}, 0), ({"topic": "themes/publish"}, 0)],
)
async def test_what_was_discarded_is_left_out_and_counted(ground: Ground, asked: dict[str, str], left_out: int) -> None:
    store = await sent(ground)
    [letter] = (await ground.get("/v1/dead-letters/ingest"))["data"]
    assert (await ground.http.post(f"/v1/dead-letters/ingest/{letter['id']}/discard")).status_code == 200
    told = await replayed(ground, store, **asked)
    assert (told["left_out"], told["unreadable"]) == (left_out, 0)


async def test_two_replays_at_a_time_count_a_change_once(ground: Ground) -> None:
    store = await sent(ground)
    whole = await ground.get("/v1/deliveries/counts")
    async with ground.database.autocommit() as pg:
        await pg.execute("UPDATE deliveries SET outcome = 'parked', reason = 'no normaliser' WHERE object = 'order:1'")
        await pg.execute(
            "DELETE FROM outcome_counts; INSERT INTO outcome_counts"
            " SELECT tenant, store, outcome, journal_partition, count(*) FROM deliveries GROUP BY 1, 2, 3, 4"
        )
    ground.clock.set(ground.clock.now().replace(year=2027))
    for one in ({"store": store}, {"store": store, "topic": "orders/create"}):
        assert (await ground.http.post(PATH, json=one)).status_code == 202
    at_once = [Replays(ground.database, batch=100) for _ in range(2)]
    async with ground.database.autocommit() as pg:
        async with pg.transaction():
            # Both have looked by the time when the first of them may write.
            await pg.execute("SELECT FROM deliveries WHERE object = 'order:1' FOR UPDATE")
            running = [asyncio.create_task(each.run(ground.clock.now())) for each in at_once]

            async def both_wait() -> bool:
                waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                return bool(await pg.fetchval(f"{waiting} AND datname = current_database()") == len(at_once))

            await eventually(both_wait)
        await asyncio.gather(*running)
    assert await ground.get("/v1/deliveries/counts") == whole


async def test_a_replay_that_fails_stands_before_no_other(ground: Ground) -> None:
    store = await sent(ground)
    ground.clock.set(ground.clock.now().replace(year=2027))
    assert (await ground.http.post(PATH, json={"store": store})).status_code == 202
    async with ground.database.autocommit() as pg:
        await pg.execute('UPDATE replays SET counts = \'{"looked_at": "?"}\'')
    other = (await ground.http.post(PATH, json={"store": store, "topic": "orders/create"})).json()
    working = Replays(ground.database, batch=100)
    with pytest.raises(TypeError):
        await working.run(ground.clock.now())
    await working.run(ground.clock.now())
    assert (await ground.get(f"{PATH}/{other['id']}"))["state"] == "done"


async def test_a_replay_goes_by_steps_and_can_be_cancelled_between_them(ground: Ground) -> None:
    store = await sent(ground, orders=5)
    ground.clock.set(ground.clock.now().replace(year=2027))
    asked = (await ground.http.post(PATH, json={"store": store})).json()
    working = Replays(ground.database, batch=2)
    await working.run(ground.clock.now())
    assert (await ground.get(f"{PATH}/{asked['id']}"))["looked_at"] == 2
    cancelled = (await ground.http.post(f"{PATH}/{asked['id']}/cancel")).json()
    assert (cancelled["state"], cancelled["looked_at"]) == ("cancelled", 2)
    await working.run(ground.clock.now())
    assert len([key for _, key, data in await ground.commerce() if data.get("origin") == "replayed"]) == 2


@pytest.mark.parametrize(("module", "bound", "least"), [(replays, "READ_BYTES", 1), (replaying, "STEP_SECONDS", 0)])
async def test_large_and_dear_deliveries_are_taken_few_at_a_time(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, module: ModuleType, bound: str, least: int
) -> None:
    """Or one step takes longer than a transaction may, and more memory than there is."""
    store = await sent(ground, orders=5)
    whole = await replayed(ground, store, dry_run=True)
    monkeypatch.setattr(module, bound, least)
    ground.clock.set(ground.clock.now().replace(year=2027))
    asked = (await ground.http.post(PATH, json={"store": store})).json()
    working = Replays(ground.database, batch=100)
    steps = 0
    while (told := await ground.get(f"{PATH}/{asked['id']}"))["state"] != "done":
        # One each; at the end the last of those that were read and of the dead ones.
        assert told["looked_at"] == steps
        await working.run(ground.clock.now())
        steps += 1
    counted = ("total", "looked_at", "observed", "parked", "ignored", "unreadable", "changed", "reasons")
    assert {name: told[name] for name in counted} == {name: whole[name] for name in counted}
    assert steps >= whole["looked_at"] - 1 > 5
    assert told["unreadable"] > 0


async def test_open_replays_take_turns(ground: Ground) -> None:
    store = await sent(ground, orders=5)
    ground.clock.set(ground.clock.now().replace(year=2027))
    asked = [{"store": store}, {"store": store, "since": "2026-01-01T00:00:00Z"}]
    ids = [(await ground.http.post(PATH, json=one)).json()["id"] for one in asked]
    working = Replays(ground.database, batch=2)
    for _ in range(4):
        await working.run(ground.clock.now())
    assert [(await ground.get(f"{PATH}/{id_}"))["looked_at"] for id_ in ids] == [4, 4]


async def test_what_the_journal_no_longer_has_is_told(ground: Ground) -> None:
    store = await sent(ground)
    async with ground.database.autocommit() as pg:
        await pg.execute("DELETE FROM log_journal")
    told = await replayed(ground, store)
    # A dead letter keeps its data itself.
    assert (told["gone"], told["unreadable"], told["looked_at"]) == (4, 1, 5)
    shown = [await ground.get(f"/v1/deliveries/{row['id']}") for row in (await ground.get("/v1/deliveries"))["data"]]
    assert sorted(((one["outcome"] == "dead", one["removed"]) for one in shown), key=str) == [
        *[(False, "retention")] * 4,
        (True, None),
    ]


async def test_another_tenant_sees_and_moves_none_of_it(ground: Ground) -> None:
    store = await sent(ground)
    other = {"authorization": f"Bearer {await create_key(ground.database, 'other', {'*'}, 'of the other tenant')}"}
    answer = await ground.http.post(PATH, json={"store": store}, headers=other)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/store")
    own = (await ground.http.post(PATH, json={"store": store})).json()["id"]
    assert (await ground.http.get(PATH, headers=other)).json()["data"] == []
    for method, path in (("GET", f"{PATH}/{own}"), ("POST", f"{PATH}/{own}/cancel")):
        assert (await ground.http.request(method, path, headers=other)).status_code == 404
    assert (await ground.get(f"{PATH}/{own}"))["state"] == "waiting"


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"store": "st_none"}, "/store"),
        ({"outcome": "pending"}, "/outcome"),
        ({"since": "2026-03-01"}, "/since"),
        ({"since": "0001-01-01T00:00:00+14:00"}, "/since"),
        ({"since": "2026-03-02T00:00:00Z", "until": "2026-03-01T00:00:00Z"}, "/since"),
        ({"topic": "a\x00"}, "/topic"),
        ({"all": True}, "/all"),
    ],
)
async def test_a_bad_request_names_its_field(ground: Ground, changes: dict[str, Any], pointer: str) -> None:
    store = await ground.register()
    answer = await ground.http.post(PATH, json={"store": store} | changes)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert (await ground.http.get(f"{PATH}/{UUID(new_id())}")).status_code == 404

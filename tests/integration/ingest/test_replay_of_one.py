"""One delivery read again, by its id: found however many came with it, and nothing else is touched."""

from typing import Any

import pytest

from libs.common.auth import create_key
from libs.common.ids import new_id
from tests.integration.ingest.ground import Ground
from tests.unit.ingest.payloads import shopify_order

PATH = "/v1/deliveries/replays"
ADA = {"customer": {"id": 88, "email": "ada@example.com"}, "email": "ada@example.com"}
UNREADABLE = {"total_price": "a lot", "line_items": [{"price": "a lot"}]}


async def sent(ground: Ground, *orders: dict[str, Any]) -> tuple[str, list[str]]:
    """A store, and the deliveries of its orders, all of one instant, in their order."""
    store = await ground.register()
    for n, order in enumerate(orders, 1):
        assert (await ground.shopify(store, shopify_order(id=n, **order), id_=f"o-{n}")).status_code == 200
    await ground.drain()
    return store, [row["id"] for row in reversed((await ground.get("/v1/deliveries"))["data"])]


async def misread(ground: Ground, *ids: str) -> None:
    """Leaves them as a release would have that could not read their topic."""
    async with ground.database.autocommit() as pg:
        await pg.execute(
            "UPDATE deliveries SET outcome = 'parked', reason = 'no normaliser', object = NULL WHERE id = ANY($1)", ids
        )
        await pg.execute(
            "DELETE FROM outcome_counts; INSERT INTO outcome_counts"
            " SELECT tenant, store, outcome, journal_partition, count(*) FROM deliveries GROUP BY 1, 2, 3, 4"
        )


async def replayed(ground: Ground, delivery: str, **asked: Any) -> dict[str, Any]:
    """The replay at its end."""
    answer = await ground.http.post(PATH, json={"delivery": delivery, **asked})
    assert answer.status_code == 202, answer.text
    await ground.drain()
    found: dict[str, Any] = await ground.get(f"{PATH}/{answer.json()['id']}")
    assert (found["state"], found["delivery"]) == ("done", delivery)
    return found


async def outcomes(ground: Ground, ids: list[str]) -> list[tuple[str, str | None]]:
    shown = [await ground.get(f"/v1/deliveries/{id_}") for id_ in ids]
    return [(one["outcome"], one["object"]) for one in shown]


async def origins(ground: Ground) -> list[str]:
    return [data.get("origin", "live") for _, _, data in await ground.commerce()]


async def refused(ground: Ground, status: int, code: str, pointer: str, **asked: Any) -> str:
    """Why it is."""
    answer = await ground.http.post(PATH, json=asked)
    assert answer.status_code == status, answer.text
    told = answer.json()
    assert (told["code"], [each["pointer"] for each in told["errors"]]) == (code, [pointer])
    assert (await ground.get(PATH))["data"] == []
    return str(told["detail"])


async def test_one_that_was_misread_is_mended_and_no_other(ground: Ground) -> None:
    store, ids = await sent(ground, {}, {}, {})
    await misread(ground, *ids[:2])
    before = await origins(ground)
    told = await replayed(ground, ids[1])
    assert (told["total"], told["looked_at"], told["observed"], told["changed"]) == (1, 1, 1, 1)
    assert (told["store"], told["topic"]) == (store, "orders/create")
    assert await outcomes(ground, ids) == [("parked", None), ("observed", "order:2"), ("observed", "order:3")]
    counts = await ground.get("/v1/deliveries/counts")
    assert (counts["observed"], counts["parked"]) == (2, 1)
    # Marked, so that it starts no message.
    assert sorted(await origins(ground)) == sorted([*before, "replayed"])


async def test_one_that_was_read_well_stays_what_it_was(ground: Ground) -> None:
    _, ids = await sent(ground, {}, {})
    whole = await ground.get("/v1/deliveries/counts"), await outcomes(ground, ids)
    live = {key: data for _, key, data in await ground.commerce()}
    assert (await replayed(ground, ids[0]))["changed"] == 0
    assert (await ground.get("/v1/deliveries/counts"), await outcomes(ground, ids)) == whole
    [again] = [(key, data) for _, key, data in await ground.commerce() if data.get("origin") == "replayed"]
    assert {**again[1], "origin": "live"} == {**live[again[0]], "origin": "live"}


async def test_a_dry_run_tells_what_would_come_of_it(ground: Ground) -> None:
    _, ids = await sent(ground, {}, {})
    await misread(ground, *ids)
    before = await ground.commerce(), await outcomes(ground, ids)
    told = await replayed(ground, ids[0], dry_run=True)
    assert (told["looked_at"], told["observed"], told["changed"]) == (1, 1, 1)
    assert (await ground.commerce(), await outcomes(ground, ids)) == before


async def test_a_dead_one_lives_once_it_can_be_read(ground: Ground) -> None:
    _, ids = await sent(ground, UNREADABLE, UNREADABLE, {})
    told = await replayed(ground, ids[0])
    assert (told["total"], told["unreadable"], len(told["reasons"])) == (1, 1, 1)
    async with ground.database.autocommit() as pg:
        # What a release of before could not read.
        await pg.execute(
            "UPDATE dead_letters SET data = (SELECT data FROM log_journal WHERE id = $1) WHERE event_id = $2",
            ids[2],
            ids[0],
        )
    assert (await replayed(ground, ids[0]))["changed"] == 1
    assert [outcome for outcome, _ in await outcomes(ground, ids)] == ["observed", "dead", "observed"]
    assert (await origins(ground)).count("replayed") == 1


async def test_one_that_was_discarded_is_left_out(ground: Ground) -> None:
    _, ids = await sent(ground, UNREADABLE)
    [letter] = (await ground.get("/v1/dead-letters/ingest"))["data"]
    assert (await ground.http.post(f"/v1/dead-letters/ingest/{letter['id']}/discard")).status_code == 200
    told = await replayed(ground, ids[0])
    assert (told["total"], told["looked_at"], told["left_out"]) == (0, 0, 1)


async def test_nobody_reads_what_is_not_his(ground: Ground) -> None:
    _, ids = await sent(ground, {})
    assert await refused(ground, 404, "not_found", "/delivery", delivery=new_id()) == "There is no such delivery."
    other = {"authorization": f"Bearer {await create_key(ground.database, 'other', {'*'}, 'of the other tenant')}"}
    answer = await ground.http.post(PATH, json={"delivery": ids[0]}, headers=other)
    assert (answer.status_code, answer.json()["detail"]) == (404, "There is no such delivery.")
    reader = await create_key(ground.database, "default", {"deliveries:read"}, "who only looks")
    answer = await ground.http.post(PATH, json={"delivery": ids[0]}, headers={"authorization": f"Bearer {reader}"})
    assert answer.status_code == 403
    assert (await ground.get(PATH))["data"] == []


@pytest.mark.parametrize("order", [ADA, ADA | UNREADABLE], ids=["observed", "dead"])
async def test_one_that_was_redacted_is_refused_with_the_reason(ground: Ground, order: dict[str, Any]) -> None:
    store, ids = await sent(ground, order)
    asking = {"store": store, "kind": "redact", "customer": {"email": "ada@example.com"}}
    assert (await ground.http.post("/v1/privacy-requests", json=asking)).status_code == 202
    await ground.drain()
    assert "redacted by a privacy request" in await refused(ground, 404, "removed", "/delivery", delivery=ids[0])


async def test_one_past_the_journals_retention_is_refused_with_the_reason(ground: Ground) -> None:
    _, ids = await sent(ground, {})
    async with ground.database.autocommit() as pg:
        await pg.execute("DELETE FROM log_journal")
    assert "past the journal's retention" in await refused(ground, 404, "removed", "/delivery", delivery=ids[0])


async def test_one_whose_body_goes_meanwhile_is_counted_as_gone(ground: Ground) -> None:
    _, ids = await sent(ground, {})
    asked = (await ground.http.post(PATH, json={"delivery": ids[0]})).json()
    async with ground.database.autocommit() as pg:
        await pg.execute("DELETE FROM log_journal")
    await ground.drain()
    told = await ground.get(f"{PATH}/{asked['id']}")
    assert (told["state"], told["looked_at"], told["gone"]) == ("done", 1, 1)


async def test_one_that_was_not_read_yet_needs_none(ground: Ground) -> None:
    store = await ground.register()
    await ground.shopify(store, shopify_order())
    [row] = (await ground.get("/v1/deliveries"))["data"]
    assert "by today's rules" in await refused(ground, 409, "pending", "/delivery", delivery=row["id"])


async def test_one_of_a_deleted_store_is_refused(ground: Ground) -> None:
    store, ids = await sent(ground, {})
    assert (await ground.http.delete(f"/v1/stores/{store}")).status_code == 200
    await refused(ground, 422, "invalid", "/delivery", delivery=ids[0])


@pytest.mark.parametrize(
    ("asked", "pointer"),
    [
        ({"store": "st_another"}, "/store"),
        ({"topic": "orders/updated"}, "/topic"),
        ({"outcome": "parked"}, "/outcome"),
        ({"since": "2999-01-01T00:00:00Z", "until": "2999-01-02T00:00:00Z"}, "/since"),
        ({"until": "2000-01-01T00:00:00Z"}, "/until"),
        ({"delivery": None}, "/store"),
        ({"delivery": "o-1"}, "/delivery"),
    ],
)
async def test_what_is_not_true_of_it_is_named(ground: Ground, asked: dict[str, Any], pointer: str) -> None:
    _, ids = await sent(ground, {})
    await refused(ground, 422, "invalid", pointer, **{"delivery": ids[0], **asked})


async def test_what_is_true_of_it_may_be_said(ground: Ground) -> None:
    store, ids = await sent(ground, {}, {})
    received = (await ground.get(f"/v1/deliveries/{ids[0]}"))["received_at"]
    true = {"store": store, "topic": "orders/create", "outcome": "observed", "since": received}
    told = await replayed(ground, ids[0], **true, until="2999-01-01T00:00:00Z")
    assert (told["total"], told["looked_at"], told["since"]) == (1, 1, received)


async def test_asked_for_again_it_is_the_same_one(ground: Ground) -> None:
    _, ids = await sent(ground, {}, {})
    first, again, other = [await ground.http.post(PATH, json={"delivery": id_}) for id_ in (ids[0], ids[0], ids[1])]
    assert [first.status_code, again.status_code, other.status_code] == [202, 200, 202]
    assert first.json()["id"] == again.json()["id"] != other.json()["id"]
    await ground.drain()
    key = {"idempotency-key": "once"}
    once, twice = [await ground.http.post(PATH, json={"delivery": ids[0]}, headers=key) for _ in range(2)]
    assert (once.status_code, twice.json()["id"]) == (202, once.json()["id"])
    assert twice.headers["idempotency-replayed"] == "true"

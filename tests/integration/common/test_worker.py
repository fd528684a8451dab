"""The consumer loop on a real database: every record once, whatever happens to the worker or the data."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from libs.common import positions
from libs.common.clock import DrivenClock, SystemClock
from libs.common.contracts.topics import COMMERCE, CUSTOMERS
from libs.common.db import is_transient
from libs.common.worker import Batch, Limits, Periodic, Reject, Worker
from tests.contract.logs import working
from tests.integration.common.workbench import Bench
from tests.waiting import eventually


async def test_each_record_takes_effect_once_and_the_leases_are_given_back(bench: Bench) -> None:
    await bench.write(*[b"{}"] * 200)
    async with working(bench.worker(batch_size=30)):
        await eventually(bench.drained)
    assert set((await bench.effects()).values()) == {1}
    assert len(await bench.effects()) == 200
    assert await bench.owners() == {None: 8}


async def test_poison_is_found_and_buried_and_its_neighbours_live(bench: Bench) -> None:
    await bench.write(*[b"{}"] * 40, b"poison", b"refuse", b"leave out", *[b"{}"] * 40)
    async with working(bench.worker()):
        await eventually(bench.drained)
    assert len(await bench.effects()) == 80
    reasons = {bytes(row["data"]): (row["reason"], row["traceback"]) for row in await bench.dead()}
    assert reasons[b"refuse"] == ("refused", None)
    assert reasons[b"leave out"] == ("left out", None)
    reason, trace = reasons[b"poison"]
    assert reason.startswith("ZeroDivisionError")
    assert "in note" in trace


async def test_a_dead_letter_comes_back_once_its_cause_is_mended(bench: Bench) -> None:
    await bench.write(b"poison", b"refuse")
    async with working(bench.worker()):
        await eventually(bench.drained)

    async def only_poison_is_mended(batch: Batch) -> None:
        for record in batch.records:
            if record.data == b"refuse":
                raise Reject("still refused")
        await bench.save(batch, list(batch.records))

    async with bench.database.autocommit() as pg:
        await pg.execute("UPDATE dead_letters SET state = 'replay'")
    async with working(bench.worker(only_poison_is_mended, limits=Limits(patience=0.05))):
        await eventually(lambda: _all_settled(bench))
    states = {bytes(row["data"]): (row["state"], row["reason"], row["attempts"]) for row in await bench.dead()}
    assert states[b"poison"][0] == "replayed"
    assert states[b"refuse"] == ("dead", "still refused", 2)
    assert len(await bench.effects()) == 1


async def _all_settled(bench: Bench) -> bool:
    return all(row["state"] != "replay" for row in await bench.dead())


async def _async(value: bool) -> bool:  # noqa: FBT001 (a value, not a switch)
    return value


async def test_a_worker_that_lost_its_partition_writes_nothing(bench: Bench) -> None:
    """The handler hangs past its lease; meanwhile another worker takes over and does the work."""
    await bench.write(*[b"{}"] * 30)
    hanging, go_on = asyncio.Event(), asyncio.Event()

    async def hang(batch: Batch) -> None:
        await bench.save(batch, list(batch.records))
        hanging.set()
        await go_on.wait()

    zombie = bench.worker(hang, limits=Limits(lease=3600))  # it will not come to its next heartbeat
    stop = asyncio.Event()
    running = asyncio.create_task(zombie.run(stop))
    await hanging.wait()
    async with bench.database.autocommit() as pg:
        # What the end of a lease comes to, without waiting for one: the partitions are free.
        await pg.execute("UPDATE positions SET owner = NULL, lease_until = NULL")
        await pg.execute("DELETE FROM workers")
    heir = bench.worker()
    async with working(heir):
        await eventually(bench.drained)
        go_on.set()
        stop.set()
        await running
    assert set((await bench.effects()).values()) == {1}
    assert len(await bench.effects()) == 30


@pytest.mark.parametrize("bench", ["postgres"], indirect=True)
async def test_a_dead_letter_is_dated_as_what_arrives(bench: Bench, clock: DrivenClock) -> None:
    """A driven clock's arrivals run ahead of its timers: it must not have failed before it came."""
    clock.set_arrivals(clock.now() + timedelta(hours=4))
    await bench.write(b"leave out", b"refuse", b"poison")

    async def dead(at: datetime) -> bool:
        return [row["failed_at"] for row in await bench.dead()] == [at] * 3

    async with working(bench.worker(clock=clock)):
        await eventually(lambda: dead(clock.arrival()))
        clock.set_arrivals(clock.now() + timedelta(hours=5))
        async with bench.database.autocommit() as pg:
            await pg.execute("UPDATE dead_letters SET state = 'replay'")
        await eventually(lambda: dead(clock.arrival()))


async def test_two_workers_share_the_partitions_and_an_heir_takes_all(bench: Bench) -> None:
    limits = Limits(lease=0.6, patience=0.05)
    first, second = bench.worker(limits=limits), bench.worker(limits=limits)
    async with working(first):
        await eventually(lambda: _owns(bench, {first.name: 8}))
        async with working(second):
            await eventually(lambda: _owns(bench, {first.name: 4, second.name: 4}))
            await bench.write(*[b"{}"] * 50)
            await eventually(bench.drained)
        await eventually(lambda: _owns(bench, {first.name: 8}))
    assert set((await bench.effects()).values()) == {1}


async def _owns(bench: Bench, expected: dict[str, int]) -> bool:
    return dict(await bench.owners()) == expected


async def test_a_dead_process_is_inherited_at_once(bench: Bench) -> None:
    """Its lease of an hour does not matter: its session is gone, and with it the lock on its name."""
    session = await bench.database.session()
    await positions.begin(session, "profiles", (COMMERCE,), "dead")
    await positions.heartbeat(session, "profiles", "dead", 3600)
    assert await bench.owners() == {"dead": 8}
    session.terminate()
    heir = bench.worker(limits=Limits(lease=0.3))
    async with working(heir):
        await eventually(lambda: _owns(bench, {heir.name: 8}))


async def test_what_somebody_else_took_over_is_tried_no_more(bench: Bench) -> None:
    await bench.write(*[b"{}"] * 20)

    async def away(_: Batch) -> None:
        raise ConnectionError

    async def retrying() -> bool:
        return worker.problems() == ["profiles is retrying: ConnectionError"]

    async def ready() -> bool:
        return worker.problems() == []

    worker = bench.worker(away, limits=Limits(lease=0.6, patience=0.05, backoff=0.1))
    session = await bench.database.session()
    async with working(worker):
        await eventually(retrying)
        await positions.begin(session, "profiles", (COMMERCE,), "other")
        await positions.heartbeat(session, "profiles", "other", 3600)
        await session.execute("UPDATE positions SET owner = 'other', lease_until = now() + interval '1 hour'")
        await eventually(ready)
    await session.close()


async def test_a_lost_database_is_waited_for(bench: Bench) -> None:
    """Every connection is cut in the middle of a batch: rolled back, tried again, once."""
    await bench.write(*[b"{}"] * 20)
    cuts = 0

    async def cut_twice(batch: Batch) -> None:
        nonlocal cuts
        await bench.note(batch)
        if cuts < 2:
            cuts += 1
            admin = await bench.database.session()
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            await admin.close()

    async def drained() -> bool:
        try:
            return await bench.drained()
        except Exception as error:
            if not is_transient(error):
                raise
            return False  # the cut hits the observer too

    async with working(bench.worker(cut_twice, limits=Limits(lease=0.5, patience=0.05, backoff=0.1))):
        await eventually(drained)
    assert cuts == 2
    assert set((await bench.effects()).values()) == {1}
    assert len(await bench.effects()) == 20
    assert await bench.dead() == []


@pytest.mark.parametrize("bench", ["postgres"], indirect=True)
async def test_a_missing_record_stops_the_consumer(bench: Bench) -> None:
    await bench.write(*[b"{}"] * 20)
    async with bench.written.database.autocommit() as pg:
        await pg.execute('DELETE FROM log_commerce WHERE "offset" = 0')
    worker = bench.worker()
    async with working(worker):
        await eventually(lambda: _async(bool(worker.problems())))
        assert "records are missing" in worker.problems()[0]
    assert await bench.effects() == {}


async def test_what_retention_took_before_it_was_read_stops_a_consumer_that_has_begun(bench: Bench) -> None:
    await bench.write(*[b"{}"] * 80)
    async with working(bench.worker()):
        await eventually(bench.drained)
    read = await bench.written.ends(COMMERCE)
    await bench.write(*[b"{}"] * 80)
    ends = await bench.written.ends(COMMERCE)
    place = max(read, key=read.__getitem__)
    await bench.written.drop(place, read[place] + 4)
    worker = bench.worker()
    async with working(worker):
        await eventually(lambda: _async(bool(worker.problems())))
        told = f"commerce[{place[1]}] goes on at {read[place] + 4}, not at {read[place]}: records are missing"
        assert told in worker.problems()[0]
    assert len(await bench.effects()) <= 160 - (ends[place] - read[place])


@pytest.mark.parametrize("bench", ["postgres"], indirect=True)
async def test_who_has_read_nothing_begins_where_retention_has_left_the_log(bench: Bench) -> None:
    await bench.write(*[b"{}"] * 80)
    place = ("commerce", 0)
    await bench.written.drop(place, 4)
    async with working(bench.worker()):
        await eventually(bench.drained)
    assert len(await bench.effects()) == 76


async def test_events_out_commit_with_the_effects_and_derive_their_ids(bench: Bench) -> None:
    """A first try that fails after emitting leaves nothing; the ids of the second are those of the first."""
    await bench.write(b"{}", b"{}")
    ids: list[list[str]] = []

    async def emit(batch: Batch) -> None:
        for record in batch.records:
            for _ in range(2):
                batch.emit(CUSTOMERS, "x", batch.records[0], key="k", time=record.time, cause=record)
        ids.append([e.id for _, e in batch.emitted])
        if len(ids) == 1:
            raise ConnectionResetError

    async with working(bench.worker(emit, limits=Limits(backoff=0.01))):
        await eventually(bench.drained)
    got = [r.id for r in await bench.written.drain(CUSTOMERS)]
    # Kafka may bring both records in one batch or in two.
    assert sorted(got) == sorted(id_ for tried in ids[1:] for id_ in tried)
    assert set(ids[0]) <= set(got)
    assert len(set(got)) == len(got) == 4
    assert {r.source for r in await bench.written.drain(CUSTOMERS)} == {"/services/profiles"}


async def test_a_periodic_goes_on_after_failing(bench: Bench) -> None:
    runs: list[datetime] = []

    async def run(now: datetime) -> bool:
        runs.append(now)
        if len(runs) == 1:
            raise ZeroDivisionError
        return len(runs) == 2

    worker = Worker(bench.database, bench.written.log, SystemClock(), periodics=[Periodic("p", 0.01, run)])
    async with working(worker):
        await eventually(lambda: _async(len(runs) > 4))
    assert all(now.tzinfo is UTC for now in runs)


@pytest.mark.parametrize("data", [b"not json", b'{"store": 1}', b"{}"])
async def test_a_record_that_breaks_its_contract_is_a_dead_letter(bench: Bench, data: bytes) -> None:
    async def decode(batch: Batch) -> None:
        for record in batch.records:
            batch.data(record)

    await bench.write(data)
    async with working(bench.worker(decode)):
        await eventually(bench.drained)
    [dead] = await bench.dead()
    assert dead["reason"].startswith("order.observed: ")

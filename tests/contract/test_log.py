"""The contract of the log, for every kind of log there is."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta

import pytest
import pytest_asyncio

from libs.common.clock import SystemClock
from libs.common.contracts.topics import COMMERCE, JOURNAL
from libs.common.log.postgres import append, append_unique, partition_of
from libs.common.log.schema import keep_log
from tests.contract.logs import Written, event, kafka_log, postgres_log


class _Undone(Exception):
    pass


def _raise_if(*, undo: bool) -> None:
    if undo:
        raise _Undone


@pytest_asyncio.fixture(params=["postgres", pytest.param("kafka", marks=pytest.mark.kafka)])
async def written(request: pytest.FixtureRequest, empty_database_url: str) -> AsyncIterator[Written]:
    if request.param == "postgres":
        async with postgres_log(empty_database_url) as log:
            yield log
    else:
        async with kafka_log(empty_database_url, request.getfixturevalue("kafka")) as log:
            yield log


@pytest_asyncio.fixture
async def in_postgres(empty_database_url: str) -> AsyncIterator[Written]:
    """For what only the writer's side has: digests, and tables that retention drops."""
    async with postgres_log(empty_database_url) as log:
        yield log


def test_partitions_are_stable_for_ever() -> None:
    """Changing the hash would send a key's future to another partition than its past."""
    assert [partition_of("default", key, 8) for key in ("st_1:order:1", "st_1:order:2", "é")] == [2, 0, 6]
    assert partition_of("a", "bc", 1 << 31) != partition_of("ab", "c", 1 << 31)


async def test_eight_writers_leave_no_gap_and_no_reader_sees_one(written: Written) -> None:
    """Writers commit, roll back and overlap; a reader follows them all the while."""
    chance = random.Random(7)
    kept: list[str] = []
    done = asyncio.Event()

    async def write(writer: int) -> None:
        for n in range(60):
            events = [event(f"{writer}-{n}-{m}") for m in range(chance.randint(1, 9))]
            undo = chance.random() < 0.2
            try:
                async with written.database.transaction() as tx:
                    await append(tx, COMMERCE, events)
                    _raise_if(undo=undo)
            except _Undone:
                continue
            kept.extend(e.id for e in events)

    async def follow() -> list[str]:
        at = {("commerce", partition): 0 for partition in range(COMMERCE.partitions)}
        seen: list[str] = []
        while not done.is_set() or at != await written.ends(COMMERCE):
            for record in await written.log.read(at, 50, 0.05):
                assert record.offset == at[record.topic, record.partition], "a gap, or a record behind the reader"
                at[record.topic, record.partition] += 1
                seen.append(record.id)
        return seen

    following = asyncio.create_task(follow())
    await asyncio.gather(*(write(writer) for writer in range(8)))
    done.set()
    seen = await following
    assert sorted(seen) == sorted(kept)
    assert sum((await written.ends(COMMERCE)).values()) == len(kept)


async def test_a_key_keeps_its_order_within_and_across_appends(written: Written) -> None:
    sent = []
    for n in range(5):
        events = [event(f"key-{m % 3}", data=str(n * 10 + m).encode()) for m in range(10)]
        sent += events
        async with written.database.transaction() as tx:
            await append(tx, COMMERCE, events)
    for key in ("key-0", "key-1", "key-2"):
        got = [r.data for r in await written.drain(COMMERCE) if r.key == key]
        assert got == [e.data for e in sent if e.key == key]


async def test_what_was_written_comes_back_whole(written: Written) -> None:
    sent = event("key", data=bytes(range(256)) * 40, tenant="other")
    async with written.database.transaction() as tx:
        await append(tx, COMMERCE, [sent])
    [got] = await written.drain(COMMERCE)
    assert {name: getattr(got, name) for name in sent.__struct_fields__} == {
        name: getattr(sent, name) for name in sent.__struct_fields__
    }
    assert (got.topic, got.offset) == ("commerce", 0)
    assert got.partition == partition_of("other", "key", COMMERCE.partitions)


async def test_a_rolled_back_append_was_never_there(written: Written) -> None:
    try:
        async with written.database.transaction() as tx:
            await append(tx, COMMERCE, [event("a"), event("b")])
            _raise_if(undo=True)
    except _Undone:
        pass
    assert await written.drain(COMMERCE) == []
    assert set((await written.log.end_offsets("commerce")).values()) == {0}


async def test_a_waiting_reader_is_woken_by_the_commit(written: Written) -> None:
    """It waits far longer than the look that readers take for themselves; the bell is what ends the wait."""
    at = {("commerce", partition): 0 for partition in range(COMMERCE.partitions)}
    reading = asyncio.create_task(written.log.read(at, 10, 30))
    while not reading.done():
        async with written.database.transaction() as tx:
            await append(tx, COMMERCE, [event("a")])
        await asyncio.wait([reading], timeout=0.1)
    assert [record.key for record in reading.result()][:1] == ["a"]


async def test_each_digest_is_appended_once_whoever_sends_it(in_postgres: Written) -> None:
    """Within one append, across appends, across connections at once, and per tenant."""
    digests = [bytes([n % 20]) * 16 for n in range(60)]

    async def send(tenant: str) -> int:
        async with in_postgres.database.autocommit() as pg:
            return sum(await append_unique(pg, JOURNAL, [event(f"k{n}", tenant=tenant) for n in range(60)], digests))

    assert sum(await asyncio.gather(*(send("default") for _ in range(6)))) == 20
    assert await send("other") == 20
    assert len(await in_postgres.drain(JOURNAL)) == 40


async def test_retention_drops_whole_tables_and_keeps_offsets(in_postgres: Written) -> None:
    now = SystemClock().now()
    async with in_postgres.database.transaction() as tx:
        await append(tx, COMMERCE, [event("before the tables were made")])
    assert await keep_log(in_postgres.database, COMMERCE, now) == []
    async with in_postgres.database.transaction() as tx:
        await append(tx, COMMERCE, [event("after")])
    assert len(await in_postgres.drain(COMMERCE)) == 2

    dropped = await keep_log(in_postgres.database, COMMERCE, now + timedelta(days=COMMERCE.retention_days + 7))
    assert len(dropped) == 1
    assert await in_postgres.drain(COMMERCE) == []
    assert sum((await in_postgres.log.end_offsets("commerce")).values()) == 2


async def test_partitions_that_come_and_go_while_a_reader_gets_to_know_the_log(written: Written) -> None:
    """Whatever breaks within a client because of it, the next read or the one after it goes on."""
    events = [event(f"key {n}") for n in range(40)]
    async with written.database.transaction() as tx:
        await append(tx, COMMERCE, events)
    whole = await written.ends(COMMERCE)
    some = dict.fromkeys(list(whole)[:3], 0)
    for n in range(6):
        # A new reader each time: only at first does it not know where its group is.
        log = written.reader()
        for places in (some, dict.fromkeys(whole, 0), some, dict.fromkeys(whole, 0)):
            with suppress(ConnectionError):
                await log.read(places, 1, 0.002 * n)
        with suppress(ConnectionError):
            await log.read(dict.fromkeys(whole, 0), 64, 0.1)
        assert await log.read(dict.fromkeys(whole, 0), 64, 5)

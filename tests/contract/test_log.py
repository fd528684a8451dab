"""The contract of the log, for every kind of log there is."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, suppress
from datetime import timedelta

import pytest
import pytest_asyncio

from libs.common.clock import SystemClock
from libs.common.contracts.topics import COMMERCE, JOURNAL
from libs.common.log import growth
from libs.common.log.base import READ_BYTES
from libs.common.log.postgres import append_unique, partition_of
from libs.common.log.schema import create_beginnings, keep_log
from tests.contract.logs import KINDS, Written, event, opening, postgres_log


class _Undone(Exception):
    pass


def _raise_if(*, undo: bool) -> None:
    if undo:
        raise _Undone


@pytest.fixture(params=KINDS)
def opened(request: pytest.FixtureRequest) -> AbstractAsyncContextManager[Written]:
    return opening(request.param, request)


@pytest_asyncio.fixture
async def written(opened: AbstractAsyncContextManager[Written]) -> AsyncIterator[Written]:
    async with opened as log:
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
                    await written.append(tx, COMMERCE, events)
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
        await written.write(COMMERCE, events)
    for key in ("key-0", "key-1", "key-2"):
        got = [r.data for r in await written.drain(COMMERCE) if r.key == key]
        assert got == [e.data for e in sent if e.key == key]


async def test_what_was_written_comes_back_whole(written: Written) -> None:
    sent = event("key", data=bytes(range(256)) * 40, tenant="other")
    await written.write(COMMERCE, [sent])
    [got] = await written.drain(COMMERCE)
    assert {name: getattr(got, name) for name in sent.__struct_fields__} == {
        name: getattr(sent, name) for name in sent.__struct_fields__
    }
    assert (got.topic, got.offset) == ("commerce", 0)
    assert got.partition == partition_of("other", "key", COMMERCE.partitions)


async def test_a_rolled_back_append_was_never_there(written: Written) -> None:
    try:
        async with written.database.transaction() as tx:
            await written.append(tx, COMMERCE, [event("a"), event("b")])
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
        await written.write(COMMERCE, [event("a")])
        await asyncio.wait([reading], timeout=0.1)
    assert [record.key for record in reading.result()][:1] == ["a"]


async def test_large_records_are_read_a_few_at_a_time(written: Written) -> None:
    """What a worker holds at one time does not depend on how much there is."""
    size = 1024 * 1024
    for _ in range(4):
        await written.write(COMMERCE, [event("key", data=bytes(size)) for _ in range(6)])
    place = ("commerce", partition_of("default", "key", COMMERCE.partitions))
    await written.ends(COMMERCE)
    at = 0
    while at < 24:
        records = await written.log.read({place: at}, 500, 5)
        assert [record.offset for record in records] == [*range(at, at + len(records))]
        assert sum(len(record.data) for record in records) <= READ_BYTES + size
        at += len(records)


async def test_any_position_can_be_read_from_again(written: Written) -> None:
    """What was rolled back is read again, and a new owner begins where the old one was."""
    await written.write(COMMERCE, [event("key", data=str(n).encode()) for n in range(12)])
    place = ("commerce", partition_of("default", "key", COMMERCE.partitions))
    await written.ends(COMMERCE)
    for start in (0, 11, 4, 4, 0):
        got: list[bytes] = []
        while start + len(got) < 12:
            got += [record.data for record in await written.log.read({place: start + len(got)}, 5, 5)]
        assert got == [str(n).encode() for n in range(start, 12)]
    assert await written.log.read({place: 12}, 5, 0.05) == []


async def test_a_reader_asks_for_partitions_of_its_own_and_gets_nothing_else(written: Written) -> None:
    await written.write(COMMERCE, [event(f"key {n}") for n in range(80)])
    ends = await written.ends(COMMERCE)
    for mine in ({0, 1, 2}, {5}, set(range(8))):
        at = {place: 0 for place in ends if place[1] in mine}
        got = await written.drain(COMMERCE, dict(at))
        assert {(record.topic, record.partition) for record in got} == at.keys()
        for place in at:
            numbers = [record.offset for record in got if (record.topic, record.partition) == place]
            assert numbers == list(range(ends[place]))


async def test_what_retention_has_dropped_is_not_passed_over_in_silence(written: Written) -> None:
    """The reader gets what comes next, and sees by its number that something is missing.

    That it was retention the writer's own log says; what only follows it cannot tell it from a loss.
    """
    await written.write(COMMERCE, [event("key") for _ in range(10)])
    place = ("commerce", partition_of("default", "key", COMMERCE.partitions))
    ends = await written.ends(COMMERCE)
    assert ends[place] == 10
    await written.drop(place, 4)
    for start in (0, 3):
        [following, *others] = await written.log.read({place: start}, 5, 5)
        assert (following.offset, following.first) == (4, written.log is written.own)
        assert not any(record.first for record in others)
    [inside, *_] = await written.log.read({place: 7}, 5, 5)
    assert (inside.offset, inside.first) == (7, False)
    assert await written.ends(COMMERCE) == ends


async def test_growth_waits_for_whoever_appends_and_says_up_to_where_keys_were_elsewhere(written: Written) -> None:
    keys = [f"key {n}" for n in range(9)]
    await written.write(COMMERCE, [event(key) for key in keys])
    async with written.database.transaction() as tx:
        await written.append(tx, COMMERCE, [event(keys[0])])
        growing = asyncio.create_task(written.grow(COMMERCE, 16))
        await asyncio.wait({growing}, timeout=0.05)
        assert not growing.done()
    await growing
    for unfit in (16, 8, 24):
        with pytest.raises(growth.Unfit):
            await written.grow(COMMERCE, unfit)
    later = [event(key) for key in keys]
    await written.write(COMMERCE, later)

    records = await written.drain(COMMERCE)
    before = Counter(partition_of("default", key, 8) for key in [*keys, keys[0]])
    begun = {(r.partition, r.offset): growth.opened(r) for r in records if growth.opened(r) is not None}
    assert begun == {(q, 0): growth.Opened(q - 8, before[q - 8]) for q in range(8, 16)}
    places = {r.id: r.partition for r in records if growth.opened(r) is None}
    assert len(places) == 2 * len(keys) + 1
    assert {e.id: places[e.id] for e in later} == {e.id: partition_of("default", e.key, 16) for e in later}
    assert max(places.values()) >= 8


async def test_ages_are_of_the_record_at_each_position(written: Written) -> None:
    await written.write(COMMERCE, [event("key")])
    place = ("commerce", partition_of("default", "key", COMMERCE.partitions))
    other = ("commerce", (place[1] + 1) % COMMERCE.partitions)
    await written.ends(COMMERCE)
    ages = await written.log.ages({place: 0, other: 0})
    assert ages.keys() == {place}
    assert 0 <= ages[place] < 60
    assert await written.log.ages({place: 1}) == {}


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
    await in_postgres.write(COMMERCE, [event("before the tables were made")])
    assert await keep_log(in_postgres.database, COMMERCE, now) == []
    await in_postgres.write(COMMERCE, [event("after")])
    assert len(await in_postgres.drain(COMMERCE)) == 2

    dropped = await keep_log(in_postgres.database, COMMERCE, now + timedelta(days=COMMERCE.retention_days + 7))
    assert len(dropped) == 1
    assert await in_postgres.drain(COMMERCE) == []
    assert sum((await in_postgres.log.end_offsets("commerce")).values()) == 2


async def test_a_log_that_retention_has_cut_says_where_it_begins(in_postgres: Written) -> None:
    now = SystemClock().now()
    await in_postgres.write(COMMERCE, [event("key") for _ in range(5)])
    place = ("commerce", partition_of("default", "key", COMMERCE.partitions))
    [whole, *_] = await in_postgres.log.read({place: 0}, 10, 1)
    assert (whole.offset, whole.first) == (0, False)
    await keep_log(in_postgres.database, COMMERCE, now)
    await keep_log(in_postgres.database, COMMERCE, now + timedelta(days=COMMERCE.retention_days + 7))
    await in_postgres.write(COMMERCE, [event("key") for _ in range(3)])
    # As retention noted it, and as an update finds it in a log that was cut before it was noted.
    for _ in range(2):
        kept = await in_postgres.log.read({place: 0}, 10, 1)
        assert [(record.offset, record.first) for record in kept] == [(5, True), (6, False), (7, False)]
        async with in_postgres.database.transaction() as tx:
            await tx.pg.execute("ALTER TABLE log_partitions DROP COLUMN first_offset")
            for statement in create_beginnings(COMMERCE, JOURNAL):
                await tx.pg.execute(statement)
    async with in_postgres.database.transaction() as tx:
        await tx.pg.execute('DELETE FROM log_commerce WHERE "offset" = 5')
    assert [record.first for record in await in_postgres.log.read({place: 0}, 10, 1)] == [False, False]


async def test_partitions_that_come_and_go_while_a_reader_gets_to_know_the_log(written: Written) -> None:
    """Whatever breaks within a client because of it, the next read or the one after it goes on."""
    events = [event(f"key {n}") for n in range(40)]
    await written.write(COMMERCE, events)
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

"""The contract of positions and leases, for PostgreSQL and for the database of the simulation."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from libs.common import positions
from libs.common.clock import SystemClock
from libs.common.contracts.topics import COMMERCE, MESSAGES, Topic
from libs.common.db import Database
from libs.common.log.base import Position, Record
from libs.common.positions import Fenced
from tests.contract.logs import create, event, simulated_database
from tests.faults.simulation.positions import SimulatedPositions
from tests.waiting import eventually

HOUR = 3600.0
ENDED = 0.0
"""A lease that is over when the next one looks."""
ALL = [("commerce", partition) for partition in range(COMMERCE.partitions)]


class Ground:
    """A consumer's rows, and who may write to them. Both kinds of positions are called alike."""

    def __init__(self, rules: Any, database: Any) -> None:
        self.rules = rules
        self.database = database
        self.workers: list[Worker] = []

    async def worker(self, name: str, *topics: Topic) -> "Worker":
        """One more worker, that has begun."""
        session = await self.database.session()
        await self.rules.begin(session, "profiles", topics or (COMMERCE,), name)
        self.workers.append(Worker(self, session, name))
        return self.workers[-1]

    async def dead(self) -> list[tuple[int, str]]:
        """Dead letters: offset and reason."""
        if isinstance(self.rules, SimulatedPositions):
            return sorted((offset, reason) for (*_, offset), reason in self.database.state.dead.items())
        async with self.database.autocommit() as pg:
            return [tuple(row) for row in await pg.fetch("SELECT record_offset, reason FROM dead_letters ORDER BY 1")]


class Worker:
    """A worker, as the database sees it."""

    def __init__(self, ground: Ground, session: Any, name: str) -> None:
        self.ground = ground
        self.session = session
        self.name = name

    async def beat(self, lease: float = HOUR) -> tuple[dict[Position, int], list[Position]]:
        found: tuple[dict[Position, int], list[Position]] = await self.ground.rules.heartbeat(
            self.session, "profiles", self.name, lease
        )
        return found

    async def owned(self, lease: float = HOUR) -> list[Position]:
        return sorted((await self.beat(lease))[0])

    async def release(self, places: Sequence[Position] | None = None) -> None:
        await self.ground.rules.release(self.session, "profiles", self.name, places)

    async def advance(self, tx: Any, moves: Mapping[Position, tuple[int, int]]) -> None:
        await self.ground.rules.advance(tx, "profiles", self.name, moves)

    async def move(self, moves: Mapping[Position, tuple[int, int]]) -> None:
        """In a transaction of its own."""
        async with self.ground.database.transaction() as tx:
            await self.advance(tx, moves)


@asynccontextmanager
async def in_postgres(url: str) -> AsyncIterator[Ground]:
    setup = Database(url, schema="public")
    await create(setup)
    await setup.close()
    database = Database(url, schema="profiles")
    yield Ground(positions, database)
    await database.close()


@asynccontextmanager
async def simulated() -> AsyncIterator[Ground]:
    yield Ground(SimulatedPositions(), simulated_database("profiles"))


@pytest.fixture(params=["postgres", "simulated"])
def opened(request: pytest.FixtureRequest) -> AbstractAsyncContextManager[Ground]:
    if request.param == "simulated":
        return simulated()
    return in_postgres(request.getfixturevalue("empty_database_url"))


@pytest_asyncio.fixture
async def ground(opened: AbstractAsyncContextManager[Ground]) -> AsyncIterator[Ground]:
    async with opened as ground:
        yield ground
        for worker in ground.workers:
            worker.session.terminate()


async def test_the_first_worker_has_every_partition_from_its_beginning(ground: Ground) -> None:
    first = await ground.worker("first")
    assert await first.beat() == (dict.fromkeys(ALL, 0), [])


async def test_who_begins_again_goes_on_where_the_consumer_was(ground: Ground) -> None:
    first = await ground.worker("first")
    await first.beat()
    await first.move({ALL[2]: (0, 7)})
    await first.release()
    second = await ground.worker("second")
    assert await second.beat() == ({**dict.fromkeys(ALL, 0), ALL[2]: 7}, [])


async def test_shares_are_fair_and_nothing_is_taken_from_who_has_it(ground: Ground) -> None:
    first, second, third = [await ground.worker(name) for name in ("first", "second", "third")]
    assert await first.owned() == ALL
    assert await second.owned() == []
    owned, surplus = await first.beat()
    assert (sorted(owned), surplus) == (ALL, ALL[4:])
    await first.release(surplus)
    assert await second.owned() == ALL[4:]
    assert (await first.beat())[1] == []
    # Eight among three, rounded up.
    assert await third.owned() == []
    for worker in (first, second):
        _, surplus = await worker.beat()
        assert len(surplus) == 1
        await worker.release(surplus)
    assert len(await third.owned()) == 2
    assert [len(await worker.owned()) for worker in (first, second, third)] == [3, 3, 2]


async def test_each_topic_is_shared_by_itself(ground: Ground) -> None:
    first, second = [await ground.worker(name, COMMERCE, MESSAGES) for name in ("first", "second")]
    await first.beat()
    await second.beat()
    _, surplus = await first.beat()
    assert sorted(surplus) == [(topic, partition) for topic in ("commerce", "messages") for partition in range(4, 8)]
    await first.release(surplus)
    assert await second.owned() == sorted(surplus)


async def test_a_heartbeat_renews_the_lease(ground: Ground) -> None:
    first, second = [await ground.worker(name) for name in ("first", "second")]
    await first.beat(ENDED)
    await first.beat(HOUR)
    assert await second.owned() == []


async def test_a_lease_that_ended_is_taken_over_and_its_owner_fenced(ground: Ground) -> None:
    first, second = [await ground.worker(name) for name in ("first", "second")]
    await first.beat(ENDED)
    assert await second.owned() == ALL
    with pytest.raises(Fenced):
        await first.move({ALL[0]: (0, 1)})
    await second.move({ALL[0]: (0, 1)})
    # It is back, and gets its share when there is one to give.
    assert await first.owned() == []
    _, surplus = await second.beat()
    await second.release(surplus)
    assert await first.owned() == ALL[4:]


async def test_a_dead_process_is_inherited_at_once_whatever_its_lease(ground: Ground) -> None:
    first, second = [await ground.worker(name) for name in ("first", "second")]
    assert await first.owned() == ALL
    first.session.terminate()

    async def inherited() -> bool:
        return await second.owned() == ALL

    await eventually(inherited)


async def test_what_is_given_back_is_free_and_who_leaves_counts_no_more(ground: Ground) -> None:
    first, second = [await ground.worker(name) for name in ("first", "second")]
    await first.beat()
    await second.beat()
    await first.release(ALL[6:])
    assert await second.owned() == ALL[6:]
    await second.release(ALL[:2])  # not its own
    assert await first.owned() == ALL[:6]
    await first.release()
    assert await second.owned() == ALL


async def test_a_position_moves_only_from_where_it_stands(ground: Ground) -> None:
    worker = await ground.worker("worker")
    await worker.beat()
    await worker.move({ALL[0]: (0, 5), ALL[1]: (0, 3)})
    for moves in ({ALL[0]: (0, 5)}, {ALL[0]: (4, 6)}, {ALL[0]: (6, 7)}, {ALL[2]: (0, 1), ALL[1]: (0, 3)}):
        with pytest.raises(Fenced):
            await worker.move(moves)
    assert (await worker.beat())[0] == {**dict.fromkeys(ALL, 0), ALL[0]: 5, ALL[1]: 3}


async def test_a_rolled_back_move_was_never_made(ground: Ground) -> None:
    worker = await ground.worker("worker")
    await worker.beat()

    async def fail() -> None:
        async with ground.database.transaction() as tx:
            await worker.advance(tx, {ALL[0]: (0, 5)})
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    await worker.move({ALL[0]: (0, 2)})
    assert (await worker.beat())[0][ALL[0]] == 2


async def test_of_two_that_move_the_same_position_one_is_fenced(ground: Ground) -> None:
    """The second one waits for the first one's end, and then sees what it did."""
    worker = await ground.worker("worker")
    await worker.beat()
    async with ground.database.transaction() as tx:
        await worker.advance(tx, {ALL[0]: (0, 5)})
        second = asyncio.create_task(worker.move({ALL[0]: (0, 3)}))
        await asyncio.wait({second}, timeout=0.05)
        assert not second.done()
    with pytest.raises(Fenced):
        await second
    assert (await worker.beat())[0][ALL[0]] == 5


async def test_what_an_open_batch_has_moved_is_left_to_it(ground: Ground) -> None:
    """Its lease is over, and yet it commits: the heir takes the others, and this one where the batch leaves it."""
    first, second = [await ground.worker(name) for name in ("first", "second")]
    await first.beat(ENDED)
    async with ground.database.transaction() as tx:
        await first.advance(tx, {ALL[3]: (0, 9)})
        assert await second.owned() == [place for place in ALL if place != ALL[3]]
    assert (await second.beat())[0][ALL[3]] == 9


async def test_a_heartbeat_sees_the_end_of_its_own_open_batch(ground: Ground) -> None:
    worker = await ground.worker("worker")
    await worker.beat()
    async with ground.database.transaction() as tx:
        await worker.advance(tx, {ALL[3]: (0, 9)})
        beating = asyncio.create_task(worker.beat())
        await asyncio.wait({beating}, timeout=0.05)
        assert not beating.done()
    assert (await beating)[0][ALL[3]] == 9


async def test_further_partitions_are_there_for_whoever_looks_once_they_are_committed(ground: Ground) -> None:
    worker = await ground.worker("worker")
    await worker.beat()
    await worker.move({ALL[2]: (0, 7)})
    async with ground.database.transaction() as tx:
        await ground.rules.widen(tx, "profiles", "commerce", 16)
        assert await worker.owned() == ALL
    wide = [("commerce", partition) for partition in range(16)]
    assert await worker.beat() == ({**dict.fromkeys(wide, 0), ALL[2]: 7}, [])
    async with ground.database.transaction() as tx:
        await ground.rules.widen(tx, "profiles", "commerce", 16)
    assert (await worker.beat())[0][ALL[2]] == 7


async def test_a_partition_opens_for_its_owner_once_the_consumer_has_read_its_parent_so_far(ground: Ground) -> None:
    first, second = [await ground.worker(name) for name in ("first", "second")]
    waiting = {ALL[5]: (0, 3), ALL[6]: (1, 0), ALL[7]: (2, 1)}
    await first.beat()

    async def opened(worker: Worker, *, undo: bool = False) -> list[Position]:
        async with ground.database.transaction() as tx:
            found = await ground.rules.open_partitions(tx, "profiles", worker.name, waiting)
            if undo:
                raise LookupError
        return sorted(found)

    assert await opened(second) == []
    with pytest.raises(LookupError):
        await opened(first, undo=True)
    assert await opened(first) == [ALL[6]]
    assert await opened(first) == []
    await first.move({ALL[0]: (0, 2)})
    assert await opened(first) == []
    async with ground.database.transaction() as tx:
        await first.advance(tx, {ALL[0]: (2, 3)})
        assert await opened(first) == []
    # Whoever has the parent.
    await first.release([ALL[0], ALL[2]])
    assert await second.owned() == [ALL[0], ALL[2]]
    await second.move({ALL[2]: (0, 4)})
    assert await opened(second) == []
    assert await opened(first) == [ALL[5], ALL[7]]
    assert (await first.beat())[0] == {**dict.fromkeys([ALL[1], *ALL[3:]], 0), **dict.fromkeys(ALL[5:], 1)}


async def test_dead_letters_are_kept_with_their_batch(ground: Ground) -> None:
    made = {name: getattr(event("key"), name) for name in event("key").__struct_fields__}
    now = SystemClock().now()
    record = Record(**made, topic="commerce", partition=0, offset=4, appended_at=now)

    async def bury(reason: str, *, undo: bool = False) -> None:
        async with ground.database.transaction() as tx:
            await ground.rules.bury(tx, "profiles", [(record, reason)], now)
            if undo:
                raise LookupError

    with pytest.raises(LookupError):
        await bury("rolled back", undo=True)
    assert await ground.dead() == []
    await bury("refused")
    await bury("refused again")
    assert await ground.dead() == [(4, "refused again")]

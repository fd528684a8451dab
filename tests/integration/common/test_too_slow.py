"""A record that takes longer than a transaction may last: each try is ended, and its neighbours must not wait."""

import select
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from libs.common import positions
from libs.common.db import Database, TookTooLong
from libs.common.worker import Batch, Limits
from tests.contract.logs import working
from tests.integration.common.workbench import Bench
from tests.waiting import eventually

LIMITS = Limits(patience=0.05, backoff=0.05)
REASON = "TookTooLong: it takes longer than 0.2 s"


@pytest_asyncio.fixture
async def hasty(bench: Bench, empty_database_url: str) -> AsyncIterator[Bench]:
    """A bench whose server waits 0.2 s for whoever is in a transaction."""
    database = Database(empty_database_url, schema="profiles", idle=0.2)
    yield Bench(bench.written, database)
    await database.close()


def dawdle(batch: Batch) -> None:
    """Works on, and all others in the event loop wait, until the server has waited enough and says so."""
    connection = batch.tx.pg._transport.get_extra_info("socket")  # type: ignore[attr-defined]
    said, _, _ = select.select([connection.fileno()], [], [], 30)
    assert said


async def linger(batch: Batch) -> None:
    """Is kept waiting until the server has waited enough."""

    async def is_cut() -> bool:
        return batch.tx.pg.is_closed()

    await eventually(is_cut)


class Slow:
    """Dawdles over one record, some times or for ever."""

    def __init__(self, bench: Bench, times: int = 1000) -> None:
        self.bench = bench
        self.times = times
        self.tried: list[int] = []
        """Sizes of the batches that took too long."""

    async def __call__(self, batch: Batch) -> None:
        if len(self.tried) < self.times and any(record.data == b"slow" for record in batch.records):
            self.tried.append(len(batch.records))
            dawdle(batch)
        await self.bench.note(batch)


async def test_who_takes_too_long_is_found_and_buried_and_its_neighbours_live(hasty: Bench) -> None:
    await hasty.write(*[b"{}"] * 40, b"slow", *[b"{}"] * 40)
    slow = Slow(hasty)
    async with working(hasty.worker(slow, limits=LIMITS)):
        await eventually(hasty.drained)
    assert set((await hasty.effects()).values()) == {1}
    assert len(await hasty.effects()) == 80
    [dead] = await hasty.dead()
    assert (bytes(dead["data"]), dead["reason"]) == (b"slow", REASON)
    assert slow.tried[-3:] == [1, 1, 1]
    assert len(slow.tried) <= 4  # the first time in company, on either log


async def test_who_is_too_long_in_the_database_is_buried_too(hasty: Bench) -> None:
    """It keeps nobody waiting for it: it is at work, by a statement that has no end."""
    await hasty.write(*[b"{}"] * 3, b"slow", *[b"{}"] * 3)

    async def slow(batch: Batch) -> None:
        if any(record.data == b"slow" for record in batch.records):
            # A timeout that runs is not made shorter: it is ended, and another one begins.
            await batch.tx.pg.execute("SET LOCAL transaction_timeout = 0")
            await batch.tx.pg.execute("SET LOCAL transaction_timeout = '300ms'")
            await batch.tx.pg.execute("SELECT pg_sleep(30)")
        await hasty.note(batch)

    async with working(hasty.worker(slow, limits=LIMITS)):
        await eventually(hasty.drained)
    assert len(await hasty.effects()) == 6
    [dead] = await hasty.dead()
    assert (bytes(dead["data"]), dead["reason"]) == (b"slow", REASON)


async def test_who_comes_right_in_time_is_no_poison(hasty: Bench) -> None:
    await hasty.write(*[b"{}"] * 10, b"slow")
    async with working(hasty.worker(Slow(hasty, times=3), limits=LIMITS)):
        await eventually(hasty.drained)
    assert len(await hasty.effects()) == 11
    assert await hasty.dead() == []


async def test_who_is_kept_waiting_is_no_poison(hasty: Bench) -> None:
    """As by what others do in the same process, however often."""
    await hasty.write(b"{}")
    tries = 0

    async def kept_waiting(batch: Batch) -> None:
        nonlocal tries
        tries += 1
        if tries <= 5:
            await linger(batch)
        await hasty.note(batch)

    async with working(hasty.worker(kept_waiting, limits=LIMITS)):
        await eventually(hasty.drained)
    assert tries == 6
    assert len(await hasty.effects()) == 1
    assert await hasty.dead() == []


async def test_a_database_that_goes_away_meanwhile_clears_everybody(hasty: Bench) -> None:
    """It was slow for long, then away, then slow again: whatever was tried meanwhile is no poison."""
    await hasty.write(b"slow")
    tries = 0

    async def ailing(batch: Batch) -> None:
        nonlocal tries
        tries += 1
        if tries in {1, 2, 4, 5}:
            dawdle(batch)
        if tries == 3:
            raise ConnectionRefusedError
        await hasty.note(batch)

    async with working(hasty.worker(ailing, limits=LIMITS)):
        await eventually(hasty.drained)
    assert tries == 6
    assert len(await hasty.effects()) == 1
    assert await hasty.dead() == []


async def test_who_takes_too_long_when_replayed_is_dead_again_and_the_others_are_not(hasty: Bench) -> None:
    await hasty.write(b"poison", b"poison", b"poison")
    async with working(hasty.worker(limits=LIMITS)):
        await eventually(hasty.drained)
    dawdling = (await hasty.dead())[1]["event_id"]

    async def slow(batch: Batch) -> None:
        if any(record.id == dawdling for record in batch.records):
            dawdle(batch)
        await hasty.save(batch, list(batch.records))

    async def settled() -> bool:
        return all(row["state"] != "replay" for row in await hasty.dead())

    async with hasty.database.autocommit() as pg:
        await pg.execute("UPDATE dead_letters SET state = 'replay'")
    async with working(hasty.worker(slow, limits=LIMITS)):
        await eventually(settled)
    assert sorted((row["state"], row["event_id"] == dawdling) for row in await hasty.dead()) == [
        ("dead", True),
        ("replayed", False),
        ("replayed", False),
    ]


async def test_dead_letters_are_tried_again_few_at_a_time_when_they_are_large(
    hasty: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hasty.write(b"poison", b"poison", b"poison")
    async with working(hasty.worker(limits=LIMITS)):
        await eventually(hasty.drained)
    monkeypatch.setattr(positions, "READ_BYTES", 1)
    many: list[int] = []

    async def save(batch: Batch) -> None:
        many.append(len(batch.records))
        await hasty.save(batch, list(batch.records))

    async def replayed() -> bool:
        return {row["state"] for row in await hasty.dead()} == {"replayed"}

    async with hasty.database.autocommit() as pg:
        await pg.execute("UPDATE dead_letters SET state = 'replay'")
    async with working(hasty.worker(save, limits=LIMITS)):
        await eventually(replayed)
    assert many == [1, 1, 1]


@pytest.mark.parametrize("bench", ["postgres"], indirect=True)
async def test_what_fails_at_once_or_waits_for_a_lock_has_not_taken_too_long(hasty: Bench) -> None:
    async def lose() -> None:
        async with hasty.database.transaction():
            raise ConnectionResetError

    async def wait_for_a_lock() -> None:
        async with hasty.database.transaction() as holder, hasty.database.transaction() as tx:
            await holder.pg.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            await holder.pg.execute("LOCK TABLE effects")
            await tx.pg.execute("SET LOCAL lock_timeout = '300ms'")
            await tx.pg.execute("SELECT 1 FROM effects")

    for fails in (lose, wait_for_a_lock):
        with pytest.raises(Exception, match=r"^$|lock timeout") as failed:
            await fails()
        assert not isinstance(failed.value, TookTooLong)

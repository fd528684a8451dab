"""Retention while the journal is appended to and read, and killed between its steps."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from random import Random

import asyncpg
import pytest

from libs.common.contracts.journal import removal_of, removed
from libs.common.contracts.topics import JOURNAL
from libs.common.db import Database
from libs.common.ids import new_id
from libs.common.log import stripping
from libs.common.log.base import Event, Position
from libs.common.log.postgres import PostgresLog, append_unique
from services.ingest.settings import SCHEMA
from tests.integration.ingest.aged import NOW, Row, gapless, journal, keep, rows, tables
from tests.waiting import eventually

ROOT = Path(__file__).parents[3]
DICE = Random(4)
TENANTS = ("acme", "default", "other")
OLD = 60
KEEP = """
import asyncio, sys
from datetime import datetime
from libs.common.db import Database
from libs.common.log.retention import Retention
from services.ingest.retention import keep_journal

async def main():
    database = Database(sys.argv[1], schema="ingest")
    await keep_journal(database, Retention(90, {"acme": 30}), datetime.fromisoformat(sys.argv[2]), asyncio.Event())
    await database.close()

asyncio.run(main())
"""


def events(many: int, size: int) -> list[Event]:
    return [
        Event(
            id=new_id(),
            type="delivery.received",
            source="/webhooks/shopify/st/orders/create",
            tenant=TENANTS[n % 3],
            key=f"st:order:{n}",
            time=NOW,
            data=b"\x7f" + DICE.randbytes(size),
        )
        for n in range(many)
    ]


def expected(before: Sequence[Row]) -> list[Row]:
    return [row.stripped() if row.tenant == "acme" else row for row in before]


async def test_appends_and_reads_go_on_while_a_table_is_written_anew(ingest_db: Database) -> None:
    await journal(ingest_db, events(3000, 4000), OLD)
    before = await rows(ingest_db)
    log = PostgresLog(ingest_db)
    done = asyncio.Event()
    ids: list[str] = []

    async def append() -> None:
        while not done.is_set():
            some = events(20, 300)
            async with ingest_db.autocommit() as pg:
                assert all(await append_unique(pg, JOURNAL, some, [os.urandom(16) for _ in some]))
            ids.extend(event.id for event in some)

    async def read() -> None:
        """From the beginning to the end, again and again: never a gap, whichever of the two tables there is."""
        while not done.is_set():
            at: dict[Position, int] = {(JOURNAL.name, p): 0 for p in range(JOURNAL.partitions)}
            ends = await log.end_offsets(JOURNAL.name)
            while any(offset < ends[place[1]] for place, offset in at.items()):
                for record in await log.read(at, 500, 1):
                    assert at[record.topic, record.partition] == record.offset
                    at[record.topic, record.partition] += 1

    async with asyncio.TaskGroup() as group:
        for work in (append(), append(), read()):
            group.create_task(work)
        await keep(ingest_db, acme=30)
        done.set()
    await log.close()
    after = await rows(ingest_db)
    old = {row.id for row in before}
    assert [row for row in after if row.id in old] == expected(before)
    assert sorted(row.id for row in after if row.id not in old) == sorted(ids)
    assert len(ids) > 100
    assert await gapless(ingest_db)


async def test_who_writes_to_the_old_table_waits_and_loses_nothing(
    ingest_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when bodies of one person are made unreadable meanwhile: what he changed must not come back."""
    monkeypatch.setattr(stripping, "BLOCKS", 8)
    await journal(ingest_db, events(3000, 4000), OLD)
    keeping = asyncio.create_task(keep(ingest_db, acme=30))
    [victim] = await eventually(lambda: _copied(ingest_db), every=0.001)
    async with ingest_db.autocommit() as pg:
        await pg.execute(
            f'UPDATE log_journal SET data = {removed("data", "redacted")} WHERE partition = $1 AND "offset" = $2',
            victim.partition,
            victim.offset,
        )
    await keeping
    # Whoever came first, the next run finds the rest.
    await keep(ingest_db, acme=30)
    after = await rows(ingest_db)
    assert victim.stripped(b"\x00") in after
    assert all(removal_of(row.data) == "retention" for row in after if row.tenant == "acme")


async def _copied(database: Database) -> list[Row]:
    """What is in the copy, of `default`."""
    async with database.autocommit() as pg:
        for name in await tables(database):
            if name.endswith(stripping.COPY_SUFFIX):
                found = await pg.fetch(
                    f"SELECT partition, \"offset\", tenant, id, data FROM {name} WHERE tenant = 'default' LIMIT 1"
                )
                return [Row(*row) for row in found]
    return []


async def _copying(database: Database) -> bool:
    return any(name.endswith(stripping.COPY_SUFFIX) for name in await tables(database))


async def _waits(database: Database) -> bool:
    """For the log, to put the new table in."""
    async with database.autocommit() as pg:
        found: bool = await pg.fetchval(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
            " AND relation = 'log_journal'::regclass)"
        )
    return found


@pytest.mark.parametrize("moment", ["copying", "swapping"])
async def test_killed_between_its_steps(ingest_db: Database, database_url: str, moment: str) -> None:
    await journal(ingest_db, events(3000, 8000), OLD)
    before = await rows(ingest_db)
    held = await ingest_db.session()
    if moment == "swapping":
        await held.execute("BEGIN; SELECT FROM log_journal LIMIT 1")
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", KEEP, database_url, NOW.isoformat(), cwd=ROOT)
    await eventually(lambda: _copying(ingest_db) if moment == "copying" else _waits(ingest_db), every=0.002)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    await held.close()
    # The server notices, and gives the locks back.
    await eventually(lambda: _nobody(ingest_db))
    assert await rows(ingest_db) == before
    assert await _copying(ingest_db)
    # Whether or not there is something to take out by then.
    await keep(ingest_db, days=90)
    assert not await _copying(ingest_db)
    await journal(ingest_db, events(30, 300), 1)
    await keep(ingest_db, acme=30)
    after = await rows(ingest_db)
    assert [row for row in after if row.id in {old.id for old in before}] == expected(before)
    assert not await _copying(ingest_db)
    assert await gapless(ingest_db)


async def _nobody(database: Database) -> bool:
    async with database.autocommit() as pg:
        return not await pg.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory')")


async def test_a_lost_lock_is_noticed_before_the_swap(ingest_db: Database) -> None:
    """Without it somebody may have written to the old table meanwhile."""
    await journal(ingest_db, events(3000, 8000), OLD)
    before = await rows(ingest_db)
    keeping = asyncio.create_task(keep(ingest_db, acme=30))
    await eventually(lambda: _copying(ingest_db), every=0.001)
    async with ingest_db.autocommit() as pg:
        await pg.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
    with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        await keeping
    assert await rows(ingest_db) == before
    assert not await _copying(ingest_db)
    await keep(ingest_db, acme=30)
    assert await rows(ingest_db) == expected(before)


async def test_a_reader_that_takes_long_is_left_alone_and_writers_hardly_wait(
    ingest_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stripping, "SWAP_PAUSE_SECONDS", 0.1)
    await journal(ingest_db, events(30, 300), OLD)
    before = await rows(ingest_db)
    held = await ingest_db.session()
    await held.execute("BEGIN; SELECT FROM log_journal LIMIT 1")
    keeping = asyncio.create_task(keep(ingest_db, acme=30))
    await eventually(lambda: _waits(ingest_db), every=0.002)
    some = events(1, 10)
    # Less than a webhook waits for its commit.
    async with ingest_db.autocommit() as pg, asyncio.timeout(2):
        await append_unique(pg, JOURNAL, some, [b"0" * 16])
    await keeping
    assert [row for row in await rows(ingest_db) if row.id != some[0].id] == before
    assert not await _copying(ingest_db)
    await held.close()
    await keep(ingest_db, acme=30)
    assert [row for row in await rows(ingest_db) if row.id != some[0].id] == expected(before)


async def test_two_workers_at_once_do_it_once(ingest_db: Database, database_url: str) -> None:
    await journal(ingest_db, events(600, 2000), OLD)
    before = await rows(ingest_db)
    other = Database(database_url, schema=SCHEMA)
    await asyncio.gather(keep(ingest_db, acme=30), keep(other, acme=30))
    await keep(ingest_db, acme=30)
    assert await rows(ingest_db) == expected(before)
    assert not await _copying(ingest_db)
    await asyncio.gather(*(keep(each, days=30) for each in (ingest_db, other)))
    await other.close()
    await keep(ingest_db, days=30)
    assert await rows(ingest_db) == []
    assert await gapless(ingest_db)

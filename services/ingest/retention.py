"""The periodic that keeps the journal: new tables, bodies past their tenant's retention, tables past everybody's.

What somebody has still to read stays: everybody's by the normaliser's position, a tenant's by what its open replays
were asked for. They keep nobody else's.
"""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from libs.common.clock import SystemClock
from libs.common.contracts.topics import JOURNAL
from libs.common.db import Database, is_transient
from libs.common.log.retention import Retention
from libs.common.log.schema import (
    SEEN_DAYS,
    Child,
    children,
    drop_child,
    make_children,
    span_of,
    upkeeping,
)
from libs.common.log.stripping import drop_copies, strip
from libs.common.telemetry import get_logger
from libs.common.upkeep import HOUR
from libs.common.worker import Periodic
from services.ingest.archive import CONSUMER
from services.ingest.seen import forget

LETTERS = 1000
"""Dead letters that go in one statement."""

log = get_logger(__name__)


def journal_upkeep(database: Database, retention: Retention) -> Periodic:
    """Each hour."""
    # By wall time even under a driven clock: the log is dated by the database.
    wall = SystemClock()
    # Nobody but a worker that ends rings it.
    ended = asyncio.Event()

    async def run(_now: datetime) -> bool:
        await keep_journal(database, retention, wall.now(), ended)
        return False

    return Periodic("journal upkeep", HOUR, run, ended)


async def keep_journal(database: Database, retention: Retention, now: datetime, stop: asyncio.Event) -> None:
    """Once. What cannot be done now, because of a reader or of the disk, is left for the next time."""
    async with upkeeping(database) as pg:
        await make_children(pg, JOURNAL, now, span_of(retention.shortest))
        await drop_copies(pg, JOURNAL)
        # Whether an older table does: a log is cut from its beginning on.
        stays = False
        for child in await children(pg, JOURNAL):
            passed = retention.passed(now - child.end)
            if not passed or stop.is_set():
                break
            try:
                if await _unread(pg, child):
                    # So is what is younger.
                    log.warning("retention waits for a reader", table=child.name)
                    break
                if reading := await _reading(pg, child):
                    log.warning("retention waits for replays", table=child.name, tenants=", ".join(reading))
                    passed, stays = passed.without(reading), True
                elif child.end <= now - timedelta(days=retention.longest) and not stays:
                    stays = not await _drop(pg, child)
                    continue
                if passed and await strip(database, pg, JOURNAL, child, passed, stop):
                    log.info("retention took bodies out", table=child.name, tenants=str(passed))
            except asyncpg.UndefinedTableError:
                # Another worker was faster.
                continue
            except Exception as error:
                # Tried again in an hour and not at once: it reads and writes the whole table.
                if not is_transient(error):
                    raise
                stays = True
                log.warning("retention waits", table=child.name, error=type(error).__name__)
        await pg.execute("DELETE FROM log_seen WHERE at < $1", now - timedelta(days=SEEN_DAYS))
        await _forget_letters(pg, retention, now)


async def _drop(pg: "asyncpg.Connection[Any]", child: Child) -> bool:
    dropped = await forget(pg, child.name) and await drop_child(pg, JOURNAL, child)
    if dropped:
        log.info("retention dropped", table=child.name)
    return dropped


async def _unread(pg: "asyncpg.Connection[Any]", child: Child) -> bool:
    """Whether there is something in it that the normaliser has not come to."""
    unread: bool = await pg.fetchval(
        f"""
        SELECT EXISTS (
            SELECT FROM log_partitions l
            LEFT JOIN positions p ON p.consumer = $1 AND p.topic = l.topic AND p.partition = l.partition
            WHERE l.topic = $2 AND coalesce(p.next_offset, 0)
                <= (SELECT max(c."offset") FROM {child.name} c WHERE c.partition = l.partition)
        )
        """,
        CONSUMER,
        JOURNAL.name,
    )
    return unread


async def _reading(pg: "asyncpg.Connection[Any]", child: Child) -> list[str]:
    """Tenants that may have some of it read again by a replay."""
    rows = await pg.fetch(
        """
        SELECT DISTINCT tenant FROM replays WHERE state IN ('waiting', 'running') AND (since IS NULL OR since < $1)
        ORDER BY tenant
        """,
        child.end,
    )
    return [row["tenant"] for row in rows]


async def _forget_letters(pg: "asyncpg.Connection[Any]", retention: Retention, now: datetime) -> None:
    """Dead letters that were read in the end: they have a copy of the body. Others still wait for somebody."""
    done = LETTERS
    while done == LETTERS:
        gone = await pg.execute(
            """
            DELETE FROM dead_letters WHERE ctid IN (
                SELECT ctid FROM dead_letters
                WHERE consumer = $1 AND state = 'replayed' AND appended_at < $2::timestamptz - make_interval(days =>
                    coalesce((SELECT u.days FROM unnest($3::text[], $4::int[]) u(tenant, days)
                              WHERE u.tenant = dead_letters.tenant), $5))
                LIMIT $6
            )
            """,
            CONSUMER,
            now,
            list(retention.tenants),
            list(retention.tenants.values()),
            retention.days,
            LETTERS,
        )
        done = int(gone.removeprefix("DELETE "))

"""Bodies of some tenants taken out of a log's table that is full: the table is written anew and put in its place.

Rows stay, so that offsets stay without a gap; a body becomes a zero byte and its SHA-256, which no record's data can
be. Deleting or updating in place would leave the bodies in the file until a vacuum got to it, and the file as large.

A kill at any moment leaves the old table in its place, and perhaps an unfinished copy, which the next run drops; or
the new one. Free disk is needed for the bodies that stay, once for the copy and once for its write-ahead log.
"""

import asyncio
from contextlib import suppress
from typing import Any

import asyncpg

from libs.common.contracts.journal import readable, removed
from libs.common.contracts.topics import Topic
from libs.common.db import Database
from libs.common.log.retention import Passed
from libs.common.log.schema import CHILD_OPTIONS, Child, bounds_of, mine, within
from libs.common.telemetry import get_logger

log = get_logger(__name__)

COPY_SUFFIX = "_copy"
BLOCKS = 1024
"""Of the table in one statement (8 MiB): no longer does any vacuum wait for it."""
SWAP_LOCK_TIMEOUT = "1s"
"""Writers wait behind us while we wait for a reader: less than a webhook waits for its commit."""
SWAP_TRIES = 3
SWAP_PAUSE_SECONDS = 2.0
IDLE_IN_TRANSACTION = "60s"
"""The lock is held by a connection that waits while another one copies, a statement at a time."""

# The log's own records are of no tenant.
_GOES = f"(tenant = ANY($1)) <> $2 AND tenant <> '' AND {readable('data')}"
_COMMENT = "no bodies of: "


async def drop_copies(pg: "asyncpg.Connection[Any]", topic: Topic) -> None:
    """What runs that were killed have left."""
    async with pg.transaction():
        if not await mine(pg, topic):
            return
        copies = await pg.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND tablename ~ $1",
            f"^log_{topic.name}_[0-9]{{8}}{COPY_SUFFIX}$",
        )
        for copy in copies:
            await pg.execute(f"DROP TABLE {copy['tablename']}")


async def strip(
    database: Database,
    pg: "asyncpg.Connection[Any]",
    topic: Topic,
    child: Child,
    passed: Passed,
    stop: asyncio.Event,
) -> bool:
    """Takes those tenants' bodies out of the table; whether there were any, and nobody was in the way.

    `pg`: of `upkeeping`. `stop`: when set, it ends soon with nothing done, or all. The table must have been full for
    days. Who writes to it all the same waits for a moment, and it is left for the next time: nothing gets lost.
    """
    if await _told(pg, child) == str(passed):
        return False
    guard = await database.session()
    try:
        await guard.execute(
            f"SET transaction_timeout = 0; SET idle_in_transaction_session_timeout = '{IDLE_IN_TRANSACTION}';"
            " SET lock_timeout = '2s'"
        )
        async with guard.transaction():
            # Another worker may have done it by now.
            if not await mine(guard, topic) or await _told(guard, child) == str(passed):
                return False
            await guard.execute(f"LOCK TABLE {child.name} IN SHARE ROW EXCLUSIVE MODE")
            if not await _any(pg, child, passed):
                await _tell(guard, child, passed)
                return False
            return await _rewrite(guard, pg, topic, child, passed, stop)
    except asyncpg.LockNotAvailableError:
        log.warning("table is being written to", table=child.name)
        return False
    finally:
        await guard.close()


async def _rewrite(
    guard: "asyncpg.Connection[Any]",
    pg: "asyncpg.Connection[Any]",
    topic: Topic,
    child: Child,
    passed: Passed,
    stop: asyncio.Event,
) -> bool:
    copy = child.name + COPY_SUFFIX
    swapped = False
    try:
        await _make(pg, topic, child, copy)
        if await _fill(guard, pg, child, copy, passed, stop):
            swapped = await _swap(guard, topic, child, copy, passed, stop)
    finally:
        if not swapped:
            # At once, and not at the next run: the disk may be what has failed.
            with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await pg.execute(f"DROP TABLE IF EXISTS {copy}")
    return swapped


async def _make(pg: "asyncpg.Connection[Any]", topic: Topic, child: Child, copy: str) -> None:
    await pg.execute(f"DROP TABLE IF EXISTS {copy}")
    await pg.execute(
        # By the constraint ATTACH PARTITION knows without a look that every row belongs there; the index it takes on.
        f"CREATE TABLE {copy} (LIKE log_{topic.name} INCLUDING STORAGE INCLUDING INDEXES,"
        f" CONSTRAINT its_own CHECK {within(child)}) WITH ({CHILD_OPTIONS})"
    )


async def _fill(
    guard: "asyncpg.Connection[Any]",
    pg: "asyncpg.Connection[Any]",
    child: Child,
    copy: str,
    passed: Passed,
    stop: asyncio.Event,
) -> bool:
    """By places in the file, which nobody changes meanwhile: each statement reads a few MiB, and commits."""
    blocks = await pg.fetchval(
        "SELECT pg_relation_size($1::text::regclass) / current_setting('block_size')::int", child.name
    )
    columns = [f'"{row["attname"]}"' for row in await pg.fetch(_COLUMNS, copy)]
    selected = [
        f"CASE WHEN {_GOES} THEN {removed('data', 'retention')} ELSE data END" if c == '"data"' else c for c in columns
    ]
    for first in range(0, blocks, BLOCKS):
        await pg.execute(
            f"INSERT INTO {copy} ({', '.join(columns)}) SELECT {', '.join(selected)} FROM {child.name}"
            f" WHERE ctid >= '({first},0)' AND ctid < '({first + BLOCKS},0)'",
            list(passed.tenants),
            passed.others,
        )
        if stop.is_set() or await _asked_for(guard, child):
            return False
    return True


_COLUMNS = """
    SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped
    ORDER BY attnum
    """


async def _swap(
    guard: "asyncpg.Connection[Any]", topic: Topic, child: Child, copy: str, passed: Passed, stop: asyncio.Event
) -> bool:
    parent = f"log_{topic.name}"
    for attempt in range(SWAP_TRIES):
        if attempt:
            with suppress(TimeoutError):
                async with asyncio.timeout(SWAP_PAUSE_SECONDS):
                    await stop.wait()
        if stop.is_set() or await _asked_for(guard, child):
            return False
        # A deadlock is with somebody who began to wait for our table only now: he has the log open.
        with suppress(asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            async with guard.transaction():
                await guard.execute(f"SET LOCAL lock_timeout = '{SWAP_LOCK_TIMEOUT}'")
                await guard.execute(f"LOCK TABLE {parent} IN ACCESS EXCLUSIVE MODE")
                await guard.execute(f"ALTER TABLE {parent} DETACH PARTITION {child.name}")
                await guard.execute(f"DROP TABLE {child.name}")
                await guard.execute(f"ALTER TABLE {copy} RENAME TO {child.name}")
                await guard.execute(f"ALTER TABLE {parent} ATTACH PARTITION {child.name} {bounds_of(child)}")
                await guard.execute(f"ALTER TABLE {child.name} DROP CONSTRAINT its_own")
                await _tell(guard, child, passed)
            return True
        log.warning("log is in use", table=child.name)
    return False


async def _asked_for(guard: "asyncpg.Connection[Any]", child: Child) -> bool:
    """Whether somebody waits to write to the table: he comes first, and what was copied is worth nothing.

    Asking also keeps the lock: its connection does not count as hanging.
    """
    asked: bool = await guard.fetchval(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = $1::text::regclass AND NOT granted)", child.name
    )
    return asked


async def _any(pg: "asyncpg.Connection[Any]", child: Child, passed: Passed) -> bool:
    found: bool = await pg.fetchval(
        f"SELECT EXISTS (SELECT FROM {child.name} WHERE {_GOES})", list(passed.tenants), passed.others
    )
    return found


async def _told(pg: "asyncpg.Connection[Any]", child: Child) -> str | None:
    """Whose bodies were taken out. The table itself says it: that goes when the table goes."""
    told: str | None = await pg.fetchval("SELECT obj_description(to_regclass($1::text), 'pg_class')", child.name)
    return told.removeprefix(_COMMENT) if told else None


async def _tell(pg: "asyncpg.Connection[Any]", child: Child, passed: Passed) -> None:
    text = await pg.fetchval("SELECT quote_literal($1::text)", f"{_COMMENT}{passed}")
    await pg.execute(f"COMMENT ON TABLE {child.name} IS {text}")

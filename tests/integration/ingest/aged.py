"""A journal with a past: what was appended is dated back, into the tables of that time."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple

from libs.common.clock import SystemClock
from libs.common.contracts.topics import JOURNAL
from libs.common.db import Database
from libs.common.log.base import Event
from libs.common.log.postgres import append
from libs.common.log.retention import Retention
from libs.common.log.schema import make_children, span_of, upkeeping
from services.ingest.retention import keep_journal


class Row(NamedTuple):
    """A record as it lies there."""

    partition: int
    offset: int
    tenant: str
    id: str
    data: bytes

    def stripped(self, mark: bytes = b"\x01") -> "Row":
        """Without its body; `mark`: as retention leaves it."""
        return self._replace(data=mark + sha256(self.data).digest())


NOW = SystemClock().now()


async def age(database: Database, days: int, ids: Sequence[str] | None = None, *, shortest: int = 30) -> None:
    """Dates records, or all that are not dated back yet, so many days back."""
    at = NOW - timedelta(days=days)
    async with upkeeping(database) as pg:
        for each in (at, NOW):
            await make_children(pg, JOURNAL, each, span_of(shortest))
        await pg.execute(
            "UPDATE log_journal SET appended_at = $1 WHERE appended_at > $2 AND ($3::text[] IS NULL OR id = ANY($3))",
            at,
            NOW - timedelta(days=1),
            ids,
        )


async def journal(database: Database, events: Sequence[Event], days: int) -> None:
    """Appends, dated back, and read by the normaliser already."""
    async with database.transaction() as tx:
        await append(tx, JOURNAL, events)
    await age(database, days, [event.id for event in events])
    await read_all(database)


async def read_all(database: Database) -> None:
    """The normaliser has come to the end."""
    async with database.autocommit() as pg:
        await pg.execute(
            """
            INSERT INTO positions (consumer, topic, partition, next_offset)
            SELECT 'normalise', topic, partition, next_offset FROM log_partitions WHERE topic = 'journal'
            ON CONFLICT (consumer, topic, partition) DO UPDATE SET next_offset = excluded.next_offset
            """
        )


async def rows(database: Database) -> list[Row]:
    """The journal, in order."""
    async with database.autocommit() as pg:
        found = await pg.fetch('SELECT partition, "offset", tenant, id, data FROM log_journal ORDER BY 1, 2')
    return [Row(*row) for row in found]


async def tables(database: Database) -> list[str]:
    """Of the journal, attached or not."""
    async with database.autocommit() as pg:
        found = await pg.fetch("SELECT tablename FROM pg_tables WHERE tablename ~ '^log_journal_[0-9]' ORDER BY 1")
    return [row["tablename"] for row in found]


async def keep(database: Database, now: datetime = NOW, days: int = 90, **tenants: int) -> None:
    """One run of the upkeep."""
    await keep_journal(database, Retention(days, tenants), now, asyncio.Event())


async def gapless(database: Database) -> bool:
    """Whether each partition has every offset from its beginning to its end."""
    async with database.autocommit() as pg:
        found: list[Any] = await pg.fetch(
            """
            SELECT p.first_offset, p.next_offset,
                   (SELECT coalesce(array_agg("offset" ORDER BY "offset"), '{}') FROM log_journal l
                    WHERE l.partition = p.partition) AS offsets
            FROM log_partitions p WHERE p.topic = 'journal'
            """
        )
    return all(row["offsets"] == list(range(row["first_offset"], row["next_offset"])) for row in found)

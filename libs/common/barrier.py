"""Up to when everything that was accepted is known at the end of the line.

Timers go by the clock, facts by the log. After an outage of workers the clock is ahead: whoever bought or left
meanwhile said so in time, and it lies in the log unread. So a round asks for the ends of the first log, waits until
they are read, then for the ends of the next one, and so on: what had come when the round began has then come through,
and whatever comes meanwhile holds nothing up.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from libs.common.contracts.topics import Topic
from libs.common.db import Database, Tx

NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class Stage(NamedTuple):
    """A topic and the service that reads it on the way."""

    topic: Topic
    reader: str


class Barrier:
    """For whoever acts by the clock on what comes through these stages.

    A stage in another database, where every service has one of its own, cannot be seen and counts as read.
    """

    def __init__(self, database: Database, stages: Sequence[Stage]) -> None:
        self._database = database
        self._stages = stages
        self._seen: set[int] = set()
        self._cleared = NEVER
        self._asked: datetime | None = None
        self._stage = 0
        self._ends: Mapping[int, int] | None = None
        self._one_at_a_time = asyncio.Lock()

    async def cleared(self, now: datetime) -> datetime:
        """The latest moment of which all that was accepted before is known here; at most `now`."""
        # A clock that stands still, as one that is driven does between two steps, has nothing more to be asked.
        if now > self._cleared:
            async with self._one_at_a_time, self._database.reading() as tx:
                await self._go_on(tx, now)
        return min(self._cleared, now)

    async def _go_on(self, tx: Tx, now: datetime) -> None:
        if self._asked is None:
            self._asked, self._stage, self._ends = now, 0, None
        while self._stage < len(self._stages):
            stage = self._stages[self._stage]
            if self._stage in self._seen or await _visible(tx, stage):
                self._seen.add(self._stage)
                if self._ends is None:
                    self._ends = await _ends(tx, stage)
                if not await _read(tx, stage, self._ends):
                    return
            self._stage, self._ends = self._stage + 1, None
        self._cleared, self._asked = max(self._cleared, self._asked), None


async def _visible(tx: Tx, stage: Stage) -> bool:
    return bool(
        await tx.pg.fetchval(
            """
            SELECT count(*) = 2 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE (n.nspname, c.relname) IN (($1, 'log_partitions'), ($2, 'positions'))
                AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
            """,
            stage.topic.producer,
            stage.reader,
        )
    )


async def _ends(tx: Tx, stage: Stage) -> dict[int, int]:
    rows = await tx.pg.fetch(
        f"SELECT partition, next_offset FROM {stage.topic.producer}.log_partitions WHERE topic = $1", stage.topic.name
    )
    return {row["partition"]: row["next_offset"] for row in rows}


async def _read(tx: Tx, stage: Stage, ends: Mapping[int, int]) -> bool:
    return not await tx.pg.fetchval(
        f"""
        SELECT EXISTS (
            SELECT FROM unnest($2::int[], $3::bigint[]) AS u(partition, until)
            LEFT JOIN {stage.reader}.positions p ON p.topic = $1 AND p.partition = u.partition
            WHERE coalesce(p.next_offset, 0) < u.until
        )
        """,
        stage.topic.name,
        list(ends),
        list(ends.values()),
    )

"""The log in PostgreSQL: the producer's own tables, written in the producer's own transaction. The outbox is the log.

A partition's counter row is locked from the append to the end of the transaction. So offsets are given in commit order
and a rolled back transaction leaves no hole, which a bare sequence could not promise.

How many partitions there are is counted by the appending statement itself, once it has its lock on their table: nobody
can have learned an old number, and who had to wait for `growth.grow` counts what that has made.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from libs.common.contracts.topics import TOPICS, Topic
from libs.common.db import Database, Tx
from libs.common.log.base import READ_BYTES, Event, Position, Record
from libs.common.log.bell import Bell

COLUMNS = 'id, type, source, tenant, key, "time", traceparent, data'


def hash_of(tenant: str, key: str) -> int:
    """CRC-32 (IEEE) of `tenant NUL key` in UTF-8."""
    return zlib.crc32(f"{tenant}\0{key}".encode())


def partition_of(tenant: str, key: str, partitions: int) -> int:
    """The partition of a key: its hash modulo the number of partitions, as the append has it."""
    return hash_of(tenant, key) % partitions


def _append_sql(topic: str, *, unique: bool) -> str:
    # Locks are always taken in the same order (digests, then partitions), or two writers would deadlock.
    fresh = (
        "fresh AS (INSERT INTO log_seen (tenant, topic, digest) SELECT tenant, $1, digest FROM input ORDER BY digest"
        " ON CONFLICT DO NOTHING RETURNING digest),"
        " kept AS MATERIALIZED (SELECT n, partition FROM input JOIN fresh USING (digest)),"
        if unique
        else "kept AS MATERIALIZED (SELECT n, partition FROM input),"
    )
    digest = (", $11::bytea[], $6::text[]", ", digest, tenant") if unique else ("", "")
    # The rows themselves come in only at the end: nothing but numbers is sorted and counted.
    return f"""
        WITH input AS MATERIALIZED (
            SELECT *, (hash % (SELECT log_count($1)))::int AS partition
            FROM unnest($2::bigint[]{digest[0]}) WITH ORDINALITY AS u(hash{digest[1]}, n)
        ),
        {fresh}
        counts AS (SELECT partition, count(*) AS n FROM kept GROUP BY partition),
        advanced AS MATERIALIZED (
            SELECT a.* FROM (
                SELECT array_agg(partition ORDER BY partition) AS partitions, array_agg(n ORDER BY partition) AS counts
                FROM counts
            ) c CROSS JOIN LATERAL log_advance($1, c.partitions, c.counts) a
        ),
        placed AS MATERIALIZED (
            SELECT k.n, partition, a.first + row_number() OVER (PARTITION BY partition ORDER BY k.n) - 1 AS "offset"
            FROM kept k JOIN advanced a USING (partition)
        )
        INSERT INTO log_{topic} (partition, "offset", appended_at, {COLUMNS})
        SELECT placed.partition, placed."offset", clock_timestamp(), {COLUMNS}
        FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[], $9::text[],
                    $10::bytea[]) WITH ORDINALITY AS u({COLUMNS}, n)
        JOIN placed USING (n)
        RETURNING id
        """


_APPEND = {name: _append_sql(name, unique=False) for name in TOPICS}
_APPEND_UNIQUE = {name: _append_sql(name, unique=True) for name in TOPICS}


def _arguments(topic: Topic, events: Sequence[Event]) -> list[Any]:
    return [
        topic.name,
        [hash_of(e.tenant, e.key) for e in events],
        [e.id for e in events],
        [e.type for e in events],
        [e.source for e in events],
        [e.tenant for e in events],
        [e.key for e in events],
        [e.time for e in events],
        [e.traceparent for e in events],
        [e.data for e in events],
    ]


async def append(tx: Tx, topic: Topic, events: Sequence[Event]) -> None:
    """Appends in the caller's transaction; readers are woken once it has committed.

    Call it last: from here to the commit no other writer can append to the same partitions.
    """
    if events:
        await tx.pg.fetch(_APPEND[topic.name], *_arguments(topic, events))
        tx.appended.add(topic.name)


async def append_unique(
    pg: "asyncpg.Connection[Any]", topic: Topic, events: Sequence[Event], digests: Sequence[bytes]
) -> list[bool]:
    """Appends those events whose digest (per tenant and topic) was never seen; one round trip, its own commit.

    Returns for each event whether it was appended. The caller rings the topic's bell.
    """
    first: dict[tuple[str, bytes], int] = {}
    for n, (event, digest) in enumerate(zip(events, digests, strict=True)):
        first.setdefault((event.tenant, digest), n)
    chosen = list(first.values())
    rows = await pg.fetch(
        _APPEND_UNIQUE[topic.name], *_arguments(topic, [events[n] for n in chosen]), [digests[n] for n in chosen]
    )
    appended = {row["id"] for row in rows}
    return [
        first[event.tenant, digest] == n and event.id in appended
        for n, (event, digest) in enumerate(zip(events, digests, strict=True))
    ]


class PostgresLog:
    """Reads every producer's log in one database. LISTEN wakes it, and a look each second should a bell be missed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._bell = Bell(database.session, self.end_offsets)

    async def read(
        self, positions: Mapping[Position, int], max_records: int, wait: float, *, ahead: bool = False
    ) -> list[Record]:
        """See `Log.read`."""
        del ahead
        behind = self._bell.behind(positions) or await self._bell.wait(positions, wait)
        if not behind:
            return []
        each = max(1, max_records // len(behind))
        bytes_each = READ_BYTES // len(behind)
        records: list[Record] = []
        async with self._database.autocommit() as pg:
            for topic in sorted({topic for topic, _ in behind}):
                mine = [(partition, offset) for (name, partition), offset in behind.items() if name == topic]
                rows = await pg.fetch(_read_sql(topic), [p for p, _ in mine], [o for _, o in mine], each, bytes_each)
                records += [Record(topic=topic, **dict(row)) for row in rows]
        return records

    async def end_offsets(self, topic: str) -> dict[int, int]:
        """See `Log.end_offsets`."""
        async with self._database.autocommit() as pg:
            rows = await pg.fetch(f"SELECT partition, next_offset FROM {TOPICS[topic].producer}.log_ends($1)", topic)
        return {row["partition"]: row["next_offset"] for row in rows}

    async def ages(self, positions: Mapping[Position, int]) -> dict[Position, float]:
        """See `Log.ages`; by the clock of the database that dated them."""
        ages: dict[Position, float] = {}
        async with self._database.autocommit() as pg:
            for topic in sorted({topic for topic, _ in positions}):
                mine = [(partition, offset) for (name, partition), offset in positions.items() if name == topic]
                rows = await pg.fetch(_ages_sql(topic), [p for p, _ in mine], [o for _, o in mine])
                ages |= {(topic, row["partition"]): row["age"] for row in rows}
        return ages

    async def close(self) -> None:
        """Stops listening."""
        await self._bell.close()


def _ages_sql(topic: str) -> str:
    return f"""
        SELECT p.partition, extract(epoch FROM clock_timestamp() - l.appended_at)::float8 AS age
        FROM unnest($1::int[], $2::bigint[]) AS p(partition, "offset")
        JOIN {TOPICS[topic].producer}.log_{topic} l USING (partition, "offset")
        """


def _read_sql(topic: str) -> str:
    return f"""
        SELECT r.partition, r."offset", r.appended_at, {", ".join("r." + c.strip() for c in COLUMNS.split(","))},
               r."offset" > 0 AND r."offset" = begins.first_offset AS first
        FROM unnest($1::int[], $2::bigint[]) AS p(partition, first)
        JOIN {TOPICS[topic].producer}.log_ends('{topic}') begins USING (partition)
        CROSS JOIN LATERAL (
            SELECT * FROM (
                SELECT l.*, sum(octet_length(l.data)) OVER (ORDER BY l."offset" ROWS UNBOUNDED PRECEDING)
                            - octet_length(l.data) AS before
                FROM {TOPICS[topic].producer}.log_{topic} l
                WHERE l.partition = p.partition AND l."offset" >= p.first ORDER BY l."offset" LIMIT $3
            ) l WHERE l.before < $4
        ) r ORDER BY r.partition, r."offset"
        """

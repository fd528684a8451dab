"""Where a consumer stands, who may move it, and what it could not digest: all SQL of the consumer loop.

A partition belongs to the worker whose name stands in its row. Every worker holds a session advisory lock on its name,
so a dead process is seen at once; one that only hangs loses its partitions when its lease ends. Leases go by the
database's clock. Whoever was mistaken about its ownership is stopped by `advance`.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from libs.common.contracts.topics import Topic
from libs.common.db import Tx
from libs.common.ids import derived_id
from libs.common.log.base import READ_BYTES, Position, Record


class Fenced(Exception):
    """Another worker owns a partition of this batch: nothing of it may be kept."""


_ALIVE = "NOT pg_try_advisory_xact_lock(hashtextextended({0}, 0))"


async def begin(session: "asyncpg.Connection[Any]", consumer: str, topics: Iterable[Topic], worker: str) -> None:
    """Makes the consumer's rows and takes the lock on the worker's name, for as long as `session` lives."""
    await session.execute("SELECT pg_advisory_lock(hashtextextended($1, 0))", worker)
    for topic in topics:
        await session.execute(_WIDEN, consumer, topic.name, topic.partitions)


async def widen(tx: Tx, consumer: str, topic: str, partitions: int) -> None:
    """Makes the rows that are missing, where a topic has got so many partitions."""
    await tx.pg.execute(_WIDEN, consumer, topic, partitions)


_WIDEN = """
    INSERT INTO positions (consumer, topic, partition) SELECT $1, $2, p FROM generate_series(0, $3 - 1) p
    ON CONFLICT DO NOTHING
    """


async def heartbeat(
    session: "asyncpg.Connection[Any]",
    consumer: str,
    worker: str,
    lease: float,
    *,
    state: str = "running",
    reason: str | None = None,
) -> tuple[dict[Position, int], list[Position]]:
    """Renews the leases, claims up to the fair share, and returns what is owned with its offset, and what is surplus.

    Fair share: partitions of each topic over living workers, rounded up. `lease`: seconds.
    """
    async with session.transaction():
        await session.execute(
            "INSERT INTO workers (consumer, worker, seen_until, state, reason)"
            " VALUES ($1, $2, now() + $3 * interval '1 s', $4, $5) ON CONFLICT (consumer, worker) DO UPDATE"
            " SET seen_until = excluded.seen_until, state = excluded.state, reason = excluded.reason",
            consumer,
            worker,
            lease,
            state,
            reason,
        )
        await session.execute(
            f"DELETE FROM workers w WHERE consumer = $1 AND worker <> $2"
            f" AND (seen_until < now() OR NOT ({_ALIVE.format('worker')}))",
            consumer,
            worker,
        )
        await session.execute(_CLAIM, consumer, worker, lease)
        rows = await session.fetch(_RENEW, consumer, worker, lease)
    owned = {(row["topic"], row["partition"]): row["next_offset"] for row in rows}
    return owned, [(row["topic"], row["partition"]) for row in rows if row["rank"] > row["share"]]


_SHARE = """
    share AS (
        SELECT topic, ceil(count(*) / (SELECT greatest(count(*), 1) FROM workers WHERE consumer = $1)::numeric) AS share
        FROM positions WHERE consumer = $1 GROUP BY topic
    )"""

_CLAIM = f"""
    WITH {_SHARE},
    free AS (
        SELECT topic, partition FROM positions
        WHERE consumer = $1 AND owner IS DISTINCT FROM $2
          AND (owner IS NULL OR lease_until < now() OR NOT ({_ALIVE.format("owner")}))
        FOR UPDATE SKIP LOCKED
    ),
    ranked AS (
        SELECT free.*, row_number() OVER (PARTITION BY topic ORDER BY partition) AS n, (
                   SELECT count(*) FROM positions p WHERE p.consumer = $1 AND p.topic = free.topic AND p.owner = $2
               ) AS mine
        FROM free
    )
    UPDATE positions p SET owner = $2, lease_until = now() + $3 * interval '1 s'
    FROM ranked r JOIN share s USING (topic)
    WHERE p.consumer = $1 AND p.topic = r.topic AND p.partition = r.partition AND r.mine + r.n <= s.share
    """

_RENEW = f"""
    WITH {_SHARE},
    renewed AS (
        UPDATE positions SET lease_until = now() + $3 * interval '1 s' WHERE consumer = $1 AND owner = $2
        RETURNING topic, partition, next_offset
    )
    SELECT r.*, s.share, row_number() OVER (PARTITION BY topic ORDER BY partition) AS rank
    FROM renewed r JOIN share s USING (topic)
    """


async def release(
    session: "asyncpg.Connection[Any]", consumer: str, worker: str, places: Sequence[Position] | None = None
) -> None:
    """Gives partitions back (all when None), so that another worker need not wait for the lease to end."""
    await session.execute(
        "UPDATE positions SET owner = NULL, lease_until = NULL WHERE consumer = $1 AND owner = $2"
        " AND ($3::text[] IS NULL OR (topic, partition) IN (SELECT * FROM unnest($3::text[], $4::int[])))",
        consumer,
        worker,
        None if places is None else [topic for topic, _ in places],
        [partition for _, partition in places or []],
    )
    if places is None:
        await session.execute("DELETE FROM workers WHERE consumer = $1 AND worker = $2", consumer, worker)


async def advance(tx: Tx, consumer: str, worker: str, moves: Mapping[Position, tuple[int, int]]) -> None:
    """Moves each position from the expected offset to the new one, in the transaction of the effects.

    The compare-and-set is the fence: raises Fenced when any partition is not the worker's or not where it left it.
    """
    status = await tx.pg.execute(
        """
        UPDATE positions p SET next_offset = u.next, updated_at = now()
        FROM unnest($3::text[], $4::int[], $5::bigint[], $6::bigint[]) AS u(topic, partition, expected, next)
        WHERE p.consumer = $1 AND p.owner = $2 AND p.topic = u.topic AND p.partition = u.partition
          AND p.next_offset = u.expected
        """,
        consumer,
        worker,
        [topic for topic, _ in moves],
        [partition for _, partition in moves],
        [expected for expected, _ in moves.values()],
        [following for _, following in moves.values()],
    )
    if status != f"UPDATE {len(moves)}":
        raise Fenced(f"{consumer}: {status} of {len(moves)}")


async def open_partitions(
    tx: Tx, consumer: str, worker: str, waiting: Mapping[Position, tuple[int, int]]
) -> list[Position]:
    """Moves those past their first record whose parent (partition, offset) the consumer has read so far; which."""
    rows = await tx.pg.fetch(
        """
        UPDATE positions p SET next_offset = 1, updated_at = now()
        FROM unnest($3::text[], $4::int[], $5::int[], $6::bigint[]) AS u(topic, partition, parent, until)
        JOIN positions before ON before.consumer = $1 AND before.topic = u.topic AND before.partition = u.parent
        WHERE p.consumer = $1 AND p.owner = $2 AND p.topic = u.topic AND p.partition = u.partition
          AND p.next_offset = 0 AND before.next_offset >= u.until
        RETURNING p.topic, p.partition
        """,
        consumer,
        worker,
        [topic for topic, _ in waiting],
        [partition for _, partition in waiting],
        [parent for parent, _ in waiting.values()],
        [until for _, until in waiting.values()],
    )
    return [(row["topic"], row["partition"]) for row in rows]


async def bury(
    tx: Tx, consumer: str, rejected: Sequence[tuple[Record, str]], now: datetime, traceback: str | None = None
) -> None:
    """Writes dead letters. A record that was one already gets its new reason.

    `now`: as arrivals are dated, or on a driven clock a letter could have failed before it came.
    """
    records = [record for record, _ in rejected]
    await tx.pg.execute(
        """
        INSERT INTO dead_letters (consumer, failed_at, traceback, id, tenant, topic, partition, record_offset,
            event_id, event_type, event_key, event_time, event_source, traceparent, data, appended_at, reason)
        SELECT $1, $2, $3, * FROM unnest($4::uuid[], $5::text[], $6::text[], $7::int[], $8::bigint[], $9::text[],
            $10::text[], $11::text[], $12::timestamptz[], $13::text[], $14::text[], $15::bytea[], $16::timestamptz[],
            $17::text[])
        ON CONFLICT (consumer, topic, partition, record_offset) DO UPDATE SET reason = excluded.reason, state = 'dead',
            traceback = excluded.traceback, failed_at = excluded.failed_at, attempts = dead_letters.attempts + 1
        """,
        consumer,
        now,
        traceback,
        [derived_id("dead", consumer, r.topic, str(r.partition), str(r.offset)) for r in records],
        [r.tenant for r in records],
        [r.topic for r in records],
        [r.partition for r in records],
        [r.offset for r in records],
        [r.id for r in records],
        [r.type for r in records],
        [r.key for r in records],
        [r.time for r in records],
        [r.source for r in records],
        [r.traceparent for r in records],
        [r.data for r in records],
        [r.appended_at for r in records],
        [reason for _, reason in rejected],
    )


async def to_replay(tx: Tx, consumer: str, worker: str, limit: int) -> list[Record]:
    """Dead letters that somebody asked to try again, of partitions that the worker owns, locked until the end.

    At most `limit`, and no more once READ_BYTES of them are there.
    """
    rows = await tx.pg.fetch(
        """
        WITH marked AS MATERIALIZED (
            SELECT d.topic, d.partition, d.record_offset AS "offset", d.appended_at, d.event_id AS id,
                   d.event_type AS type, d.event_source AS source, d.tenant, d.event_key AS key, d.event_time AS "time",
                   d.traceparent, d.data
            FROM dead_letters d JOIN positions p USING (consumer, topic, partition)
            WHERE d.consumer = $1 AND d.state = 'replay' AND p.owner = $2
            ORDER BY d.topic, d.partition, d.record_offset LIMIT $3 FOR UPDATE OF d FOR SHARE OF p
        )
        SELECT m.topic, m.partition, m."offset", m.appended_at, m.id, m.type, m.source, m.tenant, m.key, m."time",
               m.traceparent, m.data
        FROM (
            SELECT *, sum(octet_length(data)) OVER (ORDER BY topic, partition, "offset" ROWS UNBOUNDED PRECEDING)
                      - octet_length(data) AS before
            FROM marked
        ) m WHERE m.before < $4 ORDER BY m.topic, m.partition, m."offset"
        """,
        consumer,
        worker,
        limit,
        READ_BYTES,
    )
    return [Record(**dict(row)) for row in rows]


async def replayed(tx: Tx, consumer: str, records: Sequence[Record]) -> None:
    """Marks dead letters as done."""
    await tx.pg.execute(
        """
        UPDATE dead_letters d SET state = 'replayed' FROM unnest($2::text[], $3::int[], $4::bigint[]) AS u(t, p, o)
        WHERE d.consumer = $1 AND d.topic = u.t AND d.partition = u.p AND d.record_offset = u.o
        """,
        consumer,
        [r.topic for r in records],
        [r.partition for r in records],
        [r.offset for r in records],
    )

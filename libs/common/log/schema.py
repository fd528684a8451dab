"""The tables of the log and of its consumers, as SQL for each service's first migration; and their upkeep.

A topic's table is partitioned by `appended_at`, so that retention drops whole tables and never deletes rows.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import asyncpg

from libs.common.contracts.topics import Topic
from libs.common.db import Database

SEEN_DAYS = 30
"""How long a delivery's digest is remembered. A later repeat is harmless: its snapshot is not newer."""
_VACUUM_DELAY = "autovacuum_vacuum_cost_delay = 20"
"""ms. Nobody waits for a vacuum of what is only appended. At the default speed it writes 5,000 pages a second, each in
full to the WAL where a checkpoint came between, and takes the processor from those who append. This is 470, of three
webhooks or so: enough for 1,400 webhooks a second around the clock."""
CHILD_OPTIONS = f"toast_tuple_target = 8160, {_VACUUM_DELAY}"


def create_log(*topics: Topic) -> list[str]:
    """SQL that a producer's migration runs in its own schema."""
    statements = [
        """CREATE TABLE log_partitions (
            topic text NOT NULL, partition int NOT NULL, next_offset bigint NOT NULL DEFAULT 0,
            PRIMARY KEY (topic, partition)
        ) WITH (fillfactor = 50)""",
    ]
    for topic in topics:
        statements += [
            f"""CREATE TABLE log_{topic.name} (
                partition int NOT NULL, "offset" bigint NOT NULL, appended_at timestamptz NOT NULL,
                id text NOT NULL, type text NOT NULL, source text NOT NULL, tenant text NOT NULL, key text NOT NULL,
                "time" timestamptz NOT NULL, traceparent text, data bytea NOT NULL
            ) PARTITION BY RANGE (appended_at)""",
            # Bodies are compressed before they come here; out-of-line storage would cost a second write each.
            f"ALTER TABLE log_{topic.name} ALTER COLUMN data SET STORAGE EXTERNAL",
            f'CREATE UNIQUE INDEX ON log_{topic.name} (partition, "offset", appended_at)',
            f"""CREATE TABLE log_{topic.name}_rest PARTITION OF log_{topic.name} DEFAULT
                WITH ({CHILD_OPTIONS})""",
            f"""INSERT INTO log_partitions (topic, partition)
                SELECT '{topic.name}', p FROM generate_series(0, {topic.partitions - 1}) p""",
        ]
    return statements


def create_beginnings(*topics: Topic) -> list[str]:
    """SQL for a producer whose log does not say yet where it begins: retention may have dropped some of it already."""
    return [
        # Nobody appends from here to the end.
        "ALTER TABLE log_partitions ADD COLUMN first_offset bigint NOT NULL DEFAULT 0",
        *(
            f"""UPDATE log_partitions p SET first_offset = coalesce(
                (SELECT min("offset") FROM log_{topic.name} l WHERE l.partition = p.partition), p.next_offset)
                WHERE topic = '{topic.name}'"""
            for topic in topics
        ),
    ]


def slow_vacuum(*topics: Topic, reset: bool = False) -> list[str]:
    """SQL for a producer whose log's tables were made before `CHILD_OPTIONS` said so. `reset`: the way back."""
    change = f"RESET ({_VACUUM_DELAY.split(maxsplit=1)[0]})" if reset else f"SET ({_VACUUM_DELAY})"
    return [
        f"""DO $$ DECLARE child regclass; BEGIN
            FOR child IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'log_{topic.name}'::regclass LOOP
                EXECUTE format('ALTER TABLE %s {change}', child);
            END LOOP;
        END $$"""
        for topic in topics
    ]


_NEWEST_FIRST = """SET search_path FROM CURRENT
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off"""
"""Whatever the table's size was when the plan was made."""


def create_counting() -> list[str]:
    """SQL for a producer whose counters are found newest first, however many versions of them lie behind.

    Each append makes a new version of its partitions' counters, and no old one can be removed while anybody holds a
    snapshot that is older: an ANALYZE does so for seconds, a dump for an hour. To come by them all made each append
    dearer than the one before. In this key the newest version is the last one, and is all that these look at:
    `log_ends(topic)`, what there is of each partition; `log_count(topic)`, how many there are, once nobody is growing
    the topic; `log_advance(topic, partitions, counts)`, which locks the partitions in the order given and answers with
    the first of the offsets that it has given to each.
    """
    return [
        "ALTER TABLE log_partitions DROP CONSTRAINT log_partitions_pkey",
        "ALTER TABLE log_partitions ADD PRIMARY KEY (topic, partition, next_offset)",
        # To cut off its empty end takes a lock for which those who append would wait.
        "ALTER TABLE log_partitions SET (vacuum_truncate = off)",
        f"""CREATE FUNCTION log_ends(of_topic text)
            RETURNS TABLE (partition int, next_offset bigint, first_offset bigint)
            LANGUAGE plpgsql STABLE ROWS 16 {_NEWEST_FIRST}
            AS $$
            #variable_conflict use_column
            BEGIN
                RETURN QUERY WITH RECURSIVE ends AS (
                    (SELECT partition, next_offset, first_offset FROM log_partitions WHERE topic = of_topic
                     ORDER BY partition DESC, next_offset DESC LIMIT 1)
                    UNION ALL
                    SELECT before.* FROM ends CROSS JOIN LATERAL (
                        SELECT partition, next_offset, first_offset FROM log_partitions
                        WHERE topic = of_topic AND partition < ends.partition
                        ORDER BY partition DESC, next_offset DESC LIMIT 1
                    ) before
                ) SELECT * FROM ends;
            END $$""",
        f"""CREATE FUNCTION log_count(of_topic text) RETURNS int LANGUAGE plpgsql VOLATILE {_NEWEST_FIRST}
            AS $$
            BEGIN
                -- First the lock, then the look: see `growth.grow`.
                LOCK TABLE log_partitions IN ROW EXCLUSIVE MODE;
                RETURN (SELECT partition + 1 FROM log_partitions WHERE topic = of_topic
                        ORDER BY partition DESC, next_offset DESC LIMIT 1);
            END $$""",
        f"""CREATE FUNCTION log_advance(of_topic text, partitions int[], counts bigint[])
            RETURNS TABLE (partition int, first bigint)
            LANGUAGE plpgsql VOLATILE ROWS 16 {_NEWEST_FIRST}
            AS $$
            #variable_conflict use_column
            BEGIN
                FOR n IN 1 .. coalesce(cardinality(partitions), 0) LOOP
                    -- Who waits for the lock gets what the one before has made of it: more than he saw.
                    UPDATE log_partitions p SET next_offset = p.next_offset + counts[n]
                    WHERE p.topic = of_topic AND p.partition = partitions[n] AND p.next_offset >= (
                        SELECT q.next_offset FROM log_partitions q
                        WHERE q.topic = of_topic AND q.partition = partitions[n] ORDER BY q.next_offset DESC LIMIT 1
                    ) RETURNING p.partition, p.next_offset - counts[n]
                      INTO STRICT log_advance.partition, log_advance.first;
                    RETURN NEXT;
                END LOOP;
            END $$""",
    ]


def drop_counting() -> list[str]:
    """The way back."""
    return [
        "DROP FUNCTION log_advance, log_count, log_ends",
        "ALTER TABLE log_partitions RESET (vacuum_truncate)",
        "ALTER TABLE log_partitions DROP CONSTRAINT log_partitions_pkey",
        "ALTER TABLE log_partitions ADD PRIMARY KEY (topic, partition)",
    ]


def create_seen() -> list[str]:
    """SQL for a producer that appends each digest once (`append_unique`)."""
    return [
        """CREATE TABLE log_seen (
            tenant text NOT NULL, topic text NOT NULL, digest bytea NOT NULL, at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (tenant, topic, digest)
        )""",
        "CREATE INDEX ON log_seen USING brin (at)",
    ]


def create_consumer_tables() -> list[str]:
    """SQL that a consumer's migration runs in its own schema: positions with their leases, workers, dead letters."""
    return [
        """CREATE TABLE positions (
            consumer text NOT NULL, topic text NOT NULL, partition int NOT NULL,
            next_offset bigint NOT NULL DEFAULT 0, last_seq bigint NOT NULL DEFAULT -1,
            owner text, lease_until timestamptz, updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (consumer, topic, partition)
        ) WITH (fillfactor = 50)""",
        """CREATE TABLE workers (
            consumer text NOT NULL, worker text NOT NULL, seen_until timestamptz NOT NULL,
            state text NOT NULL CHECK (state IN ('running', 'retrying', 'halted')), reason text,
            PRIMARY KEY (consumer, worker)
        )""",
        """CREATE TABLE dead_letters (
            tenant text NOT NULL, id uuid NOT NULL, consumer text NOT NULL, topic text NOT NULL, partition int NOT NULL,
            record_offset bigint NOT NULL, event_id text NOT NULL, event_type text NOT NULL, event_key text NOT NULL,
            event_time timestamptz NOT NULL, event_source text NOT NULL, traceparent text, data bytea NOT NULL,
            appended_at timestamptz NOT NULL, reason text NOT NULL, traceback text,
            failed_at timestamptz NOT NULL, attempts int NOT NULL DEFAULT 1,
            state text NOT NULL DEFAULT 'dead' CHECK (state IN ('dead', 'replay', 'replayed', 'discarded')),
            PRIMARY KEY (tenant, id)
        )""",
        "CREATE UNIQUE INDEX ON dead_letters (consumer, topic, partition, record_offset)",
        "CREATE INDEX ON dead_letters (tenant, failed_at DESC, id)",
        "CREATE INDEX ON dead_letters (consumer, topic, partition) WHERE state = 'replay'",
    ]


class Child(NamedTuple):
    """One table of a topic's log: what was appended from `start` until before `end`."""

    name: str
    start: datetime
    end: datetime


def span_of(days: int) -> timedelta:
    """How much goes into one table when the shortest retention is so long: bodies stay that much longer at most."""
    # Few tables a topic: a read looks into each of them.
    return timedelta(days=7 if days <= 60 else 28)  # noqa: PLR2004


def _start(moment: datetime, span: timedelta) -> datetime:
    epoch = datetime(2024, 1, 1, tzinfo=UTC)
    return epoch + (moment - epoch) // span * span


async def keep_log(database: Database, topic: Topic, now: datetime) -> list[str]:
    """Makes the tables that the next weeks need and drops those past retention; says what it dropped.

    `now` is wall time: the log is dated by when the database took a record.
    """
    async with upkeeping(database) as pg:
        await make_children(pg, topic, now, span_of(topic.retention_days))
        past = [each for each in await children(pg, topic) if each.end <= now - timedelta(days=topic.retention_days)]
        return [child.name for child in past if await drop_child(pg, topic, child)]


@asynccontextmanager
async def upkeeping(database: Database) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """A connection that may take its time, and makes nobody wait for it for long."""
    async with database.autocommit() as pg:
        await pg.execute("SET transaction_timeout = 0; SET lock_timeout = '2s'")
        try:
            yield pg
        finally:
            await pg.execute("RESET lock_timeout; RESET transaction_timeout")


async def children(pg: "asyncpg.Connection[Any]", topic: Topic) -> list[Child]:
    """The topic's tables by age, without the rest."""
    return [Child(*row) for row in await pg.fetch(_CHILDREN, f"log_{topic.name}")]


async def make_children(pg: "asyncpg.Connection[Any]", topic: Topic, now: datetime, span: timedelta) -> None:
    """Makes the tables that this span and the next need, between those that there are, which may have other spans."""
    existing = await children(pg, topic)
    start, until = _start(now, span), _start(now, span) + 2 * span
    while start < until:
        end = next((child.end for child in existing if child.start <= start < child.end), None)
        if end is None:
            following = [child.start for child in existing if child.start > start]
            end = min([_start(start, span) + span, *following])
            await _attach(pg, topic, Child(f"log_{topic.name}_{start:%Y%m%d}", start, end))
        start = end


async def mine(pg: "asyncpg.Connection[Any]", topic: Topic) -> bool:
    """Whether no other worker is at the topic's tables, and none will be until this transaction ends."""
    got: bool = await pg.fetchval(
        "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))", f"upkeep of log_{topic.name}"
    )
    return got


_CHILDREN = r"""
    WITH children AS (
        SELECT c.relname AS name, pg_get_expr(c.relpartbound, c.oid) AS bound
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
        JOIN pg_namespace n ON n.oid = p.relnamespace WHERE p.relname = $1 AND n.nspname = current_schema()
    )
    SELECT name, substring(bound FROM 'FROM \(''([^'']+)''\)')::timestamptz AS "start",
           substring(bound FROM 'TO \(''([^'']+)''\)')::timestamptz AS "end"
    FROM children WHERE bound <> 'DEFAULT' ORDER BY "start"
    """


async def drop_child(pg: "asyncpg.Connection[Any]", topic: Topic, child: Child) -> bool:
    """Drops the table, and notes where the log begins from then on; False when another worker is at it."""
    async with pg.transaction():
        if not await mine(pg, topic):
            return False
        # First the log, then its counters, as those do who append.
        await pg.execute(f"LOCK TABLE log_{topic.name} IN ACCESS EXCLUSIVE MODE")
        if await pg.fetchval("SELECT to_regclass($1)", child.name) is None:
            return False
        # Who comes later has to know that what is missing was dropped, and not lost.
        await pg.execute(
            f"""
            UPDATE log_partitions p SET first_offset = greatest(first_offset, dropped.last + 1)
            FROM (
                SELECT partition, (SELECT max("offset") FROM {child.name} c WHERE c.partition = l.partition) AS last
                FROM log_partitions l WHERE topic = $1
            ) dropped
            WHERE p.topic = $1 AND p.partition = dropped.partition AND dropped.last IS NOT NULL
            """,
            topic.name,
        )
        await pg.execute(f"DROP TABLE {child.name}")
    return True


async def _attach(pg: "asyncpg.Connection[Any]", topic: Topic, child: Child) -> None:
    parent, bounds = f"log_{topic.name}", bounds_of(child)
    async with pg.transaction():
        if not await mine(pg, topic):
            return
        # Rows that came before their table was made wait in the rest; they move along, or the range could not attach.
        await pg.execute(f"LOCK TABLE {parent} IN ACCESS EXCLUSIVE MODE")
        if any(other.start < child.end and child.start < other.end for other in await children(pg, topic)):
            # Another worker was faster.
            return
        await pg.execute(f"CREATE TABLE {child.name} (LIKE {parent} INCLUDING STORAGE) WITH ({CHILD_OPTIONS})")
        await pg.execute(
            f"WITH moved AS (DELETE FROM {parent}_rest WHERE {within(child)} RETURNING *)"
            f" INSERT INTO {child.name} SELECT * FROM moved"
        )
        await pg.execute(f"ALTER TABLE {parent} ATTACH PARTITION {child.name} {bounds}")


def bounds_of(child: Child) -> str:
    """What of the log it holds, as ATTACH PARTITION takes it."""
    return f"FOR VALUES FROM ('{child.start.isoformat()}') TO ('{child.end.isoformat()}')"


def within(child: Child) -> str:
    """The same as a condition."""
    return f"(appended_at >= '{child.start.isoformat()}' AND appended_at < '{child.end.isoformat()}')"

"""More partitions for a topic, and the events of each key stay in order.

A key is in partition `hash mod n`. The number only grows to a multiple m of n: then `hash mod m` is the partition of
before, or one of the new ones; no key goes from an old partition to another old one. A new partition q takes keys of
`q mod n` alone, its parent. What the parent holds at the moment of the growth comes before all that q will ever hold,
and q's first record says so: the parent, and the offset up to which it is to be read first (`Opened`). A consumer that
has not come so far leaves q alone (`libs.common.openings`). The record travels through the log like any other, to Kafka
too, so that nobody needs to be told, stopped or started.
"""

from typing import Any

import asyncpg
import msgspec

from libs.common.contracts.topics import Topic
from libs.common.db import Database
from libs.common.ids import derived_id
from libs.common.log.base import Record

OPENED = "partition.opened"
"""Type of a new partition's first record. It is the log's own: no handler gets to see it."""
LOCK_TIMEOUT = "2s"
"""How long writers may wait behind a growth that waits for one of them, before it gives way."""


class Unfit(Exception):
    """No number to which the topic can be grown, and why."""


class Opened(msgspec.Struct, frozen=True):
    """What a partition's first record says."""

    parent: int
    """The partition in which its keys were before."""
    until: int
    """The offset at which the parent was to go on."""


def opened(record: Record) -> Opened | None:
    """What the record says of its partition's beginning; None when it is an event like any other."""
    return msgspec.json.decode(record.data, type=Opened) if record.type == OPENED else None


async def partitions_of(pg: "asyncpg.Connection[Any]", topic: Topic) -> int:
    """How many partitions the topic has in its producer's log. `pg`: in the producer's schema."""
    count: int = await pg.fetchval("SELECT count(*) FROM log_partitions WHERE topic = $1", topic.name)
    return count


def check_growth(topic: Topic, before: int, after: int) -> None:
    """Unfit when the topic cannot be grown from so many partitions to so many."""
    if after == before:
        raise Unfit(f"{topic.name} has {before} partitions already")
    if after < before:
        raise Unfit(f"{topic.name} has {before} partitions, and they do not become fewer")
    if after % before:
        raise Unfit(
            f"{topic.name} has {before} partitions: it grows to a multiple of that, as {2 * before} or {3 * before},"
            " or events of one key would part"
        )


async def grow(database: Database, topic: Topic, partitions: int) -> int:
    """Grows the topic in its producer's log; answers how many partitions there were. Unfit when that cannot be.

    All in one transaction, once those have ended that append, while others wait. Raises asyncpg's LockNotAvailableError
    when one of them takes long: nothing has happened, and it may be tried again.
    """
    async with database.transaction() as tx:
        check_growth(topic, await partitions_of(tx.pg, topic), partitions)
        await tx.pg.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        # The log before its counters, as retention does.
        await tx.pg.execute(f"LOCK TABLE log_{topic.name} IN ROW EXCLUSIVE MODE")
        # Nobody who appended before has still to commit, and who appends later counts anew.
        await tx.pg.execute("LOCK TABLE log_partitions IN SHARE ROW EXCLUSIVE MODE")
        rows = await tx.pg.fetch("SELECT partition, next_offset FROM log_partitions WHERE topic = $1", topic.name)
        ends = {row["partition"]: row["next_offset"] for row in rows}
        before = len(ends)
        check_growth(topic, before, partitions)
        new = range(before, partitions)
        await tx.pg.execute(
            "INSERT INTO log_partitions (topic, partition, next_offset) SELECT $1, q, 1 FROM unnest($2::int[]) q",
            topic.name,
            list(new),
        )
        await tx.pg.execute(
            f"""
            INSERT INTO log_{topic.name} (partition, "offset", appended_at, id, type, source, tenant, key, "time", data)
            SELECT u.partition, 0, clock_timestamp(), u.id, $1, $2, '', '', now(), u.data
            FROM unnest($3::int[], $4::text[], $5::bytea[]) AS u(partition, id, data)
            """,
            OPENED,
            f"/services/{topic.producer}",
            list(new),
            [derived_id(OPENED, topic.name, str(q)) for q in new],
            [msgspec.json.encode(Opened(q % before, ends[q % before])) for q in new],
        )
        tx.appended.add(topic.name)
    return before

"""`regulars positions reset-after-restore`: PostgreSQL was set back, and Kafka was not (docs/backup.md).

The log in PostgreSQL is the truth, and what the relay has not shipped of it no consumer can have read: whoever stands
further has read something else under these numbers, and is set back to there. Kafka's topics are deleted, and relays
ship again from where the hindmost consumer stands. Said again it does no harm.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncpg

from libs.common.contracts.topics import RELAYED, TOPICS, Topic
from libs.common.log.choice import RELAY
from libs.common.settings import CommonSettings
from libs.common.telemetry import configure_logging
from regulars.prepare import database_at
from regulars.schemas import SERVICES, Unusable, connect

LOCK_TIMEOUT = "2s"

_ALIVE = """
    SELECT consumer, worker FROM {0}.workers WHERE NOT pg_try_advisory_xact_lock(hashtextextended(worker, 0))
    ORDER BY 1, 2
    """
_AHEAD = """
    WITH shipped AS (
        SELECT l.partition,
               CASE WHEN $3 THEN least(l.next_offset, coalesce(r.next_offset, 0)) ELSE l.next_offset END AS n
        FROM {1}.log_partitions l
        LEFT JOIN {1}.positions r ON (r.consumer, r.topic, r.partition) = ($2, l.topic, l.partition)
        WHERE l.topic = $1
    )
    UPDATE {0}.positions p SET next_offset = coalesce(s.n, 0), updated_at = now()
    FROM {0}.positions before LEFT JOIN shipped s USING (partition)
    WHERE (p.consumer, p.topic, p.partition) = (before.consumer, before.topic, before.partition)
      AND p.topic = $1 AND p.consumer <> $2 AND p.next_offset > coalesce(s.n, 0)
    RETURNING p.consumer, p.partition, before.next_offset AS stood, p.next_offset AS stands
    """
_LOWEST = "SELECT partition, min(next_offset) AS n FROM {0}.positions WHERE topic = $1 AND consumer <> $2 GROUP BY 1"
_AFRESH = """
    UPDATE {0}.positions SET next_offset = $4, updated_at = now()
    WHERE consumer = $1 AND topic = $2 AND partition = $3 AND next_offset > $4
    """


async def reset(database_url: str | None, data_dir: Path, *, dry_run: bool) -> list[str]:
    """A line for each thing done, or to be done. Unusable, with nothing changed, while a worker runs."""
    configure_logging("warning")
    settings = CommonSettings()
    async with database_at(database_url, data_dir, made=True) as url:
        connection = await connect(url)
        try:
            transaction = connection.transaction()
            await transaction.start()
            done = await _positions(connection, on_kafka=settings.log == "kafka")
            await (transaction.rollback() if dry_run else transaction.commit())
        except asyncpg.LockNotAvailableError:
            raise Unusable("somebody else writes to the positions: stop all roles") from None
        finally:
            await connection.close(timeout=2)
    if settings.log == "kafka":
        done += await _topics(settings, dry_run=dry_run)
    return done


async def _positions(pg: "asyncpg.Connection[Any]", *, on_kafka: bool) -> list[str]:
    here = [name for name in SERVICES if await pg.fetchval("SELECT to_regclass($1)", f"{name}.positions") is not None]
    if not here:
        raise Unusable("the database is not prepared: `regulars migrate`")
    await pg.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
    for service in here:
        # Who begins meanwhile waits, and is no worker before we are through.
        await pg.execute(f"LOCK TABLE {service}.positions, {service}.workers IN EXCLUSIVE MODE")
    if alive := [row for service in here for row in await pg.fetch(_ALIVE.format(service))]:
        names = ", ".join(sorted({row["consumer"] for row in alive}))
        raise Unusable(f"workers run ({names}): stop all roles")
    done: list[str] = []
    for topic in TOPICS.values():
        lowest: dict[int, int] = {}
        readers = [name for name in topic.consumers if name in here]
        if topic.producer not in here:
            where = f"{topic.producer}'s log of {topic.name} is in another database"
            done += [f"{name}: {where}, and was not compared" for name in readers]
            continue
        shipped = on_kafka and topic in RELAYED
        for name in readers:
            rows = await pg.fetch(_AHEAD.format(name, topic.producer), topic.name, RELAY, shipped)
            done += [
                f"{name}: {row['consumer']} {topic.name}[{row['partition']}] from {row['stood']} to {row['stands']}"
                for row in rows
            ]
            for row in await pg.fetch(_LOWEST.format(name), topic.name, RELAY):
                lowest[row["partition"]] = min(row["n"], lowest.get(row["partition"], row["n"]))
        if shipped:
            # Of readers elsewhere nothing is known.
            needed = lowest if len(readers) == len(topic.consumers) else {}
            done += await _ship_again(pg, topic, needed)
    return done


async def _ship_again(pg: "asyncpg.Connection[Any]", topic: Topic, lowest: Mapping[int, int]) -> list[str]:
    again = []
    for partition in await pg.fetch(
        f"SELECT partition FROM {topic.producer}.log_partitions WHERE topic = $1", topic.name
    ):
        number = partition["partition"]
        at = lowest.get(number, 0)
        if await pg.execute(_AFRESH.format(topic.producer), RELAY, topic.name, number, at) != "UPDATE 0":
            again.append(f"{topic.producer}: relay {topic.name}[{number}] to {at}")
    return again


async def _topics(settings: CommonSettings, *, dry_run: bool) -> Sequence[str]:
    # Its client is much code, and who lives on PostgreSQL does without.
    from libs.common.log.base import Halted
    from libs.common.log.kafka_client import Kafka, KafkaAway
    from libs.common.log.kafka_topics import delete_topics, partition_counts

    kafka = Kafka.from_settings(settings)
    try:
        if dry_run:
            names = [kafka.topic(name) for name in await partition_counts(kafka, RELAYED)]
        else:
            names = await delete_topics(kafka)
    except (KafkaAway, Halted) as error:
        raise Unusable(
            f"positions are reset, and Kafka's topics could not be deleted: {error}. Say it again"
        ) from error
    return [f"Kafka: topic {name} is deleted" for name in names]

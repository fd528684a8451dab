"""`regulars partitions grow`: first Kafka, where there is one, then the producer's log in one transaction.

Interrupted, it may be said again: partitions that only Kafka has are empty, and harm nobody.
"""

import asyncio
from pathlib import Path

import asyncpg

from libs.common.contracts.topics import JOURNAL, TOPICS, Topic
from libs.common.db import Database, is_transient
from libs.common.log.base import Halted
from libs.common.log.growth import check_growth, partitions_of
from libs.common.log.growth import grow as grow_log
from libs.common.settings import CommonSettings
from libs.common.telemetry import configure_logging, get_logger
from regulars.prepare import database_at
from regulars.schemas import Unusable, connect

TRIES = 20
"""Each waits for writers no longer than `growth.LOCK_TIMEOUT`; a transaction may take a minute."""
PAUSE_SECONDS = 2.0

log = get_logger(__name__)


async def grow(name: str, partitions: int, database_url: str | None, data_dir: Path) -> int:
    """Grows the topic; answers how many partitions there were. Unfit or Unusable when that cannot be."""
    configure_logging("warning")
    topic, settings = TOPICS[name], CommonSettings()
    async with database_at(database_url, data_dir) as url:
        await (await connect(url)).close()
        database = Database(url, schema=topic.producer, pool_size=1)
        try:
            async with database.autocommit() as pg:
                check_growth(topic, await partitions_of(pg, topic), partitions)
            if settings.log == "kafka" and topic != JOURNAL:
                await _widen(settings, topic, partitions)
            return await _grow(database, topic, partitions)
        except asyncpg.UndefinedTableError:
            raise Unusable("the database is not prepared: `regulars migrate`") from None
        finally:
            await database.close()


async def _grow(database: Database, topic: Topic, partitions: int) -> int:
    for _ in range(TRIES):
        try:
            return await grow_log(database, topic, partitions)
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("waiting for who writes to the log", error=type(error).__name__)
        await asyncio.sleep(PAUSE_SECONDS)
    raise Unusable(f"{topic.name} was written to without a pause: nothing has changed, try again")


async def _widen(settings: CommonSettings, topic: Topic, partitions: int) -> None:
    # Its client is much code, and who lives on PostgreSQL does without.
    from libs.common.log.kafka_client import Kafka, KafkaAway
    from libs.common.log.kafka_topics import make_topics

    try:
        await make_topics(Kafka.from_settings(settings), {topic.name: partitions})
    except (KafkaAway, Halted) as error:
        raise Unusable(f"Kafka cannot be given the partitions: {error}") from error

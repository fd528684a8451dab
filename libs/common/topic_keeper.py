"""Keeps Kafka's topics while nothing is written: those of a service are there, and tell how far its log has come.

A topic that was deleted is made anew with all its partitions, and where Kafka holds nothing of a partition any more,
the last event that it was sent lies there again. Who has read it leaves it out; who has not sees that records are
missing, and halts, instead of taking an empty partition for one that is read. Where PostgreSQL's retention has dropped
that event, too, nothing can be told.
"""

from collections.abc import Mapping
from datetime import datetime

from libs.common.contracts.topics import relayed
from libs.common.db import Database
from libs.common.log.base import Log, Position
from libs.common.log.choice import RELAY
from libs.common.log.kafka_client import Kafka
from libs.common.log.kafka_topics import make_topics
from libs.common.relay import Publisher
from libs.common.telemetry import get_logger
from libs.common.worker import Periodic

EVERY_SECONDS = 5.0

log = get_logger(__name__)


def keeper(kafka: Kafka, database: Database, own: Log, publisher: Publisher) -> Periodic:
    """For the relay of the service whose database it is. `own`: the service's log, in PostgreSQL."""

    async def look(_: datetime) -> bool:
        counts, sent = await _standing(database)
        for topic in await make_topics(kafka, counts):
            log.warning("topic made", topic=topic, partitions=counts[topic])
        for place, following in sent.items():
            if await publisher.holds_nothing(place):
                last = await own.read({place: following - 1}, 1, 0)
                if last and last[0].offset == following - 1:
                    await publisher.remind(last[0])
                    log.warning("Kafka held nothing", topic=place[0], partition=place[1], last=following - 1)
        return False

    return Periodic("topics", EVERY_SECONDS, look)


async def _standing(database: Database) -> tuple[Mapping[str, int], Mapping[Position, int]]:
    """How many partitions each topic has, and up to where each partition was sent, if anything was."""
    topics = [topic.name for topic in relayed(database.schema)]
    async with database.reading() as tx:
        counts = await tx.pg.fetch(
            "SELECT topic, count(*) FROM log_partitions WHERE topic = ANY($1) GROUP BY topic", topics
        )
        sent = await tx.pg.fetch(
            "SELECT topic, partition, next_offset FROM positions WHERE consumer = $1 AND next_offset > 0", RELAY
        )
    return dict(counts), {(topic, partition): following for topic, partition, following in sent}

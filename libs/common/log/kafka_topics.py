"""Our topics in Kafka: made as `contracts/topics.py` says, and never read or written when they are otherwise."""

from collections.abc import Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code

from libs.common.contracts.topics import RELAYED, Topic
from libs.common.log.base import Halted
from libs.common.log.kafka_client import LARGEST_EVENT, Kafka, KafkaAway, bounded, ended

_DAY = 86_400_000


async def make_topics(kafka: Kafka, topics: Sequence[Topic] = RELAYED) -> list[str]:
    """Makes those that are missing, and says which. Halted when one is there and is not as it must be."""
    missing = await _missing(kafka, topics)
    if not missing:
        return []
    wanted = [
        NewTopic(
            name=kafka.topic(topic.name),
            num_partitions=topic.partitions,
            replication_factor=kafka.replication,
            topic_configs={
                "retention.ms": str(topic.retention_days * _DAY),
                # One copy may be away, the others must have what was acknowledged.
                "min.insync.replicas": str(max(1, kafka.replication - 1)),
                "max.message.bytes": str(LARGEST_EVENT),
                "cleanup.policy": "delete",
                # A record bears the time of its event's first append, however often it is sent (`kafka_places`).
                "message.timestamp.type": "CreateTime",
            },
        )
        for topic in missing
    ]
    async with bounded():
        admin = await _admin(kafka)
        try:
            answer = await admin.create_topics(wanted, timeout_ms=4000)
        finally:
            await ended(admin.close())
    for name, code, *reason in answer.topic_errors:
        error: type[KafkaError] = for_code(code)
        # Somebody else may be making it at this moment.
        if code and error is not TopicAlreadyExistsError:
            raise KafkaAway(f"topic {name} could not be made: {error.__name__} {reason}")
    return [topic.name for topic in missing]


async def check_topics(kafka: Kafka, topics: Sequence[Topic] = RELAYED) -> None:
    """KafkaAway when one is missing; Halted when one has not its number of partitions."""
    if missing := await _missing(kafka, topics):
        names = ", ".join(kafka.topic(topic.name) for topic in missing)
        raise KafkaAway(f"Kafka has no {names}: `regulars migrate` makes topics")


async def _missing(kafka: Kafka, topics: Sequence[Topic]) -> list[Topic]:
    partitions = await partition_counts(kafka, topics)
    for topic in topics:
        count = partitions.get(topic.name, topic.partitions)
        if count != topic.partitions:
            raise Halted(
                f"topic {kafka.topic(topic.name)} has {count} partitions in Kafka, not {topic.partitions}: events of"
                " one key would part. Delete it there while no worker runs, if nothing of it is needed any more, or"
                " take another REGULARS_KAFKA_PREFIX"
            )
    return [topic for topic in topics if topic.name not in partitions]


async def partition_counts(kafka: Kafka, topics: Sequence[Topic]) -> dict[str, int]:
    """How many partitions Kafka has of each; without those that it does not know."""
    async with bounded():
        admin = await _admin(kafka)
        try:
            described: list[dict[str, Any]] = await admin.describe_topics([kafka.topic(topic.name) for topic in topics])
        finally:
            await ended(admin.close())
    names = {kafka.topic(topic.name): topic.name for topic in topics}
    found: dict[str, int] = {}
    for each in described:
        error = for_code(each["error_code"])
        if each["error_code"] == 0:
            found[names[each["topic"]]] = len(each["partitions"])
        elif error is not UnknownTopicOrPartitionError:
            raise KafkaAway(f"topic {each['topic']}: {error.__name__}")
    return found


async def _admin(kafka: Kafka) -> AIOKafkaAdminClient:
    admin = AIOKafkaAdminClient(**kafka.options)
    try:
        await admin.start()
    except BaseException:
        await ended(admin.close())
        raise
    return admin

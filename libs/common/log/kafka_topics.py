"""Our topics in Kafka: made as `contracts/topics.py` says, and never read or written when they are otherwise.

Kafka may have more partitions of a topic than the log: they are empty until the log has grown, too. What the log has
and Kafka has not, the relay makes before it ships.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.errors import (
    InvalidPartitionsError,
    KafkaError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)

from libs.common.contracts.topics import RELAYED, TOPICS, Topic
from libs.common.log.base import Halted
from libs.common.log.kafka_client import LARGEST_EVENT, Kafka, KafkaAway, KafkaRefuses, bounded, ended, why_away

LOOK_SECONDS = 0.05
DELETE_SECONDS = 20.0
_DAY = 86_400_000
_AT_FIRST = {topic.name: topic.partitions for topic in RELAYED}


async def make_topics(kafka: Kafka, partitions: Mapping[str, int] = _AT_FIRST) -> list[str]:
    """Makes the topics and partitions that are missing, and says of which. `partitions`: topic -> at least so many.

    Halted when one is there and is not as it must be.
    """
    there = await _fitting(kafka, [TOPICS[topic] for topic in partitions])
    missing = [_new(kafka, TOPICS[topic], count) for topic, count in partitions.items() if topic not in there]
    narrow = {
        kafka.topic(topic): NewPartitions(total_count=count)
        for topic, count in partitions.items()
        if there.get(topic, count) < count
    }
    if not missing and not narrow:
        return []
    # In both somebody else may have been faster, or be making it at this moment.
    answers: list[tuple[Any, ...]] = []
    admin = await _admin(kafka)
    async with bounded():
        try:
            if missing:
                answers = (await admin.create_topics(missing, timeout_ms=4000)).topic_errors
            if narrow:
                with suppress(InvalidPartitionsError):
                    await admin.create_partitions(narrow, timeout_ms=4000)
        finally:
            await ended(admin.close())
    for name, code, *reason in answers:
        error: type[KafkaError] = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            told = f"topic {name} could not be made: {error.__name__} {' '.join(map(str, filter(None, reason)))}"
            raise (KafkaAway if error.retriable else KafkaRefuses)(told)
    await _told(kafka, partitions)
    return [topic for topic, count in partitions.items() if there.get(topic, 0) < count]


async def delete_topics(kafka: Kafka, topics: Sequence[Topic] = RELAYED) -> list[str]:
    """Deletes them, with all that is in them; the names of those that were there. KafkaAway when one stays."""
    there = await partition_counts(kafka, topics)
    names = [kafka.topic(topic.name) for topic in topics if topic.name in there]
    if not names:
        return []
    async with bounded(DELETE_SECONDS):
        admin = await _admin(kafka)
        try:
            answers = (await admin.delete_topics(names)).topic_error_codes
        finally:
            await ended(admin.close())
        for name, code in answers:
            error: type[KafkaError] = for_code(code)
            if code and error is not UnknownTopicOrPartitionError:
                raise KafkaAway(f"topic {name} could not be deleted: {error.__name__}")
        while True:
            if not await partition_counts(kafka, topics):
                break
            await asyncio.sleep(LOOK_SECONDS)
    return names


async def _told(kafka: Kafka, partitions: Mapping[str, int]) -> None:
    """Waits until Kafka tells of them: its controller has made them some time before its brokers know."""
    topics = [TOPICS[topic] for topic in partitions]
    async with bounded():
        while True:
            there = await partition_counts(kafka, topics)
            if all(there.get(topic, 0) >= count for topic, count in partitions.items()):
                return
            await asyncio.sleep(LOOK_SECONDS)


def _new(kafka: Kafka, topic: Topic, partitions: int) -> NewTopic:
    return NewTopic(
        name=kafka.topic(topic.name),
        num_partitions=partitions,
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


async def check_topics(kafka: Kafka, topics: Sequence[Topic] = RELAYED) -> None:
    """KafkaAway when one is missing; Halted when one has not a number of partitions that it can have."""
    there = await _fitting(kafka, topics)
    if missing := [kafka.topic(topic.name) for topic in topics if topic.name not in there]:
        raise KafkaAway(f"Kafka has no {', '.join(missing)}: `regulars migrate` makes topics")


async def _fitting(kafka: Kafka, topics: Sequence[Topic]) -> dict[str, int]:
    there = await partition_counts(kafka, topics)
    for topic in topics:
        count = there.get(topic.name, topic.partitions)
        if count % topic.partitions:
            raise Halted(
                f"topic {kafka.topic(topic.name)} has {count} partitions in Kafka, not {topic.partitions} or a"
                " multiple: it was not made here. Delete it there while no worker runs, if nothing of it is needed any"
                " more, or take another REGULARS_KAFKA_PREFIX"
            )
    return there


async def partition_counts(kafka: Kafka, topics: Sequence[Topic]) -> dict[str, int]:
    """How many partitions Kafka has of each; without those that it does not know."""
    admin = await _admin(kafka)
    async with bounded():
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
            raise (KafkaAway if error.retriable else KafkaRefuses)(f"topic {each['topic']}: {error.__name__}")
    return found


async def _admin(kafka: Kafka) -> AIOKafkaAdminClient:
    admin = AIOKafkaAdminClient(**kafka.options)
    try:
        async with bounded():
            await admin.start()
    except KafkaAway as error:
        await ended(admin.close())
        raise await why_away(kafka, error) from error
    except BaseException:
        await ended(admin.close())
        raise
    return admin

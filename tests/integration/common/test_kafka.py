"""Kafka between the services: whatever it holds, each event comes out once and in order, or the consumer stops."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from aiokafka.admin import NewPartitions, RecordsToDelete
from aiokafka.structs import TopicPartition

from libs.common.batch import Batch
from libs.common.clock import SystemClock
from libs.common.contracts.topics import COMMERCE, MESSAGES
from libs.common.log.base import Halted
from libs.common.log.choice import RELAY
from libs.common.log.kafka_client import Kafka, KafkaAway
from libs.common.log.kafka_topics import make_topics, partition_counts
from libs.common.relay import LIMITS, Publisher
from libs.common.worker import Consumer, Worker
from tests.contract.logs import working
from tests.integration.common.kafka_ground import (
    PARTITION,
    PLACE,
    Ground,
    administrator,
    delete,
    numbers,
    opened,
    problem,
)
from tests.waiting import eventually

pytestmark = pytest.mark.kafka

CHECKOUT = Path(__file__).parents[3]


@pytest_asyncio.fixture
async def ground(empty_database_url: str, kafka: Kafka) -> AsyncIterator[Ground]:
    async with opened(empty_database_url, kafka) as made:
        yield made


async def test_a_crash_between_acknowledgement_and_position_doubles_nothing(ground: Ground) -> None:
    await ground.write(range(20))
    crashes = 0

    async def crash_twice(batch: Batch) -> None:
        nonlocal crashes
        await ground.publisher.publish(batch)
        crashes += 1
        if crashes < 3:
            raise ConnectionResetError

    consumer = Consumer(RELAY, (COMMERCE,), crash_twice)
    relay = Worker(ground.ingest, ground.own, SystemClock(), consumers=[consumer], limits=LIMITS)
    async with working(relay, ground.consumer()):
        await eventually(ground.relayed)
        await ground.write(range(20, 25))
        await eventually(partial(ground.reached, 25))
    assert ground.got == numbers(25)
    place = TopicPartition(ground.kafka.topic("commerce"), PARTITION)
    assert (await ground.log._places.bounds([place]))[place] == (0, 65), "all of it was there three times"
    # From any number on, the place in Kafka is found again.
    ground.log._standing.clear()
    assert await ground.read(22, 25) == numbers(25)[22:]


@pytest.mark.parametrize(
    "sent",
    [[*range(6), 8, 9], [*range(6), 8, 9, 6, 7, 8, 9]],
    ids=["a batch was lost", "a zombie sent it out of order"],
)
async def test_a_gap_stops_the_consumer(ground: Ground, sent: list[int]) -> None:
    await ground.send(sent)
    for _ in range(2):  # a second worker is not wiser
        worker = ground.consumer()
        async with working(worker):
            assert "goes on at 8, not at 6: records are missing" in await problem(worker)
        assert await ground.position(ground.profiles, "profiles") == 6
    assert ground.got == numbers(6)


async def test_a_topic_cut_short_by_retention_stops_who_had_not_read_it(ground: Ground) -> None:
    """That the producer's log begins there, it does not say."""
    await ground.send(range(10))
    place = TopicPartition(ground.kafka.topic("commerce"), PARTITION)
    async with administrator(ground.kafka) as admin:
        await admin.delete_records({place: RecordsToDelete(before_offset=4)})
    worker = ground.consumer()
    async with working(worker):
        assert "goes on at 4, not at 0: records are missing" in await problem(worker)
    assert ground.got == []


async def test_a_topic_that_was_deleted_stops_who_is_behind_and_is_repaired_as_the_manual_says(ground: Ground) -> None:
    await ground.write(range(10))
    async with working(ground.relay()):
        await eventually(ground.relayed)
        await delete(ground)
        await ground.write(range(10, 12))
        await eventually(ground.relayed)
    worker = ground.consumer()
    async with working(worker):
        assert "goes on at 10, not at 0: records are missing" in await problem(worker)
    await delete(ground)
    async with ground.ingest.autocommit() as pg:
        await pg.execute("UPDATE positions SET next_offset = 0 WHERE consumer = 'relay' AND topic = 'commerce'")
    async with working(ground.relay(), ground.consumer()):
        await eventually(partial(ground.reached, 12))
    assert ground.got == numbers(12)


async def test_a_topic_that_lost_its_end_stops_the_relay(ground: Ground) -> None:
    await ground.write(range(10))
    async with working(ground.relay()):
        await eventually(ground.relayed)
    await delete(ground)
    await ground.send(range(4))
    await ground.write(range(10, 12))
    await ground.publisher.close()
    ground.publisher = Publisher(ground.kafka)
    relay = ground.relay()
    async with working(relay):
        assert "has lost what was sent up to 10" in await problem(relay)


async def test_a_topic_with_another_database_s_events_is_not_written_to(ground: Ground) -> None:
    await ground.send(range(3))
    await ground.write(range(5))
    relay = ground.relay()
    async with working(relay):
        assert "not of this database" in await problem(relay)


async def test_a_topic_with_other_partitions_is_refused(ground: Ground) -> None:
    async with administrator(ground.kafka) as admin:
        await admin.create_partitions({ground.kafka.topic("messages"): NewPartitions(total_count=9)})
    await eventually(partial(_has, ground, "messages", 9))
    with pytest.raises(Halted, match="has 9 partitions in Kafka, not 8"):
        await make_topics(ground.kafka)


async def _has(ground: Ground, topic: str, partitions: int) -> bool:
    return (await partition_counts(ground.kafka, [MESSAGES])).get(topic) == partitions


async def test_nothing_is_drained_before_the_others_can_see_it(ground: Ground) -> None:
    assert not (await ground.standing()).caught_up, "a relay that never ran"
    async with working(ground.relay()):
        await ground.write(range(3))
        await eventually(ground.relayed)
        assert (await ground.standing()).caught_up
    await ground.write(range(3, 5))
    [progress] = (await ground.standing()).consumers
    [behind] = [partition for partition in progress.partitions if partition.lag]
    assert (behind.position, behind.end) == (3, 5)
    # The reader's own part goes by what is in Kafka.
    assert (await ground.log.end_offsets("commerce"))[PARTITION] == 3
    assert 0 <= (await ground.log.ages({PLACE: 2}))[PLACE] < 60
    assert await ground.log.ages({PLACE: 3}) == {}


async def test_lag_tools_see_the_progress(ground: Ground) -> None:
    await ground.send([*range(5), 3, 4, 5])
    async with working(ground.consumer()), administrator(ground.kafka) as admin:
        await eventually(partial(ground.reached, 6))
        place = TopicPartition(ground.kafka.topic("commerce"), PARTITION)

        async def told() -> bool:
            offsets = await admin.list_consumer_group_offsets(f"{ground.kafka.prefix}regulars.profiles.profiles")
            return place in offsets and offsets[place].offset == 8

        await eventually(told)


async def test_what_was_only_looked_at_is_no_progress(ground: Ground) -> None:
    await ground.send(range(5))
    place = TopicPartition(ground.kafka.topic("commerce"), PARTITION)
    async with administrator(ground.kafka) as admin:

        async def told() -> bool:
            offsets = await admin.list_consumer_group_offsets(f"{ground.kafka.prefix}regulars.profiles.profiles")
            return place in offsets and offsets[place].offset == 1

        [ahead, _] = await eventually(lambda: ground.log.read({PLACE: 3}, 10, 2, ahead=True))
        assert ground.log._telling is None
        again = await ground.log.read({PLACE: 1}, 10, 2)
        assert (ahead.offset, again[0].offset) == (3, 1)
        await eventually(told)


async def test_a_client_that_brings_nothing_is_made_anew(ground: Ground) -> None:
    await ground.send(range(3))
    assert await ground.read(0, 3) == numbers(3)
    stuck = ground.log._client
    assert stuck is not None
    stuck.pause(TopicPartition(ground.kafka.topic("commerce"), PARTITION))
    await ground.send(range(3, 5))
    with pytest.raises(KafkaAway, match="did not bring it"):
        await ground.read_nothing(PLACE)
    assert await ground.read(3, 5) == [b"3", b"4"]


async def test_the_example_reads_our_topics(ground: Ground) -> None:
    await ground.send([0, 1, 0, 1, 2])
    command = [sys.executable, str(CHECKOUT / "examples" / "consume.py"), ground.kafka.servers[0]]
    told = await asyncio.to_thread(
        subprocess.run, [*command, ground.kafka.topic("commerce"), "--limit", "3"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    events = [json.loads(line) for line in told.stdout.splitlines()]
    assert [each["data"] for each in events] == [0, 1, 2]
    assert {each["type"] for each in events} == {"order.observed"}
    assert {each["tenant"] for each in events} == {"default"}

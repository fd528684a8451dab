"""Kafka between the services: whatever it holds, each event comes out once and in order, or the consumer stops."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from aiokafka.structs import TopicPartition

from libs.common import pipeline
from libs.common.batch import Batch
from libs.common.clock import SystemClock
from libs.common.contracts.topics import COMMERCE, MESSAGES, PARTITIONS
from libs.common.db import Database
from libs.common.log.base import Halted, Position, Record
from libs.common.log.choice import RELAY, Logs
from libs.common.log.kafka import KafkaLog
from libs.common.log.kafka_client import Kafka, KafkaAway
from libs.common.log.kafka_records import headers, timestamp
from libs.common.log.kafka_topics import make_topics, partition_counts
from libs.common.log.postgres import PostgresLog, append, partition_of
from libs.common.log.schema import keep_log
from libs.common.relay import LIMITS, Publisher, relay_worker
from libs.common.worker import Consumer, Limits, Worker
from tests.contract.logs import create, event, working
from tests.waiting import eventually

pytestmark = pytest.mark.kafka

KEY = "one key, one partition"
PARTITION = partition_of("default", KEY, PARTITIONS)
PLACE = ("commerce", PARTITION)
CHECKOUT = Path(__file__).parents[3]


class Ground:
    """Ingest, which writes, and profiles, which reads, with Kafka between them and nobody at work yet."""

    def __init__(self, kafka: Kafka, ingest: Database, profiles: Database) -> None:
        self.kafka = kafka
        self.ingest = ingest
        self.profiles = profiles
        self.own = PostgresLog(ingest)
        self.log = KafkaLog(kafka, kafka.group("profiles", "profiles"))
        self.publisher = Publisher(kafka)
        self.got: list[bytes] = []

    async def write(self, numbers: Iterable[int]) -> None:
        async with self.ingest.transaction() as tx:
            await append(tx, COMMERCE, [event(KEY, data=str(number).encode()) for number in numbers])

    async def send(self, numbers: Iterable[int]) -> None:
        """What a relay sends that is not ours: these numbers, as they come."""
        producer = AIOKafkaProducer(**self.kafka.options, acks="all", enable_idempotence=True)
        await producer.start()
        records = [
            Record(**{name: getattr(made, name) for name in made.__struct_fields__}, topic="commerce",
                   partition=PARTITION, offset=number, appended_at=SystemClock().now())
            for number in numbers for made in [event(KEY, data=str(number).encode())]
        ]  # fmt: skip
        for record in records:
            await producer.send_and_wait(
                self.kafka.topic("commerce"), record.data, record.key.encode(), PARTITION, timestamp(record),
                headers=headers(record),
            )  # fmt: skip
        await producer.stop()

    async def read(self, first: int, until: int) -> list[bytes]:
        """The data of what the log gives from one number on, to its end or to another number."""
        data: list[bytes] = []
        at = first
        while at < until and (records := await self.log.read({PLACE: at}, 7, 2)):
            for record in records:
                assert record.offset == at
                at += 1
                data.append(record.data)
        return data

    async def read_nothing(self, at: Position) -> None:
        while True:
            assert await self.log.read({at: 3}, 10, 0.2) == []

    def relay(self) -> Worker:
        return relay_worker(self.ingest, self.own, SystemClock(), self.publisher)

    def consumer(self, name: str = "profiles") -> Worker:
        async def note(batch: Batch) -> None:
            self.got += [record.data for record in batch.records]

        reading = Consumer(name, (COMMERCE,), note)
        return Worker(self.profiles, self.log, SystemClock(), consumers=[reading], limits=Limits(patience=0.2))

    async def position(self, database: Database, consumer: str) -> int | None:
        async with database.autocommit() as pg:
            found: int | None = await pg.fetchval(
                "SELECT next_offset FROM positions WHERE consumer = $1 AND partition = $2", consumer, PARTITION
            )
        return found

    async def relayed(self) -> bool:
        ends = await self.own.end_offsets("commerce")
        return await self.position(self.ingest, RELAY) == ends[PARTITION]

    async def standing(self) -> pipeline.Standing:
        return await pipeline.standing(self.ingest, Logs(self.own, self.log), [RELAY])


@pytest_asyncio.fixture
async def ground(empty_database_url: str, kafka: Kafka) -> AsyncIterator[Ground]:
    setup = Database(empty_database_url, schema="public")
    await create(setup)
    await setup.close()
    await make_topics(kafka)
    ingest, profiles = (Database(empty_database_url, schema=name) for name in ("ingest", "profiles"))
    ground = Ground(kafka, ingest, profiles)
    yield ground
    for each in (ground.publisher, ground.log, ground.own, ingest, profiles):
        await each.close()


@asynccontextmanager
async def administrator(kafka: Kafka) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**kafka.options)
    await admin.start()
    yield admin
    await admin.close()


async def problem(worker: Worker) -> str:
    async def told() -> list[str]:
        return [each for each in worker.problems() if "halted" in each]

    return (await eventually(told))[0]


def numbers(until: int) -> list[bytes]:
    return [str(n).encode() for n in range(until)]


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
        await eventually(partial(_reached, ground, 25))
    assert ground.got == numbers(25)
    place = TopicPartition(ground.kafka.topic("commerce"), PARTITION)
    assert (await ground.log._places.bounds([place]))[place] == (0, 65), "all of it was there three times"
    # From any number on, the place in Kafka is found again.
    ground.log._standing.clear()
    assert await ground.read(22, 25) == numbers(25)[22:]


async def _reached(ground: Ground, number: int, consumer: str = "profiles") -> bool:
    return await ground.position(ground.profiles, consumer) == number


async def test_a_zombie_relay_that_sends_again_is_not_heard(ground: Ground) -> None:
    await ground.send([*range(6), 3, 4, 5, *range(6, 9), 0, 1, 2, *range(9, 12)])
    async with working(ground.consumer()):
        await eventually(partial(_reached, ground, 12))
    assert ground.got == numbers(12)
    assert (await ground.log.end_offsets("commerce"))[PARTITION] == 12


async def test_a_last_record_that_is_a_repeat_does_not_hide_what_came_before_it(ground: Ground) -> None:
    await ground.send([*range(6)])
    assert (await ground.log.end_offsets("commerce"))[PARTITION] == 6
    await ground.send([2, 3])
    assert (await ground.log.end_offsets("commerce"))[PARTITION] == 6
    for start in range(6):
        ground.log._standing.clear()
        assert await ground.read(start, 6) == numbers(6)[start:]


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
        await _delete(ground)
        await ground.write(range(10, 12))
        await eventually(ground.relayed)
    worker = ground.consumer()
    async with working(worker):
        assert "goes on at 10, not at 0: records are missing" in await problem(worker)
    await _delete(ground)
    async with ground.ingest.autocommit() as pg:
        await pg.execute("UPDATE positions SET next_offset = 0 WHERE consumer = 'relay' AND topic = 'commerce'")
    async with working(ground.relay(), ground.consumer()):
        await eventually(partial(_reached, ground, 12))
    assert ground.got == numbers(12)


async def test_a_topic_that_lost_its_end_stops_the_relay(ground: Ground) -> None:
    await ground.write(range(10))
    async with working(ground.relay()):
        await eventually(ground.relayed)
    await _delete(ground)
    await ground.send(range(4))
    await ground.write(range(10, 12))
    await ground.publisher.close()
    ground.publisher = Publisher(ground.kafka)
    relay = ground.relay()
    async with working(relay):
        assert "has lost what was sent up to 10" in await problem(relay)


async def _delete(ground: Ground) -> None:
    async with administrator(ground.kafka) as admin:
        await admin.delete_topics([ground.kafka.topic("commerce")])
    await eventually(partial(_made_again, ground))


async def _made_again(ground: Ground) -> bool:
    try:
        return "commerce" in await make_topics(ground.kafka)
    except KafkaAway:  # it is still being deleted
        return False


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
        await eventually(partial(_reached, ground, 6))
        place = TopicPartition(ground.kafka.topic("commerce"), PARTITION)

        async def told() -> bool:
            offsets = await admin.list_consumer_group_offsets(f"{ground.kafka.prefix}regulars.profiles.profiles")
            return place in offsets and offsets[place].offset == 8

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


async def _retain(ground: Ground, kept: Iterable[int], gone: int) -> None:
    """Writes so much that is dropped by retention, and then what is kept."""
    await ground.write(range(gone))
    now = SystemClock().now()
    await keep_log(ground.ingest, COMMERCE, now)
    assert len(await keep_log(ground.ingest, COMMERCE, now + timedelta(days=COMMERCE.retention_days + 7))) == 1
    await ground.write(kept)


async def test_a_log_that_retention_has_cut_goes_to_kafka_from_where_it_begins(ground: Ground) -> None:
    """Of three consumers one has read all so far, one has read nothing, and one has missed something."""
    await _retain(ground, range(20, 25), 20)
    async with ground.profiles.autocommit() as pg:
        for name, at in (("read all", 22), ("missed some", 7)):
            await pg.execute(
                "INSERT INTO positions (consumer, topic, partition, next_offset) VALUES ($1, 'commerce', $2, $3)",
                name, PARTITION, at,
            )  # fmt: skip
    async with working(ground.relay()):
        await eventually(ground.relayed)
        for name, got in (("read all", [22, 23, 24]), ("profiles", [20, 21, 22, 23, 24])):
            ground.got.clear()
            async with working(ground.consumer(name)):
                await eventually(partial(_reached, ground, 25, name))
            assert ground.got == [b"%d" % number for number in got]
        worker = ground.consumer("missed some")
        async with working(worker):
            assert "goes on at 20, not at 7: records are missing" in await problem(worker)
    # Who reads PostgreSQL begins there, too.
    ground.got.clear()
    reader = ground.consumer("in postgres")
    reader._log = ground.own
    async with working(reader):
        await eventually(partial(_reached, ground, 25, "in postgres"))
    assert ground.got == [b"%d" % number for number in range(20, 25)]


async def test_a_relay_that_kafka_has_forgotten_begins_where_the_log_does(ground: Ground) -> None:
    """Kafka was in use for a while, long ago: both have dropped since what the relay had sent, and more."""
    await ground.write(range(5))
    async with working(ground.relay()):
        await eventually(ground.relayed)
    await _retain(ground, range(12, 15), 7)
    relay = ground.relay()
    async with working(relay):
        # As long as Kafka has some of it, there would be a gap.
        assert "goes on at 12, not at 5: records are missing" in await problem(relay)
    await _delete(ground)
    async with working(ground.relay(), ground.consumer()):
        await eventually(ground.relayed)
        await eventually(partial(_reached, ground, 15))
    assert ground.got == [b"12", b"13", b"14"]


async def test_a_gap_at_the_beginning_is_no_beginning(ground: Ground) -> None:
    """Neither in Kafka, when a first batch was lost, nor in PostgreSQL."""
    await ground.send([4, 5])
    worker = ground.consumer()
    async with working(worker):
        assert "goes on at 4, not at 0: records are missing" in await problem(worker)
    await ground.write(range(3))
    async with ground.ingest.autocommit() as pg:
        await pg.execute('DELETE FROM log_commerce WHERE "offset" = 0')
    await _delete(ground)
    relay = ground.relay()
    async with working(relay):
        assert "goes on at 1, not at 0: records are missing" in await problem(relay)


async def test_a_consumer_may_go_from_one_log_to_the_other(ground: Ground) -> None:
    """A position is the producer's number, in both."""
    at = 0
    async with working(ground.relay()):
        for log in (ground.own, ground.log, ground.own, ground.log):
            await ground.write(range(at, at + 5))
            await eventually(ground.relayed)
            reader = ground.consumer()
            reader._log = log
            at += 5
            async with working(reader):
                await eventually(partial(_reached, ground, at))
    assert ground.got == numbers(20)


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

"""Ingest and profiles with Kafka between them, for tests that look into what lies there."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from libs.common import pipeline
from libs.common.batch import Batch
from libs.common.clock import SystemClock
from libs.common.contracts.topics import COMMERCE, PARTITIONS
from libs.common.db import Database
from libs.common.log.base import Position
from libs.common.log.choice import RELAY, Logs
from libs.common.log.kafka import KafkaLog
from libs.common.log.kafka_client import Kafka, KafkaAway
from libs.common.log.kafka_records import Headers
from libs.common.log.kafka_topics import make_topics
from libs.common.log.postgres import PostgresLog, append, partition_of
from libs.common.relay import Publisher, relay_worker
from libs.common.topic_keeper import keeper
from libs.common.worker import Consumer, Limits, Worker
from tests.contract.logs import create, event, send
from tests.waiting import eventually

KEY = "one key, one partition"
PARTITION = partition_of("default", KEY, PARTITIONS)
PLACE = ("commerce", PARTITION)


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
        await send(self.kafka, PLACE, numbers)

    async def foreign(self, headers: Headers, *, committed: bool = False) -> None:
        """What somebody else's producer writes; `committed`: in a transaction, whose mark comes last."""
        options = {"transactional_id": f"{self.kafka.prefix}foreign"} if committed else {}
        producer = AIOKafkaProducer(**self.kafka.options, **options)
        await producer.start()
        if committed:
            await producer.begin_transaction()
        await producer.send_and_wait(self.kafka.topic("commerce"), b"{}", partition=PARTITION, headers=headers)
        if committed:
            await producer.commit_transaction()
        await producer.stop()

    async def empty(self) -> None:
        """What retention does to a partition that nobody writes to."""
        place = TopicPartition(self.kafka.topic("commerce"), PARTITION)
        async with administrator(self.kafka) as admin:
            await admin.delete_records({place: RecordsToDelete(before_offset=-1)})

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

    def relay(self, *, keeps: bool = False) -> Worker:
        keeping = [keeper(self.kafka, self.ingest, self.own, self.publisher)] if keeps else []
        return relay_worker(self.ingest, self.own, SystemClock(), self.publisher, keeping)

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

    async def reached(self, number: int, consumer: str = "profiles") -> bool:
        return await self.position(self.profiles, consumer) == number

    async def standing(self) -> pipeline.Standing:
        return await pipeline.standing(self.ingest, Logs(self.own, self.log), [RELAY])

    async def reading(self) -> pipeline.Standing:
        """Of the reader, as a process sees it that has not looked before."""
        log = KafkaLog(self.kafka)
        try:
            return await pipeline.standing(self.profiles, Logs(log, log), ["profiles"])
        finally:
            await log.close()

    async def restart(self) -> None:
        """The reader's client is that of a new process."""
        await self.log.close()
        self.log = KafkaLog(self.kafka, self.kafka.group("profiles", "profiles"))


@asynccontextmanager
async def opened(url: str, kafka: Kafka) -> AsyncIterator[Ground]:
    """Nobody is at work yet."""
    setup = Database(url, schema="public")
    await create(setup)
    await setup.close()
    await make_topics(kafka)
    ingest, profiles = (Database(url, schema=name) for name in ("ingest", "profiles"))
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


async def delete(ground: Ground) -> None:
    async with administrator(ground.kafka) as admin:
        await admin.delete_topics([ground.kafka.topic("commerce")])
    await eventually(partial(_made_again, ground))


async def _made_again(ground: Ground) -> bool:
    try:
        return "commerce" in await make_topics(ground.kafka)
    except KafkaAway:  # it is still being deleted
        return False

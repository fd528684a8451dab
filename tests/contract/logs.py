"""What a log must be given to stand the contract suite: a way to write to it, and a reader of what was written.

The logs of the simulation stand it too, or what is simulated with them would prove nothing.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition
from msgspec import structs

from libs.common import relay
from libs.common.clock import SystemClock
from libs.common.contracts.topics import COMMERCE, CUSTOMERS, JOURNAL, Topic
from libs.common.db import Database, Tx
from libs.common.ids import new_id
from libs.common.log import growth, schema
from libs.common.log.base import Event, Log, Position, Record
from libs.common.log.kafka import KafkaLog
from libs.common.log.kafka_client import Kafka
from libs.common.log.kafka_records import headers, timestamp
from libs.common.log.kafka_topics import make_topics
from libs.common.log.postgres import PostgresLog
from libs.common.log.postgres import append as postgres_append
from libs.common.relay import Publisher, relay_worker
from libs.common.worker import Worker
from tests.faults.simulation.database import Actor, Faults, Server, SimulatedDatabase
from tests.faults.simulation.kafka import Cluster, SimulatedKafka
from tests.faults.simulation.positions import SimulatedLog, SimulatedPositions
from tests.faults.simulation.scenario import LoopClock, simulated
from tests.waiting import eventually


class Written:
    """A log that the suite may write to. Each further kind of log brings one of these."""

    def __init__(
        self,
        database: Database,
        log: Log,
        *,
        own: Log | None = None,
        append: Callable[[Tx, Topic, Sequence[Event]], Awaitable[None]] = postgres_append,
        grow: Callable[[Topic, int], Coroutine[Any, Any, object]] | None = None,
        drop: Callable[[Position, int], Awaitable[None]] | None = None,
        reader: Callable[[], Log] | None = None,
    ) -> None:
        """`own`: the writer's, where `log` only follows it. `append`: within one of `database`'s transactions.

        `grow`: to so many partitions, in a transaction of its own. `drop`: does what retention does where `log` lies,
        to all before an offset. `reader`: makes a log for one more worker, where each needs one of its own.
        """
        self.database = database
        self.log = log
        self.own = own or log
        self.append = append
        self.grow = grow or (lambda topic, partitions: growth.grow(database, topic, partitions))
        self.drop = drop or self._drop
        self.reader = reader or (lambda: log)

    async def _drop(self, place: Position, before: int) -> None:
        topic, partition = place
        async with self.database.transaction() as tx:
            await tx.pg.execute(f'DELETE FROM log_{topic} WHERE partition = $1 AND "offset" < $2', partition, before)
            noted = "UPDATE log_partitions SET first_offset = $3 WHERE topic = $1 AND partition = $2"
            await tx.pg.execute(noted, topic, partition, before)

    async def write(self, topic: Topic, events: Sequence[Event]) -> None:
        """Appends in a transaction of its own."""
        async with self.database.transaction() as tx:
            await self.append(tx, topic, events)

    async def ends(self, topic: Topic) -> dict[Position, int]:
        """Where each partition ends, once all that was written has come to where it is read."""
        written = await self.own.end_offsets(topic.name)
        await eventually(lambda: self._has_come(topic, written))
        return {(topic.name, partition): end for partition, end in written.items()}

    async def _has_come(self, topic: Topic, written: Mapping[int, int]) -> bool:
        there = await self.log.end_offsets(topic.name)
        return {partition: there.get(partition) for partition in written} == written

    async def drain(self, topic: Topic, positions: dict[Position, int] | None = None) -> list[Any]:
        """Everything in the topic from the positions on, read a little at a time."""
        ends = await self.ends(topic)
        at = positions or dict.fromkeys(ends, 0)
        records: list[Any] = []
        while any(offset < ends[place] for place, offset in at.items()):
            some = await self.log.read(at, 64, 1)
            # Before the end something must come, unless retention has dropped it.
            if not some:
                return records
            for record in some:
                at[record.topic, record.partition] = record.offset + 1
            records += some
        return records


@asynccontextmanager
async def working(*workers: Worker) -> AsyncIterator[None]:
    """Meanwhile they work."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for worker in workers:
            group.create_task(worker.run(stop))
        try:
            yield
        finally:
            stop.set()


async def create(database: Database) -> None:
    """The tables of two producers and a consumer, in the schema that owns them."""
    async with database.transaction() as tx:
        consuming = schema.create_consumer_tables()
        beginnings = schema.create_beginnings(JOURNAL, COMMERCE)
        log = [*schema.create_log(JOURNAL, COMMERCE), *schema.create_seen(), *beginnings, *schema.create_counting()]
        await _within(tx, "ingest", [*log, *consuming])
        log = [*schema.create_log(CUSTOMERS), *schema.create_beginnings(CUSTOMERS), *schema.create_counting()]
        await _within(tx, "profiles", [*log, *consuming])


async def _within(tx: Tx, name: str, statements: list[str]) -> None:
    await tx.pg.execute(f"CREATE SCHEMA {name}; SET LOCAL search_path = {name}")
    for statement in statements:
        await tx.pg.execute(statement)


@asynccontextmanager
async def postgres_log(url: str) -> AsyncIterator[Written]:
    """The log in PostgreSQL, written as ingest."""
    setup = Database(url, schema="public")
    await create(setup)
    await setup.close()
    database = Database(url, schema="ingest", pool_size=10)
    log = PostgresLog(database)
    yield Written(database, log)
    await log.close()
    await database.close()


@asynccontextmanager
async def kafka_log(url: str, kafka: Kafka) -> AsyncIterator[Written]:
    """The same, read from Kafka: relays ship what ingest and profiles write."""
    async with AsyncExitStack() as opened, postgres_log(url) as written:
        await make_topics(kafka)
        publisher = Publisher(kafka)
        opened.push_async_callback(publisher.close)
        relays = []
        for name in ("ingest", "profiles"):
            database = Database(url, schema=name, pool_size=3)
            opened.push_async_callback(database.close)
            own = PostgresLog(database)
            opened.push_async_callback(own.close)
            relays.append(relay_worker(database, own, SystemClock(), publisher))
        stop = asyncio.Event()
        group = await opened.enter_async_context(asyncio.TaskGroup())
        opened.callback(stop.set)
        for relay in relays:
            group.create_task(relay.run(stop))

        def reader() -> Log:
            log = KafkaLog(kafka, kafka.group("tests", "reader"))
            opened.push_async_callback(log.close)
            return log

        async def drop(place: Position, before: int) -> None:
            admin = AIOKafkaAdminClient(**kafka.options)
            await admin.start()
            there = TopicPartition(kafka.topic(place[0]), place[1])
            await admin.delete_records({there: RecordsToDelete(before_offset=before)})
            await admin.close()

        yield Written(written.database, reader(), own=written.log, drop=drop, reader=reader)


@asynccontextmanager
async def simulated_log() -> AsyncIterator[Written]:
    """The log of the simulation's database, without faults."""
    database = simulated_database("ingest")
    log = SimulatedLog(database)

    async def drop(place: Position, before: int) -> None:
        database.state.kept[place] = before

    yield _simulated(database, log, log, drop)


@asynccontextmanager
async def simulated_kafka_log() -> AsyncIterator[Written]:
    """The same, through the real relay and the real reader, read from the simulation's Kafka."""
    ingest = simulated_database("ingest")
    with simulated(SimulatedPositions()):
        async with AsyncExitStack() as opened:
            kafka = simulated_kafka()
            publisher = Publisher(kafka)
            opened.push_async_callback(publisher.close)
            log = KafkaLog(kafka, "reader")
            opened.push_async_callback(log.close)
            stop = asyncio.Event()
            group = await opened.enter_async_context(asyncio.TaskGroup())
            opened.callback(stop.set)
            own = SimulatedLog(ingest)
            group.create_task(relay_worker(ingest, own, LoopClock(), publisher).run(stop))  # type: ignore[arg-type]

            async def drop(place: Position, before: int) -> None:
                assert kafka.cluster is not None
                kafka.cluster.firsts[TopicPartition(*place)] = before

            yield _simulated(ingest, log, own, drop)


def simulated_database(schema: str) -> SimulatedDatabase:
    """A database of the simulation, without faults."""
    return SimulatedDatabase(Server(Random(1), Faults(), Counter()), schema, Actor("tests"))


def simulated_kafka() -> SimulatedKafka:
    """A Kafka of the simulation, without faults."""
    return SimulatedKafka(servers=(), cluster=Cluster(Random(1), Faults(), Counter()), actor=Actor("tests"))


def _simulated(
    database: SimulatedDatabase, log: Log, own: Log, drop: Callable[[Position, int], Awaitable[None]]
) -> Written:
    positions = SimulatedPositions()

    async def grow(topic: Topic, partitions: int) -> None:
        async with database.transaction() as tx:
            await positions.grow(tx, topic, partitions)

    return Written(database, log, own=own, append=positions.append, grow=grow, drop=drop)  # type: ignore[arg-type]


KINDS = ("postgres", pytest.param("kafka", marks=pytest.mark.kafka), "simulated", "simulated kafka")


def opening(kind: str, request: pytest.FixtureRequest) -> AbstractAsyncContextManager[Written]:
    """A new log of one of KINDS. Not to be called from a coroutine: it may start a server."""
    if kind == "simulated":
        return simulated_log()
    if kind == "simulated kafka":
        return simulated_kafka_log()
    url = request.getfixturevalue("empty_database_url")
    return postgres_log(url) if kind == "postgres" else kafka_log(url, request.getfixturevalue("kafka"))


async def send(kafka: Kafka, place: Position, numbers: Iterable[int]) -> None:
    """What a relay sends that is not ours: events that say their number, one by one, as they come."""
    # Through the relay's own name for it, which the simulation replaces.
    producer = vars(relay)["AIOKafkaProducer"](**kafka.options, acks="all", enable_idempotence=True)
    await producer.start()
    topic, partition = place
    for number in numbers:
        made = structs.asdict(event("a key", data=str(number).encode()))
        # As the relay: whatever is sent again bears the time at which it was appended.
        appended_at = SENT_AT + timedelta(milliseconds=number // 2)
        record = Record(**made, topic=topic, partition=partition, offset=number, appended_at=appended_at)
        batch = producer.create_batch()
        batch.append(key=b"a key", value=record.data, timestamp=timestamp(record), headers=headers(record))
        await (await producer.send_batch(batch, kafka.topic(topic), partition=partition))
    await producer.stop()


SENT_AT = SystemClock().now()


def event(key: str, data: bytes = b"{}", tenant: str = "default") -> Event:
    """An event with nothing in it."""
    return Event(
        id=new_id(),
        type="order.observed",
        source="/tests",
        tenant=tenant,
        key=key,
        time=datetime(2026, 3, 2, 12, tzinfo=UTC),
        data=data,
    )

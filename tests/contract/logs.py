"""What a log must be given to stand the contract suite: a way to write to it, and a reader of what was written."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from libs.common.clock import SystemClock
from libs.common.contracts.topics import COMMERCE, CUSTOMERS, JOURNAL, Topic
from libs.common.db import Database, Tx
from libs.common.ids import new_id
from libs.common.log import schema
from libs.common.log.base import Event, Log, Position
from libs.common.log.kafka import KafkaLog
from libs.common.log.kafka_client import Kafka
from libs.common.log.kafka_topics import make_topics
from libs.common.log.postgres import PostgresLog
from libs.common.relay import Publisher, relay_worker
from libs.common.worker import Worker
from tests.waiting import eventually


class Written:
    """A log that the suite may write to. Each further kind of log brings one of these."""

    def __init__(self, database: Database, log: Log, reader: Callable[[], Log] | None = None) -> None:
        """`reader`: makes a log for one more worker, where each needs one of its own."""
        self.database = database
        self.log = log
        self.reader = reader or (lambda: log)

    async def ends(self, topic: Topic) -> dict[Position, int]:
        """Where each partition ends, once all that was written has come to where it is read."""
        written = await PostgresLog(self.database).end_offsets(topic.name)
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
        while any(at[place] < end for place, end in ends.items()):
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
        log = [*schema.create_log(JOURNAL, COMMERCE), *schema.create_seen(), *beginnings]
        await _within(tx, "ingest", [*log, *consuming])
        await _within(tx, "profiles", [*schema.create_log(CUSTOMERS), *schema.create_beginnings(CUSTOMERS), *consuming])


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

        yield Written(written.database, reader(), reader)


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

"""The relay: from a service's log in PostgreSQL to the same partitions in Kafka. A worker like any other.

It sends a batch, waits for all acknowledgements, and only then moves its position; a crash between them sends again,
which readers drop by the number that each record carries. In a partition one batch at a time is on its way, so that
what failed is never followed by what came after it. While Kafka is away the records stay where they are.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.structs import TopicPartition

from libs.common.batch import Batch
from libs.common.clock import Clock
from libs.common.contracts.topics import relayed
from libs.common.db import Database
from libs.common.log.base import Halted, Log, Position, Record
from libs.common.log.choice import RELAY
from libs.common.log.kafka_client import BATCH_BYTES, LARGEST_EVENT, Kafka, KafkaAway, bounded, ended
from libs.common.log.kafka_places import Places
from libs.common.log.kafka_records import headers, record_of, seq_of, timestamp
from libs.common.log.kafka_topics import make_topics
from libs.common.telemetry import get_logger
from libs.common.worker import Consumer, Limits, Periodic, Worker

BATCH_RECORDS = 4000
LIMITS = Limits(backoff=1.0)
"""Kafka's return should be noticed soon."""
METADATA_SECONDS = 0.05
"""Between two questions for partitions that have just been made."""
_AROUND = 64 * 1024
"""Bytes of a record beside its data, generously: headers, key, framing."""

log = get_logger(__name__)


def relay_worker(
    database: Database, log: Log, clock: Clock, publisher: "Publisher", periodics: Sequence[Periodic] = ()
) -> Worker:
    """Ships the service's topics. `log`: the service's own, in PostgreSQL."""
    topics = relayed(database.schema)
    consumer = Consumer(RELAY, topics, publisher.publish, BATCH_RECORDS, copies=True, afresh=publisher.holds_nothing)
    return Worker(database, log, clock, consumers=[consumer], periodics=periodics, limits=LIMITS)


@dataclass(frozen=True, slots=True)
class _Sent:
    """A batch on its way."""

    first: int
    last: int
    acknowledged: "asyncio.Future[Any]"


class Publisher:
    """One producer for all the logs that a process relays."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._places = Places(kafka)
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._sent: dict[Position, _Sent] = {}
        self._compared: set[Position] = set()
        """Partitions of which Kafka is known to hold what we sent."""
        self._wide: dict[str, int] = {}
        """Topic -> as many partitions of it as Kafka is known to have."""

    async def publish(self, batch: Batch) -> None:
        """The relay's handler: returns when all is acknowledged. KafkaAway when that takes too long, or cannot be."""
        try:
            await self._publish(batch)
        except KafkaAway:
            # It may be that somebody has made a topic anew, and narrower.
            self._wide.clear()
            raise

    async def _publish(self, batch: Batch) -> None:
        producer = await self._started()
        grouped = groupby(batch.records, key=lambda record: (record.topic, record.partition))
        records = {place: list(group) for place, group in grouped}
        for place in records:
            topic, partition = place
            if partition >= self._wide.get(topic, 0):
                await self._widen(batch, producer, topic)
            if place not in self._compared:
                await self._compare(batch, place, records[place][0].offset)
        async with bounded():
            shipping = [self._ship(producer, place, group) for place, group in records.items()]
            # All of them, whatever happens to one: none is left working behind our back.
            outcomes = await asyncio.gather(*shipping, return_exceptions=True)
            for outcome in outcomes:
                if outcome is not None:
                    raise outcome

    async def holds_nothing(self, place: Position) -> bool:
        """Whether Kafka has no record of the partition: then whatever is sent first makes no gap there."""
        topic, partition = place
        there = TopicPartition(self._kafka.topic(topic), partition)
        first, end = (await self._places.bounds([there]))[there]
        return first == end

    async def remind(self, record: Record) -> None:
        """Sends again what was sent before, unless more of its partition is on its way already."""
        producer = await self._started()
        place = record.topic, record.partition
        if place not in self._sent:
            async with bounded():
                await self._ship(producer, place, [record])

    async def close(self) -> None:
        """Lets go of the connections. What was not acknowledged by then may still arrive, or not: it is sent again."""
        await self._drop()
        await self._places.close()

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                await make_topics(self._kafka)
                producer = AIOKafkaProducer(
                    **self._kafka.options, acks="all", enable_idempotence=True, max_batch_size=BATCH_BYTES
                )
                try:
                    async with bounded():
                        await producer.start()
                except BaseException:
                    await _close(producer)
                    raise
                self._producer = producer
            return self._producer

    async def _drop(self) -> None:
        producer, self._producer = self._producer, None
        self._sent.clear()
        self._wide.clear()
        if producer is not None:
            await _close(producer)

    async def _ship(self, producer: AIOKafkaProducer, place: Position, records: Sequence[Record]) -> None:
        if (sent := self._sent.get(place)) is not None:
            # Our last try is still on its way, and nobody can take it back: its end decides what is left to send.
            await self._settle(place, sent)
            if sent.first <= records[0].offset <= sent.last:
                records = [record for record in records if record.offset > sent.last]
        topic, partition = place
        for part, builder in _filled(producer, records):
            if partition not in await producer.partitions_for(self._kafka.topic(topic)):
                # To send there all the same would be taken for a fault of the data.
                raise KafkaAway(f"Kafka has no {self._kafka.topic(topic)}[{partition}] any more")
            future = await producer.send_batch(builder, self._kafka.topic(topic), partition=partition)
            sent = self._sent[place] = _Sent(part[0].offset, part[-1].offset, future)
            await self._settle(place, sent)

    async def _settle(self, place: Position, sent: _Sent) -> None:
        # Not `await`: who is cancelled here must not cancel what is on its way.
        await asyncio.wait({sent.acknowledged})
        self._sent.pop(place, None)
        if (error := sent.acknowledged.exception()) is not None:
            # The producer retries what may be retried; after anything else its numbering is in doubt.
            await self._drop()
            raise KafkaAway(f"{place}: {type(error).__name__}: {error}")

    async def _widen(self, batch: Batch, producer: AIOKafkaProducer, topic: str) -> None:
        """Sees to it that Kafka has all the partitions that the log has, and that the producer knows them."""
        count = await batch.tx.pg.fetchval("SELECT count(*) FROM log_partitions WHERE topic = $1", topic)
        await make_topics(self._kafka, {topic: count})
        async with bounded():
            while len(await producer.partitions_for(self._kafka.topic(topic))) < count:
                await producer.client.force_metadata_update()
                await asyncio.sleep(METADATA_SECONDS)
        self._wide[topic] = count

    async def _compare(self, batch: Batch, place: Position, position: int) -> None:
        """Once for each partition: does Kafka hold what this database's relay sent? Halted when it does not."""
        topic, partition = place
        there = TopicPartition(self._kafka.topic(topic), partition)
        if await self.holds_nothing(place):
            # New, made anew, or emptied by retention. Whoever needs what is not there any more will halt.
            self._compared.add(place)
            return
        if position:
            found = await self._places.find({there: position - 1})
        else:
            _, end = (await self._places.bounds([there]))[there]
            found = await self._places.records({there: end - 1})
        record = found.get(there)
        if record is None and position:
            raise Halted(f"{there.topic}[{partition}] has lost what was sent up to {position}")
        if record is not None:
            known = await batch.tx.pg.fetchval(
                f'SELECT id FROM log_{topic} WHERE partition = $1 AND "offset" = $2', partition, seq_of(record)
            )
            # What was sent long ago may be gone here.
            if known != record_of(topic, record).id and (known is not None or not position):
                raise Halted(
                    f"{there.topic}[{partition}] holds events that are not of this database (number {seq_of(record)}):"
                    " another installation's, or the database was set back"
                )
        self._compared.add(place)


def _filled(producer: AIOKafkaProducer, records: Sequence[Record]) -> Iterator[tuple[list[Record], Any]]:
    """The records in Kafka's batches, in order."""
    part: list[Record] = []
    builder = producer.create_batch()
    for record in records:
        if len(record.data) > LARGEST_EVENT - _AROUND:
            raise Halted(f"{record.topic}[{record.partition}] at {record.offset}: too large for Kafka")
        while not _added(builder, record):
            yield part, builder
            part, builder = [], producer.create_batch()
        part.append(record)
    if part:
        yield part, builder


def _added(builder: Any, record: Record) -> bool:
    metadata = builder.append(
        timestamp=timestamp(record), key=record.key.encode(), value=record.data, headers=headers(record)
    )
    return metadata is not None


async def _close(producer: AIOKafkaProducer) -> None:
    """Stops a producer whole, and not only once Kafka has taken what it still has."""
    await ended(producer.stop())
    if producer._sender is not None:  # noqa: SLF001
        await ended(producer._sender.close())  # noqa: SLF001
    await ended(producer.client.close())

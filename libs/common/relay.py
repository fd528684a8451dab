"""The relay: from a service's log in PostgreSQL to the same partitions in Kafka. A worker like any other.

It sends a batch, waits for all acknowledgements, and only then moves its position; a crash between them sends again,
which readers drop by the number that each record carries. In a partition one batch at a time is on its way, so that
what failed is never followed by what came after it. While Kafka is away the records stay where they are. Each partition
moves by what was acknowledged of it: one that Kafka refuses is tried again by itself, and holds up no other.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import InvalidTimestampError, KafkaError

from libs.common.batch import Batch
from libs.common.clock import Clock, SystemClock
from libs.common.contracts.topics import relayed
from libs.common.db import Database
from libs.common.log.base import Halted, Log, Position, Record
from libs.common.log.choice import RELAY
from libs.common.log.kafka_client import ANSWER_SECONDS, BATCH_BYTES, LARGEST_EVENT, Kafka, KafkaAway, bounded, ended
from libs.common.log.kafka_places import Places
from libs.common.log.kafka_records import headers, timestamp
from libs.common.log.kafka_topics import make_topics
from libs.common.relay_check import Check
from libs.common.worker import Consumer, Limits, Periodic, Worker

BATCH_RECORDS = 4000
LIMITS = Limits(backoff=1.0)
"""Kafka's return should be noticed soon."""
METADATA_SECONDS = 0.05
"""Between two questions for partitions that have just been made."""
SLOW_SECONDS = 0.5
"""So much longer than the first partition the others may take: what they have by then counts, and the rest waits."""
_AROUND = 64 * 1024
"""Bytes of a record beside its data, generously: headers, key, framing."""


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


@dataclass(slots=True)
class _Shipping:
    """A partition's part of a batch."""

    records: Sequence[Record]
    done: int
    """The number that follows the last acknowledged one."""
    task: "asyncio.Task[None] | None" = None

    @property
    def is_done(self) -> bool:
        """Whether all of it is there."""
        return self.done > self.records[-1].offset


class Publisher:
    """A producer for the log that a worker relays; what one worker breaks off is no matter to another."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._places = Places(kafka)
        self._check = Check(kafka, self._places)
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._sent: dict[Position, _Sent] = {}
        self._wide: dict[str, int] = {}
        """Topic -> as many partitions of it as Kafka is known to have."""

    async def publish(self, batch: Batch) -> None:
        """The relay's handler: returns when what can be is acknowledged, and leaves the rest of each partition.

        KafkaAway when nothing can be said of any partition; Halted when Kafka holds what it should not (`Check`).
        """
        try:
            await self._publish(batch)
        except KafkaAway:
            # It may be that somebody has made a topic anew, and narrower.
            self._wide.clear()
            raise

    async def _publish(self, batch: Batch) -> None:
        producer = await self._started()
        grouped = groupby(batch.records, key=lambda record: (record.topic, record.partition))
        shipping = {
            place: _Shipping(records, records[0].offset) for place, group in grouped if (records := list(group))
        }
        for topic, partition in shipping:
            if partition >= self._wide.get(topic, 0):
                await self._widen(batch, producer, topic)
        for place in [place for place in shipping if self._has_no_leader(producer, place)]:
            # To wait for one would hold up all the others.
            batch.leave(place, shipping.pop(place).done, f"{self._named(place)} has no leader in Kafka")
        await self._check.before(batch.tx.pg, {place: part.done for place, part in shipping.items()})
        failed = await self._ship_all(producer, shipping)
        await self._check.between(batch.tx.pg, shipping)
        for place, part in shipping.items():
            if not part.is_done:
                batch.leave(place, part.done, failed.get(place))
        if failed:
            self._wide.clear()

    async def _ship_all(
        self, producer: AIOKafkaProducer, shipping: Mapping[Position, _Shipping]
    ) -> dict[Position, str]:
        """All partitions at once; why those failed that did. Who is slow is not waited for long by the others."""
        for place, part in shipping.items():
            part.task = asyncio.create_task(self._ship(producer, place, part))
        tasks = [part.task for part in shipping.values() if part.task is not None]
        broken = False
        failed: dict[Position, str] = {}
        try:
            if tasks:
                done, slow = await asyncio.wait(tasks, timeout=ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if done and slow:
                    await asyncio.wait(slow, timeout=SLOW_SECONDS)
        finally:
            # None is left working behind our back.
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for (place, part), outcome in zip(shipping.items(), outcomes, strict=True):
            if isinstance(outcome, asyncio.CancelledError):
                if part.done == part.records[0].offset:
                    failed[place] = f"{self._named(place)}: no answer from Kafka"
            elif isinstance(outcome, KafkaError | KafkaAway):
                broken = True
                failed[place] = f"{self._named(place)}: {self._told(part, outcome)}"
            elif outcome is not None:
                raise outcome
        if broken:
            # The producer retries what may be retried; after anything else its numbering is in doubt.
            await self._drop()
        return failed

    def _told(self, part: _Shipping, error: BaseException) -> str:
        told = f"{type(error).__name__}: {error}"[:300]
        if isinstance(error, InvalidTimestampError):
            first = next(record for record in part.records if record.offset == part.done)
            told += (
                f". By PostgreSQL's clock the events are of {first.appended_at.isoformat()}; here it is"
                f" {SystemClock().now().isoformat()}: put right the clock of PostgreSQL or of Kafka"
            )
        return told

    def _named(self, place: Position) -> str:
        there = self._check.there(place)
        return f"{there.topic}[{there.partition}]"

    def _has_no_leader(self, producer: AIOKafkaProducer, place: Position) -> bool:
        # None: not known yet, or not there.
        return bool(producer.client.cluster.leader_for_partition(self._check.there(place)) == -1)

    async def holds_nothing(self, place: Position) -> bool:
        """Whether Kafka has no record of the partition: then whatever is sent first makes no gap there."""
        there = self._check.there(place)
        first, end = (await self._places.bounds([there]))[there]
        return first == end

    async def remind(self, record: Record) -> None:
        """Sends again what was sent before, unless more of its partition is on its way already."""
        producer = await self._started()
        place = record.topic, record.partition
        if place not in self._sent:
            async with bounded():
                await self._ship(producer, place, _Shipping([record], record.offset))

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

    async def _ship(self, producer: AIOKafkaProducer, place: Position, shipping: _Shipping) -> None:
        records = shipping.records
        if (sent := self._sent.get(place)) is not None:
            # Our last try is still on its way, and nobody can take it back: its end decides what is left to send.
            follows = await self._settle(place, sent)
            if sent.first <= records[0].offset <= sent.last:
                records = [record for record in records if record.offset > sent.last]
                shipping.done = min(sent.last, shipping.records[-1].offset) + 1
            if not follows:
                return
        topic, partition = place
        for part, builder in _filled(producer, records):
            if partition not in await producer.partitions_for(self._kafka.topic(topic)):
                # To send there all the same would be taken for a fault of the data.
                raise KafkaAway("Kafka has no such partition any more")
            future = await producer.send_batch(builder, self._kafka.topic(topic), partition=partition)
            sent = self._sent[place] = _Sent(part[0].offset, part[-1].offset, future)
            follows = await self._settle(place, sent)
            shipping.done = sent.last + 1
            if not follows:
                return

    async def _settle(self, place: Position, sent: _Sent) -> bool:
        """Waits for the acknowledgement; whether the batch lies directly behind what is known to be ours."""
        # Not `await`: who is cancelled here must not cancel what is on its way.
        await asyncio.wait({sent.acknowledged})
        self._sent.pop(place, None)
        return self._check.acknowledged(place, sent.acknowledged.result().offset, sent.first, sent.last)

    async def _widen(self, batch: Batch, producer: AIOKafkaProducer, topic: str) -> None:
        """Sees to it that Kafka has all the partitions that the log has, and that the producer knows them."""
        count = await batch.tx.pg.fetchval("SELECT count(*) FROM log_partitions WHERE topic = $1", topic)
        await make_topics(self._kafka, {topic: count})
        async with bounded():
            while len(await producer.partitions_for(self._kafka.topic(topic))) < count:
                await producer.client.force_metadata_update()
                await asyncio.sleep(METADATA_SECONDS)
        self._wide[topic] = count


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

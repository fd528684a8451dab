"""A Kafka for simulations: what the relay and the readers use of aiokafka, in memory and on virtual time.

Batches are on their way for a while, arrive whole and in order, or not at all; an answer may be lost; the cluster may
be away. A sender that is killed or stopped may still be heard afterwards.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any

from aiokafka.errors import InvalidTimestampError, KafkaTimeoutError, OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord, OffsetAndTimestamp, RecordMetadata, TopicPartition

from libs.common.contracts.topics import RELAYED
from libs.common.log.kafka_client import BATCH_BYTES, Kafka
from libs.common.log.kafka_records import SEQ
from tests.faults.simulation.clockwork import passes
from tests.faults.simulation.database import Actor, Faults, within

LONGEST_BATCH = 20
"""Records: small, so that a relay's turn is many batches."""
POLL_RECORDS = 500
"""What aiokafka gives at most when it is not told otherwise."""


class Cluster:
    """All brokers as one."""

    def __init__(
        self, dice: Random, faults: Faults, counts: Counter[str], *, numbered: bool = True, waits: bool = True
    ) -> None:
        """`counts`: what befell whom, by kind.

        `numbered`, `waits`: False puts a bug in: records without the relay's number, acknowledged unsent.
        """
        self.dice = dice
        self.faults = faults
        self.counts = counts
        self.numbered = numbered
        self.waits = waits
        self.logs: dict[TopicPartition, list[ConsumerRecord]] = defaultdict(list)
        self.firsts: dict[TopicPartition, int] = defaultdict(int)
        """Kafka's offset of the first record that retention has left."""
        self._following: dict[TopicPartition, int] = defaultdict(int)
        """The number that comes next, unless a relay sends again what it, or another one, has sent before."""
        self.partitions = {topic.name: topic.partitions for topic in RELAYED}
        self.leaderless: set[TopicPartition] = set()
        self.refused: set[TopicPartition] = set()
        """Whose records it finds wrongly dated."""
        self.news = asyncio.Event()
        self.up = asyncio.Event()
        self.up.set()

    async def reach(self, actor: Actor) -> None:
        """The way there; no answer while it is away."""
        await actor.goes()
        await passes(self.dice.uniform(0.0005, 0.005))
        await self.up.wait()
        await actor.goes()

    def take(self, place: TopicPartition, batch: "Builder") -> int:
        """A batch arrives: at which offset."""
        log = self.logs[place]
        began = len(log)
        for key, value, headers, timestamp in batch.records:
            offset = len(log)
            if not self.numbered:
                headers = [(name, b"%d" % offset if name == SEQ else told) for name, told in headers]  # noqa: PLW2901
            number = int(dict(headers)[SEQ])
            self.counts["sent again"] += number < self._following[place]
            self._following[place] = max(self._following[place], number + 1)
            log.append(
                ConsumerRecord(
                    place.topic, place.partition, offset, timestamp, 0, key, value, None, 0, 0, tuple(headers)
                )
            )
        self.news.set()
        self.news.clear()
        return began


@dataclass(frozen=True)
class SimulatedKafka(Kafka):
    """A process' way to the cluster."""

    cluster: Cluster | None = None
    actor: Actor | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What the clients below are made with."""
        return {"cluster": self.cluster, "actor": self.actor}


class Builder:
    """A batch to be sent."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes, bytes, Sequence[tuple[str, bytes]], int]] = []

    def append(self, *, timestamp: int, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]) -> object:
        """As aiokafka's: None when it is full."""
        if len(self.records) == LONGEST_BATCH:
            return None
        self.records.append((key, value, headers, timestamp))
        return self


class _Closed:
    """What clients hold, and let go of."""

    async def close(self) -> None:
        """As aiokafka's."""


class _Metadata:
    """What a client knows of the cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def leader_for_partition(self, place: TopicPartition) -> int:
        """As aiokafka's: -1 when there is none."""
        return -1 if place in self._cluster.leaderless else 0


class _Client(_Closed):
    """A producer's connection."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = _Metadata(cluster)


class SimulatedProducer:
    """As `AIOKafkaProducer`, as far as the relay uses it."""

    def __init__(self, *, cluster: Cluster, actor: Actor, **_: object) -> None:
        self._cluster = cluster
        self._actor = actor
        self._sender = _Closed()
        self.client = _Client(cluster)
        self._last: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """As aiokafka's."""
        await self._cluster.reach(self._actor)

    async def stop(self) -> None:
        """As aiokafka's: waits for what is on its way."""
        if self._last is not None:
            await asyncio.wait({self._last})

    async def partitions_for(self, topic: str) -> set[int]:
        """As aiokafka's."""
        return {*range(self._cluster.partitions[topic])}

    def create_batch(self) -> Builder:
        """As aiokafka's."""
        return Builder()

    async def send_batch(self, batch: Builder, topic: str, *, partition: int) -> "asyncio.Future[Any]":
        """As aiokafka's: a future of the acknowledgement."""
        await self._actor.goes()
        acknowledged: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not self._cluster.waits:
            at = TopicPartition(topic, partition)
            acknowledged.set_result(_metadata(at, len(self._cluster.logs[at])))
        sending = self._send(batch, TopicPartition(topic, partition), acknowledged, self._last)
        self._last = asyncio.create_task(sending)
        self._actor.sending.append(self._last)
        return acknowledged

    async def _send(
        self,
        batch: Builder,
        place: TopicPartition,
        acknowledged: "asyncio.Future[Any]",
        before: "asyncio.Task[None] | None",
    ) -> None:
        if before is not None:
            await asyncio.wait({before})
        dice, faults = self._cluster.dice, self._cluster.faults
        await self._cluster.reach(self._actor)
        counts = self._cluster.counts
        if dice.random() < faults.slow:
            counts["slow batch"] += 1
            await passes(dice.uniform(0.5, 8))
            await self._actor.goes()
        if place in self._cluster.leaderless | self._cluster.refused:
            if not acknowledged.done():
                refused = place in self._cluster.refused
                acknowledged.set_exception(InvalidTimestampError() if refused else KafkaTimeoutError())
            return
        failed = dice.random()
        offset = -1
        if failed >= faults.lost_before:
            offset = self._cluster.take(place, batch)
        if acknowledged.done():
            return
        if failed < faults.lost_before + faults.lost_after:
            counts["lost batch" if failed < faults.lost_before else "lost acknowledgement"] += 1
            acknowledged.set_exception(KafkaTimeoutError())
        else:
            acknowledged.set_result(_metadata(place, offset))


def _metadata(place: TopicPartition, offset: int) -> RecordMetadata:
    return RecordMetadata(place.topic, place.partition, place, offset, -1, 0, 0)


class SimulatedConsumer:
    """As `AIOKafkaConsumer` with `assign` and `seek`, and no reset of its own."""

    def __init__(self, *, cluster: Cluster, actor: Actor, **_: object) -> None:
        self._cluster = cluster
        self._actor = actor
        self._at: dict[TopicPartition, int] = {}
        self._fetcher = self._client = _Closed()
        self._coordinator = None

    async def start(self) -> None:
        """As aiokafka's."""
        await self._cluster.reach(self._actor)

    async def stop(self) -> None:
        """As aiokafka's."""

    def assign(self, places: Sequence[TopicPartition]) -> None:
        """As aiokafka's."""
        self._at = {place: self._at.get(place, 0) for place in places}

    def assignment(self) -> set[TopicPartition]:
        """As aiokafka's."""
        return set(self._at)

    def seek(self, place: TopicPartition, offset: int) -> None:
        """As aiokafka's."""
        self._at[place] = offset

    async def position(self, place: TopicPartition) -> int:
        """As aiokafka's."""
        return self._at[place]

    def partitions_for_topic(self, topic: str) -> set[int]:
        """As aiokafka's."""
        return {*range(self._cluster.partitions[topic])}

    async def beginning_offsets(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """As aiokafka's."""
        await self._cluster.reach(self._actor)
        return {place: self._cluster.firsts[place] for place in places}

    async def end_offsets(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """As aiokafka's."""
        await self._cluster.reach(self._actor)
        return {place: len(self._cluster.logs[place]) for place in places}

    async def offsets_for_times(
        self, times: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """As aiokafka's: of each partition the first record that is not older."""
        await self._cluster.reach(self._actor)
        return {
            place: next(
                (
                    OffsetAndTimestamp(record.offset, record.timestamp)
                    for record in self._cluster.logs[place][self._cluster.firsts[place] :]
                    if record.timestamp >= time
                ),
                None,
            )
            for place, time in times.items()
        }

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """As aiokafka's: for lag tools."""
        del offsets
        await self._cluster.reach(self._actor)

    async def getmany(
        self, *places: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        """As aiokafka's."""
        await self._cluster.reach(self._actor)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_ms / 1000
        wanted = list(places) or sorted(self._at)
        while True:
            cluster = self._cluster
            if out := {p: self._at[p] for p in wanted if not cluster.firsts[p] <= self._at[p] <= len(cluster.logs[p])}:
                raise OffsetOutOfRangeError(out)
            # As in aiokafka nothing is awaited once records are taken: who is cancelled has lost none.
            if (found := self._there(wanted, max_records or POLL_RECORDS)) or loop.time() >= deadline:
                return found
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self._cluster.news.wait()
            await self._actor.goes()

    def _there(self, places: Sequence[TopicPartition], max_records: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        found: dict[TopicPartition, list[ConsumerRecord]] = {}
        for place in places:
            left = max_records - sum(len(records) for records in found.values())
            records = self._cluster.logs[place][self._at[place] : self._at[place] + left]
            if records := within(records, BATCH_BYTES, lambda record: len(record.value or b"")):
                found[place] = records
                self._at[place] += len(records)
        return found

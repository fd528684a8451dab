"""Where in Kafka an event lies. We count by the producer's numbers (`seq`), Kafka by offsets of its own.

Within a partition seq grows by one from record to record, or falls back where the relay sent something again. So from a
record with seq m on, the first one with seq n > m lies at least n - m records further: a jump of that width never
passes it, and where nothing was sent twice it hits at once. Nothing has to be kept beside the log to find one's place.
Should the assumption not hold (a lost batch, a foreign hand), a place may come out too early or too late; whoever reads
from there on takes n, n + 1, … and nothing else, so that the worst is a consumer that halts.
"""

import asyncio
from collections.abc import Collection, Mapping

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord, TopicPartition

from libs.common.contracts.topics import TOPICS
from libs.common.log.kafka_client import BATCH_BYTES, Kafka, bounded, close_consumer, start_consumer
from libs.common.log.kafka_records import SEQ

Bounds = Mapping[TopicPartition, tuple[int, int]]
"""Kafka offsets: of the first record that is kept, and of the next one to come."""


class Places:
    """Looks at single records, beside the reading."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._client: AIOKafkaConsumer | None = None
        self._looking = asyncio.Lock()
        self._last: dict[TopicPartition, tuple[int, int]] = {}
        """Kafka's end of a partition, and the number that follows its last record."""

    async def ends(self, topic: str) -> dict[int, int]:
        """For each partition that Kafka has the number that its next event will get; 0 where there was never one."""
        name = self._kafka.topic(topic)
        async with self._looking, bounded():
            # Not known yet, or not there: then asking for what there must be says so.
            partitions = (await self._connected()).partitions_for_topic(name) or range(TOPICS[topic].partitions)
            places = [TopicPartition(name, partition) for partition in sorted(partitions)]
            bounds = await self._bounds(places)
            asked = {
                place: end - 1
                for place, (first, end) in bounds.items()
                if first < end != self._last.get(place, (0, 0))[0]
            }
            for place, record in (await self._look(asked)).items():
                end, before = self._last.get(place, (0, 0))
                following = seq_of(record) + 1
                # What was sent again may lie last; only a topic that was made anew has really gone back.
                self._last[place] = (record.offset + 1, max(following, before if record.offset >= end else 0))
        for place, (_, end) in bounds.items():
            if end == 0:
                self._last.pop(place, None)
        return {place.partition: self._last.get(place, (0, 0))[1] for place in places}

    async def bounds(self, places: Collection[TopicPartition]) -> Bounds:
        """What Kafka keeps of each partition."""
        async with self._looking, bounded():
            return await self._bounds(places)

    async def locate(self, wanted: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """For each partition the Kafka offset from which the event of this number is found by reading on."""
        async with self._looking, bounded():
            bounds = await self._bounds(wanted)
            at = {place: first for place, (first, _) in bounds.items()}
            open_ = [place for place, (first, end) in bounds.items() if first < end]
            while open_:
                seen = await self._look({place: at[place] for place in open_})
                for place in list(open_):
                    first, end = bounds[place]
                    ahead = wanted[place] - seq_of(seen[place]) if place in seen else 0
                    if ahead < 0:
                        at[place] = first
                    elif ahead > 0:
                        at[place] = min(at[place] + ahead, end)
                    if ahead <= 0 or at[place] == end:
                        open_.remove(place)
            return at

    async def records(self, at: Mapping[TopicPartition, int]) -> dict[TopicPartition, ConsumerRecord]:
        """What lies at these Kafka offsets; without those at which nothing does yet."""
        async with self._looking, bounded():
            bounds = await self._bounds(at)
            return await self._look({p: offset for p, offset in at.items() if bounds[p][0] <= offset < bounds[p][1]})

    async def close(self) -> None:
        """Lets go of the connection."""
        if (client := self._client) is not None:
            self._client = None
            await close_consumer(client)

    async def _connected(self) -> AIOKafkaConsumer:
        if self._client is None:
            # A record is wanted, and little of what follows it; but Kafka gives whole batches, and of all partitions
            # but one nothing at all where a batch is larger than this.
            client = AIOKafkaConsumer(
                **self._kafka.options,
                auto_offset_reset="none",
                max_partition_fetch_bytes=BATCH_BYTES + 4096,
                # Only what is there is asked for, and an answer that waits would hold up the next question.
                fetch_max_wait_ms=0,
            )
            await start_consumer(client)
            self._client = client
        return self._client

    async def _bounds(self, places: Collection[TopicPartition]) -> Bounds:
        client = await self._connected()
        firsts, ends = await asyncio.gather(client.beginning_offsets(list(places)), client.end_offsets(list(places)))
        return {place: (firsts[place], ends[place]) for place in places}

    async def _look(self, at: Mapping[TopicPartition, int]) -> dict[TopicPartition, ConsumerRecord]:
        """The records at these offsets; without those that retention took meanwhile."""
        found: dict[TopicPartition, ConsumerRecord] = {}
        client = await self._connected()
        left = dict(at)
        client.assign(list(left))
        for place, offset in left.items():
            client.seek(place, offset)
        while left:
            try:
                batches = await client.getmany(*left, timeout_ms=1000)
            except OffsetOutOfRangeError as error:
                for place in error.args[0]:
                    left.pop(place, None)
                continue
            for place, records in batches.items():
                found[place] = records[0]
                del left[place]
        # Or it would go on fetching what nobody asks for.
        client.assign([])
        return found


def seq_of(record: ConsumerRecord) -> int:
    """A record's number in the producer's log. What has none comes before everything: the reader will see it."""
    return int(dict(record.headers).get(SEQ, b"-1"))

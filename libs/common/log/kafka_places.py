"""Where in Kafka an event lies. We count by the producer's numbers (`seq`), Kafka by offsets of its own.

Within a partition each record's seq is at most one more than the highest before it, and lower where a relay sent
something again. So from the first record on, with seq m, the first one with seq n > m lies at least n - m records
further: a jump of that width never passes it, hits at once where nothing was sent twice, and else is so many records
short as were. From the middle nothing may be jumped: behind a repeat of 0 may come 7, where 6 was before it. Nothing
has to be kept beside the log to find one's place. Should the assumption not hold (a lost batch, a foreign hand), a
place may come out too early or too late; whoever reads from there on takes n, n + 1, … and nothing else, so that the
worst is a consumer that halts.
"""

import asyncio
from collections.abc import Collection, Mapping
from types import MappingProxyType

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
            there = await self._look({place: first for place, (first, end) in bounds.items() if first < end})
            for place, record in there.items():
                at[place] += max(0, wanted[place] - seq_of(record))
            last = {place: bounds[place][1] - 1 for place in there}
            found = await self._look({place: min(at[place], last[place]) for place in there}, wanted, last)
            for place in there:
                record = found.get(place)
                if record is None:
                    at[place] = last[place] + 1
                elif at[place] <= last[place] and seq_of(record) == wanted[place]:
                    at[place] = record.offset
                else:
                    # The first one that is kept is a repeat, or there is a gap: reading all of it tells.
                    at[place] = bounds[place][0]
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

    async def _look(
        self,
        at: Mapping[TopicPartition, int],
        wanted: Mapping[TopicPartition, int] = MappingProxyType({}),
        last: Mapping[TopicPartition, int] = MappingProxyType({}),
    ) -> dict[TopicPartition, ConsumerRecord]:
        """The records at these offsets; without those that retention took meanwhile.

        With `wanted` for each the first one from there on that has at least this number; without those that have none
        up to their `last` one.
        """
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
                least = wanted.get(place)
                record = next((each for each in records if least is None or seq_of(each) >= least), None)
                if record is not None:
                    found[place] = record
                if record is not None or records[-1].offset >= last[place]:
                    del left[place]
        # Or it would go on fetching what nobody asks for.
        client.assign([])
        return found


def seq_of(record: ConsumerRecord) -> int:
    """A record's number in the producer's log. What has none comes before everything: the reader will see it."""
    return int(dict(record.headers).get(SEQ, b"-1"))

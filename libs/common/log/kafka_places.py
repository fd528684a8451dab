"""Where in Kafka an event lies. We count by the producer's numbers (`seq`), Kafka by offsets of its own.

Each number comes first when the one before it is there; in between lies what was sent again, whose numbers fall back
and then go up in one leap. So from the first record with number m on, the first one with number n > m lies at least
n - m records further: a jump of that width never passes it, and where nothing was sent twice it hits at once. Which
record is the first with its number is told by Kafka's index of times: what is sent again bears the time of the first.
Nothing has to be kept beside the log to find one's place. Should the assumption not hold (a lost batch, a foreign
hand), a place may come out too early or too late; whoever reads from there on takes n, n + 1, … and nothing else, so
that the worst is a consumer that halts.
"""

import asyncio
from collections.abc import Collection, Mapping

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord, TopicPartition

from libs.common.contracts.topics import TOPICS
from libs.common.log.kafka_client import BATCH_BYTES, Kafka, bounded, close_consumer, start_consumer
from libs.common.log.kafka_records import SEQ

PROBES = 8
"""Looks for a place, each nearer. Whoever stands too early reads on."""

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
            for place, (record, *_) in (await self._look(asked)).items():
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
            cut = any(first for first, _ in bounds.values())
            seen = await self._look({place: first for place, (first, end) in bounds.items() if first < end}, whole=cut)
            probes = {}
            for place, records in seen.items():
                first, number = at[place], seq_of(records[0])
                probes[place] = first + wanted[place] - number
                # Retention may have cut into what was sent again: what follows tells how far the numbers had come.
                come = max(map(seq_of, records)) if first else number
                at[place] = max(first, first + wanted[place] - come)
            for _ in range(PROBES):
                probes = {p: offset for p, offset in probes.items() if bounds[p][0] <= offset < bounds[p][1]}
                if not probes:
                    break
                seen = await self._look(probes)
                ahead = {place: wanted[place] - seq_of(records[0]) for place, records in seen.items()}
                # Where it was to be expected: there is no earlier one.
                unsure = {p: seen[p][0] for p in seen if ahead[p] or probes[p] != at[p]}
                for place, (offset, number) in (await self._firsts(unsure)).items():
                    if number <= wanted[place]:
                        at[place] = max(at[place], offset + wanted[place] - number)
                probes = {place: probes[place] + further for place, further in ahead.items() if further > 0}
            return {place: min(offset, bounds[place][1]) for place, offset in at.items()}

    async def records(self, at: Mapping[TopicPartition, int]) -> dict[TopicPartition, ConsumerRecord]:
        """What lies at these Kafka offsets; without those at which nothing does yet."""
        async with self._looking, bounded():
            bounds = await self._bounds(at)
            there = {p: offset for p, offset in at.items() if bounds[p][0] <= offset < bounds[p][1]}
            return {place: records[0] for place, records in (await self._look(there)).items()}

    async def onwards(self, place: TopicPartition, offset: int) -> list[ConsumerRecord]:
        """What Kafka gives at once from this offset on; nothing where nothing lies."""
        async with self._looking, bounded():
            first, end = (await self._bounds([place]))[place]
            return (await self._look({place: offset}, whole=True)).get(place, []) if first <= offset < end else []

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

    async def _firsts(self, records: Mapping[TopicPartition, ConsumerRecord]) -> dict[TopicPartition, tuple[int, int]]:
        """The first record with the time of each of these: its Kafka offset and its number."""
        if not records:
            return {}
        client = await self._connected()
        found = await client.offsets_for_times({place: record.timestamp for place, record in records.items()})
        offsets = {place: first.offset for place, first in found.items() if first is not None}
        return {place: (offsets[place], seq_of(seen[0])) for place, seen in (await self._look(offsets)).items()}

    async def _look(
        self, at: Mapping[TopicPartition, int], *, whole: bool = False
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        """The record at each of these offsets, or `whole` answers; without those that retention took meanwhile."""
        found: dict[TopicPartition, list[ConsumerRecord]] = {}
        if not at:
            return found
        client = await self._connected()
        left = dict(at)
        client.assign(list(left))
        for place, offset in left.items():
            client.seek(place, offset)
        while left:
            try:
                # Kafka gives whole batches all the same, but what nobody asks for is not unpacked.
                batches = await client.getmany(*left, timeout_ms=1000, max_records=None if whole else 1)
            except OffsetOutOfRangeError as error:
                for place in error.args[0]:
                    left.pop(place, None)
                continue
            for place, records in batches.items():
                found[place] = records
                del left[place]
        # Or it would go on fetching what nobody asks for.
        client.assign([])
        return found


def seq_of(record: ConsumerRecord) -> int:
    """A record's number in the producer's log. What has none comes before everything: the reader will see it."""
    return int(dict(record.headers).get(SEQ, b"-1"))

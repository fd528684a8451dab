"""Where in Kafka an event lies. We count by the producer's numbers (`seq`), Kafka by offsets of its own.

Each number comes first when the one before it is there; in between lies what was sent again, whose numbers fall back
and then go up in one leap. Foreign hands may have left anything else. So no record's number says where another one
lies: it only says where to look, and what is looked for is found or not found. Where it was first is told by Kafka's
index of times: what is sent again bears the time of the first, so none with that number lies before the first record
of that time. Who finds neither a number nor the one before it stands at the beginning and reads everything.

What cannot be known: how far the numbers had come where Kafka keeps nothing of a partition. This process remembers
what it has seen; to those that start later the relay tells it again (`libs.common.topic_keeper`), and while none runs
nobody can.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord, TopicPartition

from libs.common.contracts.topics import TOPICS
from libs.common.log.kafka_client import BATCH_BYTES, Kafka, bounded, close_consumer, start_consumer
from libs.common.log.kafka_records import seq_of

JUMPS = 8
"""Looks at where a number should lie, before the partition is halved until it is found."""
WINDOW = 16
"""Records in one look: a few of foreign hands among them do no harm."""
POLL_MS = 100

Bounds = Mapping[TopicPartition, tuple[int, int]]
"""Kafka offsets: of the first record that is kept, and of the next one to come."""
Spans = Mapping[TopicPartition, tuple[int, int]]
"""Kafka offsets: of the first record, and of the one after the last."""


@dataclass(slots=True)
class _Seen:
    """What was last seen of a partition."""

    end: int
    """Kafka's."""
    following: int
    """The number after the highest."""
    kept: bool = False
    """The partition has lost records since: the number is what it was before."""


@dataclass(slots=True)
class _Search:
    """For a number in one partition."""

    number: int
    first: int
    end: int
    found: ConsumerRecord | None = None
    below: ConsumerRecord | None = None
    """The one with the highest number before it."""
    above: ConsumerRecord | None = None
    """The first one seen with a higher number."""
    nearest: ConsumerRecord | None = None
    """In the last look."""
    looked: set[int] = field(default_factory=set)

    def note(self, records: Sequence[ConsumerRecord]) -> bool:
        """Takes in what one look has shown; whether something there comes after the number."""
        numbered = [(seq_of(record), record) for record in records]
        numbered = [(number, record) for number, record in numbered if number >= 0]
        self.found = next((record for number, record in numbered if number == self.number), None)
        beyond = next((record for number, record in numbered if number > self.number), None)
        lower = [(number, record) for number, record in numbered if number < self.number]
        highest = max(lower, key=lambda each: each[0], default=None)
        if highest is not None and (self.below is None or highest[0] > seq_of(self.below)):
            self.below = highest[1]
        self.nearest = beyond or (highest and highest[1])
        if beyond is not None and (self.above is None or beyond.offset < self.above.offset):
            self.above = beyond
        return beyond is not None

    @property
    def anchor(self) -> ConsumerRecord | None:
        """The record from whose first sending on the number is found, if it is there."""
        if self.found is None and self.below is not None and seq_of(self.below) == self.number - 1:
            return self.below
        return self.found

    def span(self, offset: int) -> tuple[int, int]:
        """A look at this offset and at what is around it."""
        start = max(self.first, min(offset - 1, self.end - WINDOW))
        return start, min(start + WINDOW, self.end)


class Places:
    """Looks at single records, beside the reading."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._client: AIOKafkaConsumer | None = None
        self._looking = asyncio.Lock()
        self._seen: dict[TopicPartition, _Seen] = {}

    async def ends(self, topic: str) -> dict[int, int]:
        """For each partition that Kafka has the number that its next event will get; 0 where nobody can tell."""
        name = self._kafka.topic(topic)
        async with self._looking, bounded():
            # Not known yet, or not there: then asking for what there must be says so.
            partitions = (await self._connected()).partitions_for_topic(name) or range(TOPICS[topic].partitions)
            places = [TopicPartition(name, partition) for partition in sorted(partitions)]
            bounds = await self._bounds(places)
            await self._see({place: each for place, each in bounds.items() if self._has_changed(place, each)})
        return {place.partition: self.come(place) for place in places}

    def come(self, place: TopicPartition) -> int:
        """The number after the highest that was seen there, by `ends`."""
        seen = self._seen.get(place)
        return seen.following if seen is not None else 0

    async def bounds(self, places: Collection[TopicPartition]) -> Bounds:
        """What Kafka keeps of each partition."""
        async with self._looking, bounded():
            return await self._bounds(places)

    async def locate(self, wanted: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """For each partition the Kafka offset from which the event of this number is found by reading on."""
        async with self._looking, bounded():
            searches = await self._search(wanted)
            await self._halve({place: search for place, search in searches.items() if search.anchor is None})
            return await self._starts(searches)

    async def find(self, wanted: Mapping[TopicPartition, int]) -> dict[TopicPartition, ConsumerRecord]:
        """The record of each number, or where it is lost the next one; without those that nothing follows."""
        async with self._looking, bounded():
            searches = await self._search(wanted)
            await self._halve({place: search for place, search in searches.items() if search.found is None})
        nearest = {place: search.found or search.above for place, search in searches.items()}
        return {place: record for place, record in nearest.items() if record is not None}

    async def records(self, at: Mapping[TopicPartition, int]) -> dict[TopicPartition, ConsumerRecord]:
        """What lies at these Kafka offsets; without those at which nothing does."""
        async with self._looking, bounded():
            return await self._records(at, await self._bounds(at))

    async def between(self, place: TopicPartition, start: int, stop: int) -> list[ConsumerRecord]:
        """What lies between these Kafka offsets, the second excluded; without what retention has taken."""
        async with self._looking, bounded():
            return (await self._look({place: (start, stop)}))[place]

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

    def _has_changed(self, place: TopicPartition, bounds: tuple[int, int]) -> bool:
        seen = self._seen.get(place)
        return bounds[1] != (seen.end if seen is not None else 0)

    async def _see(self, changed: Bounds) -> None:
        last = await self._records({p: end - 1 for p, (_, end) in changed.items() if self._goes_on(p, end)}, changed)
        plain = {
            place: seq_of(record) + 1 for place, record in last.items() if seq_of(record) + 1 >= self.come(place) > 0
        }
        # Something sent again, or by foreign hands, may lie last.
        spans = {p: (max(first, end - WINDOW), end) for p, (first, end) in changed.items() if p not in plain}
        highest = {p: max(map(seq_of, records), default=-1) for p, records in (await self._look(spans)).items()}
        for place, (_, end) in changed.items():
            following = plain.get(place, highest.get(place, -1) + 1)
            before = self._seen.get(place)
            shrunk = before is not None and end < before.end
            if before is not None and (shrunk or not before.kept):
                following = max(following, before.following)
            self._seen[place] = _Seen(end, following, kept=shrunk)

    def _goes_on(self, place: TopicPartition, end: int) -> bool:
        seen = self._seen.get(place)
        return seen is not None and not seen.kept and end > seen.end

    async def _search(self, wanted: Mapping[TopicPartition, int]) -> dict[TopicPartition, _Search]:
        bounds = await self._bounds(wanted)
        searches = {place: _Search(number, *bounds[place]) for place, number in wanted.items()}
        probes = {place: search.first for place, search in searches.items() if search.first < search.end}
        for _ in range(JUMPS):
            for place, offset in probes.items():
                searches[place].looked.add(offset)
            looks = await self._look({place: searches[place].span(offset) for place, offset in probes.items()})
            for place, records in looks.items():
                searches[place].note(records)
            going = {place: searches[place] for place in probes if searches[place].found is None}
            probes = {
                place: min(offset, going[place].end - 1)
                for place, offset in (await self._expected(going)).items()
                if offset >= going[place].first
            }
            probes = {place: offset for place, offset in probes.items() if offset not in searches[place].looked}
            if not probes:
                break
        return searches

    async def _expected(self, searches: Mapping[TopicPartition, _Search]) -> dict[TopicPartition, int]:
        """Where the number lies, by the distance from the nearest that was seen."""
        nearest = {place: search.nearest for place, search in searches.items() if search.nearest is not None}
        lower = {place: record for place, record in nearest.items() if seq_of(record) < searches[place].number}
        from_first = await self._firsts(lower)
        return {
            place: offset + searches[place].number - number
            for place, record in nearest.items()
            for offset, number in [from_first.get(place, (record.offset, seq_of(record)))]
        }

    async def _halve(self, searches: Mapping[TopicPartition, _Search]) -> None:
        spans = {place: (search.first, search.end) for place, search in searches.items()}
        while spans := {place: (low, high) for place, (low, high) in spans.items() if low < high}:
            looked = {place: searches[place].span((low + high) // 2 + 1) for place, (low, high) in spans.items()}
            looks = await self._look(looked)
            for place, (low, high) in list(spans.items()):
                start, stop = looked[place]
                beyond = searches[place].note(looks[place])
                spans[place] = (low, min(start, high - 1)) if beyond else (max(stop, low + 1), high)
                if searches[place].found is not None:
                    del spans[place]

    async def _starts(self, searches: Mapping[TopicPartition, _Search]) -> dict[TopicPartition, int]:
        anchors = {place: search.anchor for place, search in searches.items() if search.anchor is not None}
        firsts = await self._firsts(anchors)
        starts = {}
        for place, search in searches.items():
            if (anchor := anchors.get(place)) is None:
                starts[place] = search.first
                continue
            offset, number = firsts.get(place, (anchor.offset, seq_of(anchor)))
            direct = anchor.offset + search.number - seq_of(anchor)
            # Nothing lies between them that was sent again, or by others.
            alone = number >= 0 and offset + search.number - number == direct
            starts[place] = direct if alone else min(offset, direct)
        return starts

    async def _firsts(self, records: Mapping[TopicPartition, ConsumerRecord]) -> dict[TopicPartition, tuple[int, int]]:
        """The first record with the time of each of these: its Kafka offset and its number."""
        if not records:
            return {}
        client = await self._connected()
        found = await client.offsets_for_times({p: record.timestamp for p, record in records.items()})
        offsets = {place: first.offset for place, first in found.items() if first is not None}
        looks = await self._look({place: (offset, offset + 1) for place, offset in offsets.items()})
        return {place: (offsets[place], max(map(seq_of, looks[place]), default=-1)) for place in offsets}

    async def _records(self, at: Mapping[TopicPartition, int], bounds: Bounds) -> dict[TopicPartition, ConsumerRecord]:
        there = {p: (offset, offset + 1) for p, offset in at.items() if bounds[p][0] <= offset < bounds[p][1]}
        return {place: records[0] for place, records in (await self._look(there)).items() if records}

    async def _look(self, spans: Spans) -> dict[TopicPartition, list[ConsumerRecord]]:
        """What lies in each of these spans; nothing where retention took it, or where a transaction's mark lies."""
        found: dict[TopicPartition, list[ConsumerRecord]] = {place: [] for place in spans}
        left = {place: stop for place, (start, stop) in spans.items() if start < stop}
        if not left:
            return found
        client = await self._connected()
        client.assign(list(left))
        for place in left:
            client.seek(place, spans[place][0])
        while left:
            try:
                # Kafka gives whole batches all the same, but what nobody asks for is not unpacked.
                batches = await client.getmany(*left, timeout_ms=POLL_MS, max_records=WINDOW)
            except OffsetOutOfRangeError as error:
                _leave_out(left, error.args[0])
                continue
            except ValueError:
                # A record that cannot even be unpacked: the reader will say so, and the other partitions are not to
                # blame.
                return found if len(spans) == 1 else await self._look_apart(spans)
            for place, records in batches.items():
                found[place] += [record for record in records if record.offset < left[place]]
            _leave_out(left, [place for place in left if await client.position(place) >= left[place]])
        # Or it would go on fetching what nobody asks for.
        client.assign([])
        return found

    async def _look_apart(self, spans: Spans) -> dict[TopicPartition, list[ConsumerRecord]]:
        return {place: (await self._look({place: span}))[place] for place, span in spans.items()}


def _leave_out(left: dict[TopicPartition, int], places: Iterable[TopicPartition]) -> None:
    for place in places:
        left.pop(place, None)

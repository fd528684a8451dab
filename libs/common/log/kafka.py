"""The log in Kafka, as a consumer reads it. A position is the producer's number for an event, as in PostgreSQL.

Kafka holds what the relay sent, which may be twice: after a crash, or by a relay that hung and came back. Here each
number comes out once and in order, whatever lies between: lower than expected is a repeat and dropped; higher is a gap,
which, once its place was looked for anew, is handed on as it is and stops the consumer. So does a record that the
relay did not send, and a number that Kafka had and has no more. Kafka's own offsets are found again from the numbers
(`kafka_places`), so nothing but the position has to be kept, and a consumer may go from one log to the other.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord, TopicPartition

from libs.common.clock import SystemClock, monotonic
from libs.common.contracts.topics import TOPICS
from libs.common.log.base import Halted, Position, Record
from libs.common.log.kafka_client import Kafka, KafkaAway, bounded, close_consumer, start_consumer
from libs.common.log.kafka_places import Places
from libs.common.log.kafka_records import record_of, seq_of
from libs.common.log.kafka_topics import check_topics
from libs.common.telemetry import get_logger
from libs.common.worker_metrics import REPEATS

STUCK_SECONDS = 4.0
"""A client that brings nothing for so long, while there is something, is made anew."""
GONE_SECONDS = 10.0
"""What Kafka had and has no more is missed for so long before it counts as lost: a relay may be sending it again."""
TELL_SECONDS = 1.0
"""Between two reports of the progress to Kafka."""
LOOK_SECONDS = 1.0
"""Between two looks whether there is something that should have come, or that is gone."""

log = get_logger(__name__)


@dataclass(slots=True)
class _Standing:
    """Where the client is in a partition: the next number, and the Kafka offset at which it is expected."""

    seq: int
    offset: int
    since: tuple[int, int]
    """Both, as they were at the last read: a batch that was rolled back is read again from there."""

    def offset_of(self, seq: int) -> int | None:
        """Where the event of this number is found by reading on, if one has stood there."""
        if seq == self.seq:
            return self.offset
        return self.since[1] if seq == self.since[0] else None


class KafkaLog:
    """Reads for one consumer: a second one would pull it to and fro. Without a group it only answers questions."""

    def __init__(self, kafka: Kafka, group: str | None = None) -> None:
        self._kafka = kafka
        self._group = group
        self._places = Places(kafka)
        self._client: AIOKafkaConsumer | None = None
        self._standing: dict[Position, _Standing] = {}
        self._doubted: dict[Position, int] = {}
        """The number that did not come where it should have, and whose place was looked for anew."""
        self._whole: set[Position] = set()
        """Those to be read from the beginning."""
        self._missed: dict[Position, tuple[int, float]] = {}
        """The number that is gone, and since when."""
        self._telling: asyncio.Task[None] | None = None
        self._told: dict[TopicPartition, int] = {}
        self._tell_at = 0.0
        self._look_at = 0.0
        self._behind_since: float | None = None

    async def read(
        self, positions: Mapping[Position, int], max_records: int, wait: float, *, ahead: bool = False
    ) -> list[Record]:
        """See `Log.read`. KafkaAway when Kafka does not answer, and when it holds something and does not bring it."""
        client = await self._connected({topic for topic, _ in positions})
        await self._stand(client, positions)
        if not ahead:
            self._tell(client)
        await self._watch(client)
        deadline = monotonic() + wait
        while True:
            left = max(0.0, deadline - monotonic())
            await self._stand(client, positions)
            try:
                async with bounded(left + 5):
                    records = self._taken(client, await self._fetched(client, left, max_records))
            except KafkaAway as error:
                if type(error.__cause__) is KafkaError:
                    # The client itself has come to grief, as when partitions change while it looks for its group's
                    # coordinator, and would say so for ever.
                    await self._drop()
                raise
            if records:
                self._behind_since = None
                return records
            if monotonic() >= deadline:
                return []

    async def end_offsets(self, topic: str) -> dict[int, int]:
        """See `Log.end_offsets`: what has come to Kafka, which the relay may be still behind."""
        return await self._places.ends(topic)

    async def ages(self, positions: Mapping[Position, int]) -> dict[Position, float]:
        """See `Log.ages`. Of a record that is lost, that of the next one: it is older than that."""
        places = {self._place(position): position for position in positions}
        numbers = {place: positions[position] for place, position in places.items()}
        at: dict[TopicPartition, int] = {}
        for place, position in places.items():
            stands = self._standing.get(position)
            if stands is not None and (offset := stands.offset_of(numbers[place])) is not None:
                at[place] = offset
        records = await self._places.records(at) if at else {}
        records = {place: record for place, record in records.items() if seq_of(record) == numbers[place]}
        if unknown := {place: number for place, number in numbers.items() if place not in records}:
            records |= await self._places.find(unknown)
        now = SystemClock().now().timestamp()
        return {places[place]: now - record.timestamp / 1000 for place, record in records.items()}

    async def close(self) -> None:
        """Lets go of connections."""
        await self._drop()
        await self._places.close()

    def _place(self, position: Position) -> TopicPartition:
        topic, partition = position
        return TopicPartition(self._kafka.topic(topic), partition)

    async def _connected(self, topics: set[str]) -> AIOKafkaConsumer:
        if self._client is None:
            await check_topics(self._kafka, [TOPICS[topic] for topic in sorted(topics)])
            client = AIOKafkaConsumer(
                **self._kafka.options, group_id=self._group, enable_auto_commit=False, auto_offset_reset="none"
            )
            await start_consumer(client)
            self._client = client
        return self._client

    async def _drop(self) -> None:
        client, self._client = self._client, None
        self._standing.clear()
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.wait({self._telling})
        if client is not None:
            await close_consumer(client)

    async def _stand(self, client: AIOKafkaConsumer, positions: Mapping[Position, int]) -> None:
        """Sees to it that the client goes on at exactly these positions."""
        places = {position: self._place(position) for position in positions}
        lost = {}
        for position, seq in positions.items():
            stands = self._standing.get(position)
            if stands is not None and stands.seq != seq:
                stands.seq, stands.offset = stands.since
                client.seek(places[position], stands.offset)
            if stands is None or stands.seq != seq:
                lost[places[position]] = seq
        found = await self._located(lost) if lost else {}
        if client.assignment() != set(places.values()):
            client.assign(list(places.values()))
            self._standing = {position: each for position, each in self._standing.items() if position in positions}
            for position, each in self._standing.items():
                client.seek(places[position], each.offset)
        for position, seq in positions.items():
            place = places[position]
            if place in found:
                self._standing[position] = _Standing(seq, found[place], (seq, found[place]))
                client.seek(place, found[place])
            stands = self._standing[position]
            stands.since = (stands.seq, stands.offset)

    async def _located(self, lost: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        whole = [self._place(position) for position in self._whole]
        firsts = {p: first for p, (first, _) in (await self._places.bounds(whole)).items()} if whole else {}
        found = await self._places.locate({place: seq for place, seq in lost.items() if place not in firsts})
        self._whole.clear()
        return found | {place: first for place, first in firsts.items() if place in lost}

    async def _fetched(
        self, client: AIOKafkaConsumer, wait: float, max_records: int
    ) -> Mapping[TopicPartition, Sequence[ConsumerRecord]]:
        try:
            batches: Mapping[TopicPartition, Sequence[ConsumerRecord]] = await client.getmany(
                timeout_ms=int(wait * 1000), max_records=max_records
            )
        except OffsetOutOfRangeError as error:
            # Cut short, or made anew: the next read looks where things are now.
            places = set(error.args[0])
            self._standing = {p: each for p, each in self._standing.items() if self._place(p) not in places}
            return {}
        except ValueError as error:
            at = ", ".join(f"{place.topic}[{place.partition}] from {offset} on" for place, offset in self._at().items())
            raise Halted(f"what cannot even be unpacked lies in {at} ({type(error).__name__})") from error
        return batches

    def _at(self) -> dict[TopicPartition, int]:
        return {self._place(position): each.offset for position, each in self._standing.items()}

    def _taken(
        self, client: AIOKafkaConsumer, batches: Mapping[TopicPartition, Sequence[ConsumerRecord]]
    ) -> list[Record]:
        records: list[Record] = []
        for place, received in batches.items():
            position = place.topic.removeprefix(self._kafka.prefix), place.partition
            stands = self._standing[position]
            for each in received:
                begun = stands.seq > stands.since[0]
                try:
                    record = record_of(position[0], each)
                except Halted:
                    if not begun:
                        raise
                    # What came before it is good: it begins the next read.
                    client.seek(place, each.offset)
                    break
                if record.offset > stands.seq and begun:
                    # The same with a gap.
                    client.seek(place, each.offset)
                    break
                if record.offset > stands.seq and self._doubted.get(position) != stands.seq:
                    # It may be that the topic was made anew, or that foreign hands have led us here.
                    self._doubted[position] = stands.seq
                    del self._standing[position]
                    break
                stands.offset = each.offset + 1
                if record.offset < stands.seq:
                    REPEATS.labels(position[0]).inc()
                else:
                    records.append(record)
                    stands.seq = record.offset + 1
        return records

    async def _watch(self, client: AIOKafkaConsumer) -> None:
        """Raises KafkaAway when there is something that should have come long since; Halted when it is gone."""
        now = monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        bounds = await self._places.bounds([self._place(position) for position in self._standing])
        behind = []
        missed = {}
        for position, stands in list(self._standing.items()):
            place = self._place(position)
            # A transaction's mark is passed, and is no record.
            stands.offset = max(stands.offset, await client.position(place))
            _, end = bounds[place]
            if end > stands.offset:
                behind.append(position)
            elif end < stands.offset:
                # Cut short, or made anew.
                del self._standing[position]
            if end <= stands.offset and self._places.come(place) > stands.seq:
                missed[position] = stands.seq
        self._miss(missed, now)
        if not behind:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = now
        elif now - self._behind_since > STUCK_SECONDS:
            self._behind_since = None
            await self._drop()
            raise KafkaAway(f"Kafka holds more of {behind} and did not bring it in {STUCK_SECONDS:g} s")

    def _miss(self, missed: Mapping[Position, int], now: float) -> None:
        """Halted when one is missed for too long, and the partition was read from its beginning."""
        kept = {position: since for position, since in self._missed.items() if missed.get(position) == since[0]}
        self._missed = {position: (seq, now) for position, seq in missed.items()} | kept
        for (topic, partition), (seq, since) in self._missed.items():
            if self._doubted.get((topic, partition)) != seq:
                self._doubted[topic, partition] = seq
                self._whole.add((topic, partition))
                self._standing.pop((topic, partition), None)
            elif now - since > GONE_SECONDS:
                last = self._places.come(self._place((topic, partition))) - 1
                raise Halted(
                    f"{self._kafka.topic(topic)}[{partition}] had come to {last}, and {seq} is not there any more:"
                    " records are missing"
                )

    def _tell(self, client: AIOKafkaConsumer) -> None:
        """Now and then: commits to Kafka how far the consumer has come. Nobody here reads it; lag tools do."""
        now = monotonic()
        done = self._at()
        if self._group is None or now < self._tell_at or done == self._told:
            return
        if self._telling is None or self._telling.done():
            self._tell_at = now + TELL_SECONDS
            self._telling = asyncio.create_task(self._commit(client, done))

    async def _commit(self, client: AIOKafkaConsumer, done: dict[TopicPartition, int]) -> None:
        try:
            async with bounded():
                await client.commit(done)
            self._told = done
        except KafkaAway as error:
            log.debug("progress not told to Kafka", group=self._group, error=str(error))

"""Does Kafka hold what this database's relays sent, and nothing else?

Two databases that write to one topic give the same numbers to different events, and readers would drop one of each two
as a repeat. That happens when PostgreSQL was set back (restored from a dump) while Kafka was not, and when a copy of
the database relays to the topics of the original. So each event that lies in Kafka behind what we know is compared,
by its id, with the log here. What our own relays have sent twice (a crash before the position moved, one that hung and
came back) bears the ids that the log has.

How soon: before a partition is first sent to, whenever its position is not where we left it, and once a second while
something is sent; besides, Kafka tells with each acknowledgement where the batch came to lie, and when that is not
directly behind the one before, what lies between is looked at before anything more is sent. What cannot be: where
nothing is sent nothing is looked at, and what readers have taken until then of the events of another database they
have; what was sent between a foreign record and its discovery, one batch, may have been dropped by them as a repeat.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from aiokafka.structs import ConsumerRecord, TopicPartition

from libs.common.clock import monotonic
from libs.common.log.base import Halted, Position
from libs.common.log.kafka_client import Kafka
from libs.common.log.kafka_places import Places
from libs.common.log.kafka_records import record_of, seq_of

LOOK_SECONDS = 1.0
"""So long a partition's end is taken for what it was."""
TAIL = 20_000
"""Of what lies behind the known, so many records are compared, the last ones: more than relays that hung can have sent
at last, so that not all of them are repeats where something else is."""
AT_ONCE = 500
"""Records in one look at them."""


class Check:
    """What is known of the partitions that one process sends to."""

    def __init__(self, kafka: Kafka, places: Places) -> None:
        self._kafka = kafka
        self._places = places
        self._ends: dict[Position, int] = {}
        """Kafka's offset behind the last record that is known to be ours."""
        self._next: dict[Position, int] = {}
        """The number that is sent next, unless somebody else has had the partition meanwhile."""
        self._looked: dict[Position, float] = {}
        self._doubtful: dict[Position, int] = {}
        """Where our last batch does not lie where it should: with which number it began."""

    async def before(self, pg: Any, positions: Mapping[Position, int]) -> None:
        """To be asked before these numbers are sent. Halted when Kafka holds what it should not, or lacks something."""
        now = monotonic()
        due = [
            place
            for place, number in positions.items()
            if self._next.get(place) != number or now - self._looked.get(place, -LOOK_SECONDS) > LOOK_SECONDS
        ]
        if due:
            await self._look(pg, {place: positions[place] for place in due})

    def acknowledged(self, place: Position, offset: int, first: int, last: int) -> bool:
        """Where Kafka put the numbers from `first` to `last`; whether that is directly behind what is known to be ours.

        If not, nothing more is to be sent there until `between` has looked.
        """
        self._next[place] = last + 1
        if self._ends.get(place) != offset:
            self._doubtful[place] = first
            return False
        self._ends[place] = offset + last - first + 1
        self._looked[place] = monotonic()
        return True

    async def between(self, pg: Any, places: Collection[Position]) -> None:
        """Looks at what lies before our last batches in these partitions, where something does. Halted as `before`."""
        doubtful = {place: self._doubtful[place] for place in places if place in self._doubtful}
        if doubtful:
            come = {place: self._next[place] for place in doubtful}
            await self._look(pg, doubtful)
            self._next |= come

    async def _look(self, pg: Any, positions: Mapping[Position, int]) -> None:
        theirs = {place: self.there(place) for place in positions}
        bounds = await self._places.bounds(list(theirs.values()))
        for place, position in positions.items():
            first, end = bounds[theirs[place]]
            known = self._ends.get(place)
            # Nothing: new, made anew, or emptied by retention. Whoever needs what is not there any more will halt.
            if first < end:
                if known is None or known > end or position != self._doubtful.get(place, self._next.get(place)):
                    known = await self._begin(pg, place, position)
                await self._compare(pg, place, max(first, known, end - TAIL), end, sent=position > 0)
            self._ends[place], self._next[place], self._looked[place] = end, position, monotonic()
            self._doubtful.pop(place, None)

    async def _begin(self, pg: Any, place: Position, position: int) -> int:
        """From where on Kafka may hold what we do not know of. Halted when what was sent last is not there."""
        if not position:
            return 0
        there = self.there(place)
        record = (await self._places.find({there: position - 1})).get(there)
        # Or one of later: the last one is laid there again where all is gone (`libs.common.topic_keeper`).
        if record is None:
            raise Halted(f"{there.topic}[{there.partition}] has lost what was sent up to {position}")
        await self._own(pg, place, [record], sent=True)
        at: int = record.offset
        return at

    async def _compare(self, pg: Any, place: Position, start: int, end: int, *, sent: bool) -> None:
        for begin in range(start, end, AT_ONCE):
            records = await self._places.between(self.there(place), begin, min(begin + AT_ONCE, end))
            await self._own(pg, place, records, sent=sent)

    async def _own(self, pg: Any, place: Position, records: Sequence[ConsumerRecord], *, sent: bool) -> None:
        """Halted when one of these is not the event that the log has, or had, under its number."""
        topic, partition = place
        rows = await pg.fetch(
            f'SELECT "offset", id FROM log_{topic} WHERE partition = $1 AND "offset" = ANY($2::bigint[])',
            partition,
            sorted({seq_of(record) for record in records}),
        )
        ids = {row["offset"]: row["id"] for row in rows}
        end = await pg.fetchval(
            "SELECT next_offset FROM log_partitions WHERE topic = $1 AND partition = $2", topic, partition
        )
        for record in records:
            number, known = seq_of(record), ids.get(seq_of(record))
            # What was sent long ago may be gone here.
            gone = known is None and sent and 0 <= number < end
            if not gone and known != record_of(topic, record).id:
                raise Halted(
                    f"{record.topic}[{partition}] holds events that are not of this database (number {number}, at"
                    f" Kafka's offset {record.offset}): another installation's, or the database was set back"
                )

    def there(self, place: Position) -> TopicPartition:
        """What Kafka calls it."""
        return TopicPartition(self._kafka.topic(place[0]), place[1])

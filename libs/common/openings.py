"""Where a consumer may begin with a partition: at once, once its parent is read so far, or where the log begins.

- A partition that came by growth (`libs.common.log.growth`) waits until the consumer has read its parent up to where it
  was grown from. That is asked of the positions, so whoever reads the parent, and whatever happens meanwhile, what is
  behind the first record is read only after all that came before it has taken effect.
- A consumer that has read nothing of a partition begins where the log does, if the log says that retention has dropped
  what came before. To whoever has read some, and to any other gap, missing records are a loss: it halts.
"""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import groupby

from libs.common import positions
from libs.common.consumer import Consumer
from libs.common.db import Database
from libs.common.log.base import Halted, Log, Position, Record
from libs.common.log.growth import opened
from libs.common.telemetry import get_logger

log = get_logger(__name__)


async def notice_growth(
    database: Database, of: Log, consumers: Sequence[Consumer], noticed: asyncio.Event, every: float
) -> None:
    """Makes the places of partitions that a topic has got, until cancelled; each time sets `noticed`."""
    known = {topic.name: topic.partitions for consumer in consumers for topic in consumer.topics}
    while True:
        for consumer in consumers:
            for topic in consumer.topics:
                try:
                    partitions = len(await of.end_offsets(topic.name))
                    if partitions > known[topic.name]:
                        async with database.transaction() as tx:
                            await positions.widen(tx, consumer.name, topic.name, partitions)
                        known[topic.name] = partitions
                        noticed.set()
                        log.info("more partitions", consumer=consumer.name, topic=topic.name, partitions=partitions)
                except Exception as error:  # noqa: BLE001 (they are noticed later then, and the work must not stop for it)
                    log.warning("not looked for partitions", consumer=consumer.name, error=type(error).__name__)
        await asyncio.sleep(every)


class Openings:
    """Of one consumer in one worker: which of its partitions wait, and for what."""

    def __init__(self, database: Database, consumer: Consumer, worker: str) -> None:
        self._database = database
        self._consumer = consumer
        self._worker = worker
        self._waiting: dict[Position, tuple[int, int]] = {}
        """Partition -> its parent, and the offset up to which that has to be read before."""

    async def due(self, owned: Mapping[Position, int]) -> dict[Position, int]:
        """Opens those that need not wait any more: their offsets now."""
        self._waiting = {place: after for place, after in self._waiting.items() if owned.get(place) == 0}
        if not self._waiting:
            return {}
        async with self._database.transaction() as tx:
            due = await positions.open_partitions(tx, self._consumer.name, self._worker, self._waiting)
        for place in due:
            del self._waiting[place]
        return dict.fromkeys(due, 1)

    def readable(self, owned: Mapping[Position, int]) -> dict[Position, int]:
        """Those that do not wait."""
        return {place: offset for place, offset in owned.items() if offset or place not in self._waiting}

    async def begun(self, asked: Mapping[Position, int], records: Sequence[Record]) -> dict[Position, int]:
        """Looks at where partitions begin: those that go on elsewhere than asked, with the offset. Fenced as ever."""
        moves: dict[Position, tuple[int, int]] = {}
        for place, group in groupby(records, key=lambda record: (record.topic, record.partition)):
            first = next(group)
            if first.offset == 0 and (after := opened(first)) is not None and not self._consumer.copies:
                self._waiting[place] = (after.parent, after.until)
            elif first.first and first.offset > asked[place] and await self._may_begin(place, asked[place]):
                moves[place] = (asked[place], first.offset)
        if moves:
            async with self._database.transaction() as tx:
                await positions.advance(tx, self._consumer.name, self._worker, moves)
            for (topic, partition), (_, at) in moves.items():
                log.warning(
                    "begins where retention has left the log",
                    consumer=self._consumer.name, topic=topic, partition=partition, offset=at,
                )  # fmt: skip
        return {place: at for place, (_, at) in moves.items()}

    async def _may_begin(self, place: Position, asked: int) -> bool:
        return asked == 0 or (self._consumer.afresh is not None and await self._consumer.afresh(place))

    def ready(self, asked: Mapping[Position, int], records: Sequence[Record]) -> list[Record]:
        """The records without those that wait. Halted when one is missing."""
        kept = [record for record in records if (record.topic, record.partition) not in self._waiting]
        expected = dict(asked)
        for record in kept:
            place = (record.topic, record.partition)
            if record.offset != expected[place]:
                raise Halted(
                    f"{record.topic}[{record.partition}] goes on at {record.offset}, not at {expected[place]}:"
                    " records are missing"
                )
            expected[place] += 1
        return kept

"""What a consumer does that a burst of dead letters has halted: it looks whether others' records would pass.

It reads on from where it stands and tries what may tell whose fault the burst is, each record in a transaction of its
own that is rolled back: nothing is kept, told or moved. So a halt lasts while nobody else passes, and no longer.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime

from libs.common.batch import Batch
from libs.common.burst import Burst, Case, Outcome, sender_of
from libs.common.consumer import Consumer
from libs.common.db import Database, TookTooLong, is_transient
from libs.common.log.base import Halted, Position, Record
from libs.common.log.growth import OPENED

AHEAD = 100
"""Records in one look."""


class TooManyDead(Halted):
    """A burst of dead letters that is ours, by all that is known."""

    def __init__(self, burst: Burst, more: Sequence[Outcome]) -> None:
        """`more`: what was not committed because of it."""
        super().__init__(
            f"more than {burst.limit} dead letters among the last {burst.of} records, and nobody else's pass"
        )
        self.case = burst.case(more)


class _TakenBack(Exception):
    """Rolls a transaction back."""


class Lookout:
    """Of one consumer, for one halt."""

    def __init__(self, database: Database, consumer: Consumer, burst: Burst, case: Case) -> None:
        self._database = database
        self._consumer = consumer
        self._burst = burst
        self._case = case
        self._seen: dict[Position, int] = {}

    @property
    def is_over(self) -> bool:
        """Whether the consumer may go on."""
        return not self._case.is_ours

    def places(self, owned: Mapping[Position, int]) -> dict[Position, int]:
        """Where to read on."""
        return {place: max(offset, self._seen.get(place, 0)) for place, offset in owned.items()}

    async def look(self, records: Sequence[Record], now: datetime) -> bool:
        """Looks at what was read; whether any of it had to be tried. Raises what is transient."""
        tried = False
        for record in records:
            sender, kind = sender_of(record), self._consumer.kind(record)
            if record.type != OPENED and self._case.wants(sender, kind):
                outcome = Outcome(sender, kind, not await self._passes(record, now))
                tried = True
                self._case.note(outcome)
                if not outcome.is_dead:
                    self._burst.remember(outcome)
            self._seen[record.topic, record.partition] = record.offset + 1
        return tried

    async def _passes(self, record: Record, now: datetime) -> bool:
        try:
            return await self._try(record, now)
        except Exception as error:
            if is_transient(error) and not isinstance(error, TookTooLong):
                raise
            # It is told when the record's turn comes: nothing has been done with it here.
            return False

    async def _try(self, record: Record, now: datetime) -> bool:
        passes = False
        with suppress(_TakenBack):
            async with self._database.transaction() as tx:
                batch = Batch(tx, [record], now, self._database.schema)
                await tx.own.of(self._consumer.handler(batch))
                passes = not batch.rejected
                raise _TakenBack
        return passes

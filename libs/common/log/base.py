"""The log: partitioned, append-only, read at an offset. Dumb, and the same everywhere."""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from msgspec import Struct

Position = tuple[str, int]
"""Topic and partition."""
READ_BYTES = 8 * 1024 * 1024
"""Of data in one read: after so much no further record is. Deliveries may have some MB, and come by the hundred."""


class Event(Struct, frozen=True, kw_only=True):
    """A CloudEvents 1.0 event, not yet in the log."""

    id: str
    """Unique for ever; derived from its cause where the cause is repeatable."""
    type: str
    source: str
    """Who says so: `/services/ingest`."""
    tenant: str
    key: str
    """What must stay in order; decides the partition."""
    time: datetime
    """When it happened (event time, UTC)."""
    data: bytes
    """The type's Struct as JSON (see `libs.common.contracts`)."""
    traceparent: str | None = None


class Record(Event, frozen=True, kw_only=True):
    """An event at its place in the log."""

    topic: str
    partition: int
    offset: int
    appended_at: datetime
    """Wall time at which the producer's database took it."""
    first: bool = False
    """The log begins here, and not at 0: retention has dropped what came before."""


class Halted(Exception):
    """Whoever reads must not go on by itself: the log does not hold what it should, or what was done was a mistake."""


class Log(Protocol):
    """Reading. Writing is `libs.common.log.postgres.append`, in the writer's own transaction.

    Within a partition offsets are gapless from 0 and ordered by commit: whoever has seen offset n never later finds a
    new record at or below n.
    """

    async def read(
        self, positions: Mapping[Position, int], max_records: int, wait: float, *, ahead: bool = False
    ) -> list[Record]:
        """Records from each position on, about `max_records` in all or fewer large ones, in order of their offsets.

        Fewer where they are large: some megabytes in all, and of each partition at least one.

        Waits up to `wait` seconds for the first one. Several partitions are read at once, since a consumer commits
        them at once. A record with a higher offset than asked comes first when what was asked is not there: by
        retention if the record is the log's `first`, else it is lost.

        `ahead`: only to look, what lies before the positions is not done.
        """
        ...

    async def end_offsets(self, topic: str) -> dict[int, int]:
        """For each partition that there is now the offset that its next record will get."""
        ...

    async def ages(self, positions: Mapping[Position, int]) -> dict[Position, float]:
        """Seconds of wall time since the record at each position was appended; without those that hold none."""
        ...

    async def close(self) -> None:
        """Lets go of connections."""
        ...

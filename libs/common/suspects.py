"""Records of which one may take longer than a transaction may last.

A batch that took too long is tried again record by record. Who alone takes too long, several times, is poison: without
an end to it the others would wait for ever. But the database may be what is slow. So any failure that has nothing to do
with length clears everybody: a database that goes away buries nobody.
"""

from collections.abc import Mapping, Sequence

from libs.common.log.base import Position, Record

TRIES = 3


class Suspects:
    """Of one consumer in one worker. They are remembered, for the partition may be lost and come back meanwhile."""

    def __init__(self) -> None:
        self._failures: dict[tuple[Position, int], int] = {}
        """How often each has taken too long alone."""

    def are_among(self, records: Sequence[Record]) -> bool:
        """Whether any of these is suspected."""
        return bool(self._failures) and any(_place(record) in self._failures for record in records)

    def is_guilty(self, record: Record) -> bool:
        """Whether it has been tried often enough."""
        return self._failures.get(_place(record), 0) >= TRIES

    def took_too_long(self, records: Sequence[Record], owned: Mapping[Position, int]) -> None:
        """Together; or alone. Whoever is not in `owned` any more is forgotten."""
        if owned:
            self._failures = {at: n for at, n in self._failures.items() if at[0] in owned}
        for record in records:
            self._failures[_place(record)] = self._failures.get(_place(record), 0) + (len(records) == 1)

    def are_done_with(self, records: Sequence[Record]) -> None:
        """They have passed, or are buried."""
        for record in records if self._failures else ():
            self._failures.pop(_place(record), None)

    def are_cleared(self) -> None:
        """It may have been the database."""
        self._failures.clear()


def _place(record: Record) -> tuple[Position, int]:
    return (record.topic, record.partition), record.offset

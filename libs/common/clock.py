"""The only reader of time. Rules get `now` as an argument; `main` and `work` get a Clock."""

import mmap
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol, Self

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_WIDTH = 8
_NOW, _ARRIVALS = 0, 1
"""Words of a driven clock's file."""


class Clock(Protocol):
    """Tells what time it is, UTC."""

    def now(self) -> datetime:
        """An aware datetime in UTC, to the microsecond."""
        ...

    def arrival(self) -> datetime:
        """The date of what arrives at this moment: now, wherever time runs by itself."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The wall time."""
        return datetime.now(UTC)  # noqa: TID251 - the one place that reads it

    def arrival(self) -> datetime:
        """The wall time."""
        return self.now()


class DrivenClock:
    """A clock that stands still until it is set, shared by every process that opens its file.

    The file holds signed 64-bit counts of microseconds since 1970, in native byte order: what time it is, and what
    arrivals are dated. An aligned word is stored and loaded whole, so readers never see half of a new time.
    """

    def __init__(self, path: str | Path) -> None:
        """Opens an existing clock. OSError or ValueError when there is none at `path`."""
        with Path(path).open("r+b") as file:
            self._words = memoryview(mmap.mmap(file.fileno(), 2 * _WIDTH)).cast("q")

    @classmethod
    def create(cls, path: str | Path, start: datetime) -> Self:
        """Makes the file (an existing one is set to `start`) and opens it."""
        with Path(path).open("wb") as file:
            file.write(bytes(2 * _WIDTH))
        clock = cls(path)
        clock.set(start)
        return clock

    def now(self) -> datetime:
        """What it was last set to."""
        return _EPOCH + timedelta(microseconds=self._words[_NOW])

    def arrival(self) -> datetime:
        """What it or its arrivals were last set to."""
        return _EPOCH + timedelta(microseconds=self._words[_ARRIVALS])

    def set(self, now: datetime) -> None:
        """Sets every process' clock. `now` must be aware."""
        self.set_arrivals(now)
        self._words[_NOW] = self._words[_ARRIVALS]

    def set_arrivals(self, time: datetime) -> None:
        """Dates what arrives from here on, until `set`. No timer falls due by it: what is on its way comes first."""
        self._words[_ARRIVALS] = (time - _EPOCH) // _MICROSECOND


def clock_from(path: str | None) -> Clock:
    """The driven clock at `path`, or the machine's when there is no path."""
    return DrivenClock(path) if path else SystemClock()


def monotonic() -> float:
    """Seconds from an arbitrary start, never going back: for durations, leases and time limits, never for dates."""
    return time.monotonic()

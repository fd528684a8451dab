"""The only reader of time. Rules get `now` as an argument; `main` and `work` get a Clock."""

import mmap
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol, Self

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_WIDTH = 8


class Clock(Protocol):
    """Tells what time it is, UTC."""

    def now(self) -> datetime:
        """An aware datetime in UTC, to the microsecond."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The wall time."""
        return datetime.now(UTC)  # noqa: TID251 - the one place that reads it


class DrivenClock:
    """A clock that stands still until it is set, shared by every process that opens its file.

    The file holds one signed 64-bit count of microseconds since 1970, in native byte order. An aligned word is
    stored and loaded whole, so readers never see half of a new time.
    """

    def __init__(self, path: str | Path) -> None:
        """Opens an existing clock. OSError or ValueError when there is none at `path`."""
        with Path(path).open("r+b") as file:
            self._word = memoryview(mmap.mmap(file.fileno(), _WIDTH)).cast("q")

    @classmethod
    def create(cls, path: str | Path, start: datetime) -> Self:
        """Makes the file (an existing one is set to `start`) and opens it."""
        with Path(path).open("wb") as file:
            file.write(bytes(_WIDTH))
        clock = cls(path)
        clock.set(start)
        return clock

    def now(self) -> datetime:
        """What it was last set to."""
        return _EPOCH + timedelta(microseconds=self._word[0])

    def set(self, now: datetime) -> None:
        """Sets every process' clock. `now` must be aware."""
        self._word[0] = (now - _EPOCH) // _MICROSECOND


def clock_from(path: str | None) -> Clock:
    """The driven clock at `path`, or the machine's when there is no path."""
    return DrivenClock(path) if path else SystemClock()


def monotonic() -> float:
    """Seconds from an arbitrary start, never going back: for durations, leases and time limits, never for dates."""
    return time.monotonic()

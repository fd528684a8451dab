"""Whether it is unusual, for a store and at this hour of the week, that nothing has come for so long.

Counted are minutes in which anything came, not deliveries: an order brings several of them within seconds, and an
import of products thousands. What is left of such bursts (an order is made, then paid, then sent) is measured: by how
much the counts of one hour scatter over the weeks more than those of independent events would.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from msgspec import Struct

HISTORY = timedelta(weeks=4)
"""Before the last delivery: what is usual."""
LEAST_HISTORY = timedelta(weeks=1)
LEAST = timedelta(minutes=10)
"""A shorter silence is none."""
IMPROBABLE = 1e-4

_HOUR = timedelta(hours=1)
_MINUTE = timedelta(minutes=1)
_BURST = 3.0
"""Minutes that one order shows in, as long as there is too little to measure it by."""
_BURST_WEIGHT = 24
"""Degrees of freedom that this guess counts as."""


class Silence(Struct, frozen=True, kw_only=True):
    """How long nothing has come, and whether that is much."""

    since: datetime
    """Begin of the last minute in which something came, UTC."""
    expected: float
    """Minutes in which something would usually have come since."""
    unusual: bool


def silence(hours: Mapping[datetime, int], zone: str, now: datetime) -> Silence | None:
    """What to think of it that nothing came since the last of `hours`; None with less than a week before that.

    `hours`: begin of an hour, UTC -> its minutes in which something came: bit n for minute n; hours without any may be
    left out. `zone`: IANA, whose hours of the week the shop keeps.
    """
    heard = {hour: minutes for hour, minutes in hours.items() if minutes}
    if not heard:
        return None
    last, first = max(heard), min(heard)
    since = last + (heard[last].bit_length() - 1) * _MINUTE
    if since - first < LEAST_HISTORY:
        return None
    usual = _Usual(heard, ZoneInfo(zone), since=max(first, last - HISTORY), until=last)
    expected = usual.between(since + _MINUTE, now)
    improbable = math.exp(-expected / usual.burst) < IMPROBABLE
    return Silence(since=since, expected=round(expected, 1), unusual=improbable and now - since >= LEAST)


class _Usual:
    """What whole hours from `since` to `until` say about an hour of the week."""

    def __init__(self, heard: Mapping[datetime, int], zone: ZoneInfo, *, since: datetime, until: datetime) -> None:
        self._zone = zone
        samples: dict[tuple[int, int], list[int]] = defaultdict(list)
        hour = since
        while hour < until:
            samples[self._of_week(hour)].append(heard.get(hour, 0).bit_count())
            hour += _HOUR
        self._mean = {key: sum(counts) / len(counts) for key, counts in samples.items()}
        scatter, freedom = _BURST * _BURST_WEIGHT, _BURST_WEIGHT
        for key, counts in samples.items():
            if mean := self._mean[key]:
                scatter += sum((count - mean) ** 2 for count in counts) / mean
                freedom += len(counts) - 1
        self.burst = max(1.0, scatter / freedom)
        """Minutes that come together, in the mean."""

    def between(self, since: datetime, until: datetime) -> float:
        """Minutes in which something usually comes then."""
        expected = 0.0
        hour = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        while hour < until:
            part = (min(until, hour + _HOUR) - max(since, hour)) / _HOUR
            expected += self._mean.get(self._of_week(hour), 0.0) * max(0.0, part)
            hour += _HOUR
        return expected

    def _of_week(self, hour: datetime) -> tuple[int, int]:
        local = hour.astimezone(self._zone)
        return local.weekday(), local.hour

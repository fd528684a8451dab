"""A consumer at work in one worker: what it owns, how it fares, and which of its partitions rest for a while."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from libs.common.backoff import pause_before
from libs.common.burst import Burst
from libs.common.consumer import Consumer
from libs.common.log.base import Position
from libs.common.lookout import Lookout
from libs.common.openings import Openings
from libs.common.suspects import Suspects

_SHOWN = 3
"""Reasons told at a time."""


@dataclass(slots=True)
class _Rest:
    """A partition that is tried again by itself, later."""

    reason: str
    failures: int
    until: float


@dataclass(slots=True)
class Consuming:
    """A consumer at work."""

    consumer: Consumer
    burst: Burst
    openings: Openings
    owned: dict[Position, int] = field(default_factory=dict)
    given: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by each heartbeat that finds something owned, and at the end."""
    surplus: list[Position] = field(default_factory=list)
    shown: set[Position] = field(default_factory=set)
    state: str = "running"
    reason: str | None = None
    lookout: Lookout | None = None
    """While it is halted for something that may turn out to be no fault of ours."""
    suspects: Suspects = field(default_factory=Suspects)
    _resting: dict[Position, _Rest] = field(default_factory=dict)

    def moved(self, to: Mapping[Position, int]) -> None:
        """Those that are still in our hands stand there now."""
        self.owned |= {place: offset for place, offset in to.items() if place in self.owned}

    def tries_no_more(self) -> None:
        """What it tried again has come right, or is somebody else's by now; unless a partition rests still."""
        self._resting = {place: rest for place, rest in self._resting.items() if place in self.owned}
        if self.state != "halted":
            reasons = [rest.reason for _, rest in sorted(self._resting.items())]
            more = [f"and {len(reasons) - _SHOWN} more"] if len(reasons) > _SHOWN else []
            self.state = "retrying" if reasons else "running"
            self.reason = "; ".join(reasons[:_SHOWN] + more) or None

    def rest(
        self, tried: Mapping[Position, object], put_off: Mapping[Position, str], now: float, longest: float
    ) -> None:
        """After a batch: those `put_off` pause, `longest` seconds at most; the others that were `tried` need not."""
        for place in tried:
            before = self._resting.pop(place, None)
            if (reason := put_off.get(place)) is not None:
                failures = before.failures + 1 if before else 1
                self._resting[place] = _Rest(reason, failures, now + pause_before(failures, longest))

    def awake(self, asked: Mapping[Position, int], now: float) -> dict[Position, int]:
        """Those that do not rest."""
        return {
            place: offset
            for place, offset in asked.items()
            if (rest := self._resting.get(place)) is None or rest.until <= now
        }

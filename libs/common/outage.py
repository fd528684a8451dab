"""A fault that ends by itself, such as a database or a broker that is away: how long to wait, and what the log says.

Its beginning, once a minute that it lasts, and its end: a line for each try would hide all others.
"""

from libs.common.backoff import pause_before
from libs.common.clock import monotonic
from libs.common.telemetry import get_logger

TELL_SECONDS = 60.0

log = get_logger(__name__)


class Outage:
    """As one loop sees it."""

    def __init__(self, **who: str) -> None:
        """`who`: what the lines are marked with."""
        self._who = who
        self._failures = 0
        self._since = 0.0
        self._told: float | None = None

    def counts(self) -> None:
        """A try has failed, and somebody else tells of it."""
        if not self._failures:
            self._since, self._told = monotonic(), None
        self._failures += 1

    def goes_on(self, error: Exception) -> None:
        """A try has failed."""
        self.counts()
        now = monotonic()
        if self._told is not None and now - self._told < TELL_SECONDS:
            return
        self._told = now
        told = {"error": type(error).__name__, "detail": str(error)[:200]}
        log.warning("waiting", **self._who, **told, tries=self._failures)

    def is_over(self) -> None:
        """A try has not failed, after others or not."""
        if self._failures:
            log.info("going on", **self._who, tries=self._failures, seconds=round(monotonic() - self._since, 1))
        self._failures = 0

    def pause(self, longest: float) -> float:
        """Seconds until the next try."""
        return pause_before(self._failures, longest)

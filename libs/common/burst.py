"""Telling a bad deploy from a sender's garbage: when dead letters come in a burst, is it us?"""

from collections import Counter, deque
from collections.abc import Sequence

Outcome = tuple[str, bool]
"""Tenant, and whether the record became a dead letter."""


class Burst:
    """The last outcomes of a consumer.

    A burst of dead letters stops the consumer, since a bad deploy must not bury a day of orders. But no tenant may
    stop the others: where all dead letters are one tenant's, and another one's records pass, it is that tenant's doing.
    """

    def __init__(self, limit: int, of: int) -> None:
        """More than `limit` dead letters among the last `of` records are a burst."""
        self._limit = limit
        self._last: deque[Outcome] = deque(maxlen=of)
        self._served: set[str] = set()

    def is_ours(self, more: Sequence[Outcome]) -> bool:
        """Whether these outcomes, on top of the last ones, are a burst that stops the consumer."""
        dead = Counter(tenant for tenant, is_dead in (*self._last, *more) if is_dead)
        if dead.total() <= self._limit:
            return False
        # A stray dead letter of another tenant does not make it everybody's.
        blamed = {tenant for tenant, n in dead.items() if n > self._limit // 10}
        passing = self._served | {tenant for tenant, is_dead in more if not is_dead}
        return len(blamed) != 1 or not passing - blamed

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """What was committed."""
        self._last.extend(outcomes)
        # Two are enough to know that somebody else is served.
        for tenant, is_dead in outcomes:
            if not is_dead and len(self._served) < 2:  # noqa: PLR2004
                self._served.add(tenant)

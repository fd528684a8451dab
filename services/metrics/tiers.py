"""Sums of points by hour, day, 32 days and 1,024 days: what makes a reading cost the same however long the history.

A point is stored once as it is (tier 0) and once in each coarser tier, under the start of its block. The value at t is
the sum of whole blocks before t, each in the coarsest tier that fits, and of the points of the current hour.
"""

from services.metrics.facts import DAY, HOUR

SIZES = (1, HOUR, DAY, 32 * DAY, 1024 * DAY)
"""Microseconds in a block of each tier; each is a multiple of the one before."""
COARSEST = len(SIZES) - 1

_BEGINNING = -(2**63)

Span = tuple[int, int, int]
"""Tier, first instant (inclusive), last instant (exclusive)."""


def spans(at: int) -> list[Span]:
    """What is to be summed up for the value at `at`: a few dozen rows of each tier at most."""
    found: list[Span] = []
    until = at
    for tier, coarser in enumerate(SIZES[1:]):
        since = at - at % coarser
        found.append((tier, since, until))
        until = since
    found.append((COARSEST, _BEGINNING, until))
    return found

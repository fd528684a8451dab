"""What is left to do now, and when there will be more."""

from datetime import datetime
from typing import NamedTuple

from libs.common.db import Tx


class Pending(NamedTuple):
    """Counts of what is due, and the next instant at which something will be."""

    timers: int
    messages: int
    claimed: int
    next_due_at: datetime | None


async def pending(tx: Tx, now: datetime) -> Pending:
    """As of `now`."""
    row = await tx.pg.fetchrow(
        """
        SELECT (SELECT count(*) FROM timers WHERE due_at <= $1) AS timers,
               (SELECT count(*) FROM messages WHERE state IN ('planned', 'held') AND next_at <= $1) AS messages,
               (SELECT count(*) FROM messages WHERE state = 'claimed') AS claimed,
               least((SELECT min(due_at) FROM timers),
                     (SELECT min(next_at) FROM messages WHERE state IN ('planned', 'held'))) AS next_due_at
        """,
        now,
    )
    assert row is not None  # noqa: S101 - an aggregate always answers
    return Pending(**dict(row))

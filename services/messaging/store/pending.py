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


async def put_off(tx: Tx) -> int:
    """How many messages wait since the mail relay did not take them. One that is being tried again is among them."""
    return int(
        await tx.pg.fetchval(
            """
            SELECT (SELECT count(*) FROM messages WHERE state = 'planned' AND reason = 'provider_away')
                 + (SELECT count(*) FROM messages WHERE state = 'claimed' AND attempts > 1)
            """
        )
    )


async def overdue(tx: Tx, now: datetime) -> dict[str, tuple[int, datetime | None]]:
    """How many timers and messages are due, and since when the oldest. What the gate holds back is not due."""
    row = await tx.pg.fetchrow(
        """
        SELECT t.n AS timers, t.oldest AS oldest_timer, m.n AS messages, m.oldest AS oldest_message
        FROM (SELECT count(*) AS n, min(due_at) AS oldest FROM timers WHERE due_at <= $1) t,
             (SELECT count(*) AS n, min(due_at) AS oldest FROM messages WHERE state = 'planned' AND due_at <= $1) m
        """,
        now,
    )
    assert row is not None  # noqa: S101 - an aggregate always answers
    return {"timers": (row["timers"], row["oldest_timer"]), "messages": (row["messages"], row["oldest_message"])}

"""The periodic `backlog`: tells Prometheus what is due and not done, and for how long."""

from datetime import datetime

from libs.common.db import Database
from libs.common.telemetry import gauge
from services.messaging.store.pending import overdue, put_off

BACKLOG_SECONDS = 15.0

DUE = gauge("regulars_messaging_due", "What is due and not done: timers, messages.", ["kind"])
OVERDUE = gauge("regulars_messaging_oldest_due_seconds", "How long the oldest of them has been due.", ["kind"])
PUT_OFF = gauge("regulars_messaging_put_off", "Messages that wait since the mail relay did not take them.")


class Backlog:
    """Counts, in the clock's own time: a message that waits for the relay stays due from when it was meant to go."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, now: datetime) -> bool:
        """One look; never asks to be run again at once."""
        async with self._database.reading() as tx:
            found = await overdue(tx, now)
            PUT_OFF.set(await put_off(tx))
        for kind, (count, since) in found.items():
            DUE.labels(kind).set(count)
            OVERDUE.labels(kind).set((now - since).total_seconds() if since else 0)
        return False

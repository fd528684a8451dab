"""The periodic `listening`: of which stores unusually long nothing has come."""

from datetime import datetime

from libs.common.db import Database
from libs.common.telemetry import gauge, get_logger
from services.ingest import seen
from services.ingest.silence import LEAST, silence

LISTENING_SECONDS = 60.0

SILENT = gauge("regulars_ingest_silent_stores", "Stores, not paused, of which unusually long nothing has come.")

log = get_logger(__name__)


class Listening:
    """Counts them, and names each once. Those of several workers tell the same: any of them may be asked."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._silent: set[tuple[str, str]] = set()

    async def run(self, now: datetime) -> bool:
        """One look at all stores."""
        async with self._database.transaction() as tx:
            # What has come and was not looked at yet is no silence of the store's.
            now -= await seen.lag(tx)
            told = {
                (each.tenant, each.store): silence(each.hours, each.zone, now)
                for each in await seen.not_heard_since(tx, now - LEAST)
            }
            await seen.prune_arrivals(tx)
        silent = {place: found for place, found in told.items() if found is not None and found.unusual}
        for (tenant, store), found in silent.items():
            if (tenant, store) not in self._silent:
                log.warning(
                    "store is unusually silent",
                    tenant=tenant,
                    store=store,
                    since=found.since.isoformat(),
                    expected=found.expected,
                )
        self._silent = {*silent}
        SILENT.set(len(silent))
        return False

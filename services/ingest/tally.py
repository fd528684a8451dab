"""What became of requests that left nothing in the journal: counted in memory, added to the database each second."""

import asyncio
from collections import Counter
from contextlib import suppress

from prometheus_client import Counter as Metric

from libs.common.db import Database, is_transient
from libs.common.telemetry import get_logger
from services.ingest import store
from services.ingest.registry import Registered

REFUSED = Metric("regulars_ingest_refused_total", "Webhooks that were refused.", ["reason"])
DUPLICATES = Metric("regulars_ingest_duplicates_total", "Webhooks and first-party events that had come before.")

DUPLICATE = "duplicate"
REASONS = ("bad_signature", "gone", "journal", "overloaded", "slow", "too_large", "unknown_store", "wrong_platform")
"""Why requests are refused. `journal` and `overloaded` are our fault (503), the others are the sender's."""
FLUSH_SECONDS = 1.0

for _reason in REASONS:
    # Shown as 0 from the start: an alert cannot see the first increment of a series that was not there.
    REFUSED.labels(_reason)

log = get_logger(__name__)


class Tally:
    """Counts for one API process. A crash loses a second of counting, and no delivery."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._flushing = asyncio.Lock()
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def refused(self, registered: Registered | None, reason: str) -> None:
        """A refused request; of an unknown store only the process' metric knows."""
        REFUSED.labels(reason).inc()
        if registered is not None:
            self._counts[registered.tenant, registered.key, reason] += 1

    def refused_page(self, registered: Registered, reason: str) -> None:
        """A refused request of a page: its beacons are told nothing, so that the merchant has to be."""
        self._counts[registered.tenant, registered.key, reason] += 1

    def duplicate(self, registered: Registered) -> None:
        """A request that repeated a delivery."""
        DUPLICATES.inc()
        self._counts[registered.tenant, registered.key, DUPLICATE] += 1

    def start(self) -> None:
        """Begins to flush; on the running loop."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Flushes once more and ends."""
        self._stop.set()
        if self._task is not None:
            await self._task

    async def flush(self) -> None:
        """Adds what was counted so far; on failure it stays counted here."""
        async with self._flushing:
            counts, self._counts = self._counts, Counter()
            if not counts:
                return
            try:
                async with self._database.transaction() as tx:
                    await store.add_request_counts(tx, counts)
            except BaseException:
                self._counts.update(counts)
                raise
            for (tenant, key, result), n in counts.items():
                if result != DUPLICATE:
                    log.warning("requests refused", tenant=tenant, store=key, reason=result, requests=n)

    async def _run(self) -> None:
        stopping = False
        while not stopping:
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_SECONDS):
                    await self._stop.wait()
            stopping = self._stop.is_set()
            try:
                await self.flush()
            except Exception as error:
                # They stay counted, and are tried again.
                if is_transient(error):
                    log.warning("counts not written", error=type(error).__name__)
                else:
                    log.exception("counts not written")

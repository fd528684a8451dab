"""The periodic `privacy watch`: for how long requests have waited for us, for Prometheus."""

from datetime import datetime

from libs.common.db import Database
from libs.common.telemetry import gauge
from libs.common.worker import Periodic
from services.ingest import privacy

EVERY_SECONDS = 30.0

OLDEST = gauge(
    "regulars_ingest_privacy_request_oldest_seconds",
    "For how long the oldest privacy request has waited to be done; 0 when none does.",
)


def privacy_watch(database: Database) -> Periodic:
    """`run` of several workers tells the same: any of them may be asked."""

    async def run(_now: datetime) -> bool:
        async with database.reading() as tx:
            OLDEST.set((await privacy.longest_wait(tx)).total_seconds())
        return False

    return Periodic("privacy watch", EVERY_SECONDS, run)

"""The periodic `subscriptions watch`: how it is with the webhooks that platforms have for us, for Prometheus."""

from datetime import datetime

from libs.common.db import Database
from libs.common.telemetry import gauge
from libs.common.worker import Periodic
from services.ingest import subscriptions
from services.ingest.wanted import STATES, WANTED

EVERY_SECONDS = 30.0

SUBSCRIPTIONS = gauge(
    "regulars_ingest_subscriptions",
    "Webhooks that platforms should have for us, of all stores, as they were last seen.",
    ["platform", "state"],
)


def subscriptions_watch(database: Database) -> Periodic:
    """`run` of several workers tells the same: any of them may be asked."""

    async def run(_now: datetime) -> bool:
        async with database.reading() as tx:
            counts = await subscriptions.counts(tx)
        for platform in WANTED:
            for state in STATES:
                SUBSCRIPTIONS.labels(platform, state).set(counts.get((platform, state), 0))
        return False

    return Periodic("subscriptions watch", EVERY_SECONDS, run)

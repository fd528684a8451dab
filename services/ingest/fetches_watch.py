"""The periodic `fetches watch`: how many shops cannot be asked, for Prometheus."""

from datetime import datetime
from typing import get_args

from libs.common.db import Database
from libs.common.telemetry import gauge
from libs.common.worker import Periodic
from services.ingest.fetches import Purpose
from services.ingest.wanted import WANTED

EVERY_SECONDS = 30.0
SOME = 3
"""Failures in a row that are no longer a shop's hiccup."""

FAILING = gauge(
    "regulars_ingest_fetches_failing",
    "Stores whose newest fetch of a purpose is refused, has failed several times in a row, or was given up.",
    ["platform", "purpose"],
)


def fetches_watch(database: Database) -> Periodic:
    """`run` of several workers tells the same: any of them may be asked."""

    async def run(_now: datetime) -> bool:
        async with database.reading() as tx:
            rows = await tx.pg.fetch(_LOOK, [*get_args(Purpose)], SOME)
        counts = {(row["platform"], row["purpose"]): row["n"] for row in rows}
        for platform in WANTED:
            for purpose in get_args(Purpose):
                FAILING.labels(platform, purpose).set(counts.get((platform, purpose), 0))
        return False

    return Periodic("fetches watch", EVERY_SECONDS, run)


# Stores that took their credentials back, or have none, are nobody's to ask.
_LOOK = """
    SELECT s.platform, f.purpose, count(*) AS n
    FROM credentials c JOIN stores s ON s.tenant = c.tenant AND s.key = c.store
    CROSS JOIN unnest($1::text[]) AS p(purpose)
    CROSS JOIN LATERAL (
        SELECT purpose, state, failures FROM fetches
        WHERE tenant = c.tenant AND store = c.store AND purpose = p.purpose ORDER BY until DESC LIMIT 1
    ) f
    WHERE c.state <> 'gone' AND (
        f.state = 'failed' OR f.state IN ('waiting', 'running') AND (f.failures >= $2 OR c.reason IS NOT NULL)
    )
    GROUP BY 1, 2
    """

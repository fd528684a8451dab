"""What a producer's worker does for its log and its API, beside its main work."""

from datetime import datetime

from libs.common.clock import SystemClock
from libs.common.contracts.topics import Topic
from libs.common.db import Database
from libs.common.log.schema import keep_log
from libs.common.telemetry import get_logger
from libs.common.web.idempotency import forget_answers
from libs.common.worker import Periodic

log = get_logger(__name__)

HOUR = 3600.0


def log_upkeep(database: Database, *topics: Topic) -> Periodic:
    """Each hour: makes the tables of the coming weeks, drops those past retention, forgets answers of days before."""
    # Retention goes by wall time even under a driven clock: the log is dated by the database.
    wall = SystemClock()

    async def run(_now: datetime) -> bool:
        for topic in topics:
            for table in await keep_log(database, topic, wall.now()):
                log.info("retention dropped", table=table)
        await forget_answers(database)
        return False

    return Periodic("log upkeep", HOUR, run)

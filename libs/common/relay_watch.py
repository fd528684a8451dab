"""The periodic `relay watch`: who ships a service's log to Kafka, and how far that is, as the service's database knows.

The relay tells the same of itself, but one that does not run tells nothing.
"""

from datetime import datetime

from libs.common.db import Database
from libs.common.log.base import Log
from libs.common.log.choice import RELAY, Logs
from libs.common.pipeline import standing
from libs.common.settings import CommonSettings
from libs.common.telemetry import gauge
from libs.common.worker import Periodic

EVERY_SECONDS = 15.0

WORKERS = gauge("regulars_relay_workers", "Relays of the service's log that give a sign of life.", ["service"])
UNSENT = gauge("regulars_relay_unsent_records", "Records of the service's log that Kafka has not got.", ["topic"])
OLDEST = gauge("regulars_relay_oldest_unsent_seconds", "Age of the oldest of them; 0 when there is none.", ["topic"])


def relay_watch(settings: CommonSettings, database: Database, log: Log) -> list[Periodic]:
    """For the worker of a service whose topics are relayed; nothing where there is no Kafka. `log`: the shared one."""
    if settings.log != "kafka":
        return []
    logs = Logs.around(database, log)

    async def run(_now: datetime) -> bool:
        stands = await standing(database, logs, [RELAY])
        WORKERS.labels(database.schema).set(len(stands.workers))
        for progress in stands.consumers:
            ages = [place.oldest_unprocessed_seconds or 0.0 for place in progress.partitions]
            UNSENT.labels(progress.topic).set(sum(place.lag for place in progress.partitions))
            OLDEST.labels(progress.topic).set(max(ages, default=0.0))
        return False

    return [Periodic("relay watch", EVERY_SECONDS, run)]

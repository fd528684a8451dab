"""The worker role of metrics: the fold, and the watch over it."""

import asyncio
from collections.abc import Callable

from libs.common.clock import Clock, clock_from
from libs.common.contracts.topics import CUSTOMERS, MESSAGES
from libs.common.database_watch import database_watch
from libs.common.db import Database
from libs.common.log.base import Log
from libs.common.log.choice import shared_log
from libs.common.worker import Consumer, Limits, Periodic, Worker
from services.metrics.handlers import on_facts
from services.metrics.settings import CONSUMER, SCHEMA, MetricsSettings
from services.metrics.verify import Watch


def worker(settings: MetricsSettings, database: Database, clock: Clock, log: Log) -> Worker:
    """The service's worker."""
    return Worker(
        database,
        log,
        clock,
        consumers=[Consumer(CONSUMER, (CUSTOMERS, MESSAGES), on_facts, settings.metrics_batch_size)],
        periodics=[Periodic("verify", settings.metrics_verify_seconds, Watch(database).run), database_watch(database)],
        limits=Limits(burst=settings.dead_letter_burst),
    )


async def run(settings: MetricsSettings, stop: asyncio.Event, begun: Callable[[Worker], None]) -> None:
    """Works until `stop` is set. `begun` gets to know the worker, to tell others how it is."""
    database = Database(settings.database_url, schema=SCHEMA, pool_size=settings.pool_size)
    log = shared_log(settings, database, CONSUMER)
    try:
        working = worker(settings, database, clock_from(settings.clock_path), log)
        begun(working)
        await working.run(stop)
    finally:
        await log.close()
        await database.close()

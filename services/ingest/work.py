"""Ingest's worker role: the normaliser, replays, and the upkeep of the log."""

import asyncio
from collections.abc import Callable

from libs.common.clock import Clock, clock_from
from libs.common.contracts.topics import COMMERCE, JOURNAL
from libs.common.database_watch import database_watch
from libs.common.db import Database
from libs.common.log.base import Log
from libs.common.log.postgres import PostgresLog
from libs.common.upkeep import log_upkeep
from libs.common.worker import Consumer, Periodic, Worker
from services.ingest.archive import CONSUMER
from services.ingest.handlers import on_deliveries_received
from services.ingest.replaying import REPLAYS_SECONDS, Replays
from services.ingest.settings import SCHEMA, IngestSettings


def worker(settings: IngestSettings, database: Database, clock: Clock, log: Log) -> Worker:
    """What turns deliveries into observations."""
    normalise = Consumer(CONSUMER, (JOURNAL,), on_deliveries_received, settings.normalise_batch_size)
    periodics = [
        Periodic("replays", REPLAYS_SECONDS, Replays(database, batch=settings.replay_rate).run),
        log_upkeep(database, JOURNAL, COMMERCE),
        database_watch(database),
    ]
    return Worker(database, log, clock, consumers=[normalise], periodics=periodics)


async def run(settings: IngestSettings, stop: asyncio.Event, begun: Callable[[Worker], None]) -> None:
    """Works until `stop` is set. `begun` gets to know the worker, to tell others how it is."""
    database = Database(settings.database_url, schema=SCHEMA, pool_size=settings.pool_size)
    log = PostgresLog(database)
    try:
        working = worker(settings, database, clock_from(settings.clock_path), log)
        begun(working)
        await working.run(stop)
    finally:
        await log.close()
        await database.close()

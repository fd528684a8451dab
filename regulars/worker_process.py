"""All workers in one process: `python -m regulars.worker_process LINK`, started by `regulars run`."""

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack

import uvloop

from libs.common.clock import Clock, clock_from
from libs.common.db import Database
from libs.common.log.base import Log
from libs.common.log.choice import shared_log
from libs.common.log.postgres import PostgresLog
from libs.common.settings import CommonSettings
from libs.common.telemetry import configure_logging, get_logger
from libs.common.worker import Worker
from regulars.garbage import THRESHOLD_OF_WORKERS, settle
from regulars.parts import database, settings_told
from regulars.relaying import relays
from regulars.supervisor import Link
from services.ingest.settings import IngestSettings
from services.ingest.work import worker as ingest
from services.messaging.settings import CONSUMER as MESSAGING
from services.messaging.settings import MessagingSettings
from services.messaging.work import worker as messaging
from services.metrics.settings import CONSUMER as METRICS
from services.metrics.settings import MetricsSettings
from services.metrics.work import worker as metrics
from services.profiles.settings import CONSUMER as PROFILES
from services.profiles.settings import ProfilesSettings
from services.profiles.work import worker as profiles

NICE = 5
"""Answering webhooks comes first when both want the processor."""
READING = 2
"""Connections over which all consumers read the log; a read takes a millisecond."""

log = get_logger("regulars.worker_process")


async def work(link: Link) -> None:
    """Runs every service's worker until SIGTERM or until the parent is gone."""
    stop = asyncio.Event()
    link.stop_with_parent(stop)
    settings = CommonSettings()
    configure_logging(settings.log_level)
    clock = clock_from(settings.clock_path)
    async with AsyncExitStack() as opened:
        # One reader of PostgreSQL's log for all: four would hold four times the connections.
        reading = Database(settings.database_url, schema="log", pool_size=READING)
        own_log = PostgresLog(reading)
        opened.push_async_callback(reading.close)
        opened.push_async_callback(own_log.close)

        def around(service: str, consumer: str | None = None) -> tuple[Database, Clock, Log]:
            own = database(service)
            opened.push_async_callback(own.close)
            if consumer is None or settings.log == "postgres":
                return own, clock, own_log
            shared = shared_log(settings, own, consumer)
            opened.push_async_callback(shared.close)
            return own, clock, shared

        workers = [
            ingest(IngestSettings(), *around("ingest")),
            profiles(ProfilesSettings(), *around("profiles", PROFILES)),
            metrics(MetricsSettings(), *around("metrics", METRICS)),
            messaging(MessagingSettings(), *around("messaging", MESSAGING)),
        ]
        if settings.log == "kafka":
            workers += await opened.enter_async_context(relays(settings, clock))
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(tell_ready(workers, link))
            await asyncio.wait([group.create_task(worker.run(stop)) for worker in workers])
            telling.cancel()
    log.info("drained")


async def tell_ready(workers: Sequence[Worker], link: Link) -> None:
    """Once each worker has its partitions."""
    for worker in workers:
        await worker.joined.wait()
    settle(THRESHOLD_OF_WORKERS)
    link.ready()


def main() -> None:
    """The process."""
    os.nice(NICE)
    link = Link(int(sys.argv[1]))
    link.receive_environment()
    with settings_told():
        uvloop.run(work(link))


if __name__ == "__main__":
    main()

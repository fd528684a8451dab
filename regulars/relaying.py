"""The relays of one process: a worker for each service that produces, each with a producer of its own."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from libs.common.clock import Clock
from libs.common.contracts.topics import relayed
from libs.common.log.postgres import PostgresLog
from libs.common.settings import CommonSettings
from libs.common.worker import Worker
from regulars.parts import database
from regulars.schemas import SERVICES


@asynccontextmanager
async def relays(
    settings: CommonSettings, clock: Clock, services: Sequence[str] = SERVICES
) -> AsyncIterator[list[Worker]]:
    """Those of these services; to be run by the caller, who leaves when they have ended."""
    # Its client is much code, and who lives on PostgreSQL does without.
    from libs.common.log.kafka_client import Kafka
    from libs.common.relay import Publisher, relay_worker
    from libs.common.topic_keeper import keeper

    async with AsyncExitStack() as opened:
        kafka = Kafka.from_settings(settings)
        workers = []
        for service in services:
            if relayed(service):
                own = database(service)
                log = PostgresLog(own)
                publisher = Publisher(kafka)
                opened.push_async_callback(own.close)
                opened.push_async_callback(log.close)
                opened.push_async_callback(publisher.close)
                keeping = keeper(kafka, own, log, publisher)
                workers.append(relay_worker(own, log, clock, publisher, [keeping]))
        yield workers

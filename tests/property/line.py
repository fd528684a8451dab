"""The whole line in one process: the journal at one end, the API at the other, every worker between them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import msgspec

from libs.common.clock import Clock, DrivenClock
from libs.common.contracts.journal import Delivery
from libs.common.contracts.topics import JOURNAL
from libs.common.db import Database
from libs.common.ids import derived_id
from libs.common.log.base import Event, Log
from libs.common.log.choice import shared_log
from libs.common.log.kafka_client import Kafka
from libs.common.log.kafka_topics import make_topics
from libs.common.log.postgres import PostgresLog, append
from libs.common.settings import CommonSettings
from libs.common.worker import Limits, Worker
from regulars.parts import database
from regulars.relaying import relays
from regulars.schemas import SERVICES
from services.ingest import events
from services.ingest.events import FirstPartyEvent
from services.ingest.journal import event_of
from services.ingest.normalise import root_key
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
from tests.e2e.api import Api, open_api
from tests.waiting import eventually

QUICK = Limits(patience=0.02)


class Line:
    """A running line. Times are the driven clock's."""

    def __init__(self, api: Api, databases: Mapping[str, Database], clock: DrivenClock) -> None:
        self.api = api
        self._databases = databases
        self._clock = clock

    async def deliver(self, arrivals: Sequence[tuple[Delivery, datetime, str]]) -> None:
        """Journals deliveries in this order: what, when it was received, a name for its id."""
        journalled = [journal_event(*arrival) for arrival in arrivals]
        async with self._databases["ingest"].transaction() as tx:
            await append(tx, JOURNAL, journalled)
        await self.drained()

    def database(self, service: str) -> Database:
        """The service's own schema."""
        return self._databases[service]

    async def advance(self, now: datetime) -> None:
        """Moves the clock and waits until all that this makes due has happened."""
        self._clock.set(now)
        await self.drained()

    async def drained(self) -> None:
        """Twice in a row, since the last service tells the first ones."""

        async def all_drained() -> bool:
            for _ in range(2):
                for service in SERVICES:
                    answer = await self.api.admin.get(f"/v1/pipeline/{service}")
                    # A Kafka that is slow to answer says nothing of how far anybody is.
                    if answer.status_code == 503 or not answer.raise_for_status().json()["drained"]:
                        return False
            return True

        await eventually(all_drained, timeout=60)

    async def all(self, path: str) -> list[dict[str, Any]]:
        """Every row of a listing."""
        rows: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = await self.get(f"{path}{'&' if '?' in path else '?'}limit=250{cursor}")
            rows += page["data"]
            if page["next"] is None:
                return rows
            cursor = f"&cursor={page['next']}"

    async def get(self, path: str) -> Any:
        """One answer."""
        return (await self.api.admin.get(path)).raise_for_status().json()


def journal_event(delivery: Delivery, received_at: datetime, name: str) -> Event:
    """As the routes of webhooks and events write it."""
    id_, root = derived_id("test", name), root_of(delivery)
    return event_of(delivery, id=id_, tenant="default", root=root, time=received_at, traceparent=None)


def root_of(delivery: Delivery) -> str:
    """Its root object."""
    if delivery.platform in events.SENDERS:
        return events.root(msgspec.json.decode(delivery.body, type=FirstPartyEvent))
    return root_key(delivery.platform, delivery.topic, delivery.body)


@asynccontextmanager
async def running_line(clock: DrivenClock, *, batch_size: int) -> AsyncIterator[Line]:
    """Starts all workers and the API, with the settings of the environment."""
    settings = CommonSettings()
    stop = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        databases = {service: database(service) for service in SERVICES}
        for opened in databases.values():
            stack.push_async_callback(opened.close)
        own = PostgresLog(databases["ingest"])
        stack.push_async_callback(own.close)

        def around(service: str, consumer: str | None = None) -> tuple[Database, Clock, Log]:
            log: Log = own
            if consumer is not None and settings.log == "kafka":
                log = shared_log(settings, databases[service], consumer)
                stack.push_async_callback(log.close)
            return databases[service], clock, log

        workers = [
            ingest(IngestSettings(), *around("ingest")),
            profiles(ProfilesSettings(), *around("profiles", PROFILES)),
            metrics(MetricsSettings(), *around("metrics", METRICS)),
            messaging(MessagingSettings(), *around("messaging", MESSAGING)),
        ]
        if settings.log == "kafka":
            await make_topics(Kafka.from_settings(settings))
            workers += await stack.enter_async_context(relays(settings, clock))
        api = await stack.enter_async_context(open_api(clock))
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(_quick(worker, batch_size).run(stop))
            try:
                yield Line(api, databases, clock)
            finally:
                stop.set()


def _quick(worker: Worker, batch_size: int) -> Worker:
    worker.limits = QUICK
    for consumer in worker.consumers:
        consumer.batch_size = batch_size
    return worker

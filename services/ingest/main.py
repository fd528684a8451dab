"""Ingest's HTTP role."""

from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from fastapi import APIRouter, FastAPI
from starlette.routing import Route

from libs.common.clock import Clock, clock_from
from libs.common.crypto import Keyring
from libs.common.db import Database
from libs.common.web import Service, build_app
from services.ingest import (
    api,
    browser_api,
    connection_api,
    deleting_api,
    events_api,
    export_api,
    fetch_api,
    fetches,
    privacy,
    privacy_api,
    public_keys_api,
    replays,
    replays_api,
)
from services.ingest.archive import CONSUMER
from services.ingest.callers import Throttle, networks
from services.ingest.edge import Crowd, Edge
from services.ingest.settings import SCHEMA, IngestSettings
from services.ingest.webhooks import PATH, Limits

MIGRATIONS = Path(__file__).with_name("migrations")

router = APIRouter()
# Routes are looked through in this order: the busiest first, an export and replays before a delivery of that name.
for part in (
    browser_api,
    export_api,
    replays_api,
    api,
    deleting_api,
    fetch_api,
    connection_api,
    events_api,
    public_keys_api,
    privacy_api,
):
    router.include_router(part.router)


def service(settings: IngestSettings, database: Database, clock: Clock) -> Service:
    """Ingest, to be put behind an address."""
    edge = Edge.build(
        database,
        clock,
        Keyring.from_settings(settings),
        public_url=settings.public_url,
        limits=Limits(settings.webhook_max_body, settings.webhook_body_seconds, settings.webhook_reading_bytes),
        crowd=Crowd(
            networks(settings.trusted_proxies or ""),
            Throttle(settings.browser_address_rate),
            Throttle(settings.browser_key_rate),
        ),
        pause=timedelta(seconds=1 / settings.fetch_rate),
        bulk_above=settings.fetch_bulk_above,
        private_addresses=settings.fetch_private_addresses,
        junk=settings.junk,
        wait=settings.journal_wait_seconds,
        queue_length=settings.journal_queue_length,
        queue_bytes=settings.journal_queue_bytes,
    )
    return Service(
        name=SCHEMA,
        router=router,
        database=database,
        state=edge,
        consumers=(CONSUMER,),
        migrations=MIGRATIONS,
        # The route is there for who asks by another method: 405.
        routes=[Route(PATH, edge.endpoint, methods=["POST"])],
        body_limits={browser_api.PATH: browser_api.LARGEST_BODY},
        for_pages={browser_api.PATH: partial(browser_api.may_ask, edge)},
        webhooks=edge.endpoint,
        short_way=edge.endpoint.whole,
        start=edge.start,
        stop=edge.stop,
        pending=partial(pending, database),
    )


async def pending(database: Database, _now: datetime) -> list[str]:
    """Work that no position shows, in words."""
    async with database.reading() as tx:
        counts = {
            "replays": await replays.open_count(tx),
            "backfills": await fetches.open_backfills(tx),
            "privacy requests": await privacy.open_count(tx),
        }
    return [f"{count} {name}" for name, count in counts.items() if count]


def create_app(settings: IngestSettings) -> FastAPI:
    """Ingest alone."""
    clock = clock_from(settings.clock_path)
    database = Database(settings.database_url, schema=SCHEMA, pool_size=settings.pool_size)
    return build_app([service(settings, database, clock)], settings=settings, clock=clock)

"""The HTTP role of messaging."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from fastapi import FastAPI

from libs.common.clock import Clock, clock_from
from libs.common.crypto import Keyring
from libs.common.db import Database
from libs.common.web import Service, build_app
from services.messaging.api import Messaging, router
from services.messaging.settings import CONSUMER, SCHEMA, MessagingSettings
from services.messaging.store.pending import Pending
from services.messaging.store.pending import pending as pending_now
from services.messaging.unsubscribing import pages

MIGRATIONS = Path(__file__).with_name("migrations")


def service(settings: MessagingSettings, database: Database, clock: Clock) -> Service:
    """What this service adds to an app."""

    async def words(now: datetime) -> Sequence[str]:
        return told(await pending(database, now))

    return Service(
        name=SCHEMA,
        router=router,
        database=database,
        state=Messaging(database, clock),
        consumers=(CONSUMER,),
        migrations=MIGRATIONS,
        routes=pages(database, clock, Keyring.from_settings(settings)),
        pending=words,
    )


async def pending(database: Database, now: datetime) -> Pending:
    """What is due and not done, and the next instant at which something will be due."""
    async with database.reading() as tx:
        return await pending_now(tx, now)


def told(left: Pending) -> list[str]:
    """What is left to do, in words; empty when nothing is."""
    counts = {"timers due": left.timers, "messages to send": left.messages, "messages being sent": left.claimed}
    return [f"{count} {what}" for what, count in counts.items() if count]


def create_app(settings: MessagingSettings) -> FastAPI:
    """The app of this service alone."""
    database = Database(settings.database_url, schema=SCHEMA, pool_size=settings.pool_size)
    clock = clock_from(settings.clock_path)
    return build_app([service(settings, database, clock)], settings=settings, clock=clock)

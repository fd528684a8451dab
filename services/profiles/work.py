"""Profiles' worker role."""

import asyncio
from collections.abc import Callable
from functools import partial

from libs.common.clock import Clock, clock_from
from libs.common.contracts.topics import COMMERCE, CUSTOMERS, MESSAGES
from libs.common.database_watch import database_watch
from libs.common.db import Database
from libs.common.log.base import Log
from libs.common.log.choice import shared_log
from libs.common.relay_watch import relay_watch
from libs.common.upkeep import log_upkeep
from libs.common.worker import Consumer, Limits, Worker
from services.profiles.handlers import Rules, handle
from services.profiles.settings import CONSUMER, SCHEMA, ProfilesSettings


def rules_of(settings: ProfilesSettings) -> Rules:
    """The settings as values."""
    return Rules(
        junk=settings.junk,
        fanout={
            "email": settings.identity_fanout,
            "phone": settings.identity_fanout,
            "cart": settings.identity_token_fanout,
            "checkout": settings.identity_token_fanout,
        },
    )


def worker(settings: ProfilesSettings, database: Database, clock: Clock, log: Log) -> Worker:
    """What turns observations into facts."""
    handler = partial(handle, rules=rules_of(settings))
    consumer = Consumer(CONSUMER, (COMMERCE, MESSAGES), handler, settings.profiles_batch_size)
    periodics = [log_upkeep(database, CUSTOMERS), database_watch(database), *relay_watch(settings, database, log)]
    limits = Limits(burst=settings.dead_letter_burst)
    return Worker(database, log, clock, consumers=[consumer], periodics=periodics, limits=limits)


async def run(settings: ProfilesSettings, stop: asyncio.Event, begun: Callable[[Worker], None]) -> None:
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

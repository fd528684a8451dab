"""The worker role of messaging: the consumer, the timers and the sender."""

import asyncio
import math
from collections.abc import Callable, Iterator
from datetime import datetime

from libs.common.auth import DEFAULT_TENANT
from libs.common.barrier import Barrier, Stage
from libs.common.clock import Clock, clock_from
from libs.common.contracts.topics import COMMERCE, CUSTOMERS, JOURNAL, MESSAGES
from libs.common.crypto import Keyring
from libs.common.database_watch import database_watch
from libs.common.db import Database
from libs.common.log.base import Log
from libs.common.log.choice import shared_log
from libs.common.relay_watch import relay_watch
from libs.common.upkeep import log_upkeep
from libs.common.worker import Consumer, Limits, Periodic, Worker
from services.messaging.backlog import BACKLOG_SECONDS, Backlog
from services.messaging.handlers import on_customers
from services.messaging.mail import Identity
from services.messaging.sender import Sender
from services.messaging.settings import CONSUMER, SCHEMA, MessagingSettings
from services.messaging.smtp import Mailer, Relay
from services.messaging.timers import Timers

COMMANDS = 6
"""SMTP commands that one mail may take, each up to the time limit: connect, login, MAIL, RCPT, DATA, RSET."""


def worker(settings: MessagingSettings, database: Database, clock: Clock, log: Log) -> Worker:
    """The service's worker."""
    planned = asyncio.Event()
    timers = Timers(database, batch=settings.timers_batch_size, planned=planned)
    sender = Sender(
        database,
        clock,
        Mailer(relay(settings)),
        Keyring.from_settings(settings),
        identity(settings),
        batch=settings.send_batch_size,
        lease=lease(settings),
    )
    barrier = Barrier(database, [Stage(JOURNAL, "ingest"), Stage(COMMERCE, "profiles"), Stage(CUSTOMERS, SCHEMA)])

    async def fire(now: datetime) -> bool:
        return await timers.run(await barrier.cleared(now))

    async def send(now: datetime) -> bool:
        return await sender.run(now, until=await barrier.cleared(now))

    return Worker(
        database,
        log,
        clock,
        consumers=[Consumer(CONSUMER, (CUSTOMERS,), on_customers, settings.messaging_batch_size)],
        periodics=[
            Periodic("timers", settings.timers_seconds, fire),
            Periodic("sender", settings.timers_seconds, send, planned),
            Periodic("backlog", BACKLOG_SECONDS, Backlog(database).run),
            log_upkeep(database, MESSAGES),
            database_watch(database),
            *relay_watch(settings, database, log),
        ],
        limits=Limits(burst=settings.dead_letter_burst),
    )


def relay(settings: MessagingSettings) -> Relay:
    """The mail relay that the settings name."""
    password = settings.smtp_password
    return Relay(
        host=settings.smtp_host,
        port=settings.smtp_port,
        username=settings.smtp_username,
        password=password.get_secret_value() if password else None,
        tls=settings.smtp_tls,
        timeout=settings.smtp_timeout,
        connections=settings.smtp_connections,
    )


def identity(settings: MessagingSettings) -> Identity:
    """In whose name mail leaves."""
    return Identity(
        address=settings.mail_from,
        public_url=settings.public_url,
        signed_domains=frozenset(_signed(settings.mail_domains)),
        postal_address=settings.postal_address,
        unsubscribe_mailto=settings.unsubscribe_mailto,
    )


def _signed(domains: str) -> Iterator[tuple[str, str]]:
    """Tenant and domain, of the setting."""
    for each in domains.replace(",", " ").split():
        tenant, _, domain = each.rpartition(":")
        yield tenant or DEFAULT_TENANT, domain.lower()


def lease(settings: MessagingSettings) -> float:
    """Seconds after which a claim without an answer belongs to a dead worker: longer than a batch can take."""
    turns = math.ceil(settings.send_batch_size / settings.smtp_connections)
    return 60 + turns * COMMANDS * settings.smtp_timeout


async def run(settings: MessagingSettings, stop: asyncio.Event, begun: Callable[[Worker], None]) -> None:
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

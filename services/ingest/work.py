"""Ingest's worker role: the normaliser, replays, fetches, privacy requests, and the upkeep of the log."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

from libs.common.clock import Clock, clock_from
from libs.common.contracts.topics import COMMERCE, JOURNAL
from libs.common.crypto import Keyring
from libs.common.database_watch import database_watch
from libs.common.db import Database
from libs.common.log.base import Log
from libs.common.log.postgres import PostgresLog
from libs.common.relay_watch import relay_watch
from libs.common.upkeep import log_upkeep
from libs.common.worker import Consumer, Limits, Periodic, Worker
from services.ingest.archive import CONSUMER
from services.ingest.connecting import watcher
from services.ingest.fetches_watch import fetches_watch
from services.ingest.fetching import FETCHES_SECONDS, Fetching, Rhythm
from services.ingest.handlers import kind_of_record, on_deliveries_received
from services.ingest.listening import LISTENING_SECONDS, Listening
from services.ingest.opening import opener
from services.ingest.privacy_watch import privacy_watch
from services.ingest.redacting import PRIVACY_SECONDS, PrivacyRequests
from services.ingest.replaying import REPLAYS_SECONDS, Replays
from services.ingest.retention import journal_upkeep
from services.ingest.settings import SCHEMA, IngestSettings
from services.ingest.subscriptions_watch import subscriptions_watch


def worker(settings: IngestSettings, database: Database, clock: Clock, log: Log) -> Worker:
    """What turns deliveries into observations."""
    normalise = Consumer(
        CONSUMER, (JOURNAL,), on_deliveries_received, settings.normalise_batch_size, kind=kind_of_record
    )
    privacy_requests = PrivacyRequests(database, Keyring.from_settings(settings), rate=settings.privacy_rate)
    periodics = [
        Periodic("replays", REPLAYS_SECONDS, Replays(database, batch=settings.replay_rate).run),
        Periodic("privacy requests", PRIVACY_SECONDS, privacy_requests.run),
        privacy_watch(database),
        *_fetching(settings, database),
        subscriptions_watch(database),
        Periodic("listening", LISTENING_SECONDS, Listening(database).run),
        log_upkeep(database, COMMERCE),
        journal_upkeep(database, settings.journal_retention),
        database_watch(database),
        *relay_watch(settings, database, log),
    ]
    limits = Limits(burst=settings.dead_letter_burst)
    return Worker(database, log, clock, consumers=[normalise], periodics=periodics, limits=limits)


def _fetching(settings: IngestSettings, database: Database) -> list[Periodic]:
    if not settings.fetch_concurrency:
        return []
    rhythm = Rhythm(
        every=timedelta(minutes=settings.reconcile_minutes),
        overlap=timedelta(minutes=settings.reconcile_overlap_minutes),
        grace=timedelta(minutes=settings.reconcile_grace_minutes),
        pause=timedelta(seconds=1 / settings.fetch_rate),
    )
    open_platform = opener(
        Keyring.from_settings(settings),
        bulk_above=settings.fetch_bulk_above,
        inside=settings.fetch_private_addresses,
    )
    watch = watcher(database, settings.public_url.rstrip("/"))
    fetching = Fetching(database, rhythm, open_platform, at_one_time=settings.fetch_concurrency, watch=watch)
    # Shops are slow: one that hangs keeps one of them busy, and no other shop waiting.
    each = [Periodic(f"fetches {n}", FETCHES_SECONDS, fetching.run) for n in range(settings.fetch_concurrency)]
    return [Periodic("reconciliation", FETCHES_SECONDS, fetching.plan), *each, fetches_watch(database)]


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

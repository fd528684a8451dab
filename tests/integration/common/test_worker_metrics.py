"""What Prometheus is told: by a consumer that halted too, of the database, and of what messaging has yet to do."""

import asyncio
from datetime import timedelta

from prometheus_client import REGISTRY

from libs.common.clock import DrivenClock, SystemClock
from libs.common.contracts.topics import COMMERCE
from libs.common.database_watch import database_watch
from libs.common.db import Database
from libs.common.log.choice import RELAY
from libs.common.log.postgres import PostgresLog, append
from libs.common.relay_watch import relay_watch
from libs.common.settings import CommonSettings
from libs.common.worker import Batch, Consumer, Limits, Worker
from services.messaging.backlog import Backlog
from tests.contract.logs import event
from tests.waiting import eventually


def shown(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_a_halted_consumer_shows_what_waits_for_it(ingest_db: Database, profiles_db: Database) -> None:
    async def refuse(batch: Batch) -> None:
        for record in batch.records:
            batch.reject(record, "no good")

    async with ingest_db.transaction() as tx:
        await append(tx, COMMERCE, [event(f"key {n}") for n in range(20)])
    name = "halting"
    log = PostgresLog(profiles_db)
    limits = Limits(patience=0.05, burst=5)
    worker = Worker(profiles_db, log, SystemClock(), consumers=[Consumer(name, (COMMERCE,), refuse)], limits=limits)
    stop = asyncio.Event()

    async def halted() -> bool:
        return shown("regulars_consumer_halted", consumer=name) == 1

    async def all_wait() -> bool:
        places = range(COMMERCE.partitions)
        lags = [
            shown("regulars_consumer_lag_records", consumer=name, topic="commerce", partition=str(p)) for p in places
        ]
        age = shown("regulars_consumer_oldest_unprocessed_seconds", consumer=name, topic="commerce")
        return sum(lags) == 20 and age > 0

    async with asyncio.TaskGroup() as group:
        group.create_task(worker.run(stop))
        await eventually(halted)
        await eventually(all_wait)
        stop.set()
    await log.close()
    assert shown("regulars_consumer_dead_letters_total", consumer=name) == 0


async def test_the_database_as_a_service_sees_it(messaging_db: Database, clock: DrivenClock) -> None:
    assert await database_watch(messaging_db).run(clock.now()) is False
    assert shown("regulars_database_size_bytes", service="messaging") > 1_000_000
    connections = shown("regulars_database_connections", service="messaging")
    assert 0 < connections <= shown("regulars_database_connections_max", service="messaging")
    assert shown("regulars_dead_letters_waiting", service="messaging") == 0
    async with messaging_db.transaction() as tx:
        await tx.pg.execute("SELECT 1")
        await database_watch(messaging_db).run(clock.now())
    assert shown("regulars_database_oldest_transaction_seconds", service="messaging") > 0


async def test_a_relay_that_does_not_run_is_seen_by_the_service_whose_log_it_ships(ingest_db: Database) -> None:
    settings = CommonSettings(log="kafka", kafka_servers="127.0.0.1:1")
    log = PostgresLog(ingest_db)
    assert relay_watch(CommonSettings(log="postgres"), ingest_db, log) == []
    (watch,) = relay_watch(settings, ingest_db, log)

    async def look() -> tuple[float | None, float, float]:
        await watch.run(SystemClock().now())
        workers = REGISTRY.get_sample_value("regulars_relay_workers", {"service": "ingest"})
        unsent = shown("regulars_relay_unsent_records", topic="commerce")
        return workers, unsent, shown("regulars_relay_oldest_unsent_seconds", topic="commerce")

    assert await look() == (0, 0, 0)
    worker = Worker(ingest_db, log, SystemClock(), consumers=[Consumer(RELAY, (COMMERCE,), _taken, copies=True)])
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.run(stop))
        await worker.joined.wait()
        assert await look() == (1, 0, 0)
        stop.set()
    async with ingest_db.transaction() as tx:
        await append(tx, COMMERCE, [event(f"key {n}") for n in range(20)])
    workers, unsent, oldest = await look()
    assert (workers, unsent) == (0, 20)
    assert oldest > 0
    await log.close()


async def _taken(_: Batch) -> None:
    return


async def test_what_messaging_has_yet_to_do(messaging_db: Database, clock: DrivenClock) -> None:
    async with messaging_db.transaction() as tx:
        await tx.pg.executemany(
            "INSERT INTO timers VALUES ('default', 'cart_abandonment', 's', $1, $2)",
            [("due", clock.now() - timedelta(minutes=20)), ("not yet", clock.now() + timedelta(hours=1))],
        )
    backlog = Backlog(messaging_db)
    await backlog.run(clock.now())
    assert shown("regulars_messaging_due", kind="timers") == 1
    assert shown("regulars_messaging_oldest_due_seconds", kind="timers") == 1200
    assert shown("regulars_messaging_due", kind="messages") == 0
    async with messaging_db.transaction() as tx:
        await tx.pg.execute("DELETE FROM timers")
    await backlog.run(clock.now())
    assert shown("regulars_messaging_oldest_due_seconds", kind="timers") == 0

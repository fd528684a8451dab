"""The line: who works, who stopped and why, how far each consumer is, and what fell out."""

from importlib import import_module

from libs.common.clock import clock_from
from libs.common.contracts.topics import relayed
from libs.common.db import Database
from libs.common.log.base import Halted
from libs.common.log.choice import RELAY, Logs, shared_log
from libs.common.log.postgres import PostgresLog
from libs.common.pipeline import Progress, Standing, standing
from regulars.doctor.finding import Finding, Ground, Level
from regulars.schemas import SERVICES
from services.messaging.store.pending import overdue

OLD_SECONDS = 60.0
"""As the objective has it (deploy/prometheus/rules/slo.yml)."""
TOO_OLD_SECONDS = 600.0
OVERDUE_SECONDS = 300.0
"""A third of what somebody is woken for (MessagesOverdue): who asks wants to know while it begins."""


def consumers(service: str) -> tuple[str, ...]:
    """Names of a service's consumers."""
    module = "archive" if service == "ingest" else "settings"
    return (import_module(f"services.{service}.{module}").CONSUMER,)


async def workers(ground: Ground) -> list[Finding]:
    """Each consumer has a living worker, none has stopped itself, and every partition is somebody's."""
    found: list[Finding] = []
    for service in SERVICES:
        database = Database(ground.url, schema=service, pool_size=1)
        try:
            stands = await _standing(ground, database, _running(ground, service))
        finally:
            await database.close()
        for consumer in _running(ground, service):
            found += _worked(service, consumer, stands)
            found += [_progress(service, each) for each in stands.consumers if each.consumer == consumer]
    return found


def _running(ground: Ground, service: str) -> tuple[str, ...]:
    """The service's consumers, and its relay where there is Kafka."""
    relays = ground.settings is not None and ground.settings.log == "kafka" and bool(relayed(service))
    return (*consumers(service), *([RELAY] if relays else []))


async def _standing(ground: Ground, database: Database, names: tuple[str, ...]) -> Standing:
    shared = shared_log(ground.settings, database) if ground.settings else PostgresLog(database)
    logs = Logs.around(database, shared)
    try:
        return await standing(database, logs, names)
    finally:
        await logs.own.close()
        await shared.close()


async def topics(ground: Ground) -> list[Finding]:
    """Kafka answers, and has our topics as they must be."""
    if ground.settings is None or ground.settings.log != "kafka":
        return [Finding("kafka", "ok", "not in use (REGULARS_LOG)")]
    # Its client is much code, and who lives on PostgreSQL does without.
    from libs.common.log.kafka_client import Kafka, KafkaAway
    from libs.common.log.kafka_topics import check_topics

    try:
        await check_topics(Kafka.from_settings(ground.settings))
    except KafkaAway as error:
        step = "deploy/runbooks/RelayBehind.md; webhooks are taken meanwhile, and nothing is lost"
        return [Finding("kafka", "failed", str(error), step)]
    except Halted as error:
        return [Finding("kafka", "failed", str(error), "docs/kafka.md has the repair")]
    return [Finding("kafka", "ok", "answers, and its topics are as they must be")]


def _worked(service: str, consumer: str, stands: Standing) -> list[Finding]:
    seen = [worker for worker in stands.workers if worker["consumer"] == consumer]
    places = [place for each in stands.consumers if each.consumer == consumer for place in each.partitions]
    unowned = sum(place.owner is None or place.owner not in {worker["worker"] for worker in seen} for place in places)
    found = [
        Finding(
            "workers",
            "failed",
            f"{consumer} is halted: {worker['reason']}",
            f"deploy/runbooks/ConsumerHalted.md: mend the reason, then restart `regulars work {service}`",
        )
        for worker in seen
        if worker["state"] == "halted"
    ]
    found += [
        Finding("workers", "warning", f"{consumer} waits: {worker['reason']}", "see what it waits for in its log")
        for worker in seen
        if worker["state"] == "retrying"
    ]
    if not seen:
        step = f"start `regulars work {service}` (or `regulars run`)"
        return [Finding("workers", "failed", f"nobody runs {consumer}", step)]
    if unowned:
        step = "a free partition is taken within ten seconds: ask again; then look into the workers' logs"
        found.append(Finding("workers", "warning", f"{consumer}: {unowned} of {len(places)} leases lapsed", step))
    return found or [Finding("workers", "ok", f"{consumer}: {len(seen)} at work, {len(places)} partitions owned")]


def _progress(service: str, progress: Progress) -> Finding:
    lag = sum(place.lag for place in progress.partitions)
    age = max((place.oldest_unprocessed_seconds or 0.0 for place in progress.partitions), default=0.0)
    told = f"{progress.consumer} on {progress.topic}: {lag} behind, the oldest for {age:.0f} s"
    if age <= OLD_SECONDS:
        return Finding("lag", "ok", told)
    level: Level = "failed" if age > TOO_OLD_SECONDS else "warning"
    step = f"deploy/runbooks/PipelineStale.md: is it halted? else more `regulars work {service}`, up to the partitions"
    return Finding("lag", level, told, step)


async def dead_letters(ground: Ground) -> list[Finding]:
    """What nobody has dealt with, by its most frequent reason."""
    found = []
    for service in SERVICES:
        database = Database(ground.url, schema=service, pool_size=1)
        try:
            async with database.reading() as tx:
                rows = await tx.pg.fetch(
                    "SELECT left(reason, 100) AS reason, count(*) AS n FROM dead_letters WHERE state = 'dead'"
                    " GROUP BY 1 ORDER BY 2 DESC"
                )
        finally:
            await database.close()
        if rows:
            told = f"{service}: {sum(row['n'] for row in rows)}, most often ({rows[0]['n']}): {rows[0]['reason']}"
            step = f"`REGULARS_KEY=… regulars dead-letters list {service}` (`--url` of the API), then replay or discard"
            found.append(Finding("dead letters", "warning", told, step))
    return found or [Finding("dead letters", "ok", "none")]


async def messages(ground: Ground) -> list[Finding]:
    """Timers and messages that are due and not done."""
    clock = clock_from(ground.settings.clock_path if ground.settings else None)
    database = Database(ground.url, schema="messaging", pool_size=1)
    try:
        async with database.reading() as tx:
            due = await overdue(tx, clock.now())
    finally:
        await database.close()
    found = []
    for kind, (count, since) in due.items():
        waited = (clock.now() - since).total_seconds() if since else 0.0
        told = f"{count} {kind} due, the oldest for {waited:.0f} s"
        if waited > OVERDUE_SECONDS:
            step = "deploy/runbooks/MessagesOverdue.md: does the mail relay answer, does `regulars work messaging` run?"
            found.append(Finding("messages", "warning", told, step))
        else:
            found.append(Finding("messages", "ok", told))
    return found

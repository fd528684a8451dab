"""The line: who works, who stopped and why, how far each consumer is, and what fell out."""

from importlib import import_module

import asyncpg

from libs.common.clock import clock_from
from libs.common.contracts.topics import JOURNAL, relayed
from libs.common.db import Database
from libs.common.log.base import Halted, Log
from libs.common.log.choice import RELAY, Logs, shared_log
from libs.common.log.postgres import PostgresLog
from libs.common.pipeline import Progress, Standing, standing
from libs.common.settings import CommonSettings
from regulars.doctor.database import connected
from regulars.doctor.finding import Finding, Ground, Level
from regulars.schemas import SERVICES
from services.messaging.store.pending import overdue, put_off

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
    told = _on_kafka(ground)
    relays = told or await _relay_seen(ground)
    # Positions in Kafka say nothing beside the ends of PostgreSQL's log.
    silent = "these settings do not name Kafka" if relays and not told else None
    for service in SERVICES:
        running = (*consumers(service), *([RELAY] if relays and relayed(service) else []))
        database = Database(ground.url, schema=service, pool_size=1)
        try:
            stands = None
            if told and silent is None:
                try:
                    stands = await _standing(database, shared_log(_given(ground), database), running)
                except ConnectionError:
                    # Asked once: it may take its time to say nothing.
                    silent = "Kafka does not answer"
            if stands is None:
                stands = await _standing(database, PostgresLog(database), running)
        finally:
            await database.close()
        for consumer in running:
            found += _worked(service, consumer, stands)
            found += [_progress(service, each, silent) for each in stands.consumers if each.consumer == consumer]
    return found


def _given(ground: Ground) -> CommonSettings:
    return ground.settings or CommonSettings.model_construct()


def _on_kafka(ground: Ground) -> bool:
    return ground.settings is not None and ground.settings.log == "kafka"


async def _relay_seen(ground: Ground) -> bool:
    """Whether a relay ships a service's log, or did within a day, as the database has it."""
    async with connected(ground.url) as pg:
        for service in SERVICES:
            if relayed(service) and await pg.fetchval(_RELAY_SEEN.format(service), RELAY):
                return True
    return False


_RELAY_SEEN = """
    SELECT EXISTS (SELECT FROM {0}.workers WHERE consumer = $1 AND seen_until > now())
        OR EXISTS (SELECT FROM {0}.positions WHERE consumer = $1 AND updated_at > now() - interval '1 day'
                   AND next_offset > 0)
    """


async def _standing(database: Database, shared: Log, names: tuple[str, ...]) -> Standing:
    logs = Logs.around(database, shared)
    try:
        return await standing(database, logs, names)
    finally:
        await logs.own.close()
        await shared.close()


async def topics(ground: Ground) -> list[Finding]:
    """Kafka answers, and has our topics as they must be."""
    if ground.settings is None or not _on_kafka(ground):
        try:
            seen = await _relay_seen(ground)
        except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError):
            seen = False  # the database's own checks say what is wrong with it
        if seen:
            step = "set REGULARS_LOG and REGULARS_KAFKA_* here as the services have them, and ask again"
            return [
                Finding("kafka", "warning", "not looked at: a relay ships to it, and these settings name none", step)
            ]
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
            f"deploy/runbooks/ConsumerHalted.md: mend the reason, then restart {_runs(service, consumer)}",
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
        step = f"start {_runs(service, consumer)} (or `regulars run`)"
        return [Finding("workers", "failed", f"nobody runs {consumer}", step)]
    if unowned:
        step = "a free partition is taken within ten seconds: ask again; then look into the workers' logs"
        found.append(Finding("workers", "warning", f"{consumer}: {unowned} of {len(places)} leases lapsed", step))
    return found or [Finding("workers", "ok", f"{consumer}: {len(seen)} at work, {len(places)} partitions owned")]


def _runs(service: str, consumer: str) -> str:
    return "`regulars relay`" if consumer == RELAY else f"`regulars work {service}`"


def _progress(service: str, progress: Progress, silent: str | None) -> Finding:
    """`silent`: why nobody knows how far the topics are that services share."""
    own = progress.consumer == RELAY or progress.topic == JOURNAL.name
    if silent is not None and not own:
        step = "see what is said of kafka above"
        return Finding("lag", "warning", f"{progress.consumer} on {progress.topic}: not known, {silent}", step)
    lag = sum(place.lag for place in progress.partitions)
    age = max((place.oldest_unprocessed_seconds or 0.0 for place in progress.partitions), default=0.0)
    told = f"{progress.consumer} on {progress.topic}: {lag} behind, the oldest for {age:.0f} s"
    if age <= OLD_SECONDS:
        return Finding("lag", "ok", told)
    level: Level = "failed" if age > TOO_OLD_SECONDS else "warning"
    step = "deploy/runbooks/PipelineStale.md: is it halted? else more workers"
    step += f" (`regulars run --worker-processes`, or `regulars work {service}`), up to the partitions"
    if progress.consumer == RELAY:
        step = "deploy/runbooks/RelayBehind.md: does Kafka answer? Is `regulars relay` halted?"
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
    """Timers and messages that are due and not done, and what the mail relay did not take."""
    clock = clock_from(ground.settings.clock_path if ground.settings else None)
    database = Database(ground.url, schema="messaging", pool_size=1)
    try:
        async with database.reading() as tx:
            due = await overdue(tx, clock.now())
            waiting = await put_off(tx)
    finally:
        await database.close()
    found = []
    if waiting:
        told = f"{waiting} wait: the mail relay did not take them"
        step = "deploy/runbooks/MailRelayFailing.md: `GET /v1/messages` has its words; REGULARS_SMTP_* of the worker"
        found.append(Finding("messages", "warning", told, step))
    for kind, (count, since) in due.items():
        waited = (clock.now() - since).total_seconds() if since else 0.0
        told = f"{count} {kind} due, the oldest for {waited:.0f} s"
        if waited > OVERDUE_SECONDS:
            step = "deploy/runbooks/MessagesOverdue.md: does the mail relay answer, does `regulars work messaging` run?"
            found.append(Finding("messages", "warning", told, step))
        else:
            found.append(Finding("messages", "ok", told))
    return found

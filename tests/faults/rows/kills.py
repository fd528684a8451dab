"""SIGKILL of any role, in a loop, under load."""

import asyncio
from collections.abc import Mapping

from regulars.local_kafka import LocalKafka
from tests.faults.kill import kill_run, under_fire
from tests.faults.ledger import SERVICES, Report
from tests.faults.promises import Shown, spread
from tests.faults.rows.asked import Asked
from tests.faults.scene import scene

VICTIMS: Mapping[str, int] = {
    "ingest-api": 10,
    **{f"{name}-api": 1 for name in SERVICES[1:]},
    **{f"{name}-worker": 15 for name in SERVICES},
    "relay": 16,
    "postgres": 6,
    "kafka": 2,
    "everything": 1,
}
AWAY = 3
"""So many may be away at a time."""
SMALL_BATCHES = {"REGULARS_SEND_BATCH_SIZE": "4"}
"""So that few mails are in doubt when their sender dies."""


async def apart(asked: Asked) -> Shown:
    """Each role a process, on Kafka."""
    async with scene(asked.folder, asked.nursery, settings=SMALL_BATCHES) as s:
        report = await under_fire(
            s.line,
            s.mailbox,
            s.clock,
            VICTIMS,
            kills=asked.kills,
            webhooks=asked.webhooks,
            seed=asked.seed,
            away=AWAY,
        )
        report.wrong += await asyncio.to_thread(s.line.died)
        shown = _shown(report)
        shown.seen.append("a role's process is forked from one that has its code imported, and runs the command itself")
    return shown


async def together(asked: Asked) -> Shown:
    """`regulars run --log kafka`: its supervisor, API, worker, PostgreSQL, and all at once. A twentieth of the size."""
    with LocalKafka(asked.folder / "kafka") as kafka:
        report = await kill_run(
            asked.folder,
            kills=max(10, asked.kills // 20),
            webhooks=max(600, asked.webhooks // 20),
            seed=asked.seed,
            options=["--log", "kafka"],
            environment={"REGULARS_KAFKA_SERVERS": kafka.servers()},
        )
    return _shown(report)


def _shown(report: Report) -> Shown:
    kills = ", ".join(f"{victim} {number}" for victim, number in sorted(report.kills.items()))
    shown = Shown(
        f"{report.kills.total()} SIGKILLs, {report.acknowledged} webhooks",
        back=spread(seconds for each in report.back.values() for seconds in each),
    )
    shown.judged(report)
    shown.seen = [
        f"killed: {kills}",
        f"answered 503: {report.unavailable}; connections broken: {report.broken}; sent again until answered 200",
        (
            f"{report.subscribers} abandoned checkouts, {report.mails} mails; claimed by a worker that died, in doubt"
            f" and not sent again: {report.in_doubt}"
        ),
        *(f"{victim} back after {spread(seconds)}" for victim, seconds in sorted(report.back.items())),
    ]
    if report.acknowledged != report.webhooks:
        shown.differences.append(f"{report.webhooks} webhooks were sent, {report.acknowledged} were acknowledged")
    return shown

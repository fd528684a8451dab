"""Topics that grow while roles are killed."""

import asyncio
import os
import random
import subprocess
import sys
from functools import partial
from time import monotonic

import asyncpg

from libs.common.contracts.topics import COMMERCE, CUSTOMERS, JOURNAL, PARTITIONS
from tests.faults.promises import Shown, spread
from tests.faults.rows.asked import Asked
from tests.faults.rows.workers import REVISIONS, disorder
from tests.faults.scene import PLACED, Scene, scene
from tests.faults.traffic import at_rate, orders
from tests.waiting import pause, until

GROWN = (COMMERCE, CUSTOMERS, JOURNAL)
"""One after the other, each to twice its partitions."""
BACK_SECONDS = 60.0
TRIES = 10
PAUSE_SECONDS = 0.5


async def growing(asked: Asked) -> Shown:
    """Orders are placed, and changed four times; with each of the first changes a topic grows, and kills go on."""
    chance = random.Random(asked.seed)
    many = max(50, asked.webhooks // (REVISIONS + 1))
    kills, cut_off = 0, 0
    grown: list[float] = []
    async with scene(asked.folder, asked.nursery) as s:
        victims = [*s.line.roles, "postgres", "kafka"]
        for revision in range(REVISIONS + 1):
            sending = asyncio.create_task(s.sender.send(orders(many, PLACED, revision), pace=at_rate(asked.rate)))
            topic = GROWN[revision - 1] if 0 < revision <= len(GROWN) else None
            growth = asyncio.create_task(asyncio.to_thread(_grow, s, topic.name)) if topic is not None else None
            while not sending.done():
                victim = chance.choice(victims)
                await asyncio.to_thread(s.line.kill, victim)
                await asyncio.to_thread(until, f"{victim} is back", partial(s.line.ready, victim), BACK_SECONDS)
                kills += 1
                await pause(PAUSE_SECONDS)
            await sending
            if growth is not None:
                seconds, again = await growth
                grown.append(seconds)
                cut_off += again
        report = await s.judged()
        wrong = [*await disorder(s.line.database_url, many), *await _unused(s.line.database_url)]
    shown = Shown(
        f"{kills} SIGKILLs, {len(grown)} topics grown, {many} orders with {REVISIONS} changes each",
        back=spread(grown),
        seen=[
            "back after: until `regulars partitions grow` had ended",
            f"growths that ended without success and were said again: {cut_off}",
            f"each order's facts: revisions 1 to {REVISIONS + 1}, in this order and each once",
        ],
        differences=wrong[:10],
    )
    shown.judged(report)
    return shown


def _grow(s: Scene, topic: str) -> tuple[float, int]:
    """Seconds until it was grown, and how often that had to be said again."""
    began = monotonic()
    words = ["partitions", "grow", "--topic", topic, "--to", str(2 * PARTITIONS)]
    said = ""
    for n in range(TRIES):
        done = subprocess.run(
            [sys.executable, "-m", "regulars", *words],
            env={**os.environ, **s.line.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0 or (n and "already" in done.stderr):
            return monotonic() - began, n
        said = done.stderr
    raise RuntimeError(f"{topic} does not grow: {said[-500:]}")


async def _unused(database_url: str) -> list[str]:
    """Topics whose new partitions have nothing but the record that opened them."""
    connection = await asyncpg.connect(database_url)
    try:
        found = []
        for topic in GROWN:
            table = f"{topic.producer}.log_{topic.name}"
            used = await connection.fetchval(
                f"SELECT count(DISTINCT partition) FROM {table} WHERE partition >= $1 AND type <> 'partition.opened'",
                PARTITIONS,
            )
            if used < PARTITIONS:
                found.append(f"{topic.name}: {used} of {PARTITIONS} new partitions were written to")
    finally:
        await connection.close()
    return found

"""A steady load for a while: memory and connections stay as they are."""

import asyncio
from functools import partial
from statistics import mean
from time import monotonic

import asyncpg

from tests.faults.promises import Shown
from tests.faults.rows.asked import Asked
from tests.faults.rows.unbroken import Unbroken
from tests.faults.scene import Scene, scene
from tests.waiting import pause

EVERY = 2.0
MEGABYTE = 1024 * 1024
GROWN = 8 * MEGABYTE
"""Between the middle and the end; less is noise."""
GROWN_PART = 0.1
CONNECTIONS = 5
Sample = dict[str, float]


async def soak(asked: Asked) -> Shown:
    """Half of `rate` for so many minutes; looked at every two seconds."""
    samples: list[Sample] = []
    async with scene(asked.folder, asked.nursery) as s:
        load = Unbroken(s.sender, max(1, asked.rate // 2))
        await load.during(partial(_look, s, asked.minutes * 60, samples))
        report = await s.judged()
    # What is forked shares memory at first, and parts with it little by little: the first half is for that.
    late = samples[len(samples) // 2 :]
    third = max(1, len(late) // 3)
    grown = {
        name: mean(each[name] for each in late[-third:]) - mean(each[name] for each in late[:third]) for name in late[0]
    }
    half = asked.minutes / 2
    shown = Shown(
        f"{asked.minutes:g} min, {len(s.sender.acknowledged)} webhooks",
        seen=[
            f"answered 503: {s.sender.unavailable}; broken: {s.sender.broken}",
            *(
                f"{name}: {_told(name, late[-1][name])} at the end, {_told(name, grown[name] / half)} a minute"
                for name in grown
            ),
        ],
    )
    shown.judged(report)
    for name, growth in grown.items():
        allowed = CONNECTIONS if name == "connections" else max(GROWN, GROWN_PART * late[0][name])
        if growth > allowed:
            shown.differences.append(f"{name} grew by {_told(name, growth)} in the second half")
    return shown


async def _look(s: Scene, seconds: float, samples: list[Sample]) -> None:
    connection = await asyncpg.connect(s.line.database_url)
    try:
        end = monotonic() + seconds
        while monotonic() < end:
            sample: Sample = dict(await asyncio.to_thread(s.line.memory))
            sample["connections"] = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'regulars %'"
            )
            samples.append(sample)
            await pause(EVERY)
    finally:
        await connection.close()


def _told(name: str, amount: float) -> str:
    return f"{amount:+.1f}".lstrip("+") if name == "connections" else f"{amount / MEGABYTE:.1f} MiB"

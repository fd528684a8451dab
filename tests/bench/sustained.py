"""Durable webhooks for minutes on end: `python -m tests.bench.sustained`.

First as fast as they are answered, with two processes; then with repeats and forged ones among them; then at 70 % of
the first rate, whatever the answers take; then for minutes at half of it, with an eye on memory. Before and behind the
first the bare app of `tests.bench.webhooks`. Every 200 of the route is looked for in the journal. CPU is told for each
webhook that was answered 200: of the processes that serve, of PostgreSQL and of the generator.

PostgreSQL has its segments of WAL from the start, as one has that ran for a while: to make one (16 MB, each 6,000
webhooks) holds up every commit, here for 55 ms.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

import psutil
import uvloop

from libs.common.clock import monotonic
from libs.common.db import Database
from tests.bench.webhooks import Site, journalled, load, served, site
from tests.waiting import pause

CONNECTIONS = 192
PROCESSES = 2
BARE_CONNECTIONS = 128
"""With more of them it is slower, and would flatter."""
REPEATED = 0.1
FORGED = 0.05
PACED = 0.7
"""Part of what could be had at most."""
STEADY = 0.5
BARE_SECONDS = 15.0
SAMPLE_SECONDS = 5.0
"""Between two looks at memory and CPU."""
_ROLES = {"served by": "tests.bench.webhooks serve", "PostgreSQL": "postgres", "sent by": "tests.bench.load"}
"""Where CPU goes, and a mark in the command of those who take it."""
MEGABYTE = 1024 * 1024
_SEGMENTS = 130
"""Of 16 MB: `max_wal_size`."""


class _Crowd(NamedTuple):
    """Who serves, and who asks."""

    processes: int
    connections: int


async def bench(seconds: float, minutes: float, connections: int, processes: int) -> None:
    """Prints a line for each figure."""
    async with site() as at:
        await _used(at.database)
        crowd = _Crowd(processes, connections)
        bare = [await _bare(at)]
        most = await _measured(at, crowd, "as fast as answered", seconds)
        bare.append(await _bare(at))
        print(f"of bare, before and behind: {' and '.join(f'{most / each:.2f}' for each in bare)}", flush=True)
        options = ("--repeated", str(REPEATED), "--forged", str(FORGED))
        name = f"{REPEATED:.0%} repeated, {FORGED:.0%} forged"
        await _measured(at, crowd, name, seconds, *options)
        await _measured(at, crowd, f"{PACED:.0%} of the most", seconds, "--rate", str(most * PACED))
        await _measured(
            at, crowd, f"{STEADY:.0%}, {minutes:.0f} min", minutes * 60, "--rate", str(most * STEADY), *options
        )


async def _used(database: Database) -> None:
    async with database.autocommit() as pg:
        for _ in range(_SEGMENTS):
            # It takes a change to fill the rest of a segment.
            await pg.fetchval("SELECT pg_logical_emit_message(false, 'bench', '')")
            await pg.fetchval("SELECT pg_switch_wal()")
        await pg.execute("CHECKPOINT")


async def _bare(at: Site) -> float:
    async with served("bare", 1, at.environment) as addresses, _watched() as samples:
        result = await load(addresses, at.path, BARE_CONNECTIONS, BARE_SECONDS)
    rate = float(result["rate"])
    print(f"{'bare, 1 process':28}{rate:9,.0f}/s   {_cpu_told(samples, rate)}", flush=True)
    return rate


async def _measured(at: Site, crowd: _Crowd, name: str, seconds: float, *options: str) -> float:
    before = await journalled(at.database)
    async with served("route", crowd.processes, at.environment) as addresses, _watched() as samples:
        result = await load(addresses, at.path, crowd.connections, seconds, *options)
    stored = await journalled(at.database) - before
    told = f"{name:28}{result['rate']:9,.0f}/s   p50 {result['p50_ms']:.1f} ms, p99 {result['p99_ms']:.1f} ms"
    print(f"{told}; answered {result['answered']}; {_cpu_told(samples, result['rate'])}; {_told(samples)}", flush=True)
    wanted = {"200", "401"} if "--forged" in options else {"200"}
    if set(result["answered"]) != wanted or stored != result["accepted"] - result["again"]:
        sys.exit(f"answered {result['answered']}, accepted {result['accepted']}, stored {stored}")
    return float(result["rate"])


class _Sample(NamedTuple):
    """What the processes have taken at a moment."""

    at: float
    memory: float
    """MiB that those that serve have for themselves."""
    seconds: dict[str, float]
    """Of CPU, since each of them began."""


@asynccontextmanager
async def _watched() -> AsyncIterator[list[_Sample]]:
    """Looks while it lasts."""
    samples: list[_Sample] = []

    async def look() -> None:
        while True:
            await pause(SAMPLE_SECONDS)
            samples.append(_sample())

    looking = asyncio.create_task(look())
    try:
        yield samples
    finally:
        looking.cancel()


def _sample() -> _Sample:
    memory, seconds = 0.0, dict.fromkeys(_ROLES, 0.0)
    for each in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            role = next((role for role, mark in _ROLES.items() if mark in " ".join(each.cmdline())), None)
            if role is None:
                continue
            times = each.cpu_times()
            seconds[role] += times.user + times.system
            if role == "served by":
                memory += each.memory_full_info().uss / MEGABYTE
    return _Sample(monotonic(), memory, seconds)


def _cpu_told(samples: Sequence[_Sample], rate: float) -> str:
    first, last = samples[0], samples[-1]
    answered = rate * (last.at - first.at)
    taken = {role: (last.seconds[role] - first.seconds[role]) * 1e6 / answered for role in _ROLES}
    return "CPU " + ", ".join(f"{role} {microseconds:.0f} \u00b5s" for role, microseconds in taken.items())


def _told(samples: Sequence[_Sample]) -> str:
    """Means of the quarters, which would climb if it did."""
    quarter = max(1, len(samples) // 4)
    means = [
        sum(one.memory for one in part) / len(part) for n in range(4) if (part := samples[n * quarter :][:quarter])
    ]
    return "memory " + " → ".join(f"{mean:.0f}" for mean in means) + " MiB"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--processes", type=int, default=PROCESSES)
    asked = parser.parse_args()
    if min(asked.seconds, asked.minutes * 60) < 2 * SAMPLE_SECONDS:
        parser.error(f"nothing is seen in less than {2 * SAMPLE_SECONDS:g} s")
    uvloop.run(bench(asked.seconds, asked.minutes, asked.connections, asked.processes))


if __name__ == "__main__":
    main()

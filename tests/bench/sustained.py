"""Durable webhooks for minutes on end: `python -m tests.bench.sustained`.

First as fast as they are answered, with two processes; then with repeats and forged ones among them; then at 70 % of
the first rate, whatever the answers take; then for minutes at half of it, with an eye on memory. Before and behind each
the bare app of `tests.bench.webhooks`. Every 200 of the route is looked for in the journal.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psutil
import uvloop

from tests.bench.webhooks import Site, journalled, load, served, site
from tests.waiting import pause

CONNECTIONS = 128
PROCESSES = 2
REPEATED = 0.1
FORGED = 0.05
PACED = 0.7
"""Part of what could be had at most."""
STEADY = 0.5
BARE_SECONDS = 10.0
SAMPLE_SECONDS = 5.0
MEGABYTE = 1024 * 1024


async def bench(seconds: float, minutes: float) -> None:
    """Prints a line for each figure."""
    async with site() as at:
        bare = [await _bare(at)]
        most = await _measured(at, "as fast as answered", seconds)
        bare.append(await _bare(at))
        print(f"of bare, before and behind: {' and '.join(f'{most / each:.2f}' for each in bare)}", flush=True)
        options = ("--repeated", str(REPEATED), "--forged", str(FORGED))
        name = f"{REPEATED:.0%} repeated, {FORGED:.0%} forged"
        await _measured(at, name, seconds, *options)
        await _measured(at, f"{PACED:.0%} of the most", seconds, "--rate", str(most * PACED))
        await _measured(at, f"{STEADY:.0%}, {minutes:.0f} min", minutes * 60, "--rate", str(most * STEADY), *options)


async def _bare(at: Site) -> float:
    async with served("bare", 1, at.environment) as addresses:
        result = await load(addresses, at.path, CONNECTIONS, BARE_SECONDS)
    print(f"{'bare, 1 process':28}{result['rate']:9,.0f}/s", flush=True)
    return float(result["rate"])


async def _measured(at: Site, name: str, seconds: float, *options: str) -> float:
    before = await journalled(at.database)
    async with served("route", PROCESSES, at.environment) as addresses, _memory() as samples:
        result = await load(addresses, at.path, CONNECTIONS, seconds, *options)
    stored = await journalled(at.database) - before
    told = f"{name:28}{result['rate']:9,.0f}/s   p50 {result['p50_ms']:.1f} ms, p99 {result['p99_ms']:.1f} ms"
    print(f"{told}; answered {result['answered']}; memory {_told(samples)}", flush=True)
    wanted = {"200", "401"} if "--forged" in options else {"200"}
    if set(result["answered"]) != wanted or stored != result["accepted"] - result["again"]:
        sys.exit(f"answered {result['answered']}, accepted {result['accepted']}, stored {stored}")
    return float(result["rate"])


@asynccontextmanager
async def _memory() -> AsyncIterator[list[float]]:
    """MiB that the route's processes have for themselves, looked at while it lasts."""
    processes = [each for each in psutil.Process().children() if "serve" in each.cmdline()]
    samples: list[float] = []

    async def look() -> None:
        while True:
            await pause(SAMPLE_SECONDS)
            samples.append(sum(each.memory_full_info().uss for each in processes) / MEGABYTE)

    looking = asyncio.create_task(look())
    try:
        yield samples
    finally:
        looking.cancel()


def _told(samples: Sequence[float]) -> str:
    """Means of the quarters, which would climb if it did."""
    quarter = max(1, len(samples) // 4)
    means: list[Any] = [sum(part) / len(part) for n in range(4) if (part := samples[n * quarter :][:quarter])]
    return " → ".join(f"{mean:.0f}" for mean in means) + " MiB"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--minutes", type=float, default=5.0)
    asked = parser.parse_args()
    uvloop.run(bench(asked.seconds, asked.minutes))


if __name__ == "__main__":
    main()

"""The loop, the leases and the log on virtual time; and bugs that are put in on purpose."""

import asyncio
import os
import sys

from tests.faults.nursery import compiled
from tests.faults.promises import Shown
from tests.faults.rows.asked import Asked
from tests.faults.simulation.bugs import BUGS


async def simulated(asked: Asked) -> Shown:
    """So many seeds, each another history of faults; then, for each bug, the first seed that finds it."""
    shown = Shown(f"{asked.seeds} histories, {len(BUGS)} bugs put in")
    for words in (["--seeds", str(asked.seeds)], ["--bugs"]):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.faults.simulate", *words),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, **compiled()},
        )
        output, _ = await process.communicate()
        lines = output.decode().splitlines()
        shown.seen += lines[:20]
        if process.returncode:
            shown.differences += [line for line in lines if line.startswith("seed ") or "not found" in line][:10] or [
                f"ended with code {process.returncode}"
            ]
    shown.lost = shown.doubled = len([line for line in shown.differences if line.startswith("seed ")])
    return shown

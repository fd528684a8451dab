"""Thousands of seeded histories of the loop, each with its own faults: `python -m tests.faults.simulate --seeds 10000`.

`--seed N` runs one, with the loop's own log lines; `--bugs` shows which seed finds each bug that is put in on purpose,
and `--bug NAME --seed N` runs that one again.
"""

import argparse
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial

from libs.common.clock import monotonic
from libs.common.telemetry import configure_logging
from tests.faults.simulation.bugs import BUGS, NONE, Bug
from tests.faults.simulation.scenario import simulate

SEEDS_A_BUG = 500
SCHEDULES = {
    "a crash": ("kill", "restart"),
    "a pause": ("pause",),
    "a lost answer": ("lost answer", "lost acknowledgement"),
    "a reordered commit": ("reordered commit",),
    "a fence": ("fence",),
    "something sent again": ("sent again",),
}
"""Of how many schedules we tell that these were in it."""
OUTCOMES = ("events", "checked", "profiles dead", "metrics dead", "fence", "reordered commit", "sent again")
"""What is counted and is no fault."""


def again(seed: int, bug: Bug = NONE) -> str:
    """The command that runs this seed again, the same way."""
    put_in = f" --bug {bug.name!r}" if bug is not NONE else ""
    return f".venv/bin/python -m tests.faults.simulate --seed {seed}{put_in}"


def _quiet() -> None:
    configure_logging("critical")


def _many(seeds: int, bug: Bug) -> int:
    began = monotonic()
    counts: Counter[str] = Counter()
    schedules: Counter[str] = Counter(dict.fromkeys(SCHEDULES, 0))
    wrong = 0
    with multiprocessing.Pool(len(os.sched_getaffinity(0)), _quiet) as pool:
        for told in pool.imap_unordered(partial(simulate, bug=bug), range(seeds), chunksize=20):
            counts += told.counts
            schedules.update(name for name, kinds in SCHEDULES.items() if any(told.counts[kind] for kind in kinds))
            if told.wrong:
                wrong += 1
                print(f"seed {told.seed}: {told.wrong}\n    {again(told.seed, bug)}", flush=True)
    print(f"{seeds:,} seeds in {monotonic() - began:.0f} s; wrong: {wrong}")
    print(f"schedules with {_listed(schedules, schedules)}")
    print(f"faults injected: {_listed(counts, sorted(counts.keys() - {*OUTCOMES}))}")
    print(
        f"{counts['events']:,} events written, {counts['checked']:,} effects checked;"
        f" {_listed(counts, ['profiles dead', 'fence', 'reordered commit', 'sent again'])}"
    )
    return 1 if wrong else 0


def _listed(counts: Counter[str], names: Sequence[str] | Counter[str]) -> str:
    return ", ".join(f"{name} {counts[name]:,}" for name in names)


def _bugs() -> int:
    _quiet()
    missed = 0
    for bug in BUGS:
        found = next((told for seed in range(SEEDS_A_BUG) if (told := simulate(seed, bug)).wrong), None)
        if found is None:
            print(f"{bug.name}: not found in {SEEDS_A_BUG} seeds", flush=True)
            missed += 1
        else:
            print(f"{bug.name}: {found.wrong[0]}\n    {again(found.seed, bug)}", flush=True)
    return 1 if missed else 0


def _one(seed: int, bug: Bug) -> int:
    told = simulate(seed, bug)
    print(told)
    return 1 if told.wrong else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """1 when a seed goes wrong, or a bug is not found."""
    bugs = {bug.name: bug for bug in (NONE, *BUGS)}
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=1000)
    options.add_argument("--seed", type=int)
    options.add_argument("--bugs", action="store_true")
    options.add_argument("--bug", choices=bugs, default=NONE.name)
    asked = options.parse_args(arguments)
    if asked.bugs:
        return _bugs()
    configure_logging("info")
    if asked.seed is not None:
        return _one(asked.seed, bugs[asked.bug])
    return _many(asked.seeds, bugs[asked.bug])


if __name__ == "__main__":
    sys.exit(main())

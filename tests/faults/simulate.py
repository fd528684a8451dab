"""Thousands of seeded histories of the loop, each with its own faults: `python -m tests.faults.simulate --seeds 10000`.

`--seed N` runs one, with the loop's own log lines; `--bugs` shows which seed finds each bug that is put in on purpose.
"""

import argparse
import multiprocessing
import sys
from collections import Counter

from libs.common.clock import monotonic
from libs.common.telemetry import configure_logging
from tests.faults.simulation.bugs import BUGS
from tests.faults.simulation.scenario import Told, simulate

PROCESSES = 2
SEEDS_A_BUG = 500


def _quiet() -> None:
    configure_logging("critical")


def _many(seeds: int) -> int:
    began = monotonic()
    counts: Counter[str] = Counter()
    wrong: list[Told] = []
    with multiprocessing.Pool(PROCESSES, _quiet) as pool:
        for told in pool.imap_unordered(simulate, range(seeds), chunksize=20):
            counts += told.counts
            if told.wrong:
                wrong.append(told)
                print(f"seed {told.seed}: {told.wrong}", flush=True)
    print(f"{seeds} seeds in {monotonic() - began:.0f} s; {len(wrong)} went wrong")
    print(", ".join(f"{name} {n}" for name, n in sorted(counts.items())))
    return 1 if wrong else 0


def _bugs() -> int:
    _quiet()
    missed = 0
    for bug in BUGS:
        found = next((told for seed in range(SEEDS_A_BUG) if (told := simulate(seed, bug)).wrong), None)
        print(f"{bug.name}: {f'seed {found.seed}: {found.wrong[0]}' if found else 'not found'}", flush=True)
        missed += found is None
    return 1 if missed else 0


def main() -> int:
    """1 when a seed goes wrong, or a bug is not found."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=1000)
    options.add_argument("--seed", type=int)
    options.add_argument("--bugs", action="store_true")
    asked = options.parse_args()
    if asked.bugs:
        return _bugs()
    configure_logging("info")
    if asked.seed is None:
        return _many(asked.seeds)
    told = simulate(asked.seed)
    print(told)
    return 1 if told.wrong else 0


if __name__ == "__main__":
    sys.exit(main())

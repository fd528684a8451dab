"""Mutated payloads of every topic through the normalisers: `python -m tests.faults.fuzz --payloads 1000000 --seed 1`.

Each has to end in an outcome, within bounded time, and what is observed has to be something that the log and the
database can hold. A payload that goes wrong is printed with the command that shows it again; `test_fuzz.py` runs some
thousands.
"""

import argparse
import heapq
import multiprocessing
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import NamedTuple

from tests.faults.fuzzing.bases import TOPICS, Base, bases
from tests.faults.fuzzing.mutations import Mutator, Payload
from tests.faults.fuzzing.verdict import LARGE, SLOW, Judge, Verdict, placeless

AT_ONCE = 2000
"""Payloads that a process takes in one piece."""
OUTCOMES = ("observed", "parked", "ignored", "dead", "none")
REASONS = 15
SLOWEST = 5
SHOWN = 40
"""Payloads gone wrong that are printed."""


class Told(NamedTuple):
    """One payload, in short."""

    seconds: float
    number: int
    platform: str
    topic: str
    size: int
    base: str


@dataclass(slots=True)
class Tally:
    """What came of many payloads."""

    payloads: int = 0
    bytes: int = 0
    outcomes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By platform, topic and outcome."""
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By outcome and reason."""
    slowest: list[Told] = field(default_factory=list)
    """Of those below LARGE."""
    wrong: list[tuple[Told, list[str]]] = field(default_factory=list)

    def add(self, payload: Payload, verdict: Verdict) -> None:
        """One more."""
        self.payloads += 1
        self.bytes += len(payload.body)
        self.outcomes[payload.platform, payload.topic, verdict.outcome] += 1
        self.reasons[verdict.outcome, placeless(verdict.reason)] += 1
        told = Told(verdict.seconds, payload.number, payload.platform, payload.topic, len(payload.body), payload.base)
        if told.size < LARGE:
            self.slowest = heapq.nlargest(SLOWEST, [*self.slowest, told])
        if verdict.faults:
            self.wrong.append((told, verdict.faults))

    def of(self, platform: str, outcome: str) -> int:
        """How many of a platform."""
        return sum(n for (whose, _, how), n in self.outcomes.items() if (whose, how) == (platform, outcome))

    def merge(self, other: "Tally") -> None:
        """Another process'."""
        self.payloads += other.payloads
        self.bytes += other.bytes
        self.outcomes += other.outcomes
        self.reasons += other.reasons
        self.slowest = heapq.nlargest(SLOWEST, [*self.slowest, *other.slowest])
        self.wrong += other.wrong


def again(seed: int, number: int) -> str:
    """The command that shows this payload again."""
    return f".venv/bin/python -m tests.faults.fuzz --seed {seed} --only {number}"


def run(found: Sequence[Base], seed: int, numbers: range) -> Tally:
    """These payloads, in this process."""
    mutator, judge, tally = Mutator(found, seed), Judge(), Tally()
    for number in numbers:
        payload = mutator.payload(number)
        tally.add(payload, judge.judge(payload))
    return tally


def run_many(found: Sequence[Base], seed: int, payloads: int, processes: int) -> Tally:
    """The first so many of a seed, in some processes; each that goes wrong is printed at once."""
    pieces = [range(start, min(start + AT_ONCE, payloads)) for start in range(0, payloads, AT_ONCE)]
    tally = Tally()
    with multiprocessing.get_context("forkserver").Pool(processes, _keep, (found, seed)) as pool:
        for part in pool.imap_unordered(_piece, pieces):
            for told, faults in part.wrong[: max(0, SHOWN - len(tally.wrong))]:
                print(
                    f"{told.platform} {told.topic} ({told.base}): {'; '.join(faults)}\n    {again(seed, told.number)}"
                )
            tally.merge(part)
            sys.stdout.flush()
    return tally


_kept: list[tuple[Sequence[Base], int]] = []
"""What a process of the pool was given once."""


def _keep(found: Sequence[Base], seed: int) -> None:
    _kept.append((found, seed))


def _piece(numbers: range) -> Tally:
    return run(*_kept[0], numbers)


def table(tally: Tally, seconds: float, seed: int, found: int) -> str:
    """All figures."""
    lines = [
        f"seed {seed}, {found} payloads to begin with",
        f"payloads {tally.payloads:,}, MB {tally.bytes / 1e6:,.0f}",
        f"seconds {seconds:.0f}, payloads/s {tally.payloads / seconds:,.0f}",
        "",
        "platform    " + "".join(f"{name:>12}" for name in OUTCOMES),
    ]
    lines += [
        f"{platform:<12}" + "".join(f"{tally.of(platform, name):>12,}" for name in OUTCOMES) for platform in TOPICS
    ]
    lines += [
        "",
        f"reasons: {sum(outcome != 'observed' for outcome, _ in tally.reasons):,} different; the most frequent:",
    ]
    told = Counter({key: n for key, n in tally.reasons.items() if key[0] != "observed"})
    lines += [f"{n:>10,}  {outcome:<8} {reason[:100]}" for (outcome, reason), n in told.most_common(REASONS)]
    lines += ["", f"slowest of those below {LARGE:,} bytes (allowed: {SLOW * 1000:.0f} ms of a processor):"]
    lines += [
        f"{each.seconds * 1000:>7.1f} ms  {each.size:>6,} bytes  {each.platform} {each.topic:<20}  number {each.number}"
        for each in tally.slowest
    ]
    return "\n".join([*lines, "", f"gone wrong: {len(tally.wrong):,}"])


def show(found: Sequence[Base], seed: int, number: int) -> int:
    """One payload, whole, and what is made of it."""
    payload = Mutator(found, seed).payload(number)
    verdict = Judge().judge(payload)
    print(f"{payload.platform}, made from {payload.base}")
    for name, value in payload.headers:
        print(f"{name!r}: {value!r}")
    print(f"\n{payload.body!r}\n")
    print(f"{verdict.outcome}: {verdict.reason} ({verdict.seconds * 1000:.1f} ms)")
    print("\n".join(verdict.faults))
    return 1 if verdict.faults else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """1 when a payload goes wrong."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--payloads", type=int, default=100_000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--processes", type=int, default=2)
    options.add_argument("--only", type=int, metavar="NUMBER", help="show this payload of the seed")
    asked = options.parse_args(arguments)
    found = bases()
    if asked.only is not None:
        return show(found, asked.seed, asked.only)
    began = monotonic()
    tally = run_many(found, asked.seed, asked.payloads, asked.processes)
    print(table(tally, monotonic() - began, asked.seed, len(found)))
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())

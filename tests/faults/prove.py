"""`make prove`: breaks everything, row by row, and writes what came of it to `docs/promises.md`.

    python -m tests.faults.prove --rows a,c --kills 1000 --webhooks 100000

A row is written as soon as it is done: a run that is cut has shown what it has done. Ends with code 1 when a promise
was not kept.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from pathlib import Path
from time import monotonic
from typing import Any

from libs.common.telemetry import configure_logging
from regulars.local_kafka import why_not
from tests.faults.nursery import Nursery
from tests.faults.promises import Measured, Shown, command, keep, machine, today
from tests.faults.rows import data, database, growth, kafka, kills, simulated, soak, workers
from tests.faults.rows.asked import Asked

DOCS = Path(__file__).parents[2] / "docs"
WITHOUT_KAFKA = ("f", "m")


@dataclass(frozen=True, slots=True)
class Row:
    """A promise, how it is tried, and the sizes that it depends on."""

    promise: str
    run: Callable[[Asked], Awaitable[Shown]]
    sizes: tuple[str, ...] = ()


ROWS: dict[str, Row] = {
    "a": Row(
        "SIGKILL of any role, on Kafka: nothing acknowledged is lost, no effect twice",
        kills.apart,
        ("kills", "webhooks", "seed"),
    ),
    "a2": Row(
        "The same of `regulars run` with its supervisor, on Kafka", kills.together, ("kills", "webhooks", "seed")
    ),
    "b": Row("A worker that hangs past its lease writes nothing any more", workers.hanging, ("rounds", "rate")),
    "c": Row(
        "Kafka frozen, cut off, killed: webhooks are answered 200, events flow again within 5 s",
        kafka.away,
        ("rounds", "rate"),
    ),
    "d": Row(
        "One of three Kafka nodes lost: webhooks are answered 200, events go on", kafka.one_of_three, ("rounds", "rate")
    ),
    "e": Row(
        "PostgreSQL killed: never a false 200, 503 meanwhile, back within 10 s", database.killed, ("rounds", "rate")
    ),
    "e2": Row(
        "PostgreSQL hangs, and is slow to write: never a false 200, 503 within 2 s, back within 10 s",
        database.hanging,
        ("rounds", "rate"),
    ),
    "f": Row(
        "PostgreSQL's disk full: never a false 200, 503 meanwhile, back by itself within 10 s",
        database.disk_full,
        ("rounds", "rate"),
    ),
    "g": Row(
        "A worker comes or goes every 2 s: the order of each key is kept, nothing is doubled",
        workers.coming_and_going,
        ("rounds", "rate", "webhooks"),
    ),
    "h": Row("Poison never blocks: each has its reason", data.poison, ("webhooks", "seed")),
    "i": Row("The whole journal again: the same state, no message", data.replay, ("webhooks", "rounds")),
    "j": Row("Repeated and out of order: the same final state", data.duplicates, ("webhooks", "seed")),
    "k": Row(
        "Kafka away under load: all answered 200, everything through within 60 s after it is back",
        kafka.long_away,
        ("outage", "burst"),
    ),
    "l": Row("A steady load: memory and connections stay as they are", soak.soak, ("minutes", "rate")),
    "n": Row(
        "Topics grow while any role is killed: the order of each key is kept, nothing is doubled",
        growth.growing,
        ("rate", "webhooks", "seed"),
    ),
    "m": Row("Thousands of simulated histories; bugs put in on purpose are found", simulated.simulated, ("seeds",)),
}


async def _row(name: str, asked: Asked) -> Shown:
    if name not in WITHOUT_KAFKA and (reason := why_not()) is not None:
        return Shown("none", skipped=reason)
    try:
        return await ROWS[name].run(asked)
    except Exception as error:  # noqa: BLE001 - a row that breaks is a promise that was not shown
        traceback.print_exc()
        return Shown("not finished", differences=[f"{type(error).__name__}: {str(error)[:300]}"])


def prove(names: list[str], sizes: dict[str, Any], folder: Path) -> bool:
    """Runs the rows and writes each one down; whether every promise was kept."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = True
    nursery = Nursery()
    try:
        for name in names:
            print(f"{name}: {ROWS[name].promise}", flush=True)
            own = {size: sizes[size] for size in ROWS[name].sizes}
            at, began = today(), monotonic()
            with tempfile.TemporaryDirectory(prefix=f"regulars-prove-{name}-", ignore_cleanup_errors=True) as place:
                shown = asyncio.run(_row(name, Asked(Path(place), nursery, **own)))
            took = monotonic() - began
            keep(folder, Measured(name, ROWS[name].promise, at, command(own, name), machine(), took, shown))
            kept &= not shown.differences
            print(f"{name}: {shown.result} in {took:.0f} s: {shown.trials}; back {shown.back or '-'}", flush=True)
            print(
                "".join(f"    {line}\n" for line in [shown.skipped, *shown.seen, *shown.differences] if line),
                flush=True,
            )
    finally:
        nursery.close()
    return kept


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Breaks everything, row by row.")
    parser.add_argument("--rows", default=",".join(ROWS), help=f"of {','.join(ROWS)}")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of promises.md and promises.json")
    defaults = {field.name: field.default for field in fields(Asked) if field.name not in {"folder", "nursery"}}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    asked = parser.parse_args()
    names = asked.rows.split(",")
    if unknown := [name for name in names if name not in ROWS]:
        parser.error(f"no such row: {', '.join(unknown)}")
    configure_logging("critical")
    # Told to stop, it leaves nobody behind.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    return 0 if prove(names, {name: getattr(asked, name) for name in defaults}, asked.out) else 1


if __name__ == "__main__":
    sys.exit(main())

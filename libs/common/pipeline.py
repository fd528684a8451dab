"""How far a service's consumers have come: positions beside the ends of the logs they read."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from libs.common.db import Database
from libs.common.log.base import Position
from libs.common.log.choice import Logs


@dataclass(frozen=True, slots=True)
class Partition:
    """A consumer's place in a partition. Offsets; ages in seconds of wall time."""

    partition: int
    position: int
    end: int
    lag: int
    oldest_unprocessed_seconds: float | None
    owner: str | None
    lease_until: datetime | None


@dataclass(frozen=True, slots=True)
class Progress:
    """A consumer's places in a topic."""

    consumer: str
    topic: str
    partitions: list[Partition]


@dataclass(frozen=True, slots=True)
class Standing:
    """All consumers of a service."""

    caught_up: bool
    consumers: list[Progress]
    workers: list[dict[str, Any]]
    replays: int
    """Dead letters that wait to be tried again."""


async def standing(database: Database, logs: Logs, consumers: Sequence[str]) -> Standing:
    """Where each of `consumers` is. One that has never run has no places, and is not caught up."""
    names = list(consumers)
    if not names:
        return Standing(caught_up=True, consumers=[], workers=[], replays=0)
    async with database.reading() as tx:
        rows = await tx.pg.fetch(
            "SELECT consumer, topic, partition, next_offset, owner, lease_until FROM positions"
            " WHERE consumer = ANY($1) ORDER BY consumer, topic, partition",
            names,
        )
        workers = await tx.pg.fetch(
            "SELECT consumer, worker, state, reason FROM workers WHERE consumer = ANY($1) AND seen_until > now()"
            " ORDER BY consumer, worker",
            names,
        )
        replays = await tx.pg.fetchval(
            "SELECT count(*) FROM dead_letters WHERE consumer = ANY($1) AND state = 'replay'", names
        )
    places: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for row in rows:
        places[row["consumer"], row["topic"]].append(row)
    progress = []
    for (consumer, topic), placed in places.items():
        log = logs.read_by(consumer, topic)
        # Ends after positions: what is caught up by these was so when the ends were read.
        ends = await log.end_offsets(topic)
        # A partition that has just come, and that no worker has noticed yet, waits like any other.
        new = sorted(ends.keys() - {row["partition"] for row in placed})
        stands = [*placed, *({**_UNNOTICED, "topic": topic, "partition": partition} for partition in new)]
        behind = {
            (topic, row["partition"]): row["next_offset"]
            for row in stands
            if row["next_offset"] < ends.get(row["partition"], 0)
        }
        ages = await log.ages(behind) if behind else {}
        progress.append(Progress(consumer, topic, [_partition(row, ends, ages) for row in stands]))
    seen = {consumer for consumer, _ in places}
    caught_up = seen >= set(consumers) and not any(p.lag for c in progress for p in c.partitions)
    return Standing(caught_up, progress, [dict(row) for row in workers], replays)


_UNNOTICED: dict[str, Any] = {"next_offset": 0, "owner": None, "lease_until": None}


def _partition(row: Mapping[str, Any], ends: Mapping[int, int], ages: Mapping[Position, float]) -> Partition:
    number, position = row["partition"], row["next_offset"]
    end = ends.get(number, 0)
    age = ages.get((row["topic"], number))
    return Partition(number, position, end, max(0, end - position), age, row["owner"], row["lease_until"])

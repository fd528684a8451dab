"""How large a row is to be, and where it plays."""

from dataclasses import dataclass
from pathlib import Path

from tests.faults.nursery import Nursery


@dataclass(frozen=True, slots=True)
class Asked:
    """The sizes that were asked for; each row takes what concerns it."""

    folder: Path
    """The row's own, empty."""
    nursery: Nursery
    kills: int = 100
    webhooks: int = 10_000
    rounds: int = 3
    """How often each single fault is done."""
    rate: int = 300
    """Webhooks a second while something is away."""
    outage: float = 60.0
    """Seconds for which Kafka is away under `burst` webhooks a second."""
    burst: int = 1000
    minutes: float = 2.0
    """Of the soak."""
    seeds: int = 1000
    """Of the simulation."""
    seed: int = 1

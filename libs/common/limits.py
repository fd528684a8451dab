"""What a worker is patient with."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """How a worker behaves; all times in seconds."""

    lease: float = 10.0
    """A worker that hangs longer than this loses its partitions."""
    patience: float = 1.0
    """Longest wait for a record before the loop looks around (replays, surplus, stop)."""
    backoff: float = 2.0
    """Longest pause between tries while the database or Kafka is away."""
    burst: int = 500
    """More dead letters than this among the last twice as many records, and nobody's in particular, stop the consumer:
    better late than a day dead."""

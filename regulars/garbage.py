"""Python's garbage collector, told what a long-lived process knows of itself."""

import gc

THRESHOLD = (50_000, 20, 50)
"""Rows and events come and go by reference counts. Cycles are rare: to look for them 70 times less often leaves a tenth
of the processor to the work itself, and costs a few MB."""
THRESHOLD_OF_WORKERS = (4_000, 20, 50)
"""Kafka's client leaves cycles that hold what it fetched: at 50,000 a worker kept 100 MB of that."""


def settle(threshold: tuple[int, int, int] = THRESHOLD) -> None:
    """Called once when everything is loaded: what is there now stays, and need not be looked through again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*threshold)

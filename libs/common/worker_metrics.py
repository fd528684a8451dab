"""What the consumer loop tells Prometheus. Labels are bounded: consumers, topics and partitions."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import Counter, Gauge, Histogram

from libs.common.contracts.topics import Topic
from libs.common.log.base import Log, Position
from libs.common.telemetry import gauge, get_logger

Places = tuple[str, Sequence[Topic], Mapping[Position, int], set[Position]]
"""A consumer, its topics, what it owns, and what was shown of it: a partition that it lost is another worker's now."""

events = get_logger(__name__)

RECORDS = Counter("regulars_consumer_records_total", "Records processed and committed", ["consumer"])
BATCH = Histogram(
    "regulars_consumer_batch_records",
    "Records in a committed batch",
    ["consumer"],
    buckets=(1, 5, 20, 50, 100, 250, 500),
)
COMMIT = Histogram(
    "regulars_consumer_batch_seconds",
    "Seconds from the begin of a batch's transaction to its commit",
    ["consumer"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
FENCED = Counter(
    "regulars_consumer_fenced_total", "Batches rolled back since another worker owns the partition", ["consumer"]
)
DEAD = Counter("regulars_consumer_dead_letters_total", "Records that became dead letters", ["consumer"])
RETRIES = Counter("regulars_consumer_retries_total", "Pauses because of a transient fault", ["consumer"])
# Of several processes the worst one speaks: that another worker is well does not help who waits for this one.
HALTED = Gauge(
    "regulars_consumer_halted",
    "1 when the consumer stopped itself and needs somebody",
    ["consumer"],
    multiprocess_mode="livemax",
)
OLDEST = Gauge(
    "regulars_consumer_oldest_unprocessed_seconds",
    "Age of the oldest record that waits for the consumer; 0 when none does",
    ["consumer", "topic"],
    multiprocess_mode="livemax",
)
LAG = gauge("regulars_consumer_lag_records", "Records not yet processed", ["consumer", "topic", "partition"])


def _begin(consumer: str) -> None:
    """Shows what has not happened yet as 0: an alert cannot see the first increment of a series that was not there."""
    for counter in (RECORDS, FENCED, DEAD, RETRIES):
        counter.labels(consumer)
    HALTED.labels(consumer).set(0)


async def measure(log: Log, places: Callable[[], Sequence[Places]], every: float) -> None:
    """Sets lag and age, until cancelled. Beside the work: what a halted consumer leaves undone somebody has to see."""
    for consumer, *_ in places():
        _begin(consumer)
    while True:
        await asyncio.sleep(every)
        for each in places():
            try:
                await _measure(log, *each)
            except Exception as error:  # noqa: BLE001 (a figure may come late, and the work must not stop for it)
                events.warning("not measured", consumer=each[0], error=type(error).__name__)


async def _measure(
    log: Log, consumer: str, topics: Iterable[Topic], owned: Mapping[Position, int], shown: set[Position]
) -> None:
    for topic in topics:
        mine = {place: offset for place, offset in owned.items() if place[0] == topic.name}
        ends = await log.end_offsets(topic.name) if mine else {}
        lags = {place: max(0, ends.get(place[1], offset) - offset) for place, offset in mine.items()}
        behind = {place: mine[place] for place, lag in lags.items() if lag}
        ages = await log.ages(behind) if behind else {}
        for place in {place for place in shown if place[0] == topic.name} - mine.keys():
            LAG.labels(consumer, place[0], str(place[1])).set(0)
        for place, lag in lags.items():
            LAG.labels(consumer, place[0], str(place[1])).set(lag)
        OLDEST.labels(consumer, topic.name).set(max(ages.values(), default=0.0))
    shown.clear()
    shown.update(owned)

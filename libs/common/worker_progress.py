"""How far the consumer loop is, measured beside its work: what a halted consumer leaves undone somebody has to see."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from libs.common.contracts.topics import Topic
from libs.common.log.base import Log, Position
from libs.common.telemetry import get_logger
from libs.common.worker_metrics import DEAD, FENCED, HALTED, LAG, OLDEST, RECORDS, RETRIES

Places = tuple[str, Sequence[Topic], Mapping[Position, int], set[Position]]
"""A consumer, its topics, what it owns, and what was shown of it: a partition that it lost is another worker's now."""

_log = get_logger(__name__)


def _begin(consumer: str) -> None:
    """Shows what has not happened yet as 0: an alert cannot see the first increment of a series that was not there."""
    for counter in (RECORDS, FENCED, DEAD, RETRIES):
        counter.labels(consumer)
    HALTED.labels(consumer).set(0)


async def measure(log: Log, places: Callable[[], Sequence[Places]], every: float) -> None:
    """Sets lag and age, until cancelled."""
    for consumer, *_ in places():
        _begin(consumer)
    while True:
        await asyncio.sleep(every)
        for each in places():
            try:
                await _measure(log, *each)
            except Exception as error:  # noqa: BLE001 (a figure may come late, and the work must not stop for it)
                _log.warning("not measured", consumer=each[0], error=type(error).__name__)


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
        if ages or not behind:
            OLDEST.labels(consumer, topic.name).set(max(ages.values(), default=0.0))
    shown.clear()
    shown.update(owned)

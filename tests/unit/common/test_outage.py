"""What is said of a database or a broker that is away, and how long is waited for it."""

import json

import pytest

from libs.common import outage as module
from libs.common.outage import Outage
from tests.logged import Lines


def test_its_beginning_a_line_a_minute_and_its_end(monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    now = [1000.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    seen = Outage(consumer="relay")
    seen.is_over()
    for _ in range(150):
        seen.goes_on(ConnectionError("Kafka is away"))
        now[0] += 1
    seen.is_over()
    seen.is_over()
    told = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [(line["event"], line["tries"]) for line in told] == [
        ("waiting", 1), ("waiting", 61), ("waiting", 121), ("going on", 150)
    ]  # fmt: skip
    assert told[0]["error"] == "ConnectionError"
    assert told[-1]["seconds"] == 150
    assert {line["consumer"] for line in told} == {"relay"}


def test_however_long_it_lasts_the_next_try_comes() -> None:
    seen = Outage(consumer="relay")
    pauses = []
    for _ in range(2000):
        seen.goes_on(ConnectionError())
        pauses.append(seen.pause(1.0))
    assert all(longest / 2 <= pause <= longest for pause, longest in zip(pauses, (0.2, 0.4, 0.8), strict=False))
    assert all(0.5 <= pause <= 1.0 for pause in pauses[3:])
    seen.is_over()
    seen.goes_on(ConnectionError())
    assert seen.pause(1.0) <= 0.2

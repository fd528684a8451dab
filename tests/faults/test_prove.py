"""Rows of the promises at a size that fits here; `make prove` runs all of them at full size."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from regulars.local_kafka import why_not
from tests.faults.nursery import Nursery
from tests.faults.promises import Measured, Shown, keep, page, spread
from tests.faults.prove import ROWS
from tests.faults.rows.asked import Asked

SMALL = {"kills": 6, "webhooks": 200, "rounds": 1}


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    made = Nursery()
    yield made
    made.close()


@pytest.mark.kafka
@pytest.mark.processes
@pytest.mark.timeout(300)
@pytest.mark.parametrize("row", ["a", "h"])
async def test_a_row_at_small_size(row: str, nursery: Nursery, tmp_path: Path) -> None:
    own = {size: SMALL[size] for size in ROWS[row].sizes if size in SMALL}
    shown = await ROWS[row].run(Asked(tmp_path, nursery, **own))
    assert shown.differences == [], shown.seen
    assert (shown.lost, shown.doubled) == (0, 0)


def measured(row: str, shown: Shown) -> Measured:
    return Measured(row, "it holds", "2026-03-02 12:00 UTC", "python -m tests.faults.prove", "2 cores", 3.2, shown)


def test_a_row_takes_the_place_of_its_last_result_and_the_others_stay(tmp_path: Path) -> None:
    keep(tmp_path, measured("b", Shown("1 stop", lost=1, differences=["order 5 is missing"])))
    keep(tmp_path, measured("a", Shown("2 kills", lost=0, doubled=0, back=spread([0.5, 1.5, 0.7]))))
    text = (tmp_path / "promises.md").read_text()
    assert "| a | it holds | 2 kills | 0 | 0 | 0.7 s, worst 1.5 s | **kept** |" in text
    assert "| b | it holds | 1 stop | 1 | — | — | **FAILED** |" in text
    assert "- order 5 is missing" in text
    keep(tmp_path, measured("b", Shown("3 stops", lost=0)))
    text = (tmp_path / "promises.md").read_text()
    assert "FAILED" not in text
    assert "| a |" in text


def test_what_could_not_be_tried_says_why() -> None:
    text = page([measured("f", Shown("none", skipped="only root can mount a small disk"))])
    assert "**skipped**" in text
    assert "Skipped: only root can mount a small disk." in text

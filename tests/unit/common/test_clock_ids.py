import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from libs.common.clock import DrivenClock, SystemClock, clock_from
from libs.common.ids import derived_id, new_id

START = datetime(2026, 3, 2, 12, 0, 0, 123456, tzinfo=UTC)


def test_a_driven_clock_stands_still_until_it_is_set(tmp_path: Path) -> None:
    clock = DrivenClock.create(tmp_path / "clock", START)
    assert clock.now() == clock.now() == START
    clock.set(START + timedelta(days=400, microseconds=1))
    assert clock.now() == START + timedelta(days=400, microseconds=1)


def test_processes_share_a_driven_clock(tmp_path: Path) -> None:
    path = tmp_path / "clock"
    clock = DrivenClock.create(path, START)
    program = (
        "import sys; from datetime import timedelta; from libs.common.clock import clock_from;"
        "c = clock_from(sys.argv[1]); c.set(c.now() + timedelta(hours=1))"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True, cwd=Path(__file__).parents[3])
    assert clock.now() == START + timedelta(hours=1)


def test_what_arrives_may_be_dated_before_timers_fall_due(tmp_path: Path) -> None:
    clock = DrivenClock.create(tmp_path / "clock", START)
    clock.set_arrivals(START + timedelta(hours=4))
    assert (clock.now(), clock.arrival()) == (START, START + timedelta(hours=4))
    clock.set(START + timedelta(hours=8))
    assert clock.now() == clock.arrival() == START + timedelta(hours=8)


def test_a_clock_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        clock_from(str(tmp_path / "none"))
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match="mmap"):
        clock_from(str(tmp_path / "empty"))


def test_without_a_path_the_machine_s_clock() -> None:
    clock = clock_from(None)
    assert isinstance(clock, SystemClock)
    assert clock.now().tzinfo is UTC


def test_derived_ids_depend_on_each_part_and_on_where_it_ends() -> None:
    assert derived_id("a", "b") == derived_id("a", "b")
    different = [("ab", ""), ("", "ab"), ("a", "b"), ("b", "a"), ("ab",), ("1:a", "b"), ("é",), ("e",)]
    assert len({derived_id(*parts) for parts in different}) == len(different)


def test_a_derived_id_never_changes() -> None:
    # Stored rows depend on it.
    assert derived_id("tenant", "customer:st_1:42") == "600a7095-0b4a-5150-a055-230dc0ed4980"


def test_new_ids_differ_and_sort_by_time() -> None:
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert [i[:13] for i in ids] == sorted(i[:13] for i in ids)

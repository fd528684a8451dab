"""The loop, the leases and the log on virtual time: `python -m tests.faults.simulate` runs thousands of these."""

import subprocess
import sys

import pytest

from tests.faults.simulation.bugs import BUGS, Bug
from tests.faults.simulation.scenario import simulate

SEEDS = 60


@pytest.mark.parametrize("tens", range(SEEDS // 10))
def test_every_event_has_its_effect_once_and_in_order(tens: int) -> None:
    for seed in range(10 * tens, 10 * tens + 10):
        told = simulate(seed)
        assert told.wrong == [], f"python -m tests.faults.simulate --seed {seed}"
        assert told.counts["events"] > 0


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_bugs_put_in_on_purpose_are_found(bug: Bug) -> None:
    assert any(simulate(seed, bug).wrong for seed in range(SEEDS))


def test_a_seed_tells_the_same_in_another_process() -> None:
    command = [sys.executable, "-m", "tests.faults.simulate", "--seed", "5"]
    told = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    assert told.strip() == str(simulate(5))

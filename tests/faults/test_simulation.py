"""The loop, the leases and the log on virtual time: `python -m tests.faults.simulate` runs thousands of these."""

import asyncio
import subprocess
import sys
from collections import Counter
from random import Random

import pytest

from tests.faults.simulate import main
from tests.faults.simulation.bugs import BUGS, NONE, Bug
from tests.faults.simulation.clockwork import passes, run
from tests.faults.simulation.positions import SimulatedPositions
from tests.faults.simulation.scenario import World, simulate, simulated

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


def test_whatever_goes_wrong_is_told_with_the_command_that_shows_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "8", "--bug", "no fence"]) == 1
    told = capsys.readouterr().out
    command = next(line for line in told.splitlines() if "--seed " in line).split()
    assert command[:3] == [".venv/bin/python", "-m", "tests.faults.simulate"]
    assert main(["--bug", "no fence", "--seed", command[4]]) == 1
    assert main(["--seeds", "2"]) == 0
    assert "wrong: 0" in capsys.readouterr().out


@pytest.mark.parametrize("seed", [0, 1], ids=["postgres", "kafka"])
def test_an_added_worker_has_its_fair_share_within_ten_seconds(seed: int) -> None:
    positions = SimulatedPositions()

    async def shared() -> float:
        world = World(seed, NONE, positions)

        def owned() -> list[int]:
            rows = world.server.schemas["profiles"].positions.items()
            return sorted(Counter(row.owner for (name, _), row in rows if name == "profiles" and row.owner).values())

        world.calm()
        while owned() != [8]:
            await passes(0.05)
        began = asyncio.get_running_loop().time()
        world.start("profiles")
        while owned() != [4, 4]:
            await passes(0.05)
        return asyncio.get_running_loop().time() - began

    with simulated(positions):
        assert run(shared(), Random(seed)) < 10


def test_a_seed_tells_the_same_in_another_process() -> None:
    command = [sys.executable, "-m", "tests.faults.simulate", "--seed", "5"]
    told = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    assert told.strip() == str(simulate(5))

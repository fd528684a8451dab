"""The whole line against a week of the simulated shop: everything equal."""

from pathlib import Path

import pytest

from regulars.demo import main

DAYS = 6


@pytest.mark.processes
@pytest.mark.timeout(180)
def test_a_small_demo_is_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(seed=3, days=DAYS, keep=False, data_dir=tmp_path)
    shown = capsys.readouterr().out
    assert code == 0, shown
    assert "everything is equal" in shown
    assert "Subject:" in shown

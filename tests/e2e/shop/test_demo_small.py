"""The whole line against some days of the simulated shop, through both logs: everything equal."""

from pathlib import Path

import pytest

from libs.common.log.kafka_client import Kafka
from regulars.demo import main

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]


def test_a_small_demo_is_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(seed=3, days=6, keep=False, data_dir=tmp_path)
    shown = capsys.readouterr().out
    assert code == 0, shown
    assert "everything is equal" in shown
    assert "Subject:" in shown


@pytest.mark.kafka
def test_a_smaller_one_is_equal_through_kafka(
    kafka: Kafka, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGULARS_KAFKA_PREFIX", kafka.prefix)
    code = main(seed=3, days=2, keep=False, data_dir=tmp_path, people=24, on_kafka=",".join(kafka.servers))
    shown = capsys.readouterr().out
    assert code == 0, shown
    assert "everything is equal" in shown

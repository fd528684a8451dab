"""What the command says by itself, without an installation."""

from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from regulars.cli import app


def test_the_version_is_asked_for_as_anywhere() -> None:
    for words in (["--version"], ["version"]):
        told = CliRunner().invoke(app, words)
        assert (told.exit_code, told.output) == (0, f"regulars {version('regulars')}\n")


@pytest.mark.parametrize("words", [["leases"], ["positions", "show"], ["keys", "list"], ["doctor"]])
def test_without_a_database_both_ways_to_name_one_are_told(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REGULARS_DATABASE_URL", raising=False)
    monkeypatch.setenv("REGULARS_DATA_DIR", str(tmp_path))
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 1
    assert str(tmp_path) in told.output
    assert "--data-dir or --database-url" in told.output

"""What the command says by itself, without an installation."""

import asyncio
import fcntl
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from libs.common.db import Database
from regulars.cli import app
from regulars.keys import _with_keys


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


@pytest.mark.parametrize("words", [["keys", "rotate"], ["keys", "list"], ["migrate"]])
def test_a_database_that_somebody_is_just_starting_is_told_in_a_line(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REGULARS_DATABASE_URL", raising=False)
    (tmp_path / "postgres").mkdir()
    with (tmp_path / "postgres.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        told = CliRunner().invoke(app, [*words, "--data-dir", str(tmp_path)])
    assert (told.exit_code, type(told.exception)) == (1, SystemExit)
    line = f"another process is starting or stopping the database in {tmp_path}\n"
    assert told.output.removeprefix("regulars migrate: ") == line


async def test_a_database_that_goes_away_meanwhile_is_told_in_a_line(
    empty_database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def gone(database: Database) -> None:
        async with database.transaction() as tx:
            await tx.pg.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(typer.Exit) as ended:
        await asyncio.to_thread(_with_keys, gone, empty_database_url, tmp_path)
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err == "the database went away meanwhile: try again\n"

"""What is told of settings that are wrong: a line for each, by name, and never a traceback."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from libs.common.crypto import KEY_FILE
from regulars.cli import app
from regulars.parts import WRONG_SETTINGS, settings_classes
from regulars.wrong_settings import wrong_settings

NOT_KEYS = "32 bytes in base64"


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in {f"REGULARS_{name}".upper() for each in settings_classes() for name in each.model_fields}:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REGULARS_DATA_DIR", str(tmp_path))
    return tmp_path


WRONG = [
    ({"REGULARS_SECRET_KEY_FILE": "/nothere"}, {"REGULARS_SECRET_KEY": "REGULARS_SECRET_KEY_FILE: /nothere cannot be"}),
    ({"REGULARS_SECRET_KEY": "abc"}, {"REGULARS_SECRET_KEY": NOT_KEYS}),
    ({"REGULARS_JUNK_EMAILS": "foo"}, {"REGULARS_JUNK_EMAILS": "foo: "}),
    ({"REGULARS_JUNK_EMAILS": "[foo"}, {"REGULARS_JUNK_EMAILS": "JSON"}),
    ({"REGULARS_JUNK_PHONES": "123,+49"}, {"REGULARS_JUNK_PHONES": "+49: "}),
    (
        {"REGULARS_SMTP_PORT": "abc", "REGULARS_JOURNAL_DAYS": "90,acme:3", "REGULARS_POOL_SIZE_FILE": "/"},
        {
            "REGULARS_SMTP_PORT": "integer",
            "REGULARS_JOURNAL_DAYS": "acme:3",
            "REGULARS_POOL_SIZE": "_FILE: / cannot be",
        },
    ),
]


@pytest.mark.parametrize(("given", "told"), WRONG)
def test_all_of_them_are_named_at_once(
    given: Mapping[str, str], told: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    checked = CliRunner().invoke(app, ["config", "check"])
    assert checked.exit_code == 1
    lines = dict(line.split(": ", 1) for line in checked.output.splitlines())
    assert lines.keys() == told.keys()
    assert all(part in lines[name] for name, part in told.items())


@pytest.mark.parametrize("content", [b"abc", b"\xff"])
def test_a_key_file_that_holds_no_keys_is_told_as_the_setting(content: bytes, data_dir: Path) -> None:
    (data_dir / KEY_FILE).write_bytes(content)
    checked = CliRunner().invoke(app, ["config", "check"])
    assert checked.exit_code == 1
    assert checked.output.startswith(f"REGULARS_SECRET_KEY: unset, and {data_dir / KEY_FILE}: ")
    assert NOT_KEYS in checked.output


def test_a_check_makes_no_key(data_dir: Path) -> None:
    assert CliRunner().invoke(app, ["config", "check"]).output == "settings are in order\n"
    assert list(data_dir.iterdir()) == []


@pytest.mark.parametrize("words", [["serve", "ingest"], ["work", "messaging"], ["migrate"], ["keys", "list"]])
def test_a_role_ends_with_a_line_that_names_it(words: list[str], data_dir: Path) -> None:
    for setting in ({"REGULARS_SECRET_KEY_FILE": "/nothere"}, {"REGULARS_SECRET_KEY": "abc"}):
        told = _ended(words, setting)
        assert "Traceback" not in told
        assert told.count("wrong setting") == 1
        assert '"setting": "REGULARS_SECRET_KEY"' in told
    assert list(data_dir.iterdir()) == []


def test_a_role_that_cannot_read_the_key_file_names_it(data_dir: Path) -> None:
    (data_dir / KEY_FILE).write_text("abc")
    told = _ended(["serve", "ingest"], {})
    assert "Traceback" not in told
    assert str(data_dir / KEY_FILE) in told
    assert told.count("wrong setting") == 1


def _ended(words: list[str], environment: Mapping[str, str]) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "regulars", *words],
        env=os.environ | environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (WRONG_SETTINGS, "")
    return ended.stderr


def test_lists_are_texts_by_commas_which_no_json_can_break() -> None:
    kinds = {field.annotation for each in settings_classes() for field in each.model_fields.values()}
    assert not kinds & {tuple[str, ...], list[str]}
    assert wrong_settings() == {}

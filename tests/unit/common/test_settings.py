from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

from libs.common.settings import CommonSettings, settings_table


class ExampleSettings(CommonSettings):
    lease: Annotated[float, Field(gt=0, le=60, description="How long.", json_schema_extra={"unit": "seconds"})] = 10
    mode: Annotated[Literal["a", "b"], Field(description="Which | what.")] = "a"
    password: Annotated[str, Field(description="Needed.")]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CommonSettings.model_fields:
        monkeypatch.delenv(f"REGULARS_{name}".upper(), raising=False)


def test_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGULARS_POOL_SIZE", "7")
    monkeypatch.setenv("REGULARS_CLOCK_PATH", "")
    settings = CommonSettings()
    assert settings.pool_size == 7
    assert settings.clock_path is None


def test_from_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("0123456789abcdef\n")
    (tmp_path / "size").write_text("9")
    monkeypatch.setenv("REGULARS_ADMIN_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("REGULARS_POOL_SIZE_FILE", str(tmp_path / "size"))
    settings = CommonSettings()
    assert settings.admin_key is not None
    assert settings.admin_key.get_secret_value() == "0123456789abcdef"
    assert settings.pool_size == 9


def test_a_named_file_must_be_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REGULARS_ADMIN_KEY_FILE", str(tmp_path / "none"))
    with pytest.raises(ValidationError, match=r"REGULARS_ADMIN_KEY_FILE: .*/none cannot be read: No such file"):
        CommonSettings()


def test_bad_values_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGULARS_POOL_SIZE", "0")
    monkeypatch.setenv("REGULARS_ADMIN_KEY", "hunter2")
    with pytest.raises(ValidationError) as caught:
        CommonSettings()
    assert {error["loc"] for error in caught.value.errors()} == {("pool_size",), ("admin_key",)}
    assert "hunter2" not in str(caught.value)


def test_secrets_do_not_show() -> None:
    settings = CommonSettings(
        admin_key="0123456789abcdef",
        database_url="postgresql://u:hunter2@h/d",
    )
    assert "0123456789abcdef" not in repr(settings)
    assert "hunter2" not in repr(settings)


def test_table() -> None:
    table = settings_table([ExampleSettings])
    assert "| `REGULARS_POOL_SIZE` | `5` |  | integer ≥ 1 ≤ 100 |" in table
    assert "| `REGULARS_LEASE` | `10` | seconds | number > 0 ≤ 60 | How long. |" in table
    assert "| `REGULARS_MODE` | `a` |  | `a`, `b` | Which \\| what. |" in table
    assert "| `REGULARS_PASSWORD` |  |  | text | Needed. |" in table
    assert "| `REGULARS_ADMIN_KEY` | unset |" in table
    assert table.count("REGULARS_POOL_SIZE") == 1


def test_every_common_setting_says_what_it_does() -> None:
    assert all(field.description for field in CommonSettings.model_fields.values())


def test_a_line_end_around_the_admin_key_is_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """No header could carry it: nobody would get in."""
    monkeypatch.setenv("REGULARS_ADMIN_KEY", " 0123456789abcdef\n")
    key = CommonSettings().admin_key
    assert key is not None
    assert key.get_secret_value() == "0123456789abcdef"

"""Settings: environment variables `REGULARS_*`; any of them may be read from a file instead (`REGULARS_*_FILE`).

They stop at `main` and `work`: rules and stores get values. Each service's `settings.py` adds its own few fields.
`settings_table` prints the table in the docs.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import Field, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

PREFIX = "REGULARS_"


class SettingsFiles(PydanticBaseSettingsSource):
    """`REGULARS_SECRET_KEY_FILE=/run/secrets/key` gives `secret_key` the content of that file, for any field."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The file's text without surrounding blanks; OSError when it is named and cannot be read."""
        path = os.environ.get(f"{PREFIX}{field_name}_FILE".upper())
        value = Path(path).read_text(encoding="utf-8").strip() if path else None
        return value, field_name, self.field_is_complex(field)

    def __call__(self) -> dict[str, Any]:
        """Every field that has a file."""
        values: dict[str, Any] = {}
        for name, field in self.settings_cls.model_fields.items():
            value, _, is_complex = self.get_field_value(field, name)
            if value is not None:
                values[name] = self.prepare_field_value(name, field, value, is_complex)
        return values


class CommonSettings(BaseSettings):
    """What every role of every service reads."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, env_ignore_empty=True, hide_input_in_errors=True
    )

    database_url: Annotated[
        str, Field(description="PostgreSQL's address. Embedded: set by `regulars run`.", repr=False)
    ] = "postgresql://regulars@127.0.0.1:5432/regulars"
    pool_size: Annotated[
        int, Field(ge=1, le=100, description="Database connections of one service in one process.")
    ] = 5
    clock_path: Annotated[
        str | None, Field(description="File of a driven clock, for demo and tests. Unset: the machine's clock.")
    ] = None
    data_dir: Annotated[Path, Field(description="Folder of the embedded PostgreSQL and of generated keys.")] = Path(
        "var"
    )
    secret_key: Annotated[
        SecretStr | None,
        Field(
            description="Key that seals stores' secrets and signs links: 32 bytes in base64. For rotation a list by"
            " commas: the first seals and signs, all open. Unset: the file `secret.key` in `data_dir`, made at first"
            " start."
        ),
    ] = None
    admin_key: Annotated[
        SecretStr | None,
        Field(min_length=16, description="An API key with every scope of tenant `default`."),
    ] = None
    public_url: Annotated[
        str, Field(description="Address under which shops and customers reach this installation.")
    ] = "http://127.0.0.1:8080"
    listen_host: Annotated[
        str, Field(description="Address on which one role alone listens (`regulars serve`, `regulars work`).")
    ] = "127.0.0.1"
    listen_port: Annotated[
        int | None,
        Field(
            ge=1,
            le=65535,
            description="Port of one role alone. Unset: 8080 for `regulars serve`; a worker, which has only `/livez`,"
            " `/readyz` and `/metrics` to tell, does not listen.",
        ),
    ] = None
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="Least severe log line that is written.")
    ] = "info"
    rate_limit: Annotated[
        int,
        Field(
            ge=0,
            description="API requests that one key may make in a minute and process. 0: no limit.",
            json_schema_extra={"unit": "requests/min"},
        ),
    ] = 60_000
    max_body: Annotated[
        int,
        Field(ge=1024, description="Largest body of an API request.", json_schema_extra={"unit": "bytes"}),
    ] = 1024 * 1024

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then files."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, SettingsFiles(settings_cls)


def settings_table(classes: Sequence[type[CommonSettings]]) -> str:
    """Markdown: one table for what all share, one for each class' own fields."""
    sections = [_section("Common", CommonSettings.model_fields)]
    for settings in classes:
        own = {name: field for name, field in settings.model_fields.items() if name not in CommonSettings.model_fields}
        if own:
            sections.append(_section(settings.__module__.split(".")[-2].capitalize(), own))
    introduction = (
        "# Settings\n\nGenerated by `make docs`. Every setting is an environment variable; with `_FILE`"
        " behind its name it is read from that file.\n"
    )
    return "\n".join([introduction, *sections])


def _section(title: str, fields: dict[str, FieldInfo]) -> str:
    lines = [f"## {title}\n", "| variable | default | unit | values | effect |", "|---|---|---|---|---|"]
    for name, field in fields.items():
        extra = field.json_schema_extra
        unit = str(extra.get("unit", "")) if isinstance(extra, dict) else ""
        default = "" if field.is_required() else _shown(field.get_default(call_default_factory=True))
        effect = (field.description or "").replace("|", "\\|")
        lines.append(f"| `{(PREFIX + name).upper()}` | {default} | {unit} | {_values(field)} | {effect} |")
    return "\n".join(lines) + "\n"


def _shown(value: object) -> str:
    if value is None:
        return "unset"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _values(field: FieldInfo) -> str:
    kinds = [field.annotation]
    if get_origin(field.annotation) is not Literal:
        kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)] or kinds
    if get_origin(kinds[0]) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kinds[0]))
    names = {str: "text", int: "integer", float: "number", bool: "true, false", Path: "path", SecretStr: "secret"}
    word: str = names.get(kinds[0]) or str(getattr(kinds[0], "__name__", kinds[0]))  # type: ignore[arg-type]
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    bounds = [
        f"{sign} {getattr(rule, attribute)}"
        for rule in field.metadata
        for attribute, sign in signs.items()
        if getattr(rule, attribute, None) is not None
    ]
    return " ".join([word, *bounds])

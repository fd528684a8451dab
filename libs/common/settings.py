"""Settings: environment variables `REGULARS_*`; any of them may be read from a file instead (`REGULARS_*_FILE`).

They stop at `main` and `work`: rules and stores get values. Each service's `settings.py` adds its own few fields.
`settings_table` prints the table in the docs.
"""

import base64
import os
import re
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from libs.common.junk import Junk, listed_emails, listed_phones

PREFIX = "REGULARS_"
KEY_BYTES = 32

_SERVER = re.compile(r"\[?[A-Za-z0-9._:-]+\]?:\d{1,5}")
_LOOPBACK = {"127.0.0.1", "localhost", "[::1]"}


def keys_in(text: str) -> list[bytes]:
    """Keys as `secret_key` and its file hold them, the current one first. ValueError when these are none."""
    try:
        keys = [base64.b64decode(part.strip(), validate=True) for part in text.split(",")]
    except ValueError:
        keys = []
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise ValueError(f"must be {KEY_BYTES} bytes in base64 (several by commas)")
    return keys


class _Unreadable(NamedTuple):
    """Stands in for what a file would have said."""

    why: str


class SettingsFiles(PydanticBaseSettingsSource):
    """`REGULARS_SECRET_KEY_FILE=/run/secrets/key` gives `secret_key` the content of that file, for any field."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The file's text without surrounding blanks, or why it cannot be had: that is a fault of the field's."""
        name = f"{PREFIX}{field_name}_FILE".upper()
        path = os.environ.get(name)
        value: str | _Unreadable | None = None
        try:
            value = Path(path).read_text(encoding="utf-8").strip() if path else None
        except OSError as error:
            value = _Unreadable(f"{name}: {path} cannot be read: {error.strerror}")
        except ValueError:
            value = _Unreadable(f"{name}: {path} holds no text in UTF-8")
        return value, field_name, self.field_is_complex(field)

    def __call__(self) -> dict[str, Any]:
        """Every field that has a file."""
        values: dict[str, Any] = {}
        for name, field in self.settings_cls.model_fields.items():
            value, _, is_complex = self.get_field_value(field, name)
            if isinstance(value, _Unreadable):
                values[name] = value
            elif value is not None:
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
    log: Annotated[
        Literal["postgres", "kafka"],
        Field(description="Through which log services hear of one another. All of them need the same."),
    ] = "postgres"
    kafka_servers: Annotated[
        str | None, Field(validate_default=True, description="Some of Kafka's brokers: `host:port`, by commas.")
    ] = None
    kafka_security: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
        Field(description="How the connection to Kafka is encrypted (SSL) and logged in (SASL)."),
    ] = "PLAINTEXT"
    kafka_sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"],
        Field(validate_default=True, description="How the password is shown to Kafka."),
    ] = "PLAIN"
    kafka_username: Annotated[
        str | None, Field(validate_default=True, description="Name to log in to Kafka with: needed with SASL.")
    ] = None
    kafka_password: Annotated[
        SecretStr | None, Field(validate_default=True, description="Password to log in to Kafka with.")
    ] = None
    kafka_ca_file: Annotated[
        Path | None, Field(description="Certificates that Kafka's is checked against. Unset: the machine's.")
    ] = None
    kafka_replication: Annotated[
        int,
        Field(
            ge=1,
            le=9,
            description="Copies of each topic that is made in Kafka. One of them may be away: `min.insync.replicas` is"
            " one less.",
        ),
    ] = 1
    kafka_prefix: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9._-]{0,100}$", description="Before the name of each topic and group in Kafka."),
    ] = ""
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

    @field_validator("*", mode="before")
    @classmethod
    def _file_is_read(cls, value: Any) -> Any:
        if isinstance(value, _Unreadable):
            raise ValueError(value.why)  # noqa: TRY004 (pydantic takes no other for a fault)
        return value

    @field_validator("secret_key")
    @classmethod
    def _are_keys(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None:
            keys_in(key.get_secret_value())
        return key

    @field_validator("admin_key")
    @classmethod
    def _can_be_sent(cls, key: SecretStr | None) -> SecretStr | None:
        # A line end around it, as files have one, is nothing that a header could carry.
        return SecretStr(key.get_secret_value().strip()) if key is not None else None

    @field_validator("public_url")
    @classmethod
    def _address(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("not an address that begins with http:// or https:// and names a host")
        return url

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
    dead_letter_burst: Annotated[
        int,
        Field(
            ge=10,
            le=100_000,
            description="A consumer halts before more than so many of the last twice as many events become dead"
            " letters, unless they are the doing of some senders alone, since others' pass.",
        ),
    ] = 500
    max_body: Annotated[
        int,
        Field(ge=1024, description="Largest body of an API request.", json_schema_extra={"unit": "bytes"}),
    ] = 5 * 1024 * 1024
    junk_emails: Annotated[
        str,
        Field(
            description="E-mails that name nobody, by commas or as a JSON list: whole addresses, local parts"
            " (`noreply@`) or domains (`@nomail.de`). Replaces the default.",
        ),
    ] = (
        "noreply@,no-reply@,donotreply@,do-not-reply@,test@test.com,none@none.com,na@na.com,noemail@noemail.com,"
        "no@email.com,asdf@asdf.com"
    )
    junk_phones: Annotated[
        str,
        Field(
            description="Phone numbers that name nobody, by commas or as a JSON list: national digits. One digit"
            " repeated is always junk. Replaces the default.",
        ),
    ] = "1234567890,123456789,12345678,1234567,9876543210,5555555555"

    @field_validator("kafka_servers")
    @classmethod
    def _kafka_is_named(cls, servers: str | None, info: ValidationInfo) -> str | None:
        if servers is None and info.data.get("log") == "kafka":
            raise ValueError("REGULARS_LOG=kafka needs it")
        if servers is not None and not all(_SERVER.fullmatch(server.strip()) for server in servers.split(",")):
            raise ValueError("host:port, by commas")
        return servers

    @field_validator("kafka_sasl_mechanism")
    @classmethod
    def _password_is_not_told_in_the_clear(cls, mechanism: str, info: ValidationInfo) -> str:
        servers = info.data.get("kafka_servers") or ""
        if mechanism == "PLAIN" and info.data.get("kafka_security") == "SASL_PLAINTEXT":
            hosts = {server.strip().rpartition(":")[0] for server in servers.split(",")}
            if not hosts <= _LOOPBACK:
                raise ValueError("PLAIN over SASL_PLAINTEXT shows the password to the network: SASL_SSL, or SCRAM")
        return mechanism

    @field_validator("kafka_username", "kafka_password")
    @classmethod
    def _login_and_sasl_go_together(cls, value: Any, info: ValidationInfo) -> Any:
        sasl = str(info.data.get("kafka_security")).startswith("SASL")
        if sasl and not value:
            raise ValueError("needed with SASL")
        if value and not sasl:
            raise ValueError("REGULARS_KAFKA_SECURITY has no SASL: it would not be used")
        return value

    @field_validator("kafka_ca_file")
    @classmethod
    def _certificates_are_used(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is not None and not str(info.data.get("kafka_security")).endswith("SSL"):
            raise ValueError("REGULARS_KAFKA_SECURITY has no SSL: it would not be used")
        if path is not None and not path.is_file():
            raise ValueError("no such file")
        if path is not None:
            try:
                ssl.create_default_context(cafile=path)
            except (ssl.SSLError, OSError):
                raise ValueError("holds no certificates that can be read") from None
        return path

    @field_validator("junk_emails")
    @classmethod
    def _are_emails(cls, text: str) -> str:
        listed_emails(text)
        return text

    @field_validator("junk_phones")
    @classmethod
    def _are_phones(cls, text: str) -> str:
        listed_phones(text)
        return text

    @property
    def junk(self) -> Junk:
        """What names nobody, as these settings list it."""
        return Junk.listed(self.junk_emails, self.junk_phones)

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


def faults_of(error: ValidationError) -> dict[str, str]:
    """What is wrong with the settings: by the name of the variable, without its value."""
    return {
        f"{PREFIX}{'_'.join(str(part) for part in fault['loc'])}".upper(): fault["msg"].removeprefix("Value error, ")
        for fault in error.errors(include_input=False, include_url=False)
    }


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

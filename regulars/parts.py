"""The four services, in the order in which a webhook meets them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import NoReturn

from pydantic import ValidationError

from libs.common.crypto import BadKeyFile
from libs.common.db import Database
from libs.common.settings import PREFIX, CommonSettings, faults_of
from libs.common.telemetry import configure_logging, get_logger
from regulars.schemas import SERVICES

WRONG_SETTINGS = 78
"""Exit code: EX_CONFIG of sysexits.h."""

log = get_logger(__name__)


def settings_class(service: str) -> type[CommonSettings]:
    """The service's settings: `services.ingest.settings.IngestSettings`."""
    found: type[CommonSettings] = getattr(
        import_module(f"services.{service}.settings"), f"{service.capitalize()}Settings"
    )
    return found


def settings_classes() -> list[type[CommonSettings]]:
    """Of all four."""
    return [settings_class(service) for service in SERVICES]


@contextmanager
def settings_told() -> Iterator[None]:
    """Ends the process with a line for each wrong setting, and not with a traceback."""
    try:
        yield
    except ValidationError as error:
        if not error.title.endswith("Settings"):
            raise
        end_with(faults_of(error))
    except BadKeyFile as error:
        end_with(fault_of_key_file(error))


def fault_of_key_file(error: BadKeyFile) -> dict[str, str]:
    """As that of the setting which would make up for the file."""
    return {f"{PREFIX}SECRET_KEY": f"unset, and {error}"}


def end_with(faults: Mapping[str, str]) -> NoReturn:
    """Tells a line for each wrong setting, by name. SystemExit."""
    # One of them would have said how.
    configure_logging("info")
    for name, fault in faults.items():
        log.critical("wrong setting", setting=name, fault=fault)
    raise SystemExit(WRONG_SETTINGS) from None


def database(service: str) -> Database:
    """The service's own schema, at the address and with the pool that its settings name."""
    settings = settings_class(service)()
    return Database(settings.database_url, schema=service, pool_size=settings.pool_size)

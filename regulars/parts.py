"""The four services, in the order in which a webhook meets them."""

from importlib import import_module

from libs.common.db import Database
from libs.common.settings import CommonSettings
from regulars.schemas import SERVICES


def settings_class(service: str) -> type[CommonSettings]:
    """The service's settings: `services.ingest.settings.IngestSettings`."""
    found: type[CommonSettings] = getattr(
        import_module(f"services.{service}.settings"), f"{service.capitalize()}Settings"
    )
    return found


def settings_classes() -> list[type[CommonSettings]]:
    """Of all four."""
    return [settings_class(service) for service in SERVICES]


def database(service: str) -> Database:
    """The service's own schema, at the address and with the pool that its settings name."""
    settings = settings_class(service)()
    return Database(settings.database_url, schema=service, pool_size=settings.pool_size)

"""The OpenAPI document of the whole API: four services behind one address, as the gateway shows it."""

from typing import Any

from libs.common.clock import SystemClock
from libs.common.crypto import new_key
from libs.common.db import Database
from libs.common.settings import CommonSettings
from libs.common.web import build_app
from services.ingest.main import service as ingest
from services.ingest.settings import IngestSettings
from services.messaging.main import service as messaging
from services.messaging.settings import MessagingSettings
from services.metrics.main import service as metrics
from services.metrics.settings import MetricsSettings
from services.profiles.main import service as profiles
from services.profiles.settings import ProfilesSettings


def document() -> dict[str, Any]:
    """Described without being run: no database is asked and no key is read."""
    key, clock = new_key(), SystemClock()

    def at(service: str) -> Database:
        return Database(CommonSettings().database_url, schema=service)

    services = [
        ingest(IngestSettings.model_validate({"secret_key": key}), at("ingest"), clock),
        profiles(ProfilesSettings(), at("profiles"), clock),
        metrics(MetricsSettings(), at("metrics"), clock),
        messaging(MessagingSettings.model_validate({"secret_key": key}), at("messaging"), clock),
    ]
    return build_app(services, settings=CommonSettings(), clock=clock).openapi()

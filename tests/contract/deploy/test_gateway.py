"""The gateway's table of paths against what the services serve."""

import json
import re
from pathlib import Path

import pytest

from libs.common.settings import CommonSettings
from services.ingest import (
    api,
    browser_api,
    connection_api,
    events_api,
    export_api,
    fetch_api,
    privacy_api,
    public_keys_api,
    replays_api,
)
from services.ingest.settings import IngestSettings
from services.messaging.api import router as messaging
from services.metrics.api import router as metrics
from services.profiles.api import router as profiles

ROOT = Path(__file__).parents[3]
CONFIG = (ROOT / "deploy/gateway/nginx.conf").read_text(encoding="utf-8")
LOCATION = re.compile(r"location (=)? ?(/\S*) \{([^{}]*)\}")
BARE = {"/webhooks/{platform}/{store_key}": "ingest", "/u/{token}": "messaging"}
"""Routes that are no part of the OpenAPI document."""


def served() -> dict[str, str]:
    """Path -> service."""
    fetching = (connection_api, fetch_api)
    parts = (api, browser_api, events_api, export_api, privacy_api, public_keys_api, replays_api, *fetching)
    routers = [(part.router, "ingest") for part in parts]
    routers += [(profiles, "profiles"), (metrics, "metrics"), (messaging, "messaging")]
    paths = {route.path: name for router, name in routers for route in router.routes}
    return paths | BARE


def goes_to(path: str) -> str | None:
    """The upstream that nginx chooses: the exact location, or else the longest prefix."""
    found = [(exact, prefix, body) for exact, prefix, body in LOCATION.findall(CONFIG)]
    for exact, prefix, body in sorted(found, key=lambda location: (location[0], len(location[1])), reverse=True):
        if path == prefix if exact else path.startswith(prefix):
            upstream = re.search(r"proxy_pass http://([a-z]+)", body)
            return upstream[1] if upstream else None
    return None


def documented() -> list[str]:
    document = json.loads((ROOT / "docs/openapi.json").read_text(encoding="utf-8"))
    return list(document["paths"])


def test_every_path_of_the_document_goes_to_its_service() -> None:
    services = served()
    assert len(documented()) > 20
    for path in documented():
        if "{service}" in path:
            for service in ("ingest", "profiles", "metrics", "messaging"):
                assert goes_to(path.replace("{service}", service)) == service, path
        else:
            assert goes_to(path) == services[path], path


def test_nothing_that_a_service_serves_is_left_out() -> None:
    for path, service in served().items():
        assert goes_to(path) == service, path


@pytest.mark.parametrize("path", ["/metrics", "/", "/v1", "/v1/pipeline/another", "/docs"])
def test_what_is_nobodys_goes_to_nobody(path: str) -> None:
    assert goes_to(path) is None


def test_ingest_hears_whom_the_gateway_speaks_for() -> None:
    assert CONFIG.count("proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;") == 1
    # One in a location would take the place of all that stand above it.
    assert not any("proxy_set_header" in body for _, _, body in LOCATION.findall(CONFIG))


def test_bodies_that_a_service_takes_pass() -> None:
    [size] = re.findall(r"client_max_body_size (\d+)m;", CONFIG)
    limit = int(size) * 1024 * 1024
    assert limit > CommonSettings.model_fields["max_body"].default
    assert limit > IngestSettings.model_fields["webhook_max_body"].default


def test_each_service_is_one_upstream_that_is_looked_up_again() -> None:
    for service in ("ingest", "profiles", "metrics", "messaging"):
        block = re.search(rf"upstream {service} \{{(.*?)\}}", CONFIG, re.DOTALL)
        assert block is not None
        assert f"server {service}-api:8080 resolve" in block[1]
        assert "keepalive " in block[1]

"""A running ingest for each test."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import uvicorn

from libs.common.clock import DrivenClock
from libs.common.db import Database
from libs.common.web import build_app
from regulars.shop.woocommerce_api import WooCommerceApi
from services.ingest.main import service
from services.ingest.settings import SCHEMA, IngestSettings
from tests.integration.ingest.ground import ADMIN_KEY, Ground
from tests.integration.ingest.shop_api import CREDENTIALS, serving, store_at

Grounds = Callable[..., AbstractAsyncContextManager[Ground]]


@pytest.fixture
def grounds(database_url: str, clock: DrivenClock, tmp_path: Path) -> Grounds:
    """Makes an ingest with settings of its own."""

    defaults: dict[str, Any] = {
        "database_url": database_url,
        "data_dir": tmp_path,
        "admin_key": ADMIN_KEY,
        "rate_limit": 0,
    }

    @asynccontextmanager
    async def start(**changes: Any) -> AsyncIterator[Ground]:
        settings = IngestSettings(**(defaults | changes))
        database = Database(settings.database_url, schema=SCHEMA)
        app = build_app([service(settings, database, clock)], settings=settings, clock=clock)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app, raise_app_exceptions=False),
                base_url="http://shop.test",
                headers={"authorization": f"Bearer {ADMIN_KEY}"},
            ) as http,
        ):
            yield Ground(app, http, database, clock, settings)

    return start


@pytest_asyncio.fixture
async def ground(grounds: Grounds) -> AsyncIterator[Ground]:
    """An ingest with default settings."""
    async with grounds() as running:
        yield running


@pytest.fixture
def reached(grounds: Grounds) -> Grounds:
    """Makes an ingest that listens where it says that shops reach it. Its worker asks nobody: tests do."""

    @asynccontextmanager
    async def start(**changes: Any) -> AsyncIterator[Ground]:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            settings = {
                "public_url": f"http://127.0.0.1:{listening.getsockname()[1]}",
                "fetch_private_addresses": True,
                "fetch_rate": 10_000,
                "fetch_concurrency": 0,
            }
            async with grounds(**settings | changes) as running:
                server = uvicorn.Server(uvicorn.Config(running.app, lifespan="off", log_config=None, ws="none"))
                serving_ = asyncio.create_task(server.serve(sockets=[listening]))
                try:
                    yield running
                finally:
                    server.should_exit = True
                    await serving_

    return start


@pytest.fixture
def shop() -> WooCommerceApi:
    """It has nothing yet."""
    return WooCommerceApi()


@pytest_asyncio.fixture
async def store(ground: Ground, shop: WooCommerceApi) -> AsyncIterator[str]:
    """One whose API is open to us."""
    async with serving(shop) as domain:
        key = await ground.register(**store_at(domain))
        answer = await ground.http.put(f"/v1/stores/{key}/credentials", json=CREDENTIALS | {"url": f"http://{domain}"})
        assert answer.status_code == 200, answer.text
        assert (answer.json()["state"], "consumer_secret" in answer.text) == ("unchecked", False)
        yield key

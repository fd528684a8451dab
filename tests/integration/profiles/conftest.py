"""The API of profiles alone, over the test's database."""

from collections.abc import AsyncIterator

import httpx
import pytest_asyncio

from libs.common import access
from libs.common.auth import create_key
from libs.common.clock import DrivenClock
from libs.common.db import Database
from libs.common.web import build_app
from services.profiles.main import service
from services.profiles.settings import ProfilesSettings


@pytest_asyncio.fixture
async def api(database_url: str, profiles_db: Database, clock: DrivenClock) -> AsyncIterator[httpx.AsyncClient]:
    """Reads as tenant `default`."""
    async for client in _client(database_url, profiles_db, clock, "default"):
        yield client


@pytest_asyncio.fixture
async def stranger(database_url: str, profiles_db: Database, clock: DrivenClock) -> AsyncIterator[httpx.AsyncClient]:
    """Reads as another tenant."""
    async for client in _client(database_url, profiles_db, clock, "stranger"):
        yield client


async def _client(
    database_url: str, profiles_db: Database, clock: DrivenClock, tenant: str
) -> AsyncIterator[httpx.AsyncClient]:
    common = Database(database_url, schema=access.SCHEMA, pool_size=1)
    key = await create_key(common, tenant, ["profiles:read"], "test")
    await common.close()
    settings = ProfilesSettings(database_url=database_url)
    app = build_app([service(settings, profiles_db, clock)], settings=settings, clock=clock)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://test", headers={"authorization": f"Bearer {key}"}
    ) as client:
        yield client

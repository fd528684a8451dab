"""The whole API in this process, over a database of its own: what a caller sees, without sockets."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI

from libs.common import access, auth
from libs.common.clock import Clock
from libs.common.db import Database
from libs.common.settings import CommonSettings
from libs.common.web import build_app
from regulars.api_process import all_services

ADMIN_KEY = "rk_test_admin_key_of_the_tests"


@dataclass(frozen=True, slots=True)
class Api:
    """Clients of one app. `admin` holds every scope of tenant `default`, `stranger` every scope of another."""

    app: FastAPI
    admin: httpx.AsyncClient
    stranger: httpx.AsyncClient
    anonymous: httpx.AsyncClient

    async def document(self) -> dict[str, Any]:
        """The OpenAPI document."""
        found: dict[str, Any] = (await self.anonymous.get("/openapi.json")).raise_for_status().json()
        return found


@asynccontextmanager
async def open_api(clock: Clock) -> AsyncIterator[Api]:
    """The app of all four services, started, with the settings of the environment."""
    settings = CommonSettings()
    app = build_app(all_services(clock), settings=settings, clock=clock)
    stranger = await _key(settings.database_url, "other")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))

        async def client(key: str | None) -> httpx.AsyncClient:
            headers = {"authorization": f"Bearer {key}"} if key else {}
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            return await stack.enter_async_context(
                httpx.AsyncClient(transport=transport, base_url="http://regulars.test", headers=headers)
            )

        yield Api(app, await client(ADMIN_KEY), await client(stranger), await client(None))


async def _key(database_url: str, tenant: str) -> str:
    database = Database(database_url, schema=access.SCHEMA, pool_size=1)
    try:
        return await auth.create_key(database, tenant, [auth.EVERYTHING], f"of the tests, for {tenant}")
    finally:
        await database.close()

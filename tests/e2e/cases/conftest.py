"""A shop at one end of the line and a caller of the REST API at the other, with real HTTP at both."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
import uvicorn
from fastapi import FastAPI

from libs.common.clock import DrivenClock
from tests.e2e.api import ADMIN_KEY
from tests.e2e.cases.ground import Ground
from tests.integration.messaging.driving import Inbox
from tests.property.line import running_line
from tests.waiting import eventually


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    """Listens on a free port of the loopback; the address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_config=None, ws="none"))
    serving = asyncio.create_task(server.serve())

    async def started() -> bool:
        return server.started

    await eventually(started)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


@asynccontextmanager
async def at_work(
    database_url: str, clock: DrivenClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Ground]:
    """Everything runs; nothing has been sent yet."""
    monkeypatch.setenv("REGULARS_DATABASE_URL", database_url)
    monkeypatch.setenv("REGULARS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("REGULARS_ADMIN_KEY", ADMIN_KEY)
    monkeypatch.setenv("REGULARS_RATE_LIMIT", "0")
    async with running_line(clock, batch_size=500) as line, served(line.api.app) as address:
        headers = {"authorization": f"Bearer {ADMIN_KEY}"}
        async with httpx.AsyncClient(base_url=address, headers=headers, timeout=30) as http:
            yield Ground(line, http)


@pytest_asyncio.fixture
async def ground(
    database_url: str, clock: DrivenClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Ground]:
    """With the settings that everybody has."""
    async with at_work(database_url, clock, tmp_path, monkeypatch) as running:
        yield running


@pytest_asyncio.fixture
async def ground_beside_shops(
    database_url: str, clock: DrivenClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Ground]:
    """Shops may be on this machine, and are asked as fast as they answer."""
    monkeypatch.setenv("REGULARS_FETCH_PRIVATE_ADDRESSES", "true")
    monkeypatch.setenv("REGULARS_FETCH_RATE", "1000")
    async with at_work(database_url, clock, tmp_path, monkeypatch) as running:
        yield running


@pytest_asyncio.fixture
async def inbox() -> AsyncIterator[Inbox]:
    """Where the mail goes."""
    opened = Inbox()
    async with opened.open():
        yield opened


@pytest_asyncio.fixture
async def ground_with_mail(
    inbox: Inbox, database_url: str, clock: DrivenClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Ground]:
    """Its mail arrives."""
    monkeypatch.setenv("REGULARS_SMTP_HOST", "127.0.0.1")
    monkeypatch.setenv("REGULARS_SMTP_PORT", str(inbox.port))
    async with at_work(database_url, clock, tmp_path, monkeypatch) as running:
        yield running

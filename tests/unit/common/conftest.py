"""A small service on a real database: what `libs.common` needs to be tried, and none of the product's services."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated

import asyncpg
import httpx
import pytest_asyncio
from fastapi import APIRouter, Depends, FastAPI, Request
from pydantic import Field
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, request_response
from starlette.types import Receive, Scope, Send

from libs.common import access
from libs.common.auth import Principal, create_key, require
from libs.common.clock import DrivenClock
from libs.common.contracts.topics import JOURNAL
from libs.common.db import Database, Tx
from libs.common.log.schema import create_beginnings, create_consumer_tables, create_counting, create_log
from libs.common.migrations import run_migrations
from libs.common.settings import CommonSettings
from libs.common.web import Limit, Service, build_app
from libs.common.web.asked import Asked
from libs.common.web.instants import Instant
from libs.common.web.short import Answer, RawHeaders, Tell

ADMIN_KEY = "an admin key for tests"


class ThingIn(Asked):
    """A body with something to get wrong."""

    name: str = Field(min_length=3)
    secrets: list[Annotated[str, Field(min_length=8)]] = []  # noqa: RUF012 (pydantic copies it)


class Things:
    """What the service's routes do, counted."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.made = 0
        self.fail: Exception | None = None
        self.before: Callable[[], Awaitable[None]] | None = None
        self.within: Callable[[Tx], Awaitable[None]] | None = None
        self.after: Callable[[], Awaitable[None]] | None = None
        """Done before, in and behind the transaction that makes something."""


def _things(request: Request) -> Things:
    things: Things = request.app.state.ingest
    return things


def _router() -> APIRouter:
    router = APIRouter(prefix="/v1/things")

    @router.post("", status_code=201)
    async def make(
        request: Request, thing: ThingIn, principal: Annotated[Principal, Depends(require("stores:write"))]
    ) -> dict[str, object]:
        things = _things(request)
        if things.fail is not None:
            raise things.fail
        if things.before is not None:
            await things.before()
        async with things.database.transaction() as tx:
            await tx.pg.execute("INSERT INTO things (name) VALUES ($1)", thing.name)
            if things.within is not None:
                await things.within(tx)
        things.made += 1
        if things.after is not None:
            await things.after()
        return {"number": things.made, "tenant": principal.tenant}

    @router.get("")
    async def listed(
        _: Annotated[Principal, Depends(require("stores:read"))],
        limit: Limit = 50,
        n: int = 0,
        since: Instant | None = None,
    ) -> dict[str, int]:
        del since
        return {"limit": limit, "n": n}

    return router


async def _webhook(request: Request) -> Response:
    body = await request.body()
    return PlainTextResponse(str(len(body)))


class Webhooks:
    """Tells how long a body is."""

    fail: Exception | None = None
    """Raised in place of an answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.fail is not None:
            raise self.fail
        await request_response(_webhook)(scope, receive, send)

    def whole(self, path: str, raw: RawHeaders, body: bytes, tell: Tell) -> None:
        """The same."""
        del path, raw
        if self.fail is not None:
            raise self.fail
        tell(Answer.of(200, b"text/plain; charset=utf-8", b"%d" % len(body)), "1")


@pytest_asyncio.fixture
async def database(empty_database_url: str) -> AsyncIterator[Database]:
    """A database with the schema `common`, and `ingest` as a log's producer and its consumer."""
    await run_migrations(empty_database_url, access.SCHEMA, access.MIGRATIONS)
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("CREATE SCHEMA ingest; SET search_path = ingest; CREATE TABLE things (name text)")
    log = [*create_log(JOURNAL), *create_beginnings(JOURNAL), *create_counting()]
    for statement in [*log, *create_consumer_tables()]:
        await connection.execute(statement)
    await connection.close()
    database = Database(empty_database_url, schema="ingest")
    yield database
    await database.close()


@pytest_asyncio.fixture
async def app(database: Database, clock: DrivenClock) -> AsyncIterator[FastAPI]:
    """The service, started."""
    settings = CommonSettings(admin_key=ADMIN_KEY, rate_limit=0, max_body=8192)
    webhooks = Webhooks()
    service = Service(
        name="ingest",
        router=_router(),
        database=database,
        state=Things(database),
        consumers=("normaliser",),
        routes=[Route("/webhooks/{platform}/{key}", _webhook, methods=["POST"])],
        webhooks=webhooks,
        short_way=webhooks.whole,
    )
    app = build_app([service], settings=settings, clock=clock)
    async with app.router.lifespan_context(app):
        yield app


@pytest_asyncio.fixture
async def anonymous(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A caller without a key."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest_asyncio.fixture
async def client(anonymous: httpx.AsyncClient) -> httpx.AsyncClient:
    """The administrator of tenant `default`."""
    anonymous.headers["authorization"] = f"Bearer {ADMIN_KEY}"
    return anonymous


@pytest_asyncio.fixture
async def stranger(app: FastAPI, database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """Another tenant's administrator."""
    key = await create_key(database, "other", ["*"], "stranger")
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
        yield client

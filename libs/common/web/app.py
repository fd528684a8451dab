"""Puts services together into one app: the same code for one service alone and for all four behind one address."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

from fastapi import APIRouter, Depends, FastAPI
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from libs.common import access, problems
from libs.common.auth import Access, set_admin_key
from libs.common.clock import Clock
from libs.common.contracts.topics import relayed
from libs.common.db import Database
from libs.common.ids import new_id
from libs.common.log.base import Log
from libs.common.log.choice import RELAY, Logs, shared_log
from libs.common.problems import Problem
from libs.common.settings import CommonSettings
from libs.common.telemetry import get_logger
from libs.common.web.body import WholeBody
from libs.common.web.context import REQUESTS, RequestContext
from libs.common.web.dead_letters_api import dead_letters_router
from libs.common.web.describing import PROBLEM, mend
from libs.common.web.for_pages import ForPages, MayAsk
from libs.common.web.health import Check, database_check, distribution_version, health_routes, workers_alarm
from libs.common.web.idempotency import Idempotency
from libs.common.web.opening import Closed, Opening
from libs.common.web.parameters import sound_parameters
from libs.common.web.pipeline_api import Line, pipeline_router
from libs.common.web.short import WEBHOOKS, Answer, RawHeaders, ShortWay, Tell
from libs.common.web.texts import sound_texts

END_SECONDS = 3.0
"""How long a part may take to end: all of them together less than a supervisor waits, where no answer is under way."""
DESCRIPTION = "Turns a shop's webhooks into returning customers."
# Not by `model`: FastAPI would make a validator for each of them and each route, when it is first asked for one.
_PROBLEMS: dict[int | str, dict[str, object]] = {
    status: {"description": text, "content": PROBLEM}
    for status, text in {
        400: "The body is not JSON.",
        401: "No good API key.",
        403: "Scope missing.",
        404: "What the address or a parameter names is not there.",
        409: "What is there forbids it.",
        413: "The body is larger than this endpoint takes.",
        415: "The body is not of a media type that this endpoint takes.",
        422: "Bad fields, each with a pointer.",
        429: "Too many requests with this key. Retry-After says when to come back.",
        503: "The database is not there, or has too much to do. Try again.",
    }.items()
}

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service, as its `main.py` hands it over."""

    name: str
    router: APIRouter
    database: Database
    """Closed when the app ends."""
    state: object = None
    """Routes find it as `request.app.state.<name>`."""
    consumers: tuple[str, ...] = ()
    """Names of its consumers, for `/v1/pipeline/{name}` and dead letters."""
    migrations: Path | None = None
    """Its Alembic tree: not ready until the schema is there."""
    routes: Sequence[BaseRoute] = ()
    """Bare routes, matched before all others."""
    body_limits: Mapping[str, int] = field(default_factory=dict)
    """Path -> bytes, for those that take less than the settings' `max_body`."""
    for_pages: Mapping[str, MayAsk] = field(default_factory=dict)
    """Path -> whose pages may ask. See `web.for_pages`."""
    webhooks: ASGIApp | None = None
    """Gets each POST below `/webhooks/`, without routing or middleware, and before `start`, too."""
    short_way: ShortWay | None = None
    """The same, for those that come in one piece."""
    start: Callable[[], Awaitable[None]] | None = None
    """Called once the database is fit; again when it has failed."""
    stop: Callable[[], Awaitable[None]] | None = None
    """Called at the end, started or not."""
    pending: Callable[[datetime], Awaitable[Sequence[str]]] | None = None
    """Work that no position shows (timers due, mail unsent), in a few words: `drained` is false while there is any."""


class _Api(FastAPI):
    """FastAPI with a short way for webhooks, and a description that knows that errors are problem documents."""

    def __init__(self, *, webhooks: ASGIApp | None, short_way: ShortWay | None, **options: Any) -> None:
        super().__init__(**options)
        self._webhooks = webhooks
        self.short_way = partial(_by_short_way, short_way) if short_way is not None else None
        """Where the server leaves a POST to a path that is `short.PLAIN`, when it came in one piece."""
        problems.install(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            self._webhooks is not None
            and scope["type"] == "http"
            and scope["method"] == "POST"
            and scope["path"].startswith(WEBHOOKS)
        ):
            # A third of the cost of going through our middleware and FastAPI's, which have nothing to do there.
            try:
                await self._webhooks(scope, receive, send)
            except Exception as error:  # noqa: BLE001 (told and logged as everywhere else)
                await problems.respond(_unforeseen(error))(scope, receive, send)
        elif scope["type"] == "http" and scope["method"] == "HEAD":
            # As GET is; the server keeps the body to itself, since its own scope says HEAD.
            await super().__call__({**scope, "method": "GET"}, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            mend(super().openapi(), self.routes)
        return super().openapi()

    @cached_property
    def printed(self) -> bytes:
        """The description, as it is answered: to print it takes as long as several webhooks, and anybody may ask."""
        return bytes(JSONResponse(self.openapi()).body)


def _unforeseen(error: Exception) -> Problem:
    answer = problems.from_error(error)
    REQUESTS.labels("POST", WEBHOOKS, str(answer.status)).inc()
    return answer


def _by_short_way(route: ShortWay, path: str, raw: RawHeaders, body: bytes, tell: Tell) -> None:
    try:
        route(path, raw, body, tell)
    except Exception as error:  # noqa: BLE001 (told and logged as everywhere else)
        answer = _unforeseen(error)
        lines = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
        tell(Answer.problem(answer.status, answer.code, answer.detail, *lines), new_id())


async def _described(request: Request) -> Response:
    return Response(cast("_Api", request.app).printed, media_type="application/json")


DESCRIBED = Route("/openapi.json", _described)


def build_app(
    services: Sequence[Service], *, settings: CommonSettings, clock: Clock, checks: Sequence[Check] = ()
) -> FastAPI:
    """The app. `checks`: further conditions of `/readyz`, such as a worker's state.

    API keys are looked up in the first service's database. Without services only the health routes answer: what a
    worker serves to its orchestrator.
    """
    fit = []
    for service in services:
        trees = [(access.SCHEMA, access.MIGRATIONS)]
        if service.migrations is not None:
            trees.append((service.database.schema, service.migrations))
        fit.append(database_check(service.name, service.database, trees))
    opening = Opening(fit, partial(_begin, services, settings))
    alarms = [workers_alarm(one.database, _read_by(one, settings)) for one in services if one.consumers]
    health = health_routes([*checks, opening.check], alarms)
    limits = {path: limit for service in services for path, limit in service.body_limits.items()}
    for_pages = {path: may_ask for service in services for path, may_ask in service.for_pages.items()}
    middleware = [Middleware(ForPages, paths=for_pages)] if for_pages else []
    middleware += [Middleware(RequestContext), Middleware(WholeBody, limit=settings.max_body, limits=limits)]
    middleware.append(Middleware(Closed, opening, frozenset(route.path for route in (*health, DESCRIBED))))
    keys: Access | None = None
    if services:
        keys = Access(services[0].database, clock, rate_limit=settings.rate_limit)
        middleware.append(Middleware(Idempotency, database=services[0].database, access=keys))
    shared = shared_log(settings, services[0].database) if services else None
    app = _Api(
        title="Regulars",
        description=DESCRIPTION,
        version=distribution_version(),
        webhooks=next((service.webhooks for service in services if service.webhooks is not None), None),
        short_way=next((service.short_way for service in services if service.short_way is not None), None),
        routes=[*(route for service in services for route in service.routes), *health, DESCRIBED],
        middleware=middleware,
        lifespan=_lifespan(services, opening, shared),
        dependencies=[Depends(sound_parameters), Depends(sound_texts)],
        responses=_PROBLEMS,
        # Their pages load scripts from elsewhere; /openapi.json is what tools read, and is ours to answer.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        # A slash too many is another address, and a redirect's answer would be no problem document.
        redirect_slashes=False,
    )
    app.state.access = keys
    app.state.opening = opening
    for service in services:
        setattr(app.state, service.name, service.state)
        app.include_router(service.router)
    if shared is not None:
        lines = {s.name: _line(s, settings, shared) for s in services}
        app.include_router(pipeline_router(lines, clock))
        app.include_router(dead_letters_router({s.name: s.database for s in services if s.consumers}))
    return app


def _read_by(service: Service, settings: CommonSettings) -> tuple[str, ...]:
    """The service's consumers, and its relay where there is Kafka."""
    if settings.log == "kafka" and relayed(service.name):
        # Nobody is through before the others can see what follows from it.
        return (*service.consumers, RELAY)
    return service.consumers


def _line(service: Service, settings: CommonSettings, shared: Log) -> Line:
    logs = Logs.around(service.database, shared)
    return Line(service.database, logs, _read_by(service, settings), service.pending)


async def _begin(services: Sequence[Service], settings: CommonSettings) -> None:
    if services:
        key = settings.admin_key
        await set_admin_key(services[0].database, key.get_secret_value() if key else None)
    for service in services:
        if service.start is not None:
            await service.start()


async def _in_time(whose: str, end: Callable[[], Awaitable[None]]) -> None:
    """What does not end, as beside a database that hangs, is left: a process that is told to go has to."""
    try:
        async with asyncio.timeout(END_SECONDS):
            await end()
    except TimeoutError:
        log.warning("does not end in time and is left", service=whose, seconds=END_SECONDS)


def _lifespan(
    services: Sequence[Service], opening: Opening, shared: Log | None
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as running:
            for service in services:
                running.push_async_callback(_in_time, service.name, service.database.close)
            if shared is not None:
                running.push_async_callback(_in_time, "log", shared.close)
            for service in services:
                if service.stop is not None:
                    running.push_async_callback(_in_time, service.name, service.stop)
            # What is wrong at once with more than the database is for whoever starts us to see.
            if not await opening.attempt():
                stop = asyncio.Event()
                waiting = asyncio.create_task(opening.run(stop))
                running.push_async_callback(lambda: waiting)
                running.callback(stop.set)
            yield

    return lifespan

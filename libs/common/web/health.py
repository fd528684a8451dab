"""What orchestrators ask: alive, ready, metrics, version. No API key needed, nothing private told."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import asyncpg
import msgspec
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from libs.common.db import OLDEST_POSTGRES, Database, cause_of, is_transient
from libs.common.migrations import reached
from libs.common.telemetry import METRICS_MEDIA_TYPE, get_logger, metrics_text

READY_SECONDS = 2.0

Check = Callable[[], Awaitable[Sequence[str]]]
"""Reasons for not being ready; none when ready."""

log = get_logger(__name__)


def distribution_version() -> str:
    """The installed version of Regulars."""
    try:
        return version("regulars")
    except PackageNotFoundError:
        return "unknown"


def health_routes(checks: Sequence[Check], alarms: Sequence[Check] = ()) -> list[Route]:
    """`/livez` (the process answers), `/readyz` (503 with reasons), `/metrics`, `/version`.

    `alarms` are told by `/readyz` and do not make it 503: a worker that has stopped, or that nobody hears of, is no
    reason to refuse webhooks.
    """

    async def livez(_: Request) -> Response:
        return _json({"status": "alive"})

    async def readyz(_: Request) -> Response:
        reasons = await asked(checks)
        if reasons:
            log.warning("not ready", reasons=reasons)
            return _json({"status": "not ready", "reasons": reasons}, 503)
        return _json({"status": "ready", "reasons": [], "alarms": await asked(alarms)})

    async def metrics(_: Request) -> Response:
        # Collecting reads files and takes its time: webhooks go on meanwhile.
        return Response(await run_in_threadpool(metrics_text), headers={"content-type": METRICS_MEDIA_TYPE})

    async def version_(_: Request) -> Response:
        return _json({"version": distribution_version()})

    return [Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics), Route("/version", version_)]


def database_check(name: str, database: Database, trees: Sequence[tuple[str, Path]]) -> Check:
    """Reachable, new enough, and each (schema, migration tree) at its newest revision or a newer one."""

    async def check() -> list[str]:
        try:
            await database.ping()
            stale = [schema for schema, tree in trees if not await reached(database, tree, schema)]
        except (SQLAlchemyError, asyncpg.PostgresError, OSError, TimeoutError) as error:
            return [f"{name}: {_told(cause_of(error))}"]
        return [f"{name}: schema {schema} is not migrated: run `regulars migrate`" for schema in stale]

    return check


def _told(error: BaseException) -> str:
    """Why the database cannot be used, without its address or a user's name: anybody may read it."""
    if isinstance(error, asyncpg.UndefinedObjectError):
        # Of what a connection begins with, a server of before does not know `transaction_timeout`.
        return f"the database is older than PostgreSQL {OLDEST_POSTGRES}"
    if is_transient(error):
        return f"the database does not answer ({type(error).__name__}): is it up, and REGULARS_DATABASE_URL right?"
    return f"the database refuses ({type(error).__name__}): is REGULARS_DATABASE_URL right?"


def workers_alarm(database: Database, consumers: Sequence[str]) -> Check:
    """Which of a service's `consumers` stopped themselves, wait for the database, or have no worker that gives a sign.

    One that is dead or hangs lets its sign lapse, within the time of a lease.
    """

    async def alarm() -> list[str]:
        async with database.autocommit() as pg:
            rows = await pg.fetch(
                "SELECT consumer, state, reason FROM workers WHERE seen_until > now() ORDER BY consumer, worker"
            )
        seen = {row["consumer"] for row in rows}
        silent = [f"nobody runs {consumer}: no worker gives a sign" for consumer in consumers if consumer not in seen]
        return silent + [
            f"{row['consumer']} is {row['state']}: {row['reason']}" for row in rows if row["state"] != "running"
        ]

    return alarm


async def asked(checks: Sequence[Check]) -> list[str]:
    """What all of them say, at once; one that takes too long counts against it."""
    return [reason for found in await asyncio.gather(*map(_asked, checks)) for reason in found]


async def _asked(check: Check) -> Sequence[str]:
    try:
        async with asyncio.timeout(READY_SECONDS):
            return await check()
    except TimeoutError:
        return [f"no answer in {READY_SECONDS:g} s: is the database up, and REGULARS_DATABASE_URL right?"]


def _json(content: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")

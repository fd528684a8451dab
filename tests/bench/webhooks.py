"""Durable webhooks a second through the real route: `python -m tests.bench.webhooks`.

The bare app answers the same requests with 200 and keeps nothing: what the machine, uvicorn and the generator allow.
The cases take turns, since a machine's speed drifts, and the medians are told. Every 200 of the route is looked for in
the journal afterwards. PostgreSQL has the settings of docker-compose.yml.
"""

import asyncio
import json
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from libs.common import access
from libs.common.clock import SystemClock
from libs.common.crypto import Keyring
from libs.common.db import Database
from libs.common.migrations import run_migrations
from libs.common.telemetry import configure_logging
from libs.common.web import build_app
from regulars.serving import Server, server_config
from services.ingest.main import MIGRATIONS, service
from services.ingest.registering import Registration, register
from services.ingest.settings import SCHEMA, IngestSettings
from tests.bench.server import fresh_database

SECONDS = float(os.environ.get("BENCH_SECONDS", "5"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
CONNECTIONS = (64, 128)
CASES = (("bare", 1), ("route", 1), ("route", 2))
SECRET = secrets.token_hex(16)


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers 200."""
    if scope["type"] == "http":
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"15")]})
        await send({"type": "http.response.body", "body": b'{"status":"ok"}'})


def serve(kind: str, descriptor: int) -> None:
    """The process that is measured."""
    listener = socket.socket(fileno=descriptor)
    if kind == "bare":
        config = uvicorn.Config(bare, lifespan="off", log_config=None, access_log=False, server_header=False)
    else:
        settings = IngestSettings()
        configure_logging(settings.log_level)
        clock = SystemClock()
        database = Database(settings.database_url, schema=SCHEMA)
        config = server_config(build_app([service(settings, database, clock)], settings=settings, clock=clock))
    uvloop.run(Server(config, lambda: None).serve([listener]))


@asynccontextmanager
async def served(kind: str, processes: int, environment: dict[str, str]) -> AsyncIterator[list[str]]:
    """Addresses of as many server processes."""
    async with AsyncExitStack() as stack:
        addresses = []
        for _ in range(processes):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512))
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.bench.webhooks", "serve", kind, str(listener.fileno()),
                pass_fds=[listener.fileno()], env=os.environ | environment,
            )  # fmt: skip
            stack.push_async_callback(process.wait)
            stack.callback(process.terminate)
            addresses.append(f"http://127.0.0.1:{listener.getsockname()[1]}")
        yield addresses


async def load(addresses: Sequence[str], path: str, connections: int, seconds: float, *more: str) -> dict[str, Any]:
    """What the generator says. `more`: its options."""
    urls = [address + path for address in addresses]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.load", str(connections), str(seconds), SECRET, *urls, *more,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    result: dict[str, Any] = json.loads(output)
    return result


class Site(NamedTuple):
    """What is measured stands on it."""

    database: Database
    environment: dict[str, str]
    path: str
    """Of the one store's webhooks."""


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    """A fresh database with one store."""
    with tempfile.TemporaryDirectory() as folder:
        async with fresh_database(as_composed=True) as url:
            await run_migrations(url, access.SCHEMA, access.MIGRATIONS)
            await run_migrations(url, SCHEMA, MIGRATIONS)
            environment = {"REGULARS_DATABASE_URL": url, "REGULARS_DATA_DIR": folder, "REGULARS_LOG_LEVEL": "error"}
            database = Database(url, schema=SCHEMA)
            wanted = Registration(
                platform="shopify", domain="bench.myshopify.com", secrets=[SECRET], currency="EUR", timezone="UTC"
            )
            keyring = Keyring.from_settings(IngestSettings(data_dir=Path(folder)))
            store, _ = await register(database, keyring, "default", wanted, now=SystemClock().now(), by="bench")
            try:
                yield Site(database, environment, f"/webhooks/shopify/{store.key}")
            finally:
                await database.close()


async def bench() -> None:
    """Prints the table."""
    async with site() as at:
        print(f"{'':24}{'webhooks/s':>12}{'of bare':>9}{'p50 ms':>9}{'p99 ms':>9}")
        for connections in CONNECTIONS:
            results: dict[tuple[str, int], list[dict[str, Any]]] = {case: [] for case in CASES}
            for _ in range(ROUNDS):
                for kind, processes in CASES:
                    before = await journalled(at.database)
                    async with served(kind, processes, at.environment) as addresses:
                        result = await load(addresses, at.path, connections, SECONDS)
                    results[kind, processes].append(result)
                    stored = await journalled(at.database) - before
                    if set(result["answered"]) != {"200"} or stored != (kind == "route") * result["accepted"]:
                        sys.exit(f"answered {result['answered']}, accepted {result['accepted']}, stored {stored}")
            for (kind, processes), measured in results.items():
                _line(
                    f"{kind}, {processes} process{'es' * (processes - 1)}, {connections}", measured, results[CASES[0]]
                )


def _line(name: str, results: Sequence[dict[str, Any]], bare_results: Sequence[dict[str, Any]]) -> None:
    ratio = median(own["rate"] / reference["rate"] for own, reference in zip(results, bare_results, strict=True))
    rate, p50, p99 = (median(result[figure] for result in results) for figure in ("rate", "p50_ms", "p99_ms"))
    print(f"{name:24}{rate:12,.0f}{ratio:9.2f}{p50:9.2f}{p99:9.2f}", flush=True)


async def journalled(database: Database) -> int:
    """Deliveries in the journal."""
    async with database.autocommit() as pg:
        return int(await pg.fetchval("SELECT sum(next_offset) FROM log_partitions WHERE topic = 'journal'"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        uvloop.run(bench())

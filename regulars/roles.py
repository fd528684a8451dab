"""One role of one service alone: what a container runs.

None of them needs its database to start: each says why it is not ready, and begins once the database is fit.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module

import uvloop

from libs.common.clock import clock_from
from libs.common.contracts.topics import relayed
from libs.common.settings import CommonSettings
from libs.common.telemetry import configure_logging, get_logger
from libs.common.web import build_app
from libs.common.web.health import database_check
from libs.common.web.opening import Opening
from libs.common.worker import Worker
from regulars.garbage import THRESHOLD_OF_WORKERS, settle
from regulars.parts import database, settings_class, settings_told
from regulars.prepare import topics_fit
from regulars.relaying import relays
from regulars.schemas import trees
from regulars.serving import Server, serve_until, server_config

API_PORT = 8080
NEVER_STARTED = 3
"""Exit code of a server that could not even begin."""

log = get_logger(__name__)


def serve_one(service: str, host: str | None, port: int | None) -> None:
    """The service's HTTP role, until SIGTERM; then what is under way is answered first."""
    with settings_told():
        settings = settings_class(service)()
    configure_logging(settings.log_level)

    async def serving() -> None:
        app = import_module(f"services.{service}.main").create_app(settings)
        config = server_config(app, host or settings.listen_host, port or settings.listen_port or API_PORT)
        server = Server(config, lambda: log.info("serving", service=service, port=config.port))
        await serve_until(stopped(), server)
        if not server.started:
            raise SystemExit(NEVER_STARTED)
        log.info("drained")

    with settings_told():
        uvloop.run(serving())


def work_one(service: str) -> None:
    """The service's worker role, until SIGTERM; then the batches under way are finished first."""
    with settings_told():
        settings = settings_class(service)()
    configure_logging(settings.log_level)

    async def working() -> None:
        await topics_fit(settings)
        stop = stopped()
        workers: list[Worker] = []

        def begun(worker: Worker) -> None:
            workers.append(worker)
            settle(THRESHOLD_OF_WORKERS)

        async with databases([service]) as opening, answering(settings, opening, workers):
            if await opening.run(stop):
                await import_module(f"services.{service}.work").run(settings, stop, begun)
        log.info("drained")

    with settings_told():
        uvloop.run(working())


def relay(services: Sequence[str]) -> None:
    """The relays of these services, until SIGTERM. SystemExit when there is no Kafka to relay to."""
    with settings_told():
        settings = CommonSettings()
    configure_logging(settings.log_level)
    if settings.log != "kafka":
        raise SystemExit("REGULARS_LOG is not kafka: there is nothing to relay to")

    async def relaying() -> None:
        await topics_fit(settings)
        stop = stopped()
        relaying = [service for service in services if relayed(service)]
        async with (
            databases(relaying) as opening,
            relays(settings, clock_from(settings.clock_path), relaying) as workers,
            answering(settings, opening, workers),
        ):
            if await opening.run(stop):
                await asyncio.gather(*(worker.run(stop) for worker in workers))
        log.info("drained")

    uvloop.run(relaying())


@asynccontextmanager
async def databases(services: Sequence[str]) -> AsyncIterator[Opening]:
    """What waits for the databases of these services: there, and migrated."""
    async with AsyncExitStack() as opened:
        checks = []
        for service in services:
            own = database(service)
            opened.push_async_callback(own.close)
            checks.append(database_check(service, own, trees([service])))
        yield Opening(checks)


@asynccontextmanager
async def answering(settings: CommonSettings, opening: Opening, workers: Sequence[Worker]) -> AsyncIterator[None]:
    """Meanwhile `/livez`, `/readyz` and `/metrics` of a process that works, if the settings name a port for it.

    `workers` may still be empty: not ready.
    """
    if settings.listen_port is None:
        yield
        return

    async def check() -> Sequence[str]:
        return opening.reasons or problems(workers)

    app = build_app([], settings=settings, clock=clock_from(settings.clock_path), checks=[check])
    stop = asyncio.Event()
    server = Server(server_config(app, settings.listen_host, settings.listen_port), lambda: None)
    serving = asyncio.create_task(serve_until(stop, server))
    try:
        yield
    finally:
        stop.set()
        await serving


def problems(workers: Sequence[Worker]) -> list[str]:
    """Why a process with these workers is not ready."""
    if not workers:
        return ["the worker is starting"]
    if not all(worker.joined.is_set() for worker in workers):
        return ["a worker has not yet asked for its partitions"]
    return [problem for worker in workers for problem in worker.problems()]


def stopped() -> asyncio.Event:
    """Set by SIGTERM and SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop

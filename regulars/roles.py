"""One role of one service alone: what a container runs."""

import asyncio
import signal
from collections.abc import Sequence
from importlib import import_module

import uvicorn
import uvloop

from libs.common.clock import clock_from
from libs.common.settings import CommonSettings
from libs.common.telemetry import configure_logging
from regulars.parts import settings_class
from regulars.prepare import topics_fit
from regulars.relaying import relays
from regulars.serving import server_config


def serve_one(service: str, host: str, port: int) -> None:
    """The service's HTTP role, until SIGTERM."""
    settings = settings_class(service)()
    configure_logging(settings.log_level)
    app = import_module(f"services.{service}.main").create_app(settings)
    config = server_config(app)
    config.host, config.port = host, port
    uvicorn.Server(config).run()


def work_one(service: str) -> None:
    """The service's worker role, until SIGTERM."""
    settings = settings_class(service)()
    configure_logging(settings.log_level)

    async def working() -> None:
        await topics_fit(settings)
        await import_module(f"services.{service}.work").run(settings, _stopped())

    uvloop.run(working())


def relay(services: Sequence[str]) -> None:
    """The relays of these services, until SIGTERM. SystemExit when there is no Kafka to relay to."""
    settings = CommonSettings()
    configure_logging(settings.log_level)
    if settings.log != "kafka":
        raise SystemExit("REGULARS_LOG is not kafka: there is nothing to relay to")

    async def relaying() -> None:
        await topics_fit(settings)
        stop = _stopped()
        async with relays(settings, clock_from(settings.clock_path), services) as workers:
            await asyncio.gather(*(worker.run(stop) for worker in workers))

    uvloop.run(relaying())


def _stopped() -> asyncio.Event:
    """Set by SIGTERM and SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop

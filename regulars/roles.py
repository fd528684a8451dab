"""One role of one service alone: what a container runs."""

import asyncio
import signal
from importlib import import_module

import uvicorn
import uvloop

from libs.common.telemetry import configure_logging
from regulars.parts import settings_class
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
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await import_module(f"services.{service}.work").run(settings, stop)

    uvloop.run(working())

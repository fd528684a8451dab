"""All services' API in one process: `python -m regulars.api_process LINK LISTENER`, started by `regulars run`."""

import asyncio
import socket
import sys

import uvloop
from fastapi import FastAPI

from libs.common.clock import Clock, clock_from
from libs.common.settings import CommonSettings
from libs.common.telemetry import configure_logging, get_logger
from libs.common.web import Service, build_app
from regulars.parts import database, settings_told
from regulars.serving import Server, serve_until, server_config
from regulars.supervisor import Link
from services.ingest.main import service as ingest
from services.ingest.settings import IngestSettings
from services.messaging.main import service as messaging
from services.messaging.settings import MessagingSettings
from services.metrics.main import service as metrics
from services.metrics.settings import MetricsSettings
from services.profiles.main import service as profiles
from services.profiles.settings import ProfilesSettings

log = get_logger("regulars.api_process")


async def serve(link: Link, listener: socket.socket) -> None:
    """Answers until SIGTERM or until the parent is gone."""
    stop = asyncio.Event()
    link.stop_with_parent(stop)
    settings = CommonSettings()
    configure_logging(settings.log_level)
    clock = clock_from(settings.clock_path)
    app = build_app(all_services(clock), settings=settings, clock=clock)
    listening = asyncio.Event()
    telling = asyncio.create_task(tell_ready(app, listening, link))
    await serve_until(stop, Server(server_config(app), listening.set), [listener])
    telling.cancel()
    log.info("drained")


async def tell_ready(app: FastAPI, listening: asyncio.Event, link: Link) -> None:
    """Once it answers, and not only that it is not ready yet."""
    await listening.wait()
    await app.state.opening.opened.wait()
    link.ready()


def all_services(clock: Clock) -> list[Service]:
    """The four, with the settings of the environment."""
    return [
        ingest(IngestSettings(), database("ingest"), clock),
        profiles(ProfilesSettings(), database("profiles"), clock),
        metrics(MetricsSettings(), database("metrics"), clock),
        messaging(MessagingSettings(), database("messaging"), clock),
    ]


def main() -> None:
    """The process."""
    descriptor, listener = (int(number) for number in sys.argv[1:])
    link = Link(descriptor)
    link.receive_environment()
    with settings_told():
        uvloop.run(serve(link, socket.socket(fileno=listener)))


if __name__ == "__main__":
    main()

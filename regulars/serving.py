"""uvicorn, as every HTTP role runs it."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from regulars.garbage import settle

DRAIN_SECONDS = 20
"""How long an answer under way may take when the process is told to stop."""


class Server(uvicorn.Server):
    """uvicorn, stopped by our event and telling when it listens."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell = started

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The signals are the link's."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Tells once connections are taken."""
        await super().startup(sockets)
        if self.started:
            settle()
            self._tell()


def server_config(app: FastAPI) -> uvicorn.Config:
    """How every HTTP role serves: logs are the app's own, and an answer under way is finished."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        # Whoever stands in front is not asked who the client is: nothing here depends on it.
        proxy_headers=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        timeout_keep_alive=75,
    )

"""uvicorn, as every HTTP role runs it."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from regulars.garbage import settle

HEAD_SECONDS = 10.0
"""How long a sender may take to the end of its headers, from connecting or from a further request's first byte."""
DRAIN_SECONDS = 20
"""How long an answer under way may take when the process is told to stop."""


class Corked:
    """A transport that keeps what is written until the loop's next turn: an answer's head and body go out together.

    uvicorn writes them one by one, and uvloop would make a system call of each, the dearest thing about an answer.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._kept: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """As a transport's."""
        if not self._kept:
            self._loop.call_soon(self._flush)
        self._kept.append(data)

    def close(self) -> None:
        """As a transport's: what was written still goes out."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._kept:
            kept, self._kept = self._kept, []
            self._transport.write(b"".join(kept))


class Impatient(HttpToolsProtocol):
    """Closes a connection whose sender does not come to the end of its headers: uvicorn would wait for ever."""

    _in_head = True
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Headers are due from now on."""
        super().connection_made(Corked(transport, self.loop))  # type: ignore[arg-type]
        self._late = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is due any more."""
        self._in_time()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Starts waiting only where a request's headers did not come in one piece, as they nearly always do."""
        super().data_received(data)
        if not self._in_head:
            self._in_time()
        elif self._late is None:
            self._late = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def on_message_begin(self) -> None:
        """The parser's: a request begins."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The parser's: the headers are there."""
        self._in_head = False
        super().on_headers_complete()

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


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


async def serve_until(stop: asyncio.Event, server: Server, sockets: list[socket.socket] | None = None) -> None:
    """Serves until `stop` is set, or until the server gives up by itself; what is under way is answered first."""
    serving = asyncio.create_task(server.serve(sockets))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([serving, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    server.should_exit = True
    await serving


def server_config(app: FastAPI, host: str = "127.0.0.1", port: int = 0) -> uvicorn.Config:
    """How every HTTP role serves: logs are the app's own, and an answer under way is finished.

    `host` and `port` are for a server that is not given its sockets.
    """
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=Impatient,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        # Whoever stands in front is not asked who the client is: nothing here depends on it.
        proxy_headers=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        timeout_keep_alive=75,
    )

"""uvicorn, as every HTTP role runs it."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import httptools
import uvicorn
from fastapi import FastAPI
from msgspec import json
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from regulars.garbage import settle

HEAD_SECONDS = 10.0
"""How long a sender may take to the end of its headers, from connecting or from a further request's first byte."""
WHOLE_SECONDS = 30.0
"""How long a sender may take from the end of its headers to the end of its body. Routes have shorter limits, and answer
when they are over; this is for whoever goes on sending all the same."""
HEAD_BYTES = 64 * 1024
"""Headers, and trailers; what comes in one piece with its end may be a little more."""
MOST_WAITING = 128
"""Requests of one connection that came before an answer to the one before them. Each takes some kB, and 20 bytes to
send."""
DEAF_SECONDS = 20.0
"""How long a client may leave what it is sent lying about."""
BODY_FACTOR = 8
"""Chunks of a single byte take six bytes each."""
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
            # The client may have hung up meanwhile.
            if not self._transport.is_closing():
                self._transport.write(b"".join(kept))


class Impatient(HttpToolsProtocol):
    """uvicorn's protocol with bounds: on how long a request may take to arrive, and on how much of it is not body.

    It also keeps to HTTP/1.1: a request that offers an upgrade is an ordinary one with a header too many. The parser
    takes whatever follows its head for something else than HTTP, so its head is read once more, without the offer.
    """

    _in_head = True
    _arriving = False
    """A request has begun and is not there as a whole."""
    _late: asyncio.TimerHandle | None = None
    _deaf: asyncio.TimerHandle | None = None
    _begun = 0
    """Requests of this connection."""
    _enough = False
    """What else comes is not read: the connection ends with the answers to what has."""
    _last_word: bytes | None = None
    """To be sent behind them."""
    _offered = False
    """The head that was read offers an upgrade: it is to be read again."""
    _received = _bodied = 0
    """Bytes of the request that is arriving, and of its body."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Headers are due from now on."""
        super().connection_made(Corked(transport, self.loop))  # type: ignore[arg-type]
        self._late = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is due any more."""
        self._in_time()
        self.resume_writing()
        super().connection_lost(exc)
        # Nobody waits for them, and each of them knows this protocol: they would stay until the garbage collector came.
        self.pipeline.clear()

    def data_received(self, data: bytes) -> None:
        """Watches only over a request that did not come in one piece, as nearly all do."""
        if self._enough:
            return
        begun, arriving = self._begun, self._arriving
        self._feed(data)
        if (self._arriving or self._in_head) and not self._enough:
            if self._begun - begun <= (not arriving):
                # Else most of it may have been another request's.
                self._received += len(data)
            if self._received > HEAD_BYTES + BODY_FACTOR * self._bodied:
                self._refuse_head()
            elif self._late is None:
                seconds = HEAD_SECONDS if self._in_head else WHOLE_SECONDS
                self._late = self.loop.call_later(seconds, self.transport.close)

    def _feed(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if self._offered:
                    data = self._head_without_offer() + data[upgrade.args[0] :]
                    continue
                # A tunnel's end is this connection's: see `on_headers_complete`.
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
            return

    def _head_without_offer(self) -> bytes:
        """To be read by another parser: of this one nobody knows what it would make of anything more."""
        line = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        kept = (b"%b: %b" % header for header in self.headers if header[0] != b"upgrade")
        self.parser = httptools.HttpRequestParser(self)
        # As uvicorn has its own.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._offered = False
        self._begun -= 1
        return b"\r\n".join([line, *kept, b"", b""])

    def on_message_begin(self) -> None:
        """The parser's: a request begins."""
        self._in_head = self._arriving = True
        self._begun += 1
        self._received = self._bodied = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The parser's: the headers are there."""
        if len(self.pipeline) >= MOST_WAITING:
            self._enough = True
            raise OverflowError  # the parser reads no further
        upgraded = self.parser.should_upgrade()
        if upgraded and self.parser.get_method() != b"CONNECT":
            self._offered = True
            return
        super().on_headers_complete()
        # From here on there is a cycle of its own to answer it.
        self._in_head = False
        self._in_time()
        if upgraded:
            # What follows would be read as another request.
            self.cycle.keep_alive = False

    def on_chunk_header(self) -> None:
        """The parser's: a chunk begins, or with the last one trailers.

        What says who sent a body is not to come behind it: those are no headers, and nobody reads them.
        """
        self.headers = []

    def on_body(self, body: bytes) -> None:
        """The parser's: some of the body is there."""
        self._bodied += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The parser's: the request is there as a whole."""
        if self._offered:
            return
        self._arriving = False
        self._in_time()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, or one request too many."""
        if self._enough:
            self._in_time()
            self.cycle.keep_alive = False
        else:
            self._end(_problem(400, "bad_request", msg))

    def pause_writing(self) -> None:
        """The transport's: there is more to be sent than the client takes."""
        super().pause_writing()
        self._deaf = self.loop.call_later(DEAF_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The transport's: it is taken again."""
        if self._deaf is not None:
            self._deaf.cancel()
            self._deaf = None
        super().resume_writing()

    def _refuse_head(self) -> None:
        self._end(_problem(431, "headers_too_large", "The request's headers are larger than this server takes."))

    def _end(self, answer: bytes) -> None:
        # Never before another request's answer, or into the midst of it.
        cycle: RequestResponseCycle | None = self.cycle
        whole = self._in_head or not self._arriving
        """The cycle is of a request that came before this one, and as a whole."""
        if cycle is None or cycle.response_complete:
            self.transport.write(answer)
        elif whole or self.pipeline:
            if not whole:
                # It is this request's own, the last in the line: nobody is to begin with it.
                self.pipeline.popleft()
            self._enough = True
            self._last_word = answer
            self._in_time()
            return
        elif not cycle.response_started:
            # It is this request's own, whose route waits for what is not to come.
            cycle.disconnected = True
            self.transport.write(answer)
        self.transport.close()

    def on_response_complete(self) -> None:
        """A request was answered."""
        if self._last_word is not None and not self.pipeline:
            self.transport.write(self._last_word)
            self.transport.close()
        super().on_response_complete()

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def _problem(status: int, code: str, detail: str) -> bytes:
    """An answer to what never becomes a request."""
    phrase = HTTPStatus(status).phrase
    document = {"type": "about:blank", "title": phrase, "status": status, "code": code, "detail": detail}
    body = json.encode(document)
    head = (
        f"HTTP/1.1 {status} {phrase}\r\ncontent-type: application/problem+json\r\ncontent-length: {len(body)}\r\n"
        "connection: close\r\n\r\n"
    )
    return head.encode() + body


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
        # Whoever stands in front is not asked who the client is: where that matters (ingest's browsers), it matters
        # who says so, too.
        proxy_headers=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        timeout_keep_alive=75,
    )

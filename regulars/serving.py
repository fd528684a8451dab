"""uvicorn, as every HTTP role runs it."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httptools
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from libs.common.web.short import CLOSE, PLAIN, Answer, ShortWay
from regulars.answering import Corked, Short
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
IDLE_SECONDS = 75.0
"""How long a connection is kept without a request."""
DEAF_SECONDS = 20.0
"""How long a client may leave what it is sent lying about."""
BODY_FACTOR = 8
"""Chunks of a single byte take six bytes each."""
DRAIN_SECONDS = 20
"""How long an answer under way may take when the process is told to stop."""


class Impatient(HttpToolsProtocol):
    """uvicorn's protocol with bounds: on how long a request may take to arrive, and on how much of it is not body.

    It also keeps to HTTP/1.1: a request that offers an upgrade is an ordinary one with a header too many. The parser
    takes whatever follows its head for something else than HTTP, so its head is read once more, without the offer.

    A request that comes in one piece to where the app has a short way goes it, if it is the first in that piece: who
    sends many at a time has to wait for his turn, as the others do. Any other has a cycle and a task.
    """

    _in_head = True
    _arriving = False
    """A request has begun and is not there as a whole."""
    _late: asyncio.TimerHandle | None = None
    _deaf: asyncio.TimerHandle | None = None
    _idle: asyncio.TimerHandle | None = None
    _answered_at = 0.0
    """The latest request, by the loop's clock."""
    _first = True
    """Of what came in one piece, no request has begun to be read."""
    _begun = 0
    """Requests of this connection."""
    _enough = False
    """What else comes is not read: the connection ends with the answers to what has."""
    _last_word: Answer | None = None
    """To be sent behind them."""
    _offered = False
    """The head that was read offers an upgrade: it is to be read again."""
    _received = _bodied = 0
    """Bytes of the request that is arriving, and of its body."""

    def __init__(self, config: uvicorn.Config, *args: Any, **options: Any) -> None:
        super().__init__(config, *args, **options)
        self._short_way: ShortWay | None = getattr(config.app, "short_way", None)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Headers are due from now on."""
        self._corked = Corked(transport, self.loop)
        super().connection_made(self._corked)  # type: ignore[arg-type]
        self._late = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is due any more."""
        self._in_time()
        if self._idle is not None:
            self._idle.cancel()
        self.resume_writing()
        super().connection_lost(exc)
        # Nobody waits for them, and each of them knows this protocol: they would stay until the garbage collector came.
        self.pipeline.clear()
        if self.cycle is not None:
            self.cycle.on_response = _nothing

    def data_received(self, data: bytes) -> None:
        """Watches only over a request that did not come in one piece, as nearly all do."""
        if self._enough:
            return
        begun, arriving = self._begun, self._arriving
        self._first = True
        self._feed(data)
        if (self._arriving or self._in_head) and not self._enough:
            if self._arriving and not self._in_head and isinstance(self.cycle, Short):
                self._go_long(self.cycle)
            if self._begun - begun <= (not arriving):
                # Else most of it may have been another request's.
                self._received += len(data)
            if self._received > HEAD_BYTES + BODY_FACTOR * self._bodied:
                self._refuse_head()
            elif self._late is None:
                seconds = HEAD_SECONDS if self._in_head else WHOLE_SECONDS
                self._late = self.loop.call_later(seconds, self.transport.close)

    def _feed(self, data: bytes) -> None:
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
        # The scope is made for those who need one.
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def on_headers_complete(self) -> None:
        """The parser's: the headers are there."""
        if len(self.pipeline) >= MOST_WAITING or self.transport.is_closing():
            self._enough = True
            raise OverflowError  # the parser reads no further
        upgraded = self.parser.should_upgrade()
        if upgraded and self.parser.get_method() != b"CONNECT":
            self._offered = True
            return
        if self._may_go_short():
            self.cycle = Short(
                self.url.decode(),
                self.headers,
                keep_alive=self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive(),
                transport=self._corked,
                default_headers=self.server_state.default_headers,
                on_response=self.on_response_complete,
            )
        else:
            self._open_cycle()
        # From here on there is a cycle of its own to answer it.
        self._first = self._in_head = False
        self._in_time()
        if upgraded:
            # What follows would be read as another request.
            self.cycle.keep_alive = False

    def _may_go_short(self) -> bool:
        before: RequestResponseCycle | None = self.cycle
        return (
            self._short_way is not None
            and self._first
            and PLAIN.fullmatch(self.url) is not None
            and self.parser.get_method() == b"POST"
            # Its turn has come, and there is room for its answer.
            and (before is None or before.response_complete)
            and not (self.expect_100_continue or self.flow.write_paused)
        )

    def _open_cycle(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.headers, self.expect_100_continue = url, headers, expects
        self.scope["headers"] = headers
        super().on_headers_complete()

    def _go_long(self, short: Short) -> None:
        """The rest of it is still to come, and somebody has to wait for it, no longer than the route likes."""
        self.cycle = None  # type: ignore[assignment]
        if self.transport.is_closing():
            return
        # Neither before nor behind here are trailers taken for headers.
        self.headers, self.expect_100_continue = short.headers, False
        self._open_cycle()
        self.headers = []
        super().on_body(b"".join(short.pieces))

    def on_chunk_header(self) -> None:
        """The parser's: a chunk begins, or with the last one trailers.

        What says who sent a body is not to come behind it: those are no headers, and nobody reads them.
        """
        self.headers = []

    def on_body(self, body: bytes) -> None:
        """The parser's: some of the body is there."""
        self._bodied += len(body)
        if isinstance(self.cycle, Short):
            self.cycle.pieces.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The parser's: the request is there as a whole."""
        if self._offered:
            return
        self._arriving = False
        self._in_time()
        short = self.cycle
        if isinstance(short, Short):
            self._short_way(short.path, short.headers, b"".join(short.pieces), short.tell)  # type: ignore[misc]
        else:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, or one request too many."""
        if self._enough:
            self._in_time()
            self.cycle.keep_alive = False
        else:
            self._end(Answer.problem(400, "bad_request", msg, CLOSE))

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
        self._end(
            Answer.problem(431, "headers_too_large", "The request's headers are larger than this server takes.", CLOSE)
        )

    def _end(self, answer: Answer) -> None:
        # Never before another request's answer, or into the midst of it.
        cycle: RequestResponseCycle | None = self.cycle
        whole = self._in_head or not self._arriving
        """The cycle is of a request that came before this one, and as a whole."""
        if cycle is None or cycle.response_complete:
            self.transport.write(answer.sent())
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
            self.transport.write(answer.sent())
        self.transport.close()

    def on_response_complete(self) -> None:
        """A request was answered. As uvicorn's, but for a timer with each of them."""
        if self._last_word is not None and not self.pipeline:
            self.transport.write(self._last_word.sent())
            self.transport.close()
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._answered_at = self.loop.time()
        if self._idle is None:
            self._idle = self.loop.call_later(IDLE_SECONDS, self._end_idle)

    def _unset_keepalive_if_required(self) -> None:
        """Uvicorn's timer is not set."""

    def _end_idle(self) -> None:
        self._idle = None
        if self.transport.is_closing():
            return
        left = self._answered_at + IDLE_SECONDS - self.loop.time()
        if self._arriving or not self.cycle.response_complete:
            # Whoever waits for an answer is not idle, however long it takes.
            left = IDLE_SECONDS
        if left > 0:
            self._idle = self.loop.call_later(left, self._end_idle)
        else:
            self.transport.close()

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def _nothing() -> None:
    """Happens when somebody who has gone is answered."""


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


def server_config(app: ASGIApp, host: str = "127.0.0.1", port: int = 0) -> uvicorn.Config:
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
    )

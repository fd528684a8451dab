"""How answers go out: uvicorn's in one piece, and those of the short way (see `libs.common.web.short`) at once."""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from libs.common.web.short import CLOSE, Answer, RawHeaders


class Corked:
    """A transport that keeps what is written until the loop's next turn: an answer's head and body go out together.

    uvicorn writes them one by one, and uvloop would make a system call of each, the dearest thing about an answer.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self.is_closing = transport.is_closing
        self._loop = loop
        self._kept: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """As a transport's."""
        if not self._kept:
            self._loop.call_soon(self._flush)
        self._kept.append(data)

    def write_whole(self, data: bytes) -> None:
        """An answer as a whole, which need not wait for anything more."""
        if self._kept:
            self._kept.append(data)
        elif not self.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """As a transport's: what was written still goes out."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._kept:
            kept, self._kept = self._kept, []
            # The client may have hung up meanwhile.
            if not self.is_closing():
                self._transport.write(b"".join(kept))


class Short(RequestResponseCycle):
    """A request that goes the short way, in the place of uvicorn's cycle: what the protocol asks of one is here."""

    message_event = asyncio.Event()
    """Nobody waits for it."""

    def __init__(
        self,
        path: str,
        headers: RawHeaders,
        *,
        keep_alive: bool,
        transport: Corked,
        default_headers: RawHeaders,
        on_response: Callable[[], None],
    ) -> None:
        self.path = path
        self.headers = headers
        self.pieces: list[bytes] = []
        """Of its body."""
        self.keep_alive = keep_alive
        self.disconnected = self.response_started = self.response_complete = False
        self._transport = transport
        self._default_headers = default_headers
        self.on_response = on_response

    def tell(self, answer: Answer, id_: str) -> None:
        """The answer; a client who is gone gets none."""
        if self.disconnected or self.response_complete:
            return
        self.response_started = self.response_complete = True
        lines = [*self._default_headers, (b"x-request-id", id_.encode())]
        if not (self.keep_alive or answer.closes):
            lines.append(CLOSE)
        self._transport.write_whole(answer.sent(*lines))
        if answer.closes or not self.keep_alive:
            self._transport.close()
        self.on_response()

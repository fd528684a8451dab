"""Request bodies: read whole, within a size and a time, before a route sees them."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libs.common.problems import Problem, respond

BODY_SECONDS = 10.0
LINGER_SECONDS = 1.0
LINGER_BYTES = 8 * 1024 * 1024
MOST_HELD = 64 * 1024 * 1024
"""Bytes of bodies that are still coming, of all senders together."""
MOST_PARTS = 250_000
"""Objects and lists in one body: a batch of the largest events has half of them. To read one takes two bytes of a body,
a hundred of memory, and time that others wait for."""
RETRY_AFTER_SECONDS = 2


class WholeBody:
    """Middleware: 413 for too large a body, 408 for one that does not come, 503 when too much is coming at once.

    The body is put into `scope["state"]`.
    """

    def __init__(self, app: ASGIApp, limit: int, limits: Mapping[str, int]) -> None:
        """`limit`: bytes; `limits`: those of paths that take less."""
        self._app = app
        self._limit = limit
        self._limits = limits
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reads the body and hands it on in one piece."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await self._read(scope, receive)
        except Problem as problem:
            await respond(problem)(scope, receive, lingering(receive, send))
            return
        except TimeoutError:
            late = Problem(408, "request_timeout", "The body did not come in time.", headers={"connection": "close"})
            await respond(late)(scope, receive, send)
            return
        except ClientDisconnect:
            return
        scope.setdefault("state", {})["body"] = body
        await self._app(scope, _replay(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        limit = min(self._limit, self._limits.get(scope["path"], self._limit))
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > limit:
                raise _too_large(limit)
        body = bytearray()
        more = True
        try:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                piece = message.get("body", b"")
                body += piece
                self._held += len(piece)
                if len(body) > limit:
                    # Not by a name of this frame's: it would hold the error that holds the frame, and the body with it,
                    # until the garbage collector comes by.
                    raise _too_large(limit)
                more = message.get("more_body", False)
                if more and self._held > MOST_HELD:
                    retry = {"retry-after": str(RETRY_AFTER_SECONDS), "connection": "close"}
                    raise Problem(503, "overloaded", "Too many bodies are coming at once. Try again.", headers=retry)
        finally:
            self._held -= len(body)
        if len(body) > MOST_PARTS and body.count(b"{") + body.count(b"[") > MOST_PARTS:
            raise Problem(413, "too_large", f"The body has more than {MOST_PARTS} objects and lists.")
        return bytes(body)


def _too_large(limit: int) -> Problem:
    return Problem(413, "too_large", f"The body is larger than {limit} bytes.", headers={"connection": "close"})


def lingering(receive: Receive, send: Send) -> Send:
    """For an answer that comes before the body has: reads on for a while once it is sent, and forgets what it reads.

    To close a connection with something unread in it resets it, and the sender may never see why it was refused.
    """

    async def send_and_linger(message: Message) -> None:
        if message["type"] != "http.response.body" or message.get("more_body", False):
            await send(message)
            return
        await send({**message, "more_body": True})
        left = LINGER_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while True:
                    if left <= 0:
                        # Enough. It cannot send any more, but still has the time to see its answer.
                        await asyncio.Event().wait()
                    coming = await receive()
                    left -= len(coming.get("body", b""))
                    if not coming.get("more_body", False):
                        break
        await send({"type": "http.response.body"})

    return send_and_linger


def _replay(body: bytes, receive: Receive) -> Receive:
    unread = [body]

    async def replay() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        return await receive()

    return replay

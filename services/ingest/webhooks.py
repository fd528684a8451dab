"""`POST /webhooks/{platform}/{store_key}`: 200 once the delivery is in the journal, and never before.

A bare ASGI route: this is the path that has to keep up with a sale. Nothing on it parses more than it must, logs, or
asks the database for anything but the commit. An unknown store and a bad signature get the same answer after the same
work, so that nobody can find out which stores exist.
"""

import asyncio
import secrets
from http import HTTPStatus
from typing import NamedTuple

import msgspec
from starlette.types import Message, Receive, Scope, Send

from libs.common.clock import Clock
from libs.common.contracts.journal import Delivery
from libs.common.ids import new_id
from libs.common.web.body import lingering
from services.ingest import headers
from services.ingest.journal import Journal, Unavailable, digest_of, event_of
from services.ingest.normalise import root_key
from services.ingest.registry import Registered, Registry
from services.ingest.signatures import verified
from services.ingest.tally import Tally

ROOT = "/webhooks/"
PATH = ROOT + "{platform}/{store_key}"
RETRY_AFTER_SECONDS = 2
SMALL = 64 * 1024
"""Bytes of each body that are always let in: nobody can crowd out ordinary webhooks with a few large ones."""
_REQUEST_ID = b"x-request-id"
_LATE = "the body is late"
_CHANGED = {"shopify": b'"updated_at":"', "woocommerce": b'"date_modified_gmt":"'}
_TIME_LENGTH = len("2026-01-31T23:59:59")
_NO_KEYS = (secrets.token_bytes(32),)
"""Stands in for an unknown store's secret, so that it takes as long."""


class Limits(NamedTuple):
    """What a sender may do."""

    body: int
    """Bytes."""
    seconds: float
    """For the whole body to arrive."""
    reading: int
    """Bytes of all bodies that are arriving at one time, beyond what is SMALL."""


class _Answer(NamedTuple):
    status: int
    headers: list[tuple[bytes, bytes]]
    body: Message


class _Refused(Exception):
    """The request ends here. `reason` is counted."""

    def __init__(self, reason: str, answer: _Answer) -> None:
        super().__init__(reason)
        self.reason = reason
        self.answer = answer


class _Gone(Exception):
    """The sender hung up before his body was there."""


def _answer(status: int, media_type: bytes, content: bytes, *extra: tuple[bytes, bytes]) -> _Answer:
    length = str(len(content)).encode()
    lines = [(b"content-type", media_type), (b"content-length", length), *extra]
    return _Answer(status, lines, {"type": "http.response.body", "body": content})


def _problem(status: int, code: str, detail: str, *extra: tuple[bytes, bytes]) -> _Answer:
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }
    return _answer(status, b"application/problem+json", msgspec.json.encode(document), *extra)


def changed_at(platform: str, body: bytes) -> bytes:
    """When the object was changed, or one within it: whatever stands where a body says so first."""
    name = _CHANGED[platform]
    at = body.find(name)
    return body[at + len(name) : at + len(name) + _TIME_LENGTH] if at >= 0 else b""


_CLOSE = (b"connection", b"close")
_RETRY = (b"retry-after", str(RETRY_AFTER_SECONDS).encode())


OK = _answer(200, b"application/json", b'{"status":"ok"}')
NO_PLATFORM = _problem(404, "not_found", "There is no such platform.")
UNVERIFIED = _problem(401, "unverified", "There is no such store, or the signature is not by one of its secrets.")
SLOW = _problem(408, "too_slow", "The body did not arrive in time.", _CLOSE)
OVERLOADED = _problem(503, "overloaded", "There is more coming in than can be stored. Try again.", _RETRY)
NO_ROOM = _problem(503, "overloaded", "There is more coming in than can be stored. Try again.", _RETRY, _CLOSE)
NO_JOURNAL = _problem(503, "unavailable", "The delivery could not be stored. Try again.", _RETRY)


class WebhookEndpoint:
    """The ASGI application behind PATH."""

    def __init__(self, registry: Registry, journal: Journal, tally: Tally, clock: Clock, limits: Limits) -> None:
        self._registry = registry
        self._journal = journal
        self._tally = tally
        self._clock = clock
        self._limits = limits
        self._too_large = _problem(413, "too_large", f"The body is larger than {limits.body} bytes.", _CLOSE)
        self._reading = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Its id, in the answer's X-Request-ID, is the delivery's id."""
        delivery_id = new_id()
        platform, _, store_key = scope["path"][len(ROOT) :].partition("/")
        if platform in headers.PLATFORMS:
            found = self._registry.find(store_key)
            registered = found if found is not None and found.platform == platform else None
            try:
                answer = await self._receive(delivery_id, platform, registered, scope["headers"], receive)
            except _Refused as refused:
                # Counted for the store, too: its address was put into another platform's settings.
                misled = registered is None and found is not None and refused.reason == "unknown_store"
                self._tally.refused(found, "wrong_platform" if misled else refused.reason)
                answer = refused.answer
                if answer is self._too_large or answer is NO_ROOM:
                    send = lingering(receive, send)
            except _Gone:
                self._tally.refused(found, "gone")
                return
        else:
            answer = NO_PLATFORM
        lines = [*answer.headers, (_REQUEST_ID, delivery_id.encode())]
        await send({"type": "http.response.start", "status": answer.status, "headers": lines})
        await send(answer.body)

    async def _receive(
        self, id_: str, platform: str, registered: Registered | None, raw: headers.RawHeaders, receive: Receive
    ) -> _Answer:
        heading = headers.read(platform, raw)
        body = await self._body(heading.length, receive)
        if not self._registry.loaded:
            raise _Refused("journal", NO_JOURNAL)
        signature = verified(body, heading.signature, registered.keys if registered is not None else _NO_KEYS)
        if signature is None:
            if headers.is_ping(platform, heading, body):
                return OK
            raise _Refused("unknown_store" if registered is None else "bad_signature", UNVERIFIED)
        if registered is None:  # not even with a lucky signature
            raise _Refused("unknown_store", UNVERIFIED)
        delivery = Delivery(
            store=registered.key,
            platform=platform,
            topic=heading.topic,
            delivery_id=heading.delivery_id,
            headers=headers.kept(raw),
            body=body,
        )
        event = event_of(
            delivery,
            id=id_,
            tenant=registered.tenant,
            root=root_key(platform, heading.topic, body),
            time=self._clock.arrival(),
            traceparent=heading.traceparent,
        )
        # The verified signature is a digest of the body already. (A repeat under the other secret of a rotation is
        # taken for new, and changes nothing.)
        identity = (registered.key, heading.topic, heading.delivery_id, signature.decode())
        digest = digest_of(*identity, changed=changed_at(platform, body))
        try:
            appended = await self._journal.append(event, digest)
        except Unavailable as error:
            raise _Refused(error.reason, OVERLOADED if error.reason == "overloaded" else NO_JOURNAL) from None
        if not appended:
            self._tally.duplicate(registered)
        return OK

    async def _body(self, announced: int | None, receive: Receive) -> bytes:
        """The raw body. Refuses what is too large, too slow, or too much with all the others that are arriving."""
        if announced is not None and announced > self._limits.body:
            raise _Refused("too_large", self._too_large)
        chunks: list[bytes] = []
        size = 0
        reserved = 0
        # What asyncio.timeout does, at a quarter of its cost: this is on every webhook's way.
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (a coroutine of the server's)
        late = asyncio.get_running_loop().call_later(self._limits.seconds, task.cancel, _LATE)
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _Gone
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > self._limits.body:
                    raise _Refused("too_large", self._too_large)
                if size - SMALL > reserved:
                    reserved += self._reserve(size - SMALL - reserved)
                if not message.get("more_body", False):
                    return b"".join([*chunks, chunk]) if chunks else chunk
                chunks.append(chunk)
        except asyncio.CancelledError as cancelled:
            if cancelled.args != (_LATE,) or task.uncancel():
                raise
            raise _Refused("slow", SLOW) from None
        finally:
            late.cancel()
            self._reading -= reserved

    def _reserve(self, size: int) -> int:
        if self._reading + size > self._limits.reading:
            raise _Refused("overloaded", NO_ROOM)
        self._reading += size
        return size

"""`POST /webhooks/{platform}/{store_key}`: 200 once the delivery is in the journal, and never before.

This is the route that has to keep up with a sale: it has a short way of its own (see `libs.common.web.short`), beside
the one that ASGI has, for bodies that are still coming. Nothing on it parses more than it must, logs, or asks the
database for anything but the commit. An unknown store and a bad signature get the same answer after the same work, so
that nobody can find out which stores exist.
"""

import asyncio
import secrets
from typing import NamedTuple

from starlette.types import Receive, Scope, Send

from libs.common.clock import Clock
from libs.common.contracts.journal import Delivery
from libs.common.ids import new_id
from libs.common.log.base import Event
from libs.common.web.body import lingering
from libs.common.web.short import CLOSE, WEBHOOKS, Answer, RawHeaders, Tell
from services.ingest import headers
from services.ingest.journal import Journal, Kept, Unavailable, digest_of, event_of
from services.ingest.normalise import root_key
from services.ingest.registry import Registered, Registry
from services.ingest.signatures import verified
from services.ingest.tally import Tally

PATH = WEBHOOKS + "{platform}/{store_key}"
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


class _Refused(Exception):
    """The request ends here. `reason` is counted."""

    def __init__(self, reason: str, answer: Answer) -> None:
        super().__init__(reason)
        self.reason = reason
        self.answer = answer


class _Gone(Exception):
    """The sender hung up before his body was there."""


def changed_at(platform: str, body: bytes) -> bytes:
    """When the object was changed, or one within it: whatever stands where a body says so first."""
    name = _CHANGED[platform]
    at = body.find(name)
    return body[at + len(name) : at + len(name) + _TIME_LENGTH] if at >= 0 else b""


_RETRY = (b"retry-after", str(RETRY_AFTER_SECONDS).encode())


OK = Answer.of(200, b"application/json", b'{"status":"ok"}')
NO_PLATFORM = Answer.problem(404, "not_found", "There is no such platform.")
UNVERIFIED = Answer.problem(401, "unverified", "There is no such store, or the signature is not by one of its secrets.")
SLOW = Answer.problem(408, "too_slow", "The body did not arrive in time.", CLOSE)
OVERLOADED = Answer.problem(503, "overloaded", "There is more coming in than can be stored. Try again.", _RETRY)
NO_ROOM = Answer.problem(503, "overloaded", "There is more coming in than can be stored. Try again.", _RETRY, CLOSE)
NO_JOURNAL = Answer.problem(503, "unavailable", "The delivery could not be stored. Try again.", _RETRY)


class WebhookEndpoint:
    """The route behind PATH, by the short way and as an ASGI application."""

    def __init__(self, registry: Registry, journal: Journal, tally: Tally, clock: Clock, limits: Limits) -> None:
        self._registry = registry
        self._journal = journal
        self._tally = tally
        self._clock = clock
        self._limits = limits
        self._too_large = Answer.problem(413, "too_large", f"The body is larger than {limits.body} bytes.", CLOSE)
        self._reading = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, whose body may still have to come."""
        path, raw = scope["path"], scope["headers"]
        platform, found = self._address(path)
        answered: asyncio.Future[tuple[Answer, str]] = asyncio.get_running_loop().create_future()

        def tell(answer: Answer, id_: str) -> None:
            if not answered.done():
                answered.set_result((answer, id_))

        try:
            body = await self._body(headers.length(raw), receive) if platform else b""
        except _Refused as refused:
            tell(self._refused(platform, found, refused.reason, refused.answer), new_id())
            if refused.answer is self._too_large or refused.answer is NO_ROOM:
                send = lingering(receive, send)
        except _Gone:
            self._tally.refused(found, "gone")
            return
        else:
            self.whole(path, raw, body, tell)
        answer, id_ = await answered
        lines = [*answer.headers, (_REQUEST_ID, id_.encode())]
        await send({"type": "http.response.start", "status": answer.status, "headers": lines})
        await send({"type": "http.response.body", "body": answer.body})

    def whole(self, path: str, raw: RawHeaders, body: bytes, tell: Tell) -> None:
        """One request that is there. Its id, in the answer's X-Request-ID, is the delivery's id."""
        id_ = new_id()
        platform, found = self._address(path)
        if not platform:
            tell(NO_PLATFORM, id_)
            return
        registered = found if found is not None and found.platform == platform else None

        def told(kept: Kept) -> None:
            if kept is Kept.NOT:
                tell(self._refused(platform, found, "journal", NO_JOURNAL), id_)
                return
            if kept is Kept.SEEN and registered is not None:
                self._tally.duplicate(registered)
            tell(OK, id_)

        try:
            verified = self._verified(id_, platform, registered, raw, body)
            if verified is None:
                tell(OK, id_)
            else:
                self._journal.offer(*verified, told)
        except _Refused as refused:
            tell(self._refused(platform, found, refused.reason, refused.answer), id_)
        except Unavailable as error:
            answer = OVERLOADED if error.reason == "overloaded" else NO_JOURNAL
            tell(self._refused(platform, found, error.reason, answer), id_)

    def _address(self, path: str) -> tuple[str, Registered | None]:
        """The platform, empty when it is none, and the store of that key, of whichever platform it is."""
        platform, _, store_key = path[len(WEBHOOKS) :].partition("/")
        return (platform, self._registry.find(store_key)) if platform in headers.PLATFORMS else ("", None)

    def _refused(self, platform: str, found: Registered | None, reason: str, answer: Answer) -> Answer:
        # Counted for the store, too: its address was put into another platform's settings.
        misled = reason == "unknown_store" and found is not None and found.platform != platform
        self._tally.refused(found, "wrong_platform" if misled else reason)
        return answer

    def _verified(
        self, id_: str, platform: str, registered: Registered | None, raw: RawHeaders, body: bytes
    ) -> tuple[Event, bytes] | None:
        """What the journal is to have, and its digest; None for a ping."""
        if len(body) > self._limits.body:
            raise _Refused("too_large", self._too_large)
        if not self._registry.loaded:
            raise _Refused("journal", NO_JOURNAL)
        heading = headers.read(platform, raw)
        signature = verified(body, heading.signature, registered.keys if registered is not None else _NO_KEYS)
        if signature is None:
            if headers.is_ping(platform, heading, body):
                return None
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
        return event, digest_of(*identity, changed=changed_at(platform, body))

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

"""WooCommerce's REST API, version 3: its objects are what its webhooks carry.

The API pages by number, and objects leave a window of time as soon as they change again: those behind them move up,
and the next page would leave some of them out. So a page is asked for by offset, and where the window has shrunk since
the page before, as far back. Nothing can come into a window that ends in the past.
"""

import base64
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
from msgspec import Struct
from msgspec.structs import replace
from oauthlib.oauth1 import SIGNATURE_HMAC_SHA256, SIGNATURE_TYPE_QUERY
from oauthlib.oauth1 import Client as Signer

from libs.common.clock import monotonic
from services.ingest.outcome import Unreadable
from services.ingest.platforms.http import ShopHttp, whole_number
from services.ingest.platforms.lists import at_most
from services.ingest.platforms.port import (
    Fetched,
    FetchedPage,
    Hopeless,
    Kind,
    Others,
    Refused,
    Subscription,
    TooLarge,
    Unauthorized,
    Unavailable,
    deletion,
)
from services.ingest.printed import Scalar, decoded, identifier, instant, required

PAGE = 100
"""The most that the API gives."""
LARGEST = 5 * 1024 * 1024
"""Of one object, as of a webhook."""
MOST_PAGES = 50_000
"""Of one walk: five million objects, seven hours at two a second. A list that goes on behind that has no end."""
MOST_WEBHOOKS = 2_000
"""Of everybody: a shop with more has lost its way."""
SECONDS = 60.0
"""For asking one by one; what is left is asked about the next time."""
_ROOT = "/wp-json/wc/v3/"
_TOPICS: Mapping[Kind, tuple[str, str]] = {
    "orders": ("order", "order.updated"),
    "customers": ("customer", "customer.updated"),
    "products": ("product", "product.updated"),
}
_ALL: Mapping[Kind, Mapping[str, str]] = {
    "orders": {"status": "any"},
    "customers": {"role": "all"},
    "products": {"status": "any"},
}
"""What else must be asked for to get all of them."""


class _Place(Struct, array_like=True):
    """How far a walk through a window has come."""

    offset: int = 0
    total: int | None = None
    """Of the window, as of the page before."""
    pages: int = 0
    """That were read."""
    size: int = PAGE
    """Of a page: less where objects are large."""


class _Named(Struct):
    """What is looked at here; the rest is the normaliser's."""

    id: Scalar = None
    date_modified_gmt: Scalar = None
    status: Scalar = None


class _Webhook(Struct):
    """Its secret is shown to nobody."""

    id: Scalar = None
    topic: Scalar = None
    delivery_url: Scalar = None
    status: Scalar = None


_LIST = at_most(PAGE)
_NAMED = msgspec.json.Decoder(_Named)
_WEBHOOK = msgspec.json.Decoder(_Webhook)


class OAuth1(httpx.Auth):
    """OAuth 1.0a in the query, which WooCommerce wants on plain HTTP; the secret itself does not travel."""

    def __init__(self, key: str, secret: str) -> None:
        self._signer = Signer(
            key,
            client_secret=secret,
            signature_method=SIGNATURE_HMAC_SHA256,
            signature_type=SIGNATURE_TYPE_QUERY,
        )

    def auth_flow(self, request: httpx.Request) -> Any:
        """Signs the request's query."""
        url, _, _ = self._signer.sign(str(request.url), http_method=request.method)
        request.url = httpx.URL(url)
        yield request


class WooCommerce:
    """One shop."""

    def __init__(self, base: str, *, key: str, secret: str, inside: bool = False) -> None:
        """`key`, `secret`: made in the shop, *Settings → Advanced → REST API*, with the right to read."""
        auth: httpx.Auth = OAuth1(key, secret) if httpx.URL(base).scheme == "http" else httpx.BasicAuth(key, secret)
        self._http = ShopHttp(base, auth=auth, inside=inside)

    async def page(
        self,
        kind: Kind,
        *,
        since: datetime | None,
        until: datetime,
        following: str | None,
        bulk: Others | None = None,  # noqa: ARG002 - it has no such thing
    ) -> FetchedPage:
        """Objects that last changed from `since` on and before `until`. Raises Refused and Unavailable.

        All that had changed before the first page was asked for is on one of the pages, whatever changes meanwhile;
        some of it may be on two. Customers cannot be asked for by date: all are read, and the others left out.
        Raises Hopeless when the list has no end: a shop may go on for ever, or back and back again.
        """
        place = _resumed(following)
        if place.pages >= MOST_PAGES:
            raise Hopeless(f"the shop's list of {kind} has no end: {MOST_PAGES} pages were read")
        params = {
            "per_page": str(place.size),
            "offset": str(place.offset),
            "orderby": "id",
            "order": "asc",
            **_ALL[kind],
        }
        if kind != "customers":
            params |= {"dates_are_gmt": "true", "modified_before": _printed(until)}
            if since is not None:
                # `after` leaves its own second out.
                params["modified_after"] = _printed(since - timedelta(seconds=1))
        try:
            answer = await self._http.get(f"{_ROOT}{kind}", params)
        except TooLarge:
            if place.size == 1:
                raise
            smaller = _packed(replace(place, pages=place.pages + 1, size=place.size // 10))
            return await self.page(kind, since=since, until=until, following=smaller)
        listed = _listed(answer.content)
        total = whole_number(answer.headers.get("x-wp-total", ""))
        objects, broken = [], []
        for one in listed:
            try:
                objects.append(_fetched(kind, one))
            except Unreadable as error:
                broken.append(error.reason)
        if kind == "customers":
            objects = [one for one in objects if _within(one.changed_at, since, until)]
        return FetchedPage(objects, broken, _next(place, len(listed), total))

    async def those(self, kind: Kind, ids: Sequence[str]) -> list[Fetched]:
        """Which of these, at most 100, its list shows; without those that cannot be taken."""
        asked = [each for each in ids if each.isascii() and each.isdigit()]
        if not asked:
            return []
        params = {"per_page": str(PAGE), "include": ",".join(asked), "orderby": "include", **_ALL[kind]}
        try:
            answer = await self._http.get(f"{_ROOT}{kind}", params)
        except TooLarge:
            if len(asked) == 1:
                raise
            half = len(asked) // 2
            return [*await self.those(kind, asked[:half]), *await self.those(kind, asked[half:])]
        found = []
        for one in _listed(answer.content):
            with suppress(Unreadable):
                found.append(_fetched(kind, one))
        return found

    async def gone(self, kind: Kind, ids: Sequence[str]) -> set[str]:
        """Which of these, at most 100, are not there any more, or lie in the trash; as many as can be asked in time.

        A list that leaves one out proves nothing, a plugin may filter it: each is asked for by its own address, too.
        """
        asked = [each for each in ids if each.isascii() and each.isdigit()]
        if not asked:
            return set()
        params = {
            "per_page": str(PAGE),
            "include": ",".join(asked),
            "orderby": "include",
            "_fields": "id",
            **_ALL[kind],
        }
        answer = await self._http.get(f"{_ROOT}{kind}", params)
        there = {identifier(decoded(_NAMED, bytes(each)).id) for each in _listed(answer.content)}
        gone, began = set(), monotonic()
        for each in asked:
            if each not in there and monotonic() - began < SECONDS and await self._is_gone(kind, each):
                gone.add(each)
        return gone

    def deleted(self, root: str) -> Fetched:
        """What a webhook would have told."""
        return deletion(f"{root.partition(':')[0]}.deleted", root)

    async def subscriptions(self) -> list[Subscription]:
        """All webhooks of the shop."""
        found: list[Subscription] = []
        while True:
            params = {"per_page": str(PAGE), "offset": str(len(found)), "orderby": "id", "order": "asc"}
            listed = _listed((await self._http.get(f"{_ROOT}webhooks", params)).content)
            found += [_subscription(bytes(each)) for each in listed]
            if len(listed) < PAGE:
                return found
            if len(found) >= MOST_WEBHOOKS:
                raise Refused(f"the shop has more than {MOST_WEBHOOKS} webhooks")

    async def subscribe(self, topic: str, address: str, secret: str) -> Subscription:
        """Makes one, switched on. The shop calls the address with a ping before it answers."""
        wanted = {"name": f"Regulars: {topic}", "topic": topic, "delivery_url": address, "secret": secret}
        return await self._changed("POST", "webhooks", wanted | {"status": "active"})

    async def mend(self, subscription: Subscription, address: str, secret: str) -> Subscription:
        """Has one deliver to `address`, signed by `secret`, and switched on; whoever had it off."""
        wanted = {"delivery_url": address, "secret": secret, "status": "active"}
        return await self._changed("PUT", f"webhooks/{subscription.id}", wanted)

    async def _changed(self, method: str, path: str, wanted: Mapping[str, str]) -> Subscription:
        try:
            answer = await self._http.change(method, f"{_ROOT}{path}", msgspec.json.encode(wanted))
        except Unauthorized as error:
            # With a key that may read alone the list could be read.
            raise Refused(f"{error}: has the key the permission Read/Write?") from error
        return _subscription(answer.content)

    async def _is_gone(self, kind: Kind, id_: str) -> bool:
        answer = await self._http.find(f"{_ROOT}{kind}/{id_}", {})
        if answer is None:
            return True
        try:
            one = decoded(_NAMED, answer.content)
        except Unreadable as error:
            raise Unavailable("the shop's answer is not an object in JSON") from error
        return identifier(one.id) == id_ and one.status == "trash"

    async def aclose(self) -> None:
        """Ends its connections."""
        await self._http.aclose()


def _resumed(following: str | None) -> _Place:
    if following is None:
        return _Place()
    return msgspec.json.decode(base64.urlsafe_b64decode(following), type=_Place)


def _next(place: _Place, length: int, total: int | None) -> str | None:
    offset = place.offset + length
    if total is not None and place.total is not None and total < place.total and place.offset:
        # Some that lay before this page have left the window: as many may have slipped in front of it, unseen.
        offset = max(0, place.offset - (place.total - total))
    elif length < place.size if total is None else (not length or offset >= total):
        return None
    return _packed(replace(place, offset=offset, total=total, pages=place.pages + 1))


def _packed(place: _Place) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode()


def _listed(content: bytes) -> list[msgspec.Raw]:
    try:
        objects = _LIST(content)
    except (msgspec.MsgspecError, RecursionError) as error:
        # A maintenance page, an error of a plugin, a warning of PHP's before the JSON.
        raise Unavailable("the shop's answer is not a list in JSON") from error
    if len(objects) > PAGE:
        raise Unavailable(f"the shop answers more than the {PAGE} objects that it was asked for")
    return objects


def _subscription(content: bytes) -> Subscription:
    try:
        one = decoded(_WEBHOOK, content)
        id_ = required(identifier(one.id), "id")
    except Unreadable as error:
        raise Unavailable("the shop's answer is not a webhook in JSON") from error
    topic, address = (each if isinstance(each, str) else "" for each in (one.topic, one.delivery_url))
    return Subscription(id_, topic, address, active=one.status == "active")


def _fetched(kind: Kind, raw: msgspec.Raw) -> Fetched:
    name, topic = _TOPICS[kind]
    body = bytes(raw)
    if len(body) > LARGEST:
        raise Unreadable(f"larger than {LARGEST} bytes")
    one = decoded(_NAMED, body)
    source_id = required(identifier(one.id), "id")
    changed_at = instant(one.date_modified_gmt, "date_modified_gmt")
    return Fetched(topic, f"{name}:{source_id}", changed_at, body, trashed=one.status == "trash")


def _within(at: datetime | None, since: datetime | None, until: datetime) -> bool:
    # Who never changed has no date, and is told of rather twice than never.
    return at is None or ((since is None or at >= since) and at < until)


def _printed(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}"

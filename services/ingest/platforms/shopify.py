"""Shopify's Admin GraphQL API: its objects, told as its webhooks would.

A list is walked by cursor in the order of its objects' last changes: one that changes meanwhile moves behind the window
that is asked for, and no other moves with it. Lists within an object that go on are read to their ends.

Who has asked for too much waits between two steps, and keeps nobody from asking other shops. Within one object, which
is taken whole or not at all, short waits are waited for.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
from msgspec import Struct

from libs.common.clock import monotonic
from services.ingest.outcome import Unreadable
from services.ingest.platforms import shopify_queries as queries
from services.ingest.platforms import shopify_subscriptions as webhooks
from services.ingest.platforms.lists import at_most
from services.ingest.platforms.port import (
    Bulk,
    Denied,
    Fetched,
    FetchedPage,
    Hopeless,
    Kind,
    Others,
    Subscription,
    Unavailable,
    deletion,
)
from services.ingest.platforms.shopify_bulk import BulkOperations, GivenUp, Place, place_of
from services.ingest.platforms.shopify_graphql import Data, Edges, GraphQl, Told, TooDear
from services.ingest.platforms.shopify_objects import (
    Adjustment,
    CheckoutLine,
    Connection,
    LineItem,
    Part,
    RefundLineItem,
    RefundShippingLine,
    ShippingLine,
    Transaction,
    Variant,
    parts,
)
from services.ingest.platforms.shopify_tokens import AppTokens
from services.ingest.platforms.shopify_whole import read, told
from services.ingest.printed import Scalar, decoded

PAGE = 50
SOME, FEW = 50, 5
"""Of the lists within an object, with the object."""
REST = 100
"""Of such a list, when it goes on."""
TOGETHER = 100
"""Ids that are asked about at one time."""
LARGEST = 5 * 1024 * 1024
"""Of one object, as of a webhook."""
MOST_PAGES = 50_000
"""Of one walk: two and a half million objects. A list that goes on behind that has no end."""
MOST_PARTS = 100
"""Further requests for one object."""
LONGEST_CURSOR = 2048
SECONDS, LONGEST = 60.0, 150.0
"""After so long no further object of a page is begun, and one that was begun is left to the next page."""
ALL_ORDERS = "read_all_orders"
"""Without this right no order of more than 60 days is shown, as if it were gone."""
_ODD = "the shop's answer is not what it was asked for"


class _Place(Struct, array_like=True):
    """How far a walk has come."""

    cursor: str | None = None
    size: int = PAGE
    """Of a page: less where the shop finds one too dear."""
    pages: int = 0


class _Edge(Struct):
    cursor: str
    node: msgspec.Raw


class _Id(Struct):
    id: Scalar = None


class _Scope(Struct):
    handle: Scalar = None


_EDGES, _NODES = at_most(PAGE), at_most(TOGETHER)
_SCOPES = at_most(500)
_EDGE = msgspec.json.Decoder(_Edge)
_ID = msgspec.json.Decoder(_Id | None)
_SCOPE = msgspec.json.Decoder(_Scope)
_PARTS: Mapping[str, msgspec.json.Decoder[Any]] = {
    "lineItems": msgspec.json.Decoder(Connection[LineItem]),
    "shippingLines": msgspec.json.Decoder(Connection[ShippingLine]),
    "refundLineItems": msgspec.json.Decoder(Connection[RefundLineItem]),
    "refundShippingLines": msgspec.json.Decoder(Connection[RefundShippingLine]),
    "orderAdjustments": msgspec.json.Decoder(Connection[Adjustment]),
    "transactions": msgspec.json.Decoder(Connection[Transaction]),
    "variants": msgspec.json.Decoder(Connection[Variant]),
    "checkoutLines": msgspec.json.Decoder(Connection[CheckoutLine]),
}
_TYPES: Mapping[Kind, str] = {kind: asked.type for kind, asked in queries.KINDS.items()}


class Shopify:
    """One shop."""

    def __init__(self, base: str, *, token: str | AppTokens, bulk_above: int, inside: bool = False) -> None:
        """`token`: of an app that the shop has installed, with the rights to read orders, customers and products.

        `bulk_above`: of more objects than that, a bulk operation is made, where one may be.
        """
        self._api = GraphQl(base, token=token, inside=inside)
        self._bulk_above = bulk_above
        self._headers = {"x-shopify-shop-domain": httpx.URL(base).netloc.decode("ascii")}
        self._bulk = BulkOperations(self._api, self._asked, self._headers, inside=inside)

    async def page(
        self, kind: Kind, *, since: datetime | None, until: datetime, following: str | None, bulk: Others | None = None
    ) -> FetchedPage:
        """Objects that last changed from `since` on and before `until`.

        All that had changed before the first page was asked for, and not since, is on one of the pages. A page ends
        early, behind what is whole, when the shop wants to be left alone or is slow. Checkouts are those that were
        left with an address, whether they were bought later or not; an app may be kept from seeing them alone.
        """
        window, place = _window(since, until), place_of(following)
        try:
            if (
                bulk is not None
                and following is None
                and await self._bulk.count(kind, window, self._bulk_above + 1) > (self._bulk_above)
            ):
                place = Place()
            if place is not None:
                return await self._bulk.page(kind, window, until, place, bulk or Others())
            return await self._page(kind, window, until, _resumed(following))
        except GivenUp as error:
            progress = Bulk(state="given_up", reason=str(error))
            return FetchedPage([], [], _printed_place(_Place()), bulk=progress)
        except Denied as error:
            if kind != "checkouts":
                raise
            # A right of its own, without which all the rest can be seen.
            return FetchedPage([], [f"no checkouts: {error}"], None)

    async def _page(self, kind: Kind, window: str, until: datetime, place: _Place) -> FetchedPage:
        began = monotonic()
        if place.pages >= MOST_PAGES:
            raise Hopeless(f"the shop's list of {kind} has no end: {MOST_PAGES} pages were read")
        size, answer = await self._affordable(kind, window, place)
        found = _edges(answer.data, kind)
        edges = _read(_EDGES, found.edges, size)
        objects: list[Fetched] = []
        broken: list[str] = []
        cursor, pause = place.cursor, answer.pause
        for n, raw in enumerate(edges):
            edge = _decoded(_EDGE, raw)
            try:
                one = await _within(began + LONGEST - monotonic(), self._whole(kind, edge.node))
                if one.changed_at is None or one.changed_at < until:
                    objects.append(one)
            except Unreadable as error:
                broken.append(error.reason)
            except Unavailable as error:
                if not n:
                    raise
                pause = error.retry_after or pause
                break
            cursor = edge.cursor
            if n + 1 < len(edges) and monotonic() - began > SECONDS:
                break
        else:
            if not found.page_info.has_next_page:
                return FetchedPage(objects, broken, None, pause)
            cursor = found.page_info.end_cursor or cursor
        if not _is_cursor(cursor):
            raise Unavailable("the shop does not say where its list goes on")
        return FetchedPage(objects, broken, _printed_place(_Place(cursor, size, place.pages + 1)), pause)

    async def those(self, kind: Kind, ids: Sequence[str]) -> list[Fetched]:
        """Which of these, at most 100, it shows; without those that cannot be taken."""
        there, _ = await self._there(kind, ids)
        found, _ = await self._asked(kind, there)
        return found

    async def _asked(self, kind: Kind, ids: Collection[str]) -> tuple[list[Fetched], list[str]]:
        """Objects as GraphQL names them, those that are shown; and why others could not be taken."""
        rest = [*ids]
        found: list[Fetched] = []
        broken: list[str] = []
        size = PAGE
        while rest:
            try:
                asked = {"ids": rest[:size], **queries.sizes(kind, some=SOME, few=FEW)}
                answer = await self._api.ask(queries.those(kind), asked, patient=True)
            except TooDear as error:
                size = _smaller(size, kind, error)
                continue
            for raw in _read(_NODES, answer.data.nodes, size):
                try:
                    found += [await self._whole(kind, raw)] if bytes(raw) != b"null" else []
                except Unreadable as error:
                    broken.append(error.reason)
            rest = rest[size:]
        return found, broken

    async def gone(self, kind: Kind, ids: Sequence[str]) -> set[str]:
        """Which of these, at most 100, are not there any more.

        Of orders this can be said only by an app that may see all of them: others see those of the last 60 days.
        """
        asked = [each for each in ids if each.isascii() and each.isdigit()]
        there, scopes = await self._there(kind, asked)
        if kind == "orders" and ALL_ORDERS not in scopes:
            return set()
        shown = set(there)
        return {each for each in asked if _gid(kind, each) not in shown}

    def deleted(self, root: str) -> Fetched:
        """What a webhook would have told."""
        return deletion(f"{root.partition(':')[0]}s/delete", root)

    async def subscriptions(self) -> list[Subscription]:
        """Those of the app: neither other apps' nor those that were made in the shop's admin are shown to it."""
        return await webhooks.every(self._api)

    async def subscribe(self, topic: str, address: str, secret: str) -> Subscription:  # noqa: ARG002
        """Makes one. Shopify signs it with the app's own secret, and asks nobody for another."""
        return await webhooks.made(self._api, topic, address)

    async def mend(self, subscription: Subscription, address: str, secret: str) -> Subscription:  # noqa: ARG002
        """Has it deliver to `address`."""
        return await webhooks.moved(self._api, subscription, address)

    async def aclose(self) -> None:
        """Ends its connections."""
        await self._api.aclose()

    async def _affordable(self, kind: Kind, window: str, place: _Place) -> tuple[int, Told]:
        """The page at this place, as large as the shop allows, and how large that is."""
        size = place.size
        asked = {"after": place.cursor, "query": window, **queries.sizes(kind, some=SOME, few=FEW)}
        while True:
            try:
                return size, await self._api.ask(queries.page(kind), {"first": size, **asked})
            except TooDear as error:
                size = _smaller(size, kind, error)

    async def _there(self, kind: Kind, ids: Sequence[str]) -> tuple[list[str], set[str]]:
        """Those that are shown, as GraphQL names them, and the rights of the app."""
        asked = [_gid(kind, each) for each in ids if each.isascii() and each.isdigit()]
        if not asked:
            return [], set()
        try:
            told = await self._api.ask(queries.THERE, {"ids": asked}, patient=True)
        except TooDear as error:
            raise Unavailable("the shop wants fewer requests") from error
        nodes = [_decoded(_ID, each) for each in _read(_NODES, told.data.nodes, TOGETHER)]
        # Each has the place that it was asked for at: what is shorter, or says another id, proves nothing.
        if len(nodes) != len(asked) or any(
            node is not None and node.id != id_ for node, id_ in zip(nodes, asked, strict=True)
        ):
            raise Unavailable(_ODD)
        installed = told.data.current_app_installation
        scopes = _read(_SCOPES, installed.access_scopes, 500) if installed else []
        rights = {str(_decoded(_SCOPE, each).handle) for each in scopes}
        return [id_ for node, id_ in zip(nodes, asked, strict=True) if node is not None], rights

    async def _whole(self, kind: Kind, raw: msgspec.Raw) -> Fetched:
        """An object with all that its lists hold, as a webhook's body. Raises Unreadable."""
        content = bytes(raw)
        if len(content) > LARGEST:
            raise Unreadable(f"larger than {LARGEST} bytes")
        one = read(kind, content)
        await self._complete(parts(one), len(content))
        return told(one, self._headers)

    async def _complete(self, lists: Iterator[Part], size: int) -> None:
        """Reads what goes on behind what came with the object."""
        requests = 0
        for owner, name, connection in lists:
            while connection.page_info.has_next_page:
                requests += 1
                if requests > MOST_PARTS or size > LARGEST:
                    raise Unreadable(f"{name}: has no end")
                after = connection.page_info.end_cursor
                if not _is_cursor(after):
                    raise Unreadable(f"{name}: does not say where it goes on")
                asked = {"id": owner, "first": REST, "after": after}
                try:
                    told = await self._api.ask(queries.rest(name), asked, patient=True)
                except TooDear as error:
                    raise Unreadable(f"{name}: too dear") from error
                if told.data.node is None:
                    # It went meanwhile: whatever that was is told by itself.
                    raise Unreadable(f"{name}: not there any more")
                content = bytes(told.data.node.part)
                size += len(content)
                further = decoded(_PARTS[name], content[: LARGEST + 1])
                connection.nodes += further.nodes
                connection.page_info = further.page_info


def _smaller(size: int, kind: Kind, error: Exception) -> int:
    if size == 1:
        raise Hopeless(f"one of the shop's {kind} costs more than may be asked for at one time") from error
    return size // 2


def _edges(data: Data, kind: Kind) -> Edges:
    found: Edges | None = getattr(data, kind)
    if found is None:
        raise Unavailable(_ODD)
    return found


def _read(read: Callable[[bytes], list[msgspec.Raw]], raw: msgspec.Raw, length: int) -> list[msgspec.Raw]:
    try:
        found = read(bytes(raw))
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Unavailable(_ODD) from error
    if len(found) > length:
        raise Unavailable(f"the shop answers more than the {length} objects that it was asked for")
    return found


def _decoded(decoder: msgspec.json.Decoder[Any], raw: msgspec.Raw) -> Any:
    try:
        return decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unavailable(_ODD) from error


def _gid(kind: Kind, id_: str) -> str:
    return f"gid://shopify/{_TYPES[kind]}/{id_}"


def _is_cursor(text: str | None) -> bool:
    return bool(text) and len(text or "") <= LONGEST_CURSOR


async def _within(seconds: float, fetched: Awaitable[Fetched]) -> Fetched:
    try:
        async with asyncio.timeout(seconds):
            return await fetched
    except TimeoutError as error:
        raise Unavailable("the shop takes too long") from error


def _resumed(following: str | None) -> _Place:
    if following is None:
        return _Place()
    return msgspec.json.decode(base64.urlsafe_b64decode(following), type=_Place)


def _printed_place(place: _Place) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode()


def _window(since: datetime | None, until: datetime) -> str:
    since_ = [f"updated_at:>='{_printed(since)}'"] if since is not None else []
    return " AND ".join([*since_, f"updated_at:<'{_printed(until)}'"])


def _printed(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"

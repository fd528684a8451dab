"""Shopify's bulk operations: the shop prepares all objects of a kind at its leisure, and we read them from one file.

One at a time, and no second one while another of this app runs: one of a backfill that was cancelled is ended, others
are waited for. Where it comes to nothing, pages are what is left; what a failed operation has prepared so far is left
alone, since pages bring all of it, and each object counts once.
"""

import base64
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from services.ingest.outcome import Unreadable
from services.ingest.platforms import shopify_queries as queries
from services.ingest.platforms.download import opened
from services.ingest.platforms.http import whole_number
from services.ingest.platforms.port import (
    Bulk,
    Denied,
    Fetched,
    FetchedPage,
    Hopeless,
    Kind,
    Others,
    Refused,
    TooLarge,
    Unavailable,
)
from services.ingest.platforms.shopify_graphql import GraphQl, Operation, TooDear, code_of
from services.ingest.platforms.shopify_lines import Reader, Taken
from services.ingest.platforms.shopify_whole import made, told

SOONEST, LATEST = 1.0, 30.0
"""Seconds between two looks at how far it is."""
MOST_WAITS = 2 * 24 * 120
"""Two days of such looks."""
MOST_FOREIGN = 120
"""An hour of them, for another operation of this app to end."""
MOST_PIECES = 200_000
"""Of one file: fifty million objects."""
_UNDER_WAY = {"CREATED", "RUNNING", "CANCELING"}
_PREFIX = "bulk:"


class Place(Struct, array_like=True):
    """How far it is."""

    operation: str | None = None
    """None: none of ours has begun."""
    waits: int = 0
    pieces: int = 0
    """Of the file, that were read."""
    offset: int = 0
    within: bool = False
    """See `shopify_lines.Taken`."""

    def printed(self) -> str:
        """As a page says where it goes on."""
        return _PREFIX + base64.urlsafe_b64encode(msgspec.json.encode(self)).decode()


class GivenUp(Exception):
    """Pages are what is left; why."""


Asked = Callable[[Kind, Collection[str]], Awaitable[tuple[list[Fetched], list[str]]]]
"""Objects of these ids, as GraphQL names them, and why others could not be taken."""


def place_of(following: str | None) -> Place | None:
    """Where it goes on in bulk; None: it does not."""
    if following is None or not following.startswith(_PREFIX):
        return None
    return msgspec.json.decode(base64.urlsafe_b64decode(following.removeprefix(_PREFIX)), type=Place)


class BulkOperations:
    """Of one shop."""

    def __init__(self, api: GraphQl, asked: Asked, headers: Mapping[str, str], *, inside: bool) -> None:
        """`headers`: of what is told. `inside`: whether files may lie on addresses of our own network."""
        self._api = api
        self._ask = asked
        self._headers = headers
        self._inside = inside

    async def count(self, kind: Kind, window: str, limit: int) -> int:
        """How many there are, `limit` at most."""
        try:
            answer = await self._api.ask(queries.count(kind), {"query": window, "limit": limit})
        except TooDear as error:
            raise Unavailable("the shop wants fewer requests") from error
        return answer.data.count.count if answer.data.count else 0

    async def page(self, kind: Kind, window: str, until: datetime, place: Place, others: Others) -> FetchedPage:
        """The next piece, or how long to wait for it. Raises GivenUp."""
        try:
            if place.operation is None:
                return await self._begun(kind, window, place, others)
            answer = await self._api.ask(queries.BULK, {"id": place.operation})
            return await self._gone_on(kind, until, place, answer.data.operation)
        except TooDear as error:
            raise Unavailable("the shop wants fewer requests") from error
        except (Hopeless, Denied) as error:
            raise GivenUp(str(error)) from error

    async def _begun(self, kind: Kind, window: str, place: Place, others: Others) -> FetchedPage:
        text = queries.in_bulk(kind, window)
        last = (await self._api.ask(queries.LAST_BULK, {})).data.operation
        if last is not None and last.query == text and last.status in {*_UNDER_WAY, "COMPLETED"}:
            # It was begun by whoever died before that could be noted.
            return _waiting(replace(place, operation=_id(last), waits=0), last)
        if last is not None and last.status in _UNDER_WAY:
            if last.id not in _operations(others.over) - _operations(others.open):
                return _foreign(place)
            # Nobody reads any more what it prepares, and it may take hours.
            if last.status != "CANCELING":
                await self._api.ask(queries.CANCEL_BULK, {"id": last.id})
            return _foreign(place, "the bulk operation of a cancelled backfill is being ended", _soon(place))
        run = (await self._api.ask(queries.RUN_BULK, {"query": text}, changes=True)).data.run
        if run is not None and run.user_errors is not None and run.user_errors.first is not None:
            code = code_of(run.user_errors.first.code)
            if code in {"OPERATION_IN_PROGRESS", "LIMIT_REACHED"}:
                return _foreign(place)
            raise GivenUp(f"the shop does not begin a bulk operation ({code})")
        if run is None or run.bulk_operation is None:
            raise GivenUp("the shop does not begin a bulk operation")
        return _waiting(replace(place, operation=_id(run.bulk_operation), waits=0), run.bulk_operation)

    async def _gone_on(self, kind: Kind, until: datetime, place: Place, found: Operation | None) -> FetchedPage:
        if found is None:
            raise GivenUp("the bulk operation is not there any more")
        if found.status in _UNDER_WAY:
            if place.waits >= MOST_WAITS:
                raise GivenUp("the bulk operation does not come to its end")
            return _waiting(replace(place, waits=place.waits + 1), found)
        if found.status != "COMPLETED":
            code = f", {code_of(found.error_code)}" if found.error_code is not None else ""
            raise GivenUp(f"the bulk operation came to nothing ({code_of(found.status)}{code})")
        size = _number(found.file_size)
        if found.url is None or size == 0:
            return FetchedPage([], [], None, bulk=Bulk(state="done"))
        if place.pieces >= MOST_PIECES:
            raise GivenUp("the file of the bulk operation has no end")
        taken = await self._taken(str(found.url), place, size)
        objects, broken = await self._fetched(kind, taken, until)
        progress = Bulk(
            state="done" if taken.ended else "reading",
            objects=_number(found.root_object_count) or 0,
            bytes=size,
            bytes_read=taken.offset,
        )
        further = replace(place, pieces=place.pieces + 1, offset=taken.offset, within=taken.within)
        return FetchedPage(objects, broken, None if taken.ended else further.printed(), bulk=progress)

    async def _taken(self, url: str, place: Place, size: int | None) -> Taken:
        """A piece of the file; its address opens it to anybody, and is asked for each time instead of being kept."""
        try:
            async with opened(url, offset=place.offset, inside=self._inside) as content:
                return await Reader(place.offset, within=place.within).take(content, size)
        except Refused as error:
            raise GivenUp(str(error)) from error

    async def _fetched(self, kind: Kind, taken: Taken, until: datetime) -> tuple[Sequence[Fetched], list[str]]:
        objects: list[Fetched] = []
        broken = [*taken.broken]
        for family in taken.families:
            try:
                objects.append(told(made(kind, family), self._headers))
            except Unreadable as error:
                broken.append(error.reason)
        if taken.asked:
            found, failed = await self._asked(kind, sorted(taken.asked))
            objects += found
            broken += failed
        # What changed since is told by webhooks.
        return [each for each in objects if each.changed_at is None or each.changed_at < until], broken

    async def _asked(self, kind: Kind, ids: Sequence[str]) -> tuple[list[Fetched], list[str]]:
        try:
            return await self._ask(kind, ids)
        except TooLarge:
            if len(ids) == 1:
                return [], ["one object is too large"]
            half = len(ids) // 2
            first, second = await self._asked(kind, ids[:half]), await self._asked(kind, ids[half:])
            return [*first[0], *second[0]], [*first[1], *second[1]]


def _operations(followings: Sequence[str]) -> set[object]:
    places = [place_of(each) for each in followings]
    return {place.operation for place in places if place is not None and place.operation is not None}


def _soon(place: Place) -> float:
    return min(SOONEST * 2.0 ** min(place.waits, 10), LATEST)


def _waiting(place: Place, found: Operation) -> FetchedPage:
    progress = Bulk(state="running", objects=_number(found.root_object_count) or 0)
    return FetchedPage([], [], place.printed(), wait=_soon(place), bulk=progress)


def _foreign(
    place: Place, reason: str = "another bulk operation of this app is under way", wait: float = LATEST
) -> FetchedPage:
    if place.waits >= MOST_FOREIGN:
        raise GivenUp("another bulk operation of this app does not come to its end")
    progress = Bulk(state="waiting", reason=reason)
    return FetchedPage([], [], replace(place, waits=place.waits + 1).printed(), wait=wait, bulk=progress)


def _id(found: Operation) -> str:
    if not isinstance(found.id, str):
        raise GivenUp("the shop does not name its bulk operation")
    return found.id


def _number(value: object) -> int | None:
    """GraphQL prints those of 64 bits as text."""
    return whole_number(str(value)) if isinstance(value, int | str) else None

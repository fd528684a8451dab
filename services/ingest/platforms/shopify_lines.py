"""The file that Shopify makes of what it prepared in bulk: one object a line, behind each what belongs to it.

`{"id": "gid://shopify/Order/1", …}`, then its lists' items, `{"__typename": "LineItem", "__parentId": "gid://…/1", …}`.
Whatever stands elsewhere or cannot be read puts only those objects in doubt that it may have belonged to: they are to
be asked for by themselves. No more is in memory than what is taken at one time, each object bounded.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import msgspec
from msgspec import Struct

from libs.common.clock import monotonic
from services.ingest.platforms.port import Unavailable

LARGEST = 5 * 1024 * 1024
"""Of an object with all that belongs to it, as of a webhook; and of a line."""
TAKEN = 250
"""Objects at one time."""
TAKEN_BYTES = 16 * 1024 * 1024
ASKED = 50
"""That are to be asked for by themselves, at one time."""
SECONDS, LONGEST = 60.0, 90.0
"""After so long no further object is begun, and what was begun is left to the next time."""
NOT_READ = "a line of the file is no object in JSON"
TOO_LARGE = f"larger than {LARGEST} bytes"


class _Head(Struct):
    id: str | None = None
    parent_id: str | None = msgspec.field(name="__parentId", default=None)
    type: str | None = msgspec.field(name="__typename", default=None)
    refunds: msgspec.Raw = msgspec.Raw(b"[]")


class Item(NamedTuple):
    """Of a list within an object."""

    type: str
    raw: bytes


class Family(Struct):
    """An object and what belongs to it."""

    at: int
    """Offset of its line."""
    id: str
    raw: bytes
    items: list[Item] = []
    size: int = 0
    alone: bool = False
    """Whether it is to be asked for by itself: it is not all here."""
    broken: list[str] = []


class Taken(Struct):
    """A piece of the file."""

    families: list[Family] = []
    asked: set[str] = set()
    """Ids of objects that are to be asked for by themselves."""
    broken: list[str] = []
    offset: int = 0
    """Where to go on."""
    within: bool = False
    """Whether that lies within a line that is too long to be read."""
    ended: bool = False


class _Line(NamedTuple):
    at: int
    content: bytes | None
    """None: too long."""


class _Lines:
    """Cuts what comes into lines."""

    def __init__(self, offset: int, *, within: bool) -> None:
        self.at = offset
        """Of what is not a line yet."""
        self.within = within
        self._rest = bytearray()
        self._looked = 0

    def feed(self, chunk: bytes) -> Iterator[_Line]:
        self._rest += chunk
        while (end := self._rest.find(b"\n", self._looked)) >= 0:
            line, within, at = bytes(self._rest[:end]), self.within, self.at
            del self._rest[: end + 1]
            self.at, self.within, self._looked = self.at + end + 1, False, 0
            if not within:
                yield _Line(at, line if len(line) <= LARGEST else None)
        self._looked = len(self._rest)
        if self.within or len(self._rest) > LARGEST:
            at, begun = self.at, not self.within
            self.at, self.within = self.at + len(self._rest), True
            self._rest.clear()
            self._looked = 0
            if begun:
                yield _Line(at, None)

    def end(self) -> Iterator[_Line]:
        """The last line may have no end of its own."""
        if self._rest:
            line, self.at = _Line(self.at, bytes(self._rest)), self.position
            self._rest.clear()
            yield line

    @property
    def position(self) -> int:
        """Of what comes next."""
        return self.at + len(self._rest)


class Reader:
    """Takes one piece of the file."""

    def __init__(self, offset: int, *, within: bool) -> None:
        """From there on, as the piece before has it."""
        self._lines = _Lines(offset, within=within)
        self._taken = Taken(offset=offset, within=within)
        self._family: Family | None = None
        self._bytes = 0
        self._until = monotonic() + SECONDS

    async def take(self, content: AsyncIterator[bytes], size: int | None) -> Taken:
        """As much as is taken at one time. Raises Unavailable where nothing of it could be.

        `size`: of the whole file, where it is known: one that ends before was cut.
        """
        began = self._taken.offset
        try:
            async with asyncio.timeout(LONGEST):
                async for chunk in content:
                    if any(self._is_full(line) for line in self._lines.feed(chunk)):
                        return self._taken
                    if self._family is None:
                        self._go_on(self._lines.at, within=self._lines.within)
        except (Unavailable, TimeoutError) as error:
            return self._cut(began, str(error) or "the file comes too slowly")
        if size is not None and self._lines.position < size:
            return self._cut(began, "the file ends before its end")
        if not any(self._is_full(line) for line in self._lines.end()):
            self._close(self._lines.at)
            self._taken.ended = True
        return self._taken

    def _cut(self, began: int, reason: str) -> Taken:
        # Whatever stands before the object that was cut is whole.
        if self._taken.offset == began:
            raise Unavailable(reason)
        return self._taken

    def _is_full(self, line: _Line) -> bool:
        """Whether enough is taken before this line; else the line is taken."""
        if line.content is not None and not line.content.strip():
            return False
        head = None if line.content is None else _head(line.content)
        if line.content is None or head is None:
            self._doubt(line)
            return False
        family = self._family
        if head.parent_id is None:
            self._close(line.at)
            taken = self._taken
            if len(taken.families) >= TAKEN or len(taken.asked) >= ASKED or self._bytes >= TAKEN_BYTES:
                return True
            if taken.families and monotonic() > self._until:
                return True
            alone = bytes(head.refunds) not in {b"[]", b"null"}
            self._family = Family(line.at, str(head.id), line.content, size=len(line.content), alone=alone)
        elif family is not None and family.id == head.parent_id:
            family.size += len(line.content)
            if family.size <= LARGEST:
                family.items.append(Item(str(head.type), line.content))
            elif TOO_LARGE not in family.broken:
                family.items.clear()
                family.broken.append(TOO_LARGE)
        elif head.parent_id not in self._taken.asked:
            # Its object's line could not be read, or stands elsewhere.
            if len(self._taken.asked) >= ASKED:
                if family is not None:
                    family.alone = True
                self._close(line.at)
                return True
            self._taken.asked.add(head.parent_id)
        return False

    def _doubt(self, line: _Line) -> None:
        reason = NOT_READ if line.content is not None else TOO_LARGE
        if self._family is None:
            self._taken.broken.append(reason)
        else:
            # It may have been one of its own.
            self._family.alone = True
            self._family.broken.append(reason)

    def _close(self, at: int) -> None:
        """The object is whole, and what was found since it began is settled."""
        family, self._family = self._family, None
        if family is not None:
            self._taken.broken += family.broken
            if family.alone:
                self._taken.asked.add(family.id)
            elif not family.broken:
                self._taken.families.append(family)
            self._bytes += family.size
        self._go_on(at, within=False)

    def _go_on(self, at: int, *, within: bool) -> None:
        self._taken.offset, self._taken.within = at, within


def _head(content: bytes) -> _Head | None:
    try:
        head = _HEAD.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return head if head.id is not None or head.parent_id is not None else None


_HEAD = msgspec.json.Decoder(_Head)

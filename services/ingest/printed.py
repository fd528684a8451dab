"""How platforms print things: ids, text, dates, amounts, JSON itself; and what each is turned into.

Everything here answers a value, None for "not said", or raises `Unreadable` with the field's name.
"""

import html
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from libs.common.money import LIMIT, known_currency, to_minor
from services.ingest.outcome import Unreadable

Scalar = str | int | float | bool | None
"""Any JSON scalar: a field whose type has been seen to drift."""

LONGEST_ID = 255
LONGEST_TITLE = 4000
MOST_PARTS = 100_000
"""Objects and lists in one body. An order of 400 lines has a tenth of them."""
MOST_SURROGATES = 20_000
MOST_PIECES = 10**8
MOST_ITEMS = 10_000
LARGEST_AMOUNT = 10**15
"""In minor units. Thousands of them, such as an order's refunds, add up to what still fits into a bigint."""
FIRST_YEAR, LAST_YEAR = 1900, 2199
T = TypeVar("T", bound=msgspec.Struct)
I = TypeVar("I")  # noqa: E741 - an item
R = TypeVar("R")

_DECIMAL = re.compile(r"\s*[+-]?(\d{1,30}(\.\d{0,30})?|\.\d{1,30})([eE][+-]?\d{1,2})?\s*", re.ASCII)
_SURROGATES = re.compile(rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(\\u[dD][c-fC-F][0-9a-fA-F]{2})?|[c-fC-F][0-9a-fA-F]{2})")


def decoded(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """The body as its Struct. `Unreadable` names the JSON path that does not fit."""
    if len(body) > MOST_PARTS and body.count(b"{") + body.count(b"[") > MOST_PARTS:
        # Each takes two bytes of a body and a hundred of memory.
        raise Unreadable("more objects and lists than any shop prints")
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Unreadable(f"unexpected shape: {error}") from error
    except msgspec.DecodeError as error:
        sound = mended(body)
        if sound == body:
            raise Unreadable(f"not JSON: {error}") from error
    except UnicodeDecodeError as error:
        raise Unreadable("not JSON: not UTF-8") from error
    except RecursionError as error:
        raise Unreadable("not JSON: nested too deep") from error
    return decoded(decoder, sound)


def mended(body: bytes) -> bytes:
    """With a replacement for each half of a surrogate pair: JSON allows it, UTF-8 and PostgreSQL do not.

    A body with more surrogates than any text has stays as it is.
    """
    pieces: list[bytes] = []
    copied = place = 0
    for _ in range(MOST_SURROGATES):
        found = _SURROGATES.search(body, place)
        if found is None:
            return b"".join([*pieces, body[copied:]]) if pieces else body
        before = body[place : found.start()]
        if (len(before) - len(before.rstrip(b"\\"))) % 2:
            # The backslash is one that another one prints.
            place = found.start() + 1
            continue
        if found[1] is None:
            pieces += [body[copied : found.start()], rb"\ufffd"]
            copied = found.end()
        place = found.end()
    return body


def text(value: Scalar) -> str | None:
    """Trimmed text without NUL characters, which PostgreSQL refuses; empty is None."""
    if value is None or isinstance(value, bool):
        return None
    if not isinstance(value, str):
        return str(value)
    if "\x00" in value:
        value = value.replace("\x00", "")
    return value.strip() or None


def first(*values: Scalar) -> str | None:
    """The first of them that says something."""
    for value in values:
        found = text(value)
        if found is not None:
            return found
    return None


def title(value: Scalar) -> str:
    """A product's name as people read it: WordPress prints `&amp;` for an ampersand."""
    found = text(value) or ""
    # Longer ones are no names, and may refer to characters by more digits than Python reads.
    return html.unescape(found) if "&" in found and len(found) <= LONGEST_TITLE else found


def link(value: Scalar) -> str | None:
    """An address to link to; a scheme is put before one that goes by the page's own."""
    found = text(value)
    return f"https:{found}" if found and found.startswith("//") else found


def identifier(value: Any) -> str | None:
    """A platform's id as text: the number exactly, a GID's tail, a token without its `?key=`; 0 and empty are None."""
    if isinstance(value, bool | float) or not value:
        return None
    if isinstance(value, int):
        return str(value) if -(10**40) < value < 10**40 else None
    found = text(value) if isinstance(value, str) else None
    if found is None:
        return None
    if found.startswith("gid://"):
        found = found.rpartition("/")[2]
    found = found.partition("?")[0]
    return found if 0 < len(found) <= LONGEST_ID and found != "0" else None


def listed(read: Callable[[I], R], items: Iterable[I] | None, name: str, most: int = MOST_ITEMS) -> list[R]:
    """What `read` makes of each; an `Unreadable` among them says which, as in `line_items[3].price`.

    `Unreadable` where they are more than a shop could mean: a few bytes of a body become hundreds of ours.
    """
    found = []
    for n, item in enumerate(items or ()):
        if n == most:
            raise Unreadable(f"{name}: more than {most}")
        try:
            found.append(read(item))
        except Unreadable as error:
            raise Unreadable(f"{name}[{n}].{error.reason}") from error
    return found


def required(value: str | None, name: str) -> str:
    """`value`, or `Unreadable`."""
    if value is None:
        raise Unreadable(f"{name}: missing")
    return value


def instant(value: Scalar, name: str, zone: str | None = None) -> datetime | None:
    """A UTC instant from an ISO 8601 date, fractions cut to microseconds.

    Without an offset it is local to `zone`, or UTC. Empty and WordPress's zero date (0000-00-00, -0001-11-30) are None.
    """
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise Unreadable(f"{name}: not a date")
    if value.startswith(("0000-00-00", "-0001-11-30")):
        return None
    try:
        found = datetime.fromisoformat(value.strip())
        if found.tzinfo is None:
            found = found.replace(tzinfo=ZoneInfo(zone) if zone else UTC)
        found = found.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Unreadable(f"{name}: not a date") from error
    if not FIRST_YEAR <= found.year <= LAST_YEAR:
        raise Unreadable(f"{name}: beyond any calendar of a shop")
    return found


def minor(value: Scalar | Decimal, currency: str, name: str) -> int | None:
    """Minor units of a printed amount; null and empty are None. `Unreadable` when no column holds it."""
    if value is None or value == "" or isinstance(value, bool):
        return None
    try:
        return bounded(to_minor(value, currency), name)
    except ValueError as error:
        raise Unreadable(f"{name}: {error}") from error


def decimal(value: Scalar, name: str) -> Decimal:
    """A printed amount as it stands, for sums that are rounded once at their end; null and empty are 0."""
    if value is None or value == "" or isinstance(value, bool):
        return Decimal(0)
    printed = value if isinstance(value, str) else repr(value)
    if not _DECIMAL.fullmatch(printed):
        raise Unreadable(f"{name}: not a decimal amount")
    found = Decimal(printed)
    if abs(found) > LIMIT:
        raise Unreadable(f"{name}: amount beyond 10^15")
    return found


def bounded(value: int, name: str) -> int:
    """An amount in minor units that was multiplied or summed up; `Unreadable` when no column holds it."""
    if abs(value) > LARGEST_AMOUNT:
        raise Unreadable(f"{name}: amount beyond 10^15 minor units")
    return value


def pieces(value: Scalar, name: str = "quantity") -> int:
    """A quantity in whole pieces; 1.5 kg are 2. None is 0."""
    found = value if type(value) is int else decimal(value, name).to_integral_value(ROUND_HALF_UP)
    if not 0 <= found <= MOST_PIECES:
        raise Unreadable(f"{name}: out of range")
    return int(found)


def currency_code(*values: Scalar) -> str:
    """The first code that is printed, upper case; `Unreadable` when ISO 4217 does not know it."""
    found = (first(*values) or "").upper()
    if not known_currency(found):
        raise Unreadable("currency: not an ISO 4217 code")
    return found


def whole(value: Scalar, name: str) -> int | None:
    """A count that may be negative (oversold stock); null and empty are None."""
    if value is None or value == "" or isinstance(value, bool):
        return None
    found = decimal(value, name).to_integral_value(ROUND_HALF_UP)
    if abs(found) > MOST_PIECES:
        raise Unreadable(f"{name}: out of range")
    return int(found)

"""Whether a delivery is about a person. Pure.

Who is asked about is known by what the platform calls him, an e-mail, a phone, and orders. That may stand anywhere in a
body, one that no normaliser can read yet included, so all of it is looked through. What a person was found in by name
(an order as a guest) is his as a whole: its refunds and its deletion name nobody.
"""

import re
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

import msgspec
import phonenumbers

from libs.common.contracts.commerce import Identifiers
from services.ingest.outcome import Unreadable
from services.ingest.printed import decoded, identifier

PERSONAL = ("customer", "order", "checkout", "cart")
"""Kinds of root objects that are one person's."""
ALIKE = 6
"""Digits at the end of two phones without which they are not worth reading."""

_NOT_DIGITS = re.compile(r"[^0-9]+")
_ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Any)


class _Field(NamedTuple):
    """A value in a body, and what it stands in."""

    name: str
    """Lower case, without underscores; of a list's item the list's. Empty at the top."""
    value: Any
    around: dict[str, Any]


class Subject:
    """One person."""

    def __init__(self, who: Identifiers, roots: Collection[str]) -> None:
        """`roots`: of objects that are known to be the person's, such as `order:1001`."""
        own = {f"customer:{who.customer_id}"} if who.customer_id else set()
        self._roots = own.union(roots)
        self._orders = {root.partition(":")[2] for root in self._roots if root.startswith("order:")}
        self._customer_id = who.customer_id
        self._email = _plain(who.email) if who.email else None
        self._phone = _digits(who.phone) if who.phone else ""
        self._number = _number(who.phone, None) if who.phone else None

    def is_in(self, root: str, body: bytes) -> bool:
        """Whether a delivery is about the person. `root`: as the journal has it."""
        if root in self._roots:
            return True
        try:
            content = decoded(_ANY, body)
        except Unreadable:
            # A form, perhaps, or half a document.
            return self._email is not None and self._email in _plain(unquote_plus(body.decode(errors="replace")))
        return any(self._is(field) for field in _fields(content))

    def _is(self, field: _Field) -> bool:
        name, value, around = field
        match name:
            case "customer" | "customerid" if self._customer_id is not None:
                return identifier(value.get("id") if isinstance(value, dict) else value) == self._customer_id
            case "orderid":
                return identifier(value) in self._orders
            case _ if "phone" in name and self._phone and isinstance(value, str | int):
                return self._same_phone(str(value), around)
            case _:
                return self._email is not None and isinstance(value, str) and _plain(value) == self._email

    def _same_phone(self, raw: str, around: dict[str, Any]) -> bool:
        digits = _digits(raw)
        if len(digits) < ALIKE or digits[-ALIKE:] != self._phone[-ALIKE:]:
            return False
        if digits.lstrip("0") == self._phone.lstrip("0"):
            return True
        country = around.get("country_code") or around.get("country")
        return self._number is not None and _number(raw, country if isinstance(country, str) else None) == self._number


def own_root(root: str) -> str | None:
    """The root when it is of an object that is one person's."""
    return root if root.partition(":")[0] in PERSONAL else None


def _fields(content: Any) -> Iterator[_Field]:
    """Every value, however deep it lies."""
    left = [_Field("", content, {})]
    while left:
        field = left.pop()
        yield field
        match field.value:
            case dict() as inner:
                left += [_Field(key.lower().replace("_", ""), value, inner) for key, value in inner.items()]
            case list() as items:
                left += [_Field(field.name, item, field.around) for item in items]


def _plain(text: str) -> str:
    return text.strip().casefold()


def _digits(text: str) -> str:
    return _NOT_DIGITS.sub("", text)


def _number(raw: str, country: str | None) -> str | None:
    """As E.164; national ones are those of the country, ISO 3166-1 alpha-2."""
    try:
        number = phonenumbers.parse(raw, country)
    except phonenumbers.NumberParseException:
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)

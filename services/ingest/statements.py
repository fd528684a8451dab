"""What a delivery says of who somebody is, as distinct from merely naming him. Pure.

Names are text: `customer:7` (the platform's number), `email:ada@example.com`, `phone:4930123456`. A saying is a set of
names that are told to be one person's: by the customer's own record, or by what he is behind, an order, a checkout or
an event. Objects are what else is one person's: `order:1001`, `checkout:<token>`, `cart:<token>`.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import phonenumbers
from msgspec import Struct

from libs.common.contracts.commerce import Identifiers
from libs.common.contracts.journal import Delivery
from services.ingest.events import SENDERS
from services.ingest.mentions import ALIKE, digits, plain
from services.ingest.outcome import Unreadable
from services.ingest.printed import decoded, first, identifier, text

OBJECTS = ("order", "checkout", "cart")
"""Kinds of root objects that are one person's as a whole, whatever else they name."""
LONGEST_EMAIL = 254
NOBODY = frozenset({"guest", "anonymous", "undefined", "null", "none", "nan", "unknown", "false", "true", "-1", "test"})
"""What shops' own code has for a number where it has none: it is everybody's."""

_EMAIL = re.compile(r"[^@\s<>\x00]+@[^@\s<>\x00]+")
_ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Any)


class Saying(Struct, frozen=True, array_like=True, order=True):
    """Names that one delivery tells to be one person's."""

    record: bool
    """The customer's own record says so, or the copy of it within an order."""
    names: tuple[str, ...]
    """Sorted."""


class Told(NamedTuple):
    """A delivery, read."""

    root: str
    """As the journal has it, without the store."""
    body: bytes
    content: Any
    """None: it is no JSON."""
    sayings: tuple[Saying, ...]
    objects: tuple[str, ...]
    """That it belongs to, its root included."""
    aside: str = ""
    """What came beside the body: topic, number and headers."""

    @property
    def names(self) -> Iterator[str]:
        """Of everybody of whom it says who he is."""
        return (name for saying in self.sayings for name in saying.names)


def told(delivery: Delivery, root: str) -> Told:
    """`root`: as the journal has it, without the store. Never raises: what nobody can read says nothing."""
    aside = "\n".join([delivery.topic, delivery.delivery_id, *delivery.headers.values()])
    content = content_of(delivery.body)
    if content is None:
        # A form, perhaps, or half a document.
        return Told(root, delivery.body, None, (), _objects(root), aside)
    body = _dict(content)
    if delivery.platform in SENDERS:
        sayings, objects = _of_event(root, _dict(body.get("profile")))
    else:
        sayings, objects = _of_webhook(root, body)
    return Told(root, delivery.body, content, tuple(each for each in sayings if each.names), objects, aside)


def content_of(body: bytes) -> Any:
    """What JSON prints; None when it is none."""
    try:
        return decoded(_ANY, body)
    except Unreadable:
        return None


def asked_for(who: Identifiers) -> set[str]:
    """The names that a request gives."""
    return {*_names(who.customer_id, who.email), *phones(who.phone or "", None)}


def kind(name: str) -> str:
    """What stands before the colon."""
    return name.partition(":")[0]


def value(name: str) -> str:
    """What stands behind it."""
    return name.partition(":")[2]


def object_of(root: str) -> str | None:
    """The root when it is of an object that is one person's."""
    return root if kind(root) in OBJECTS else None


@lru_cache(65_536)
def phones(raw: str, country: str | None) -> tuple[str, ...]:
    """A phone's names: its digits as they are printed, and with the code of `country` (ISO 3166-1 alpha-2).

    Both, since the same number is printed for who lives there and for all the world.
    """
    printed = digits(raw).lstrip("0")
    if len(printed) < ALIKE:
        return ()
    try:
        number = phonenumbers.parse(raw, country)
    except phonenumbers.NumberParseException:
        return (f"phone:{printed}",)
    whole = digits(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))
    return tuple(f"phone:{each}" for each in sorted({printed, whole}))


def _of_event(root: str, profile: dict[str, Any]) -> tuple[list[Saying], tuple[str, ...]]:
    """`profile.updated` is the customer's own record; what he did, or had done for somebody, is not."""
    record = kind(root) == "customer"
    names = [*_names(profile.get("customer_id"), profile.get("email")), *_phones(profile.get("phone"), None)]
    return [_saying(names, record=record)], _objects(root, profile)


def _of_webhook(root: str, body: dict[str, Any]) -> tuple[list[Saying], tuple[str, ...]]:
    of = kind(root)
    # The legacy API's envelope.
    inner = _dict(body.get(of)) if of in {"order", "customer"} else {}
    body = inner or body
    if of == "customer":
        places = _places(body)
        email = first(*_texts(body.get("email"), body.get("email_address"), *(each.get("email") for each in places)))
        names = [*_names(value(root), email), *_phone_of(body, places)]
        return [_saying(names, record=True)], ()
    block = _dict(body.get("customer"))
    own = [*_names(block.get("id"), block.get("email")), *_phones(block.get("phone"), None)]
    # Without a number there is no record that it could be a copy of.
    sayings = [_saying(own, record=True)] if identifier(block.get("id")) else []
    if of in OBJECTS:
        sayings.append(_behind(body, block))
    return sayings, _objects(root, body)


def _behind(body: dict[str, Any], block: dict[str, Any]) -> Saying:
    """Who an order or checkout is for. Somebody else's account may have placed it: then its number says nothing."""
    places = _places(body)
    contact = first(*_texts(body.get("email"), body.get("contact_email"), *(each.get("email") for each in places)))
    own = first(*_texts(block.get("email")))
    number = identifier(block.get("id")) or identifier(body.get("customer_id"))
    if contact and own and plain(contact) != plain(own):
        number = None
    return _saying([*_names(number, contact), *_phone_of(body, places)], record=False)


def _saying(names: list[str], *, record: bool) -> Saying:
    return Saying(record, tuple(sorted(set(names))))


def _names(number: Any, email: Any) -> Iterator[str]:
    if (id_ := identifier(number)) is not None and id_.casefold() not in NOBODY:
        yield f"customer:{id_}"
    address = plain(text(email) or "") if isinstance(email, str) else ""
    if len(address) <= LONGEST_EMAIL and _EMAIL.fullmatch(address):
        yield f"email:{address}"


def _phone_of(body: dict[str, Any], places: list[dict[str, Any]]) -> tuple[str, ...]:
    """The one phone that stands for somebody: his own, or that of where he lives."""
    for place in (body, *places):
        found = _phones(place.get("phone"), place.get("country_code") or place.get("country"))
        if found:
            return found
    return ()


def _phones(raw: Any, country: Any) -> tuple[str, ...]:
    if isinstance(raw, bool) or not isinstance(raw, str | int):
        return ()
    return phones(str(raw), country if isinstance(country, str) else None)


def _places(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Where bills go: parcels go to others, too."""
    return [_dict(body.get(name)) for name in ("billing", "billing_address", "default_address")]


def _objects(root: str, tokens: dict[str, Any] | None = None) -> tuple[str, ...]:
    named: list[tuple[str, Any]] = [(kind(root), value(root))]
    named += [(of, (tokens or {}).get(f"{of}_token")) for of in ("cart", "checkout")]
    found = ((of, identifier(token)) for of, token in named if of in OBJECTS)
    return tuple(dict.fromkeys(f"{of}:{token}" for of, token in found if token is not None))


def _texts(*found: Any) -> list[str | None]:
    return [each if isinstance(each, str) else None for each in found]


def _dict(content: Any) -> dict[str, Any]:
    return content if isinstance(content, dict) else {}

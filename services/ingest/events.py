"""First-party events: what the merchant's own site tells us by `POST /v1/events`. Pure, as the normalisers are.

Orders, carts, checkouts, consents and customers become the observations that webhooks become, so that whatever follows
needs nothing of its own for them. The event's `time` is the snapshot's version: the later word wins, in any order of
arrival. `order.cancelled` tells the whole order, since a snapshot wins whole; `order.refunded` is one refund by itself.
What a browser tells comes the same way (`services.ingest.browser` says what that may be).
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from libs.common import identifiers
from libs.common.contracts.commerce import (
    ActivityObserved,
    CartObserved,
    CheckoutObserved,
    Consent,
    ConsentObserved,
    CustomerObserved,
    Identifiers,
    Line,
    OrderObserved,
    Person,
    Refund,
    RefundObserved,
)
from libs.common.contracts.journal import Delivery
from libs.common.contracts.types import Origin
from libs.common.ids import derived_id
from libs.common.junk import Junk
from services.ingest import event_properties as said
from services.ingest.event_properties import Wrong
from services.ingest.outcome import (
    AHEAD,
    Arrival,
    Ignored,
    Observation,
    Observations,
    Outcome,
    StoreFacts,
    Unreadable,
)
from services.ingest.printed import FIRST_YEAR, LARGEST_AMOUNT, LAST_YEAR

SENDERS = ("events", "browser")
"""Platforms of the deliveries that this module reads: told with an API key, or with a public one."""
STALE = timedelta(hours=24)
"""What happened longer ago is history: it builds profiles and starts no messages."""


class FirstPartyEvent(Struct, frozen=True, kw_only=True):
    """An accepted event: the body of its delivery, as JSON."""

    id: str
    type: str
    time: datetime
    profile: Identifiers
    properties: dict[str, Any] = {}
    behaviour: bool = False
    """Whatever the type: only what somebody did, never the cart or checkout itself."""
    named_at: datetime | None = None
    """Of a browser's event with a proof: as of when it names its person. Never later than `time`."""


_decoder = msgspec.json.Decoder(FirstPartyEvent)


def wrong_property(event: FirstPartyEvent, junk: Junk) -> tuple[str, str] | None:
    """JSON pointer and what is wrong with it, when the event is not what its type demands, or of nobody."""
    arrival = Arrival(
        store=StoreFacts(key="", domain="", currency="EUR", timezone="UTC"),
        platform="events",
        headers={},
        body=b"",
        received_at=event.time,
        position=0,
        origin="live",
        delivery="",
    )
    try:
        _read(event, arrival)
        if event.behaviour or event.type == "consent.changed" or event.type not in _READ:
            names_somebody(event.profile, junk, "/profile")
    except Wrong as wrong:
        return wrong.pointer, wrong.detail
    return None


def delivery_of(event: FirstPartyEvent, store: str, now: datetime, sender: str = "events") -> Delivery:
    """The event as the journal keeps it. `sender`: one of SENDERS."""
    return Delivery(
        store=store,
        platform=sender,
        topic=event.type,
        delivery_id=event.id,
        headers={},
        body=msgspec.json.encode(event),
        origin=origin_of(event.time, now),
    )


def origin_of(time: datetime, now: datetime) -> Origin:
    """Whether it is news."""
    return "backfill" if now - time > STALE else "live"


def root(event: FirstPartyEvent) -> str:
    """The root object of the event, as `Observation.root` of what it becomes. `event` is not wrong."""
    match "" if event.behaviour else event.type:
        case "order.placed" | "order.cancelled" | "order.refunded":
            return f"order:{event.properties['order_id']}"
        case "cart.changed":
            return f"cart:{event.profile.cart_token}"
        case "checkout.started":
            return f"checkout:{event.profile.checkout_token}"
        case "profile.updated":
            return f"customer:{event.profile.customer_id}"
        case _:
            return root_of(event.profile)


def root_of(profile: Identifiers) -> str:
    """What keeps the events of one person in order, without naming him."""
    for kind in ("customer_id", "email", "phone", "cart_token", "checkout_token"):
        value = getattr(profile, kind)
        if value:
            return f"person:{derived_id(kind, value.lower())}"
    return "person:"


def observe(arrival: Arrival) -> Outcome:
    """The event as observations. Raises Unreadable."""
    try:
        event = _decoder.decode(arrival.body)
        return _read(event, arrival)
    except msgspec.MsgspecError as error:
        raise Unreadable(f"not a first-party event: {error}") from error
    except Wrong as wrong:
        raise Unreadable(f"not a first-party event: {wrong.pointer}: {wrong.detail}") from wrong


def _read(event: FirstPartyEvent, arrival: Arrival) -> Outcome:
    if not said.known(event.type):
        raise Wrong("/type", "This is neither a type of ours nor a name such as `custom.quiz.finished`.")
    properties = said.typed(event.type, event.properties)
    read = _READ.get(event.type)
    if read is not None and not event.behaviour:
        return read(event, properties, arrival)
    _somebody(event)
    if isinstance(properties, said.Cart | said.Checkout):
        lines = said.Purse(arrival.store.currency).lines(properties.lines)
        return Observations([_activity(event, _items(lines), arrival)])
    return Observations([_activity(event, said.flat(event.properties), arrival)])


def _order(event: FirstPartyEvent, order: said.Order, arrival: Arrival) -> Outcome:
    purse = said.Purse(arrival.store.currency)
    lines = purse.lines(order.lines)
    gross = sum(line.price * line.quantity for line in lines)
    off_lines = gross - sum(line.total for line in lines)
    off_order = purse.minor(order.discounts, "/properties/discounts") or 0
    if gross > LARGEST_AMOUNT:
        raise Wrong("/properties/lines", "These are more than any shop sells for.")
    if off_lines + off_order > gross:
        raise Wrong("/properties/discounts", "There is no more to take off than the lines cost.")
    cancelled_at = _instant(order.cancelled_at, "cancelled_at", event)
    if event.type == "order.cancelled":
        cancelled_at = cancelled_at or event.time
    who = event.profile
    observed = OrderObserved(
        **arrival.envelope(order.order_id, event.time),
        number=order.number or order.order_id,
        status=order.status or event.type.partition(".")[2],
        placed=True,
        placed_at=_instant(order.placed_at, "placed_at", event) or event.time,
        currency=purse.currency,
        gross=gross,
        discounts=off_lines + off_order,
        shipping=purse.minor(order.shipping, "/properties/shipping") or 0,
        taxes=purse.minor(order.taxes, "/properties/taxes") or 0,
        test=order.test,
        cancelled_at=cancelled_at,
        fulfilled_at=_instant(order.fulfilled_at, "fulfilled_at", event),
        lines=lines,
        person=_person(who, order.buyer),
        customer_id=who.customer_id,
        cart_token=who.cart_token,
        checkout_token=who.checkout_token,
        accepts_marketing=order.accepts_marketing,
    )
    return Observations([Observation("order.observed", root(event), observed)])


def _refund(event: FirstPartyEvent, told: said.OrderRefund, arrival: Arrival) -> Outcome:
    purse = said.Purse(arrival.store.currency)
    refund = Refund(
        source_id=told.refund_id,
        at=event.time,
        returns=purse.minor(told.amount, "/properties/amount") or 0,
        shipping=purse.minor(told.shipping, "/properties/shipping") or 0,
        taxes=purse.minor(told.taxes, "/properties/taxes") or 0,
        reason=told.reason,
        currency=purse.currency,
    )
    observed = RefundObserved(**arrival.envelope(told.order_id, event.time), refund=refund)
    return Observations([Observation("refund.observed", root(event), observed)])


def _checkout(event: FirstPartyEvent, checkout: said.Checkout, arrival: Arrival) -> Outcome:
    who = event.profile
    token = _named(who.checkout_token, "checkout_token")
    purse = said.Purse(arrival.store.currency)
    lines = purse.lines(checkout.lines)
    total = purse.minor(checkout.total, "/properties/total")
    observed = CheckoutObserved(
        **arrival.envelope(token, event.time),
        started_at=_instant(checkout.started_at, "started_at", event) or event.time,
        currency=purse.currency,
        total=sum(line.total for line in lines) if total is None else total,
        lines=lines,
        person=_person(who, checkout.buyer),
        customer_id=who.customer_id,
        cart_token=who.cart_token,
        completed_at=_instant(checkout.completed_at, "completed_at", event),
        recovery_url=checkout.recovery_url,
        accepts_marketing=checkout.accepts_marketing,
        named_at=event.named_at,
    )
    return Observations([Observation("checkout.observed", root(event), observed)])


def _cart(event: FirstPartyEvent, cart: said.Cart, arrival: Arrival) -> Outcome:
    """A cart names customers only: an e-mail or phone beside it is an activity, which ties the cart to its person."""
    who = event.profile
    token = _named(who.cart_token, "cart_token")
    purse = said.Purse(arrival.store.currency)
    lines = purse.lines(cart.lines)
    total = purse.minor(cart.total, "/properties/total")
    observed = CartObserved(
        **arrival.envelope(token, event.time),
        started_at=_instant(cart.started_at, "started_at", event) or event.time,
        currency=purse.currency,
        total=sum(line.total for line in lines) if total is None else total,
        lines=lines,
        customer_id=who.customer_id,
    )
    shown = [Observation("cart.observed", root(event), observed)]
    if who.email or who.phone:
        shown.append(_activity(event, _items(lines), arrival))
    return Observations(shown)


def _customer(event: FirstPartyEvent, told: said.Customer, arrival: Arrival) -> Outcome:
    who = event.profile
    observed = CustomerObserved(
        **arrival.envelope(_named(who.customer_id, "customer_id"), event.time),
        person=_person(who, told),
        created_at=_instant(told.created_at, "created_at", event),
        email_verified=told.email_verified,
        birthday=told.birthday,
        timezone=told.timezone,
        tags=told.tags,
    )
    return Observations([Observation("customer.observed", root(event), observed)])


def _consent(event: FirstPartyEvent, told: said.Consent, arrival: Arrival) -> Outcome:
    _somebody(event)
    given = Consent(channel=told.channel, state=told.state, at=event.time, source=told.source)
    consent = arrival.said(given)
    if consent is None:
        return Ignored("a consent that is yet to come")
    observed = ConsentObserved(identifiers=event.profile, consent=consent, **arrival.envelope(event.id, event.time))
    return Observations([Observation("consent.observed", root(event), observed)])


_READ: dict[str, Callable[[FirstPartyEvent, Any, Arrival], Outcome]] = {
    "order.placed": _order,
    "order.cancelled": _order,
    "order.refunded": _refund,
    "checkout.started": _checkout,
    "cart.changed": _cart,
    "profile.updated": _customer,
    "consent.changed": _consent,
}


def _activity(event: FirstPartyEvent, properties: dict[str, said.Scalar], arrival: Arrival) -> Observation:
    observed = ActivityObserved(
        identifiers=event.profile,
        activity=event.type,
        properties=properties,
        named_at=event.named_at,
        **arrival.envelope(event.id, event.time),
    )
    return Observation("activity.observed", root_of(event.profile), observed)


def _items(lines: list[Line]) -> dict[str, said.Scalar]:
    return {"items": sum(line.quantity for line in lines)}


def _person(who: Identifiers, told: said.Buyer | said.Customer) -> Person:
    return Person(
        email=who.email,
        phone=who.phone,
        first_name=told.first_name,
        last_name=told.last_name,
        locale=told.locale,
        country=told.country,
    )


def _somebody(event: FirstPartyEvent) -> None:
    if event.profile == Identifiers():
        raise Wrong("/profile", "At least one identifier is needed.")


def names_somebody(who: Identifiers, junk: Junk, at: str) -> None:
    """Raises Wrong where it does not. `at`: the JSON pointer of it.

    Not so in `_read`: what names nobody is told to who sends it, and is no reason to bury what was taken once.
    """
    if who.customer_id or who.cart_token or who.checkout_token:
        return
    if identifiers.email(who.email, junk) is None and identifiers.phone(who.phone, None, junk) is None:
        only = "/email" if who.phone is None else "/phone" if who.email is None else ""
        detail = "This names nobody: an e-mail that is somebody's or a phone with its country's code is needed."
        raise Wrong(f"{at}{only}", detail)


def _named(value: str | None, name: str) -> str:
    if value is None:
        raise Wrong(f"/profile/{name}", f"This type of event needs the profile's {name}.")
    return value


def _instant(value: datetime | None, name: str, event: FirstPartyEvent) -> datetime | None:
    """In UTC. Nothing that an event tells of came after it."""
    if value is None:
        return None
    if not FIRST_YEAR < value.year < LAST_YEAR:
        raise Wrong(f"/properties/{name}", "The year is out of range.")
    if value - event.time > AHEAD:
        raise Wrong(f"/properties/{name}", "This is later than the event's own time.")
    return value.astimezone(UTC)

"""First-party events: what the merchant's own site tells us by `POST /v1/events`. Pure, as the normalisers are."""

import re
from datetime import datetime, timedelta
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from libs.common.contracts.commerce import ActivityObserved, Consent, ConsentObserved, Identifiers
from libs.common.contracts.journal import Delivery
from libs.common.contracts.types import Channel, ConsentState, Origin
from libs.common.ids import derived_id
from services.ingest.outcome import Arrival, Ignored, Observation, Observations, Outcome, Unreadable

EventType = Literal["consent.changed", "product.viewed"]

STALE = timedelta(hours=24)
"""What happened longer ago is history: it builds profiles and starts no messages."""

Scalar = str | int | float | bool | None


class ConsentChange(Struct, frozen=True, kw_only=True):
    """Properties of `consent.changed`."""

    channel: Channel
    state: ConsentState
    source: Annotated[str, Meta(min_length=1, max_length=64)] = "api"


class ProductView(Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """What `product.viewed` must say; other properties are kept as they are."""

    product_id: Annotated[str, Meta(min_length=1, max_length=128)]


class FirstPartyEvent(Struct, frozen=True, kw_only=True):
    """An accepted event: the body of its delivery, as JSON."""

    id: str
    type: EventType
    time: datetime
    profile: Identifiers
    properties: dict[str, Scalar] = {}


_decoder = msgspec.json.Decoder(FirstPartyEvent)


def wrong_property(event: FirstPartyEvent) -> tuple[str, str] | None:
    """JSON pointer and what is wrong with it, when the properties are not what the type demands."""
    try:
        _properties(event)
    except msgspec.ValidationError as error:
        told, _, place = str(error).partition(" - at `$.")
        missing = re.search(r"missing required field `(\w+)`", told)
        name = missing[1] if missing else place.rstrip("`")
        return "/properties" + (f"/{name}" if name else ""), told
    return None


def _properties(event: FirstPartyEvent) -> ConsentChange | ProductView:
    if event.type == "consent.changed":
        return msgspec.convert(event.properties, ConsentChange)
    return msgspec.convert(event.properties, ProductView)


def delivery_of(event: FirstPartyEvent, store: str, now: datetime) -> Delivery:
    """The event as the journal keeps it."""
    return Delivery(
        store=store,
        platform="events",
        topic=event.type,
        delivery_id=event.id,
        headers={},
        body=msgspec.json.encode(event),
        origin=origin_of(event.time, now),
    )


def origin_of(time: datetime, now: datetime) -> Origin:
    """Whether it is news."""
    return "backfill" if now - time > STALE else "live"


def root_of(profile: Identifiers) -> str:
    """What keeps the events of one person in order, without naming him."""
    for kind in ("customer_id", "email", "phone", "cart_token", "checkout_token"):
        value = getattr(profile, kind)
        if value:
            return f"person:{derived_id(kind, value.lower())}"
    return "person:"


def observe(arrival: Arrival) -> Outcome:
    """The event as an observation. Raises Unreadable."""
    try:
        event = _decoder.decode(arrival.body)
        properties = _properties(event)
    except msgspec.MsgspecError as error:
        raise Unreadable(f"not a first-party event: {error}") from error
    envelope = arrival.envelope(event.id, event.time)
    root = root_of(event.profile)
    if isinstance(properties, ConsentChange):
        given = Consent(channel=properties.channel, state=properties.state, at=event.time, source=properties.source)
        consent = arrival.said(given)
        if consent is None:
            return Ignored("a consent that is yet to come")
        told = ConsentObserved(identifiers=event.profile, consent=consent, **envelope)
        return Observations([Observation("consent.observed", root, told)])
    seen = ActivityObserved(identifiers=event.profile, activity=event.type, properties=event.properties, **envelope)
    return Observations([Observation("activity.observed", root, seen)])

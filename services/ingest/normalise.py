"""A journalled delivery in, what it shows out. Pure: the same delivery gives the same events at any time."""

import re
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import cast

from msgspec.structs import replace

from libs.common.contracts.commerce import CheckoutObserved, CustomerObserved, Observed, OrderObserved
from libs.common.contracts.journal import Delivery
from libs.common.contracts.types import Origin
from services.ingest import shopify, woocommerce
from services.ingest.events import AHEAD
from services.ingest.outcome import (
    Arrival,
    Ignored,
    Observation,
    Observations,
    Outcome,
    Parked,
    StoreFacts,
    Unreadable,
)
from services.ingest.printed import identifier

__all__ = [
    "Ignored",
    "Observation",
    "Observations",
    "Outcome",
    "Parked",
    "StoreFacts",
    "Unreadable",
    "normalise",
    "root_key",
]

LONGEST_TOPIC = 100
_TOPIC = re.compile(r"[^a-z0-9_./-]")


def normalise(
    delivery: Delivery, *, store: StoreFacts, received_at: datetime, position: int, delivery_ref: str
) -> Outcome:
    """The observations in a delivery, or why there are none.

    `received_at`: UTC; dates what neither body nor headers date. `position`: the delivery's offset in its journal
    partition. `delivery_ref`: id of the journal's record. Raises `Unreadable`; its reason holds no personal data.
    """
    topic = _topic(delivery.topic)
    match delivery.platform:
        case "shopify" | "woocommerce" as platform:
            arrival = Arrival(
                store=store,
                platform=platform,
                headers=delivery.headers,
                body=delivery.body,
                received_at=received_at,
                position=position,
                origin=cast("Origin", delivery.origin),
                delivery=delivery_ref,
            )
            read = shopify.normalise if platform == "shopify" else woocommerce.normalise
            return _without_consent_to_come(read(topic, arrival), until=received_at + AHEAD)
        case _:
            return Parked("no normaliser for this platform")


def _without_consent_to_come(outcome: Outcome, *, until: datetime) -> Outcome:
    """A yes that is dated later than any clock may go wrong says nothing: no withdrawal could come after it."""
    if not isinstance(outcome, Observations):
        return outcome
    return Observations([each._replace(observed=_said_by(each.observed, until)) for each in outcome.observations])


def _said_by(observed: Observed, until: datetime) -> Observed:
    match observed:
        case OrderObserved(accepts_marketing=True) if observed.placed_at > until:
            return replace(observed, accepts_marketing=None)
        case CheckoutObserved(accepts_marketing=True) if observed.started_at > until:
            return replace(observed, accepts_marketing=None)
        case CustomerObserved(consents=[*consents]) if any(each.at > until for each in consents):
            said = [each for each in consents if each.at <= until or each.state == "unsubscribed"]
            return replace(observed, consents=said)
        case _:
            return observed


def root_key(platform: str, topic: str, body: bytes) -> str:
    """The root object of a delivery, `order:1001`: the same text as `Observation.root` of what it becomes.

    With the store's key before it, it chooses the partition, so that all that concerns one object keeps its order.
    A body that names no root goes by its own digest. Never raises.
    """
    read = shopify.root if platform == "shopify" else woocommerce.root
    try:
        found = read(_topic(topic), body)
    except Unreadable:
        found = None
    if found is not None:
        kind, value = found
        source_id = identifier(value)
        if source_id is not None:
            return f"{kind}:{source_id}"
    return f"delivery:{blake2b(body, digest_size=16).hexdigest()}"


@lru_cache(maxsize=1024)
def _topic(name: str) -> str:
    """As the tables spell it; what is no topic at all must not blow up reasons and counters."""
    return _TOPIC.sub("", name.strip().lower())[:LONGEST_TOPIC]

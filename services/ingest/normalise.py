"""A journalled delivery in, what it shows out. Pure: the same delivery gives the same events at any time."""

import re
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import cast

from msgspec.structs import replace

from libs.common.contracts.commerce import CheckoutObserved, ConsentObserved, CustomerObserved, Observed, OrderObserved
from libs.common.contracts.journal import Delivery
from libs.common.contracts.types import Origin
from services.ingest import shopify, woocommerce
from services.ingest.outcome import (
    AHEAD,
    Arrival,
    Ignored,
    Observation,
    Observations,
    Outcome,
    Parked,
    StoreFacts,
    Uninstalled,
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
    "Uninstalled",
    "Unreadable",
    "kind_of",
    "normalise",
    "root_key",
]

TEST = "regulars/test"
"""The topic of our own deliveries, which try the way that a shop's go."""
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
    if topic == TEST:
        return Ignored("a test of our own")
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
                not_before=delivery.not_before,
            )
            read = shopify.normalise if platform == "shopify" else woocommerce.normalise
            return _as_said(arrival, read(topic, arrival))
        case _:
            return Parked("no normaliser for this platform")


def _as_said(arrival: Arrival, outcome: Outcome) -> Outcome:
    """No yes of an observation is dated later than when we heard of it; what says nothing else is left out."""
    if not isinstance(outcome, Observations):
        return outcome
    told = [(each, _said_by(arrival, each.observed)) for each in outcome.observations]
    kept = [each._replace(observed=observed) for each, observed in told if observed is not None]
    return Observations(kept) if kept else Ignored("a consent that is yet to come")


def _said_by(arrival: Arrival, observed: Observed) -> Observed | None:
    until = arrival.received_at + AHEAD
    match observed:
        case OrderObserved(accepts_marketing=True) if observed.placed_at > until:
            return replace(observed, accepts_marketing=None)
        case CheckoutObserved(accepts_marketing=True) if observed.started_at > until:
            return replace(observed, accepts_marketing=None)
        case CustomerObserved(consents=[*consents]) if any(each.at > arrival.received_at for each in consents):
            said = [arrival.said(each) for each in consents]
            return replace(observed, consents=[each for each in said if each is not None])
        case ConsentObserved():
            consent = arrival.said(observed.consent)
            return None if consent is None else replace(observed, consent=consent)
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


def kind_of(platform: str, topic: str) -> str:
    """What of us reads it, however its sender spells it: `shopify orders/create`."""
    return f"{platform} {_topic(topic)}"


@lru_cache(maxsize=1024)
def _topic(name: str) -> str:
    """As the tables spell it; what is no topic at all must not blow up reasons and counters."""
    return _TOPIC.sub("", name.strip().lower())[:LONGEST_TOPIC]

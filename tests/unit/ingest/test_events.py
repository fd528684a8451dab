"""First-party events, as the normaliser reads them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from libs.common.contracts.commerce import ActivityObserved, Consent, ConsentObserved, Identifiers
from libs.common.junk import Junk
from services.ingest import events
from services.ingest.events import FirstPartyEvent
from services.ingest.outcome import AHEAD, Arrival, Ignored, Observations, Outcome, StoreFacts, Unreadable

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
FACTS = StoreFacts(key="st_1", domain="demo.myshopify.com", currency="EUR", timezone="UTC")


def event(type_: str = "consent.changed", **properties: Any) -> FirstPartyEvent:
    profile = Identifiers(email="Ada@Example.com")
    return FirstPartyEvent(id="e1", type=type_, time=NOW, profile=profile, properties=properties)


def observed(body: bytes) -> Observations:
    found = read(body)
    assert isinstance(found, Observations)
    return found


def read(body: bytes) -> Outcome:
    return events.observe(
        Arrival(
            store=FACTS,
            platform="events",
            headers={},
            body=body,
            received_at=NOW,
            position=7,
            origin="live",
            delivery="d1",
        )
    )


def test_a_consent() -> None:
    told = event(channel="email", state="subscribed")
    [(type_, root, observation)] = observed(events.delivery_of(told, "st_1", NOW).body).observations
    assert type_ == "consent.observed"
    assert root == events.root_of(Identifiers(email="ada@example.com"))
    assert observation == ConsentObserved(
        store="st_1",
        platform="events",
        source_id="e1",
        updated_at=NOW,
        position=7,
        delivery="d1",
        identifiers=Identifiers(email="Ada@Example.com"),
        consent=Consent(channel="email", state="subscribed", at=NOW, source="api"),
    )


@pytest.mark.parametrize(
    ("state", "ahead", "at"),
    [
        ("subscribed", AHEAD, timedelta(0)),
        ("subscribed", timedelta(seconds=-1), timedelta(seconds=-1)),
        ("unsubscribed", AHEAD, AHEAD),
        ("unsubscribed", timedelta(days=900), timedelta(days=900)),
    ],
)
def test_nobody_says_yes_after_we_have_heard_of_it(state: str, ahead: timedelta, at: timedelta) -> None:
    told = msgspec.structs.replace(event(channel="email", state=state), time=NOW + ahead)
    [observation] = observed(events.delivery_of(told, "st_1", NOW).body).observations
    assert isinstance(observation.observed, ConsentObserved)
    assert observation.observed.consent.at == NOW + at


def test_a_yes_that_is_yet_to_come_says_nothing() -> None:
    told = msgspec.structs.replace(event(channel="email", state="subscribed"), time=NOW + AHEAD + timedelta(seconds=1))
    assert read(events.delivery_of(told, "st_1", NOW).body) == Ignored("a consent that is yet to come")


def test_a_view() -> None:
    told = event("product.viewed", product_id="12", price=1.5, sale=True)
    [(type_, _, observation)] = observed(events.delivery_of(told, "st_1", NOW).body).observations
    assert type_ == "activity.observed"
    assert isinstance(observation, ActivityObserved)
    assert observation.activity == "product.viewed"
    assert observation.properties == {"product_id": "12", "price": 1.5, "sale": True}


def test_one_persons_events_stay_in_order_and_do_not_name_him() -> None:
    root = events.root_of(Identifiers(email="ada@example.com", cart_token="c1"))
    assert root == events.root_of(Identifiers(email="ADA@example.com"))
    assert "ada" not in root
    assert root != events.root_of(Identifiers(phone="+4930901820"))


@pytest.mark.parametrize(
    ("told", "pointer"),
    [
        (event(state="subscribed"), "/properties/channel"),
        (event(channel="email"), "/properties/state"),
        (event(channel="fax", state="subscribed"), "/properties/channel"),
        (event(channel="email", state=1), "/properties/state"),
        (event(channel="email", state="subscribed", source=""), "/properties/source"),
        (event("product.viewed"), "/properties/product_id"),
        (event("product.viewed", product_id=12), "/properties/product_id"),
    ],
)
def test_wrong_properties_are_pointed_at(told: FirstPartyEvent, pointer: str) -> None:
    wrong = events.wrong_property(told, Junk())
    assert wrong is not None
    assert wrong[0] == pointer
    with pytest.raises(Unreadable):
        observed(events.delivery_of(told, "st_1", NOW).body)


def test_old_news_is_backfill() -> None:
    assert events.delivery_of(event(), "st_1", NOW + timedelta(hours=24)).origin == "live"
    assert events.delivery_of(event(), "st_1", NOW + timedelta(hours=24, seconds=1)).origin == "backfill"


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b'{"id": "e1"}'])
def test_no_event(body: bytes) -> None:
    with pytest.raises(Unreadable):
        observed(body)

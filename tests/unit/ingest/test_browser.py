"""What a browser may tell, and what becomes of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from libs.common.contracts.commerce import ActivityObserved, CartObserved, CheckoutObserved, Identifiers, Observed
from libs.common.junk import Junk
from services.ingest import browser, events
from services.ingest.browser import Proven
from services.ingest.event_properties import ACTIVITIES, COMMERCE, Wrong
from services.ingest.events import FirstPartyEvent
from services.ingest.outcome import Arrival, Observations, StoreFacts
from tests.unit.ingest.test_event_types import GOOD

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
KEY = "pk_aaaabbbbccccddddeeeeffffgg"
TOKEN = "c1-4f9a7be2d8035c61"
ADA = Identifiers(customer_id="7", email="ada@example.com")
CUP = {"title": "Cup", "quantity": 2, "price": {"amount": "9.50", "currency": "EUR"}}
CART = {"lines": [CUP]}


def stored(
    type_: str = "product.viewed",
    properties: dict[str, Any] | None = None,
    *,
    profile: Identifiers = Identifiers(cart_token=TOKEN),  # noqa: B008 - it is frozen
    proven: Identifiers | None = None,
    made_at: datetime = NOW - timedelta(hours=1),
    platform: str = "events",
    time: datetime | None = None,
) -> FirstPartyEvent:
    told = FirstPartyEvent(
        id="e1",
        type=type_,
        time=NOW,
        profile=profile,
        properties={"product_id": "1"} if properties is None else properties,
    )
    vouched = None if proven is None else Proven(proven, made_at)
    return browser.event_of(told, key=KEY, platform=platform, proven=vouched, time=time, now=NOW, junk=Junk())


def observed(event: FirstPartyEvent) -> list[Observed]:
    arrival = Arrival(
        store=StoreFacts(key="st_1", domain="demo.myshopify.com", currency="EUR", timezone="UTC"),
        platform="events",
        headers={},
        body=events.delivery_of(event, "st_1", NOW, "browser").body,
        received_at=NOW,
        position=1,
        origin="live",
        delivery="d",
    )
    outcome = events.observe(arrival)
    assert isinstance(outcome, Observations)
    assert {each.root for each in outcome.observations} >= {events.root(event)}
    return [each.observed for each in outcome.observations]


def refused(*args: Any, **options: Any) -> str:
    with pytest.raises(Wrong) as wrong:
        stored(*args, **options)
    return wrong.value.pointer


def test_a_view_is_of_whom_the_token_names() -> None:
    [seen] = observed(stored(properties={"product_id": "77", "list": "new"}))
    assert isinstance(seen, ActivityObserved)
    assert (seen.activity, seen.identifiers) == ("product.viewed", Identifiers(cart_token=TOKEN))
    assert seen.properties == {"product_id": "77", "list": "new"}
    # No id that the server may have given: those of its own have at most 128 characters and no key before them.
    assert seen.source_id == f"{KEY}:e1"
    [seen] = observed(stored("custom.quiz.finished", {"score": 3}))
    assert isinstance(seen, ActivityObserved)
    assert seen.activity == "custom.quiz.finished"


@pytest.mark.parametrize(
    "type_", sorted((COMMERCE | ACTIVITIES).keys() - {"product.viewed", *browser.WRITTEN["events"]})
)
@pytest.mark.parametrize("proven", [None, ADA])
def test_records_and_words_that_bind_are_the_servers(type_: str, proven: Identifiers | None) -> None:
    assert refused(type_, GOOD[type_], proven=proven) == "/type"


@pytest.mark.parametrize("claim", [{"email": "ada@example.com"}, {"phone": "+4930901820"}, {"customer_id": "7"}])
def test_a_claim_needs_a_proof_of_the_very_same(claim: dict[str, str]) -> None:
    [name] = claim
    profile = Identifiers(cart_token=TOKEN, **claim)
    assert refused(profile=profile) == f"/profile/{name}"
    assert refused(profile=profile, proven=Identifiers(email="eve@example.com")) == f"/profile/{name}"
    assert stored(profile=profile, proven=Identifiers(**claim)).profile == profile
    # Who is proven need not be named.
    assert stored(proven=Identifiers(**claim)).profile == profile


@pytest.mark.parametrize(
    "token", ["1001", "12345678901234567890", "abc123", "a" * 129, "1234 5678 9012 abcd", "ä" * 20]
)
@pytest.mark.parametrize("name", ["cart_token", "checkout_token"])
def test_no_token_that_could_be_guessed(name: str, token: str) -> None:
    assert refused(profile=Identifiers(**{name: token})) == f"/profile/{name}"


def test_the_key_in_shopifys_cookie_is_no_part_of_the_token() -> None:
    assert stored(profile=Identifiers(cart_token=f"{TOKEN}?key=abc")).profile.cart_token == TOKEN


def test_nobody_at_all_is_nobody() -> None:
    assert refused(profile=Identifiers()) == "/profile"
    assert stored(profile=Identifiers(), proven=ADA).profile == ADA


@pytest.mark.parametrize("platform", ["shopify", "woocommerce", "events"])
@pytest.mark.parametrize(("type_", "kind"), [("cart.changed", CartObserved), ("checkout.started", CheckoutObserved)])
def test_carts_are_written_of_the_proven_where_the_platform_does_not_tell_them(
    platform: str, type_: str, kind: type[Observed]
) -> None:
    who = Identifiers(cart_token=TOKEN, checkout_token="k1-4f9a7be2d8035c61")
    [seen] = observed(stored(type_, CART, profile=who, platform=platform))
    assert isinstance(seen, ActivityObserved)
    assert (seen.activity, seen.properties, seen.identifiers) == (type_, {"items": 2}, who)
    written = {type(each) for each in observed(stored(type_, CART, profile=who, proven=ADA, platform=platform))}
    assert (kind in written) == (type_ in browser.WRITTEN[platform])


@pytest.mark.parametrize("name", browser.SERVERS)
@pytest.mark.parametrize("proven", [None, ADA])
def test_a_cart_says_nothing_in_the_shops_name(name: str, proven: Identifiers | None) -> None:
    who = Identifiers(cart_token=TOKEN, checkout_token="k1-4f9a7be2d8035c61")
    told = CART | {name: {"recovery_url": "https://evil.example/"}.get(name, True)}
    assert refused("checkout.started", told, profile=who, proven=proven) == f"/properties/{name}"
    lines = [CUP, CUP | {"image": "https://evil.example/"}]
    assert refused("cart.changed", {"lines": lines}, proven=proven) == "/properties/lines/1/image"


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("Dr. Martens 1460, 3.5 mm", "Dr. Martens 1460, 3.5 mm"),
        ("Verify at https://evil.example/login", "Verify at https evil example/login"),
        ("evil.example", "evil example"),
        ("write to eve@evil.example", "write to eve evil example"),
        ("call tel:+4930 or tel:110", "call tel:+4930 or tel 110"),
        ("two\nlines", "two lines"),
    ],
)
def test_a_title_leads_nowhere(title: str, shown: str) -> None:
    event = stored("cart.changed", {"lines": [CUP | {"title": title}]}, proven=ADA)
    cart = observed(event)[0]
    assert isinstance(cart, CartObserved)
    assert [line.title for line in cart.lines] == [shown]


@pytest.mark.parametrize("lines", [None, "x", [1], [[]], [{"title": 7}], [None]])
def test_whatever_else_is_wrong_is_pointed_at(lines: Any) -> None:
    assert refused("cart.changed", {"lines": lines}).startswith("/properties")
    assert refused("product.viewed", {}) == "/properties/product_id"
    assert refused("custom.x", {"n": [1]}) == "/properties/n"


def test_a_clock_that_is_ahead_is_not_believed() -> None:
    for ahead, told in ((timedelta(minutes=5), NOW + timedelta(minutes=5)), (timedelta(minutes=6), NOW)):
        assert stored(time=NOW + ahead).time == told
    long_ago = NOW - timedelta(hours=25)
    event = stored(time=long_ago)
    assert event.time == long_ago
    assert events.delivery_of(event, "st_1", NOW, "browser").origin == "backfill"


@pytest.mark.parametrize(
    ("type_", "properties"), [("product.viewed", None), ("cart.changed", CART), ("checkout.started", CART)]
)
def test_whom_a_proof_names_is_no_newer_than_the_proof(type_: str, properties: dict[str, Any] | None) -> None:
    who = Identifiers(cart_token=TOKEN, checkout_token="k1-4f9a7be2d8035c61")
    hour, ahead = timedelta(hours=1), timedelta(minutes=4)
    for time, made_at, named_at in (
        (None, NOW - hour, NOW - hour),
        (NOW + ahead, NOW - hour, NOW - hour),
        # What lay on the page before it had the proof is no newer than itself.
        (NOW - 2 * hour, NOW - hour, NOW - 2 * hour),
    ):
        event = stored(type_, properties, profile=who, proven=ADA, made_at=made_at, time=time)
        named = [each for each in observed(event) if isinstance(each, ActivityObserved | CheckoutObserved)]
        assert [each.named_at for each in named] == [named_at]
    [told] = observed(stored(profile=who))
    assert isinstance(told, ActivityObserved)
    assert told.named_at is None


def test_a_worker_of_the_version_before_does_not_take_it_for_the_servers() -> None:
    # It parks what is of a platform that it does not know, and parked deliveries can be read again.
    assert events.delivery_of(stored(), "st_1", NOW, "browser").platform not in {"shopify", "woocommerce", "events"}

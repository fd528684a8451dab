"""First-party events by type: what each becomes, and what is wrong where."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import asdict, replace

from libs.common.contracts.commerce import (
    ActivityObserved,
    CartObserved,
    CheckoutObserved,
    CustomerObserved,
    Identifiers,
    Line,
    Observed,
    OrderObserved,
    Person,
    Refund,
    RefundObserved,
)
from libs.common.junk import Junk
from services.ingest import events
from services.ingest.events import FirstPartyEvent
from services.ingest.outcome import Arrival, Observations, StoreFacts

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
ADA = Identifiers(email="ada@example.com", customer_id="7", cart_token="c1", checkout_token="k1")


def eur(amount: str) -> dict[str, str]:
    return {"amount": amount, "currency": "EUR"}


CUP = {"title": "Cup", "quantity": 2, "price": eur("9.50"), "total": eur("18.00"), "product_id": "p1", "id": "l1"}
ORDER = {
    "order_id": "1001",
    "lines": [CUP],
    "discounts": eur("1.00"),
    "shipping": eur("4.90"),
    "taxes": eur("3.80"),
    "buyer": {"first_name": "Ada", "country": "DE"},
}
PLACED = "2026-03-01T10:00:00+01:00"
REFUND = {"order_id": "1001", "refund_id": "r1", "amount": eur("9.00"), "taxes": eur("1.71"), "reason": "broken"}
GOOD: dict[str, dict[str, Any]] = {
    "order.placed": ORDER,
    "order.cancelled": ORDER | {"placed_at": PLACED},
    "order.refunded": REFUND,
    "checkout.started": {"lines": [CUP], "recovery_url": "https://shop.example/k1"},
    "cart.changed": {"lines": [CUP]},
    "profile.updated": {"first_name": "Ada", "birthday": "1990-02-03", "tags": ["vip"]},
    "consent.changed": {"channel": "email", "state": "subscribed"},
    "product.viewed": {"product_id": "p1", "price": eur("9.50")},
    "survey.answered": {"survey": "nps", "score": 10, "comment": "fine"},
    "ticket.opened": {"ticket_id": "t1"},
    "ticket.closed": {"ticket_id": "t1"},
    "loyalty.changed": {"points": 120, "tier": "gold"},
    "review.submitted": {"product_id": "p1", "rating": 5},
    "lead.created": {"source": "newsletter popup"},
    "back_in_stock.subscribed": {"variant_id": "v1"},
    "custom.quiz.finished": {"points": 3, "prize": eur("5.00")},
}


def event(type_: str, properties: dict[str, Any] | None = None, profile: Identifiers = ADA) -> FirstPartyEvent:
    told = GOOD[type_] if properties is None else properties
    return FirstPartyEvent(id="e1", type=type_, time=NOW, profile=profile, properties=told)


def read(told: FirstPartyEvent) -> list[Observed]:
    arrival = Arrival(
        store=StoreFacts(key="st_1", domain="demo.myshopify.com", currency="EUR", timezone="UTC"),
        platform="events",
        headers={},
        body=events.delivery_of(told, "st_1", NOW).body,
        received_at=NOW,
        position=7,
        origin="live",
        delivery="d1",
    )
    outcome = events.observe(arrival)
    assert isinstance(outcome, Observations)
    assert outcome.observations[0].root == events.root(told)
    return [each.observed for each in outcome.observations]


@pytest.mark.parametrize("type_", GOOD)
def test_what_is_good_is_observed(type_: str) -> None:
    assert events.wrong_property(event(type_), Junk()) is None
    for observed in read(event(type_)):
        assert (observed.store, observed.platform, observed.updated_at) == ("st_1", "events", NOW)


def test_an_order_is_told_whole() -> None:
    [order] = read(event("order.placed"))
    assert isinstance(order, OrderObserved)
    assert (order.source_id, order.number, order.status, order.placed) == ("1001", "1001", "placed", True)
    assert (order.gross, order.discounts, order.shipping, order.taxes, order.currency) == (1900, 200, 490, 380, "EUR")
    assert (order.placed_at, order.cancelled_at) == (NOW, None)
    assert order.lines == [Line(title="Cup", quantity=2, price=950, total=1800, product_id="p1", source_id="l1")]
    assert order.person == Person(email="ada@example.com", first_name="Ada", country="DE")
    assert (order.customer_id, order.cart_token, order.checkout_token) == ("7", "c1", "k1")


def test_a_cancellation_is_the_order_with_a_date() -> None:
    [order] = read(event("order.cancelled"))
    assert isinstance(order, OrderObserved)
    assert (order.placed_at, order.cancelled_at) == (datetime(2026, 3, 1, 9, tzinfo=UTC), NOW)


def test_a_refund_goes_with_its_order() -> None:
    told = event("order.refunded", profile=Identifiers())
    [refund] = read(told)
    assert isinstance(refund, RefundObserved)
    assert events.root(told) == events.root(event("order.placed")) == "order:1001"
    assert refund.refund == Refund(source_id="r1", at=NOW, returns=900, taxes=171, reason="broken", currency="EUR")


def test_yen_have_no_decimals() -> None:
    yen = {"amount": "1200", "currency": "JPY"}
    [order] = read(event("order.placed", {"order_id": "1", "lines": [{"title": "A", "quantity": 1, "price": yen}]}))
    assert isinstance(order, OrderObserved)
    assert (order.gross, order.currency) == (1200, "JPY")


def test_a_checkout() -> None:
    [checkout] = read(event("checkout.started"))
    assert isinstance(checkout, CheckoutObserved)
    assert (checkout.source_id, checkout.total, checkout.cart_token) == ("k1", 1800, "c1")
    assert checkout.recovery_url == "https://shop.example/k1"


def test_a_cart_is_tied_to_the_address_beside_it() -> None:
    cart, seen = read(event("cart.changed"))
    assert isinstance(cart, CartObserved)
    assert (cart.source_id, cart.total, cart.customer_id) == ("c1", 1800, "7")
    assert isinstance(seen, ActivityObserved)
    assert (seen.activity, seen.identifiers, seen.properties) == ("cart.changed", ADA, {"items": 2})
    assert len(read(event("cart.changed", profile=Identifiers(cart_token="c1")))) == 1


def test_an_emptied_cart_is_in_the_stores_currency() -> None:
    [cart] = read(event("cart.changed", {"lines": []}, Identifiers(cart_token="c1")))
    assert isinstance(cart, CartObserved)
    assert (cart.lines, cart.total, cart.currency) == ([], 0, "EUR")


def test_a_customer() -> None:
    [customer] = read(event("profile.updated"))
    assert isinstance(customer, CustomerObserved)
    assert (customer.source_id, customer.tags, customer.email_verified) == ("7", ["vip"], False)
    assert customer.person == Person(email="ada@example.com", first_name="Ada")


def test_money_of_an_activity_is_text() -> None:
    [seen] = read(event("custom.quiz.finished"))
    assert isinstance(seen, ActivityObserved)
    assert seen.properties == {"points": 3, "prize": "5.00 EUR"}


LINE = "/properties/lines/0"


@pytest.mark.parametrize(
    ("type_", "change", "pointer"),
    [
        ("order.placed", {"order_id": None}, "/properties/order_id"),
        ("order.placed", {"lines": []}, "/properties/lines"),
        ("order.placed", {"lines": [CUP | {"price": 9.5}]}, f"{LINE}/price"),
        ("order.placed", {"lines": [CUP | {"price": eur("nine")}]}, f"{LINE}/price/amount"),
        ("order.placed", {"lines": [CUP | {"price": eur("-1")}]}, f"{LINE}/price/amount"),
        ("order.placed", {"lines": [CUP | {"price": {"amount": "1", "currency": "???"}}]}, f"{LINE}/price/currency"),
        ("order.placed", {"lines": [CUP | {"total": eur("19.01")}]}, f"{LINE}/total"),
        ("order.placed", {"lines": [CUP | {"quantity": -1}]}, f"{LINE}/quantity"),
        ("order.placed", {"lines": [CUP | {"colour": "red"}]}, f"{LINE}/colour"),
        ("order.placed", {"shipping": {"amount": "4", "currency": "USD"}}, "/properties/shipping/currency"),
        ("order.placed", {"discounts": eur("18.01")}, "/properties/discounts"),
        ("order.placed", {"placed_at": "2026-03-03T00:00:00Z"}, "/properties/placed_at"),
        ("order.placed", {"placed_at": "2026-03-01T00:00:00"}, "/properties/placed_at"),
        ("order.placed", {"total": eur("1")}, "/properties/total"),
        ("order.cancelled", {"placed_at": None}, "/properties/placed_at"),
        ("order.refunded", {"refund_id": ""}, "/properties/refund_id"),
        ("order.refunded", {"amount": "9.00"}, "/properties/amount"),
        ("checkout.started", {"recovery_url": "javascript:1"}, "/properties/recovery_url"),
        ("cart.changed", {"lines": "none"}, "/properties/lines"),
        ("profile.updated", {"birthday": "yesterday"}, "/properties/birthday"),
        ("consent.changed", {"state": "perhaps"}, "/properties/state"),
        ("product.viewed", {"product_id": 7}, "/properties/product_id"),
        ("product.viewed", {"tags": ["a"]}, "/properties/tags"),
        ("survey.answered", {"score": 11}, "/properties/score"),
        ("survey.answered", {"survey": "csat", "score": 6}, "/properties/score"),
        ("survey.answered", {"survey": "csat", "score": 0}, "/properties/score"),
        ("survey.answered", {"score": True}, "/properties/score"),
        ("survey.answered", {"survey": "other"}, "/properties/survey"),
        ("ticket.opened", {"ticket_id": ""}, "/properties/ticket_id"),
        ("ticket.closed", {"ticket_id": 1}, "/properties/ticket_id"),
        ("loyalty.changed", {"points": 1.5}, "/properties/points"),
        ("review.submitted", {"rating": 6}, "/properties/rating"),
        ("lead.created", {"source": ""}, "/properties/source"),
        ("back_in_stock.subscribed", {"variant_id": ""}, "/properties/variant_id"),
        ("custom.quiz.finished", {"a/b": {"c": 1}}, "/properties/a~1b"),
    ],
)
def test_what_is_wrong_is_pointed_at(type_: str, change: dict[str, Any], pointer: str) -> None:
    wrong = events.wrong_property(event(type_, GOOD[type_] | change), Junk())
    assert wrong is not None
    assert wrong[0] == pointer


@pytest.mark.parametrize(
    ("type_", "profile", "pointer"),
    [
        ("cart.changed", Identifiers(email="a@b.example"), "/profile/cart_token"),
        ("checkout.started", Identifiers(cart_token="c1"), "/profile/checkout_token"),
        ("profile.updated", Identifiers(email="a@b.example"), "/profile/customer_id"),
        ("consent.changed", Identifiers(), "/profile"),
        ("lead.created", Identifiers(), "/profile"),
    ],
)
def test_who_is_needed_is_pointed_at(type_: str, profile: Identifiers, pointer: str) -> None:
    wrong = events.wrong_property(event(type_, profile=profile), Junk())
    assert wrong is not None
    assert wrong[0] == pointer


@pytest.mark.parametrize(
    ("profile", "pointer"),
    [
        (Identifiers(email="NoReply@shop.example"), "/profile/email"),
        (Identifiers(email="ada@x"), "/profile/email"),
        (Identifiers(phone="0151 1234567"), "/profile/phone"),
        (Identifiers(email="noreply@shop.example", phone="0151 1234567"), "/profile"),
    ],
)
@pytest.mark.parametrize("type_", ["product.viewed", "consent.changed", "custom.quiz.finished"])
def test_what_names_nobody_is_pointed_at(type_: str, profile: Identifiers, pointer: str) -> None:
    junk = Junk(emails=frozenset({"noreply@"}))
    told = event(type_, {} if type_.startswith("custom.") else None, profile=profile)
    wrong = events.wrong_property(told, junk)
    assert wrong is not None
    assert wrong[0] == pointer
    somebody = {"email": "ada@shop.example"}, {"phone": "+4915112345678"}, {"cart_token": "c"}, {"customer_id": "7"}
    for known in somebody:
        named = replace(told, profile=Identifiers(**(asdict(profile) | known)))
        assert events.wrong_property(named, junk) is None


def test_an_order_may_name_nobody() -> None:
    junk = Junk(emails=frozenset({"noreply@"}))
    till = Identifiers(email="noreply@shop.example")
    assert events.wrong_property(event("order.placed", profile=till), junk) is None


@pytest.mark.parametrize(
    "name", ["order.shipped", "custom", "custom.", "custom.A", "custom.a.b.c.d", "Custom.a", "x.y"]
)
def test_other_names_are_nobodys(name: str) -> None:
    wrong = events.wrong_property(FirstPartyEvent(id="e", type=name, time=NOW, profile=ADA), Junk())
    assert wrong is not None
    assert wrong[0] == "/type"


def test_old_orders_are_history() -> None:
    assert events.delivery_of(event("order.placed"), "st_1", NOW + timedelta(hours=25)).origin == "backfill"

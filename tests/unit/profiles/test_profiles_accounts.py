from typing import Any

import pytest

from libs.common.contracts.commerce import (
    ActivityObserved,
    CartObserved,
    CheckoutObserved,
    CustomerObserved,
    Identifiers,
    Observed,
    Person,
    ProductObserved,
)
from services.profiles.identity.accounts import STRONG, WEAK, Claim, claim, customer_id, registered
from tests.integration.profiles.driving import RULES, T0, order

ENVELOPE: dict[str, Any] = {
    "store": "s",
    "platform": "shopify",
    "source_id": "7",
    "updated_at": T0,
    "position": 0,
}
WITHIN: dict[str, Any] = {**ENVELOPE, "started_at": T0, "currency": "EUR", "total": 0}
ADA = Person(email="Ada@example.com", phone="0151 12345601", country="DE")
MAIL, PHONE = "email:ada@example.com", "phone:+4915112345601"


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        pytest.param(
            order(1, store="s", customer_id="9", person=ADA, cart_token="c", checkout_token="t"),
            Claim("s", "customer:s:9", ((MAIL, WEAK), (PHONE, WEAK), ("cart:s:c", WEAK), ("checkout:s:t", WEAK))),
            id="order of a registered customer: the billing e-mail may be another's",
        ),
        pytest.param(
            order(1, store="s", person=ADA),
            Claim("s", "guest:s:ada@example.com", ((MAIL, STRONG), (PHONE, WEAK))),
            id="guest by e-mail",
        ),
        pytest.param(
            order(1, store="s", person=Person(email="noreply@example.com", phone="+4915112345601")),
            Claim("s", "guest:s:+4915112345601", ((PHONE, WEAK),)),
            id="guest by phone: junk e-mail is none",
        ),
        pytest.param(order(1, person=Person(), cart_token="c"), None, id="an order is never a cart's"),
        pytest.param(
            CheckoutObserved(**WITHIN, cart_token="c"),
            Claim("s", "cart:s:c", (("cart:s:c", WEAK), ("checkout:s:7", WEAK))),
            id="checkout by cart token",
        ),
        pytest.param(
            CheckoutObserved(**WITHIN),
            Claim("s", "cart:s:7", (("checkout:s:7", WEAK),)),
            id="checkout by its own token",
        ),
        pytest.param(CartObserved(**WITHIN), Claim("s", "cart:s:7", (("cart:s:7", WEAK),)), id="cart"),
        pytest.param(
            CartObserved(**WITHIN, customer_id="9"),
            Claim("s", "customer:s:9", (("cart:s:7", WEAK),)),
            id="cart of a registered customer",
        ),
        pytest.param(
            CustomerObserved(**ENVELOPE, person=ADA, email_verified=True),
            Claim("s", "customer:s:7", ((MAIL, STRONG), (PHONE, WEAK))),
            id="customer record",
        ),
        pytest.param(
            CustomerObserved(**ENVELOPE, person=ADA),
            Claim("s", "customer:s:7", ((MAIL, WEAK), (PHONE, WEAK))),
            id="customer record with an address that nobody verified",
        ),
        pytest.param(
            ActivityObserved(**ENVELOPE, activity="product.viewed", identifiers=Identifiers(email="Ada@example.com")),
            Claim("s", "guest:s:ada@example.com", ((MAIL, STRONG),)),
            id="first-party event",
        ),
        pytest.param(
            ActivityObserved(**ENVELOPE, activity="product.viewed", identifiers=Identifiers(email="test@test.com")),
            None,
            id="first-party event of nobody",
        ),
        pytest.param(ProductObserved(**ENVELOPE, title="Tea", status="active", currency="EUR"), None, id="product"),
    ],
)
def test_claim(observed: Observed, expected: Claim | None) -> None:
    assert claim(observed, RULES.junk) == expected


def test_registered_customers_are_told_by_their_account() -> None:
    assert registered("customer:s:9") == "s"
    assert registered("guest:s:ada@example.com") is None
    assert customer_id("customer:s:gid://9:9") == "gid://9:9"
    assert customer_id("cart:s:9") is None

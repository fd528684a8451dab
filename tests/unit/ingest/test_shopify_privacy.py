"""Shopify's compliance topics: whom they are about, and when they are the same again."""

from datetime import timedelta
from typing import Any

import pytest

from libs.common.contracts.commerce import Identifiers, PrivacyRequested
from services.ingest.normalise import Ignored, Observations, Uninstalled, Unreadable
from tests.unit.ingest.payloads import RECEIVED_AT, observed, outcome, shopify_order

SHOP = {"shop_id": 954889, "shop_domain": "demo.myshopify.com"}
ADA = {"id": 9007199254740993, "email": " ada@example.com", "phone": "+49 30 123456"}
ASKED = SHOP | {"customer": ADA, "orders_requested": [299938, "280263"], "data_request": {"id": 9999}}


def requested(topic: str, payload: object, **options: Any) -> PrivacyRequested:
    return observed(PrivacyRequested, "shopify", topic, payload, **options)


def test_who_asks_for_his_data() -> None:
    asked = requested("customers/data_request", ASKED)
    assert asked.kind == "data_request"
    assert asked.identifiers == Identifiers(
        customer_id="9007199254740993", email="ada@example.com", phone="+49 30 123456"
    )
    assert asked.orders == ["299938", "280263"]
    assert (asked.updated_at, asked.due_at) == (RECEIVED_AT, RECEIVED_AT + timedelta(days=30))


def test_the_platform_s_number_makes_it_the_same_again_and_another_one_another() -> None:
    first, again, other = (
        requested("customers/data_request", ASKED | {"data_request": {"id": number}}) for number in (9999, "9999", 1)
    )
    assert first.source_id == again.source_id != other.source_id


def test_an_e_mail_may_be_all_that_is_known_of_a_guest() -> None:
    asked = requested("customers/redact", SHOP | {"customer": {"email": "ada@example.com"}, "orders_to_redact": [7]})
    assert (asked.kind, asked.identifiers, asked.orders) == ("redact", Identifiers(email="ada@example.com"), ["7"])


def test_a_shop_that_is_to_be_gone_names_nobody() -> None:
    asked = requested("shop/redact", SHOP)
    assert (asked.kind, asked.identifiers, asked.orders) == ("redact_store", Identifiers(), [])


@pytest.mark.parametrize(
    "payload",
    [SHOP, SHOP | {"customer": None}, SHOP | {"customer": {"id": 0, "email": ""}}, SHOP | {"customer": "ada"}, []],
)
@pytest.mark.parametrize("topic", ["customers/redact", "customers/data_request"])
def test_what_names_nobody_is_dead(topic: str, payload: object) -> None:
    with pytest.raises(Unreadable):
        outcome("shopify", topic, payload)


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("customers/redact", SHOP | {"customer": ADA}),
        ("customers/data_request", ASKED),
        ("shop/redact", SHOP),
        ("app/uninstalled", {"id": 954889, "domain": "tea.example", "myshopify_domain": "demo.myshopify.com"}),
    ],
)
def test_a_test_notification_asks_for_nothing(topic: str, payload: object) -> None:
    assert isinstance(outcome("shopify", topic, payload, headers={"x-shopify-test": "true"}), Ignored)
    assert isinstance(outcome("shopify", topic, payload), Observations | Uninstalled)


@pytest.mark.parametrize("theirs", [{"shop_domain": "dev.myshopify.com"}, {"shop_domain": ""}, {"shop_domain": 1}, {}])
@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("customers/redact", {"customer": ADA}),
        ("customers/data_request", {"customer": ADA, "data_request": {"id": 9999}}),
        ("shop/redact", {"shop_id": 954889}),
    ],
)
def test_what_is_asked_of_another_shop_of_the_app_or_of_none_erases_nothing(
    topic: str, payload: dict[str, Any], theirs: dict[str, Any]
) -> None:
    with pytest.raises(Unreadable, match="shop_domain: not the domain"):
        outcome("shopify", topic, payload | theirs)


def test_another_topic_s_body_erases_no_shop() -> None:
    for body in (shopify_order(shop_domain="demo.myshopify.com"), ASKED, SHOP | {"orders_to_redact": []}):
        with pytest.raises(Unreadable, match="another topic"):
            outcome("shopify", "shop/redact", body)
    with pytest.raises(Unreadable, match="another topic"):
        outcome("shopify", "customers/redact", ASKED)
    with pytest.raises(Unreadable, match="shop_domain"):
        outcome("shopify", "shop/redact", {"id": 1, "domain": "demo.myshopify.com"})


@pytest.mark.parametrize(
    ("shop", "header"),
    [
        ({"id": 2, "domain": "dev.example", "myshopify_domain": "dev.myshopify.com"}, "demo.myshopify.com"),
        ({"id": 2, "domain": None, "myshopify_domain": None}, "dev.myshopify.com"),
        ({"id": 2}, "demo.myshopify.com"),
    ],
)
def test_another_shop_s_leave_is_not_this_one_s(shop: dict[str, Any], header: str) -> None:
    with pytest.raises(Unreadable):
        outcome("shopify", "app/uninstalled", shop, headers={"x-shopify-shop-domain": header})


def test_a_leave_without_a_domain_is_of_whom_the_header_names() -> None:
    shop, headers = {"id": 2, "domain": None, "myshopify_domain": None}, {"x-shopify-shop-domain": "demo.myshopify.com"}
    assert isinstance(outcome("shopify", "app/uninstalled", shop, headers=headers), Uninstalled)


def test_a_domain_is_the_same_however_it_is_printed() -> None:
    assert requested("shop/redact", {"shop_id": 954889, "shop_domain": " Demo.myshopify.com"}).kind == "redact_store"

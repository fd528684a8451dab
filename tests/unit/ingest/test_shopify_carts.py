from datetime import UTC, datetime
from typing import Any

import pytest

from libs.common.contracts.commerce import CartObserved, CheckoutObserved, Removed
from services.ingest.normalise import Parked, Unreadable
from tests.unit.ingest.payloads import observed, outcome, shopify_line


def cart(**changes: Any) -> dict[str, Any]:
    return {
        "id": "c1-5f2?key=abc",
        "token": "c1-5f2?key=abc",
        "created_at": "2026-03-01T09:00:00.125Z",
        "updated_at": "2026-03-01T09:10:00.250Z",
        "line_items": [
            {
                "id": 502,
                "variant_id": 502,
                "product_id": 501,
                "title": "Green tea",
                "quantity": 2,
                "original_price": "30.00",
                "price": "27.00",
                "line_price": "54.00",
                "total_discount": "6.00",
                "featured_image": {"url": "//cdn.example/tea.png"},
            }
        ],
    } | changes


def checkout(**changes: Any) -> dict[str, Any]:
    """As of 2026-04: no `id`."""
    return {
        "token": "chk-77",
        "cart_token": "c1-5f2",
        "created_at": "2026-03-01T10:00:00+01:00",
        "updated_at": "2026-03-01T10:20:00+01:00",
        "completed_at": None,
        "currency": "EUR",
        "total_price": "73.00",
        "email": "ada@example.com",
        "phone": "+4930123",
        "customer_locale": "de",
        "buyer_accepts_marketing": False,
        "abandoned_checkout_url": "https://shop.example/recover/77",
        "line_items": [shopify_line(discount_allocations=[{"amount": "6.00"}])],
        "customer": {"id": 88},
        "shipping_address": [],
    } | changes


def test_a_cart_is_nobodys_and_in_the_stores_currency() -> None:
    found = observed(CartObserved, "shopify", "carts/update", cart())
    assert (found.source_id, found.currency, found.total, found.customer_id) == ("c1-5f2", "EUR", 5400, None)
    assert found.started_at == datetime(2026, 3, 1, 9, 0, 0, 125000, tzinfo=UTC)
    assert found.updated_at == datetime(2026, 3, 1, 9, 10, 0, 250000, tzinfo=UTC)
    (line,) = found.lines
    assert (line.price, line.total, line.image) == (3000, 5400, "https://cdn.example/tea.png")


def test_an_emptied_cart_and_one_without_token() -> None:
    found = observed(CartObserved, "shopify", "carts/update", cart(line_items=[], token=None))
    assert (found.source_id, found.total, found.lines) == ("c1-5f2", 0, [])
    with pytest.raises(Unreadable, match="token: missing"):
        outcome("shopify", "carts/create", {"line_items": []})


def test_a_checkout_goes_by_its_token() -> None:
    found = observed(CheckoutObserved, "shopify", "checkouts/create", checkout())
    assert (found.source_id, found.cart_token, found.customer_id) == ("chk-77", "c1-5f2", "88")
    assert (found.total, found.lines[0].total) == (7300, 5400)
    assert found.started_at == datetime(2026, 3, 1, 9, tzinfo=UTC)
    assert found.completed_at is None
    assert found.recovery_url == "https://shop.example/recover/77"
    assert (found.person.email, found.person.phone, found.person.locale) == ("ada@example.com", "+4930123", "de")
    assert found.accepts_marketing is False


def test_a_checkouts_lines_are_what_the_shop_showed() -> None:
    taxed = shopify_line(quantity=1, price="119.00", tax_lines=[{"price": "19.00", "rate": 0.19}])
    told = checkout(taxes_included=True, line_items=[taxed], total_price="119.00")
    found = observed(CheckoutObserved, "shopify", "checkouts/update", told)
    assert (found.lines[0].price, found.lines[0].total, found.total) == (11900, 11900, 11900)


def test_a_completed_checkout_says_when() -> None:
    done = checkout(completed_at="2026-03-01T10:21:00Z", total_price=None, taxes_included=True)
    found = observed(CheckoutObserved, "shopify", "checkouts/update", done)
    assert found.completed_at == datetime(2026, 3, 1, 10, 21, tzinfo=UTC)
    assert found.total == 5400


def test_a_deleted_checkout_is_a_tombstone_only_when_it_names_its_token() -> None:
    headers = {"shopify-triggered-at": "2026-03-02T11:00:00Z"}
    found = observed(Removed, "shopify", "checkouts/delete", {"token": "chk-77"}, headers=headers)
    assert (found.source_id, found.updated_at) == ("chk-77", datetime(2026, 3, 2, 11, tzinfo=UTC))
    assert isinstance(outcome("shopify", "checkouts/delete", {"id": 5, "cart_token": "c1"}), Parked)

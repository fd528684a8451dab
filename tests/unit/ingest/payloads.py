"""Deliveries as shops send them, written by hand; and what becomes of them."""

import json
from datetime import UTC, datetime
from typing import Any, TypeVar

from libs.common.contracts.commerce import Observed
from libs.common.contracts.journal import Delivery
from services.ingest.normalise import Observations, Outcome, StoreFacts, normalise

RECEIVED_AT = datetime(2026, 3, 2, 12, tzinfo=UTC)
STORE = StoreFacts(key="st_1", domain="demo.myshopify.com", currency="EUR", timezone="Europe/Berlin")
T = TypeVar("T", bound=Observed)


def outcome(
    platform: str,
    topic: str,
    payload: object,
    *,
    headers: dict[str, str] | None = None,
    store: StoreFacts = STORE,
    not_before: datetime | None = None,
) -> Outcome:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    delivery = Delivery(
        store=store.key,
        platform=platform,
        topic=topic,
        delivery_id="d-1",
        headers=headers or {},
        body=body,
        not_before=not_before,
    )
    return normalise(delivery, store=store, received_at=RECEIVED_AT, position=7, delivery_ref="j-1")


def observed(kind: type[T], platform: str, topic: str, payload: object, **options: Any) -> T:
    """The one observation of this kind in it."""
    found = outcome(platform, topic, payload, **options)
    assert isinstance(found, Observations), found
    (observation,) = [each.observed for each in found.observations if isinstance(each.observed, kind)]
    return observation


def shopify_line(**changes: Any) -> dict[str, Any]:
    return {
        "id": 14,
        "product_id": 501,
        "variant_id": 502,
        "sku": "TEA-1",
        "title": "Green tea",
        "quantity": 2,
        "price": "30.00",
        "total_discount": "0.00",
        "discount_allocations": [],
        "tax_lines": [],
        "properties": [],
    } | changes


def shopify_order(**changes: Any) -> dict[str, Any]:
    """Two teas and a cup for 80.00, 10 % off by code, shipping 5.00, 19 % tax on top of the goods."""
    return {
        "id": 9007199254740993,
        "name": "#1001",
        "order_number": 1001,
        "created_at": "2026-03-01T10:00:00+01:00",
        "processed_at": "2026-03-01T09:59:58+01:00",
        "updated_at": "2026-03-01T10:00:05+01:00",
        "cancelled_at": None,
        "currency": "EUR",
        "financial_status": "paid",
        "fulfillment_status": None,
        "test": False,
        "taxes_included": False,
        "total_line_items_price": "80.00",
        "total_discounts": "8.00",
        "subtotal_price": "72.00",
        "total_tax": "13.68",
        "total_price": "90.68",
        "email": " Ada@Example.com ",
        "phone": None,
        "customer_locale": "de-DE",
        "buyer_accepts_marketing": True,
        "cart_token": "c1-5f2?key=abc",
        "checkout_token": "chk-77",
        "user_id": 12,
        "customer": {"id": 88, "email": "ada@example.com", "first_name": "Ada", "last_name": "Lovelace"},
        "billing_address": {"country_code": "DE", "phone": "030 123456"},
        "shipping_address": {"country_code": "AT"},
        "line_items": [
            shopify_line(discount_allocations=[{"amount": "6.00"}], tax_lines=[{"price": "10.26", "rate": 0.19}]),
            shopify_line(
                id=15,
                title="Cup",
                quantity=1,
                price="20.00",
                discount_allocations=[{"amount": "2.00"}],
                tax_lines=[{"price": "3.42", "rate": 0.19}],
            ),
        ],
        "shipping_lines": [{"price": "5.00", "discounted_price": "5.00", "tax_lines": []}],
        "fulfillments": [],
        "refunds": [],
    } | changes


def woocommerce_line(**changes: Any) -> dict[str, Any]:
    return {
        "id": 31,
        "name": "Tea &amp; honey",
        "product_id": 93,
        "variation_id": 0,
        "quantity": 3,
        "subtotal": "30.00",
        "total": "27.00",
        "total_tax": "5.13",
        "sku": "TEA-H",
        "price": 9,
        "image": {"id": "", "src": ""},
        "meta_data": [{"id": 1, "key": "gift", "value": {"wrap": ["red"]}}],
    } | changes


def woocommerce_order(**changes: Any) -> dict[str, Any]:
    """Three teas for 30.00 less 3.00 by coupon, 5.00 shipping, 19 % on both: 38.08."""
    return {
        "id": 727,
        "number": "727",
        "status": "processing",
        "currency": "EUR",
        "date_created": "2026-03-01T10:00:00",
        "date_created_gmt": "2026-03-01T09:00:00",
        "date_modified": "2026-03-01T10:05:00",
        "date_modified_gmt": "2026-03-01T09:05:00",
        "date_paid_gmt": "2026-03-01T09:04:00",
        "date_completed_gmt": None,
        "discount_total": "3.00",
        "shipping_total": "5.00",
        "shipping_tax": "0.95",
        "total_tax": "6.08",
        "total": "38.08",
        "prices_include_tax": True,
        "customer_id": 0,
        "billing": {
            "first_name": "Grace",
            "last_name": "Hopper",
            "email": "grace@example.com",
            "phone": "+49 30 9876",
            "country": "DE",
        },
        "shipping": {"first_name": "", "last_name": "", "phone": "+49 1 2", "country": ""},
        "line_items": [woocommerce_line()],
        "fee_lines": [],
        "refunds": [],
    } | changes

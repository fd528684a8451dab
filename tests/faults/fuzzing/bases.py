"""What is mutated: payloads of the simulated shop, those of the unit tests, and foreign ones where there are any."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from libs.common.contracts.types import Platform
from regulars.shop import shopify, woocommerce
from regulars.shop.catalog import STORES
from regulars.shop.world import make_world
from services.ingest.shopify import TOPICS as SHOPIFY_TOPICS
from services.ingest.woocommerce import TOPICS as WOOCOMMERCE_TOPICS
from tests.contract import corpus
from tests.unit.ingest.payloads import shopify_order, woocommerce_order

START = datetime(2026, 2, 1, tzinfo=UTC)
DAYS = 12
PEOPLE = 40
OF_EACH_TOPIC = 6
"""Payloads of the simulated shop: from the first to the last, as far apart as possible."""
TOPICS: dict[Platform, tuple[str, ...]] = {
    "shopify": (*SHOPIFY_TOPICS, "themes/publish"),
    "woocommerce": (*WOOCOMMERCE_TOPICS, "coupon.deleted"),
}
"""All that are read, and one that is not."""

_REFUND: dict[str, Any] = {
    "id": 5,
    "order_id": 12,
    "created_at": "2026-02-03T10:00:00+01:00",
    "note": "Zurück & Ende",
    "refund_line_items": [
        {
            "subtotal": 1.5,
            "total_tax": 0.2,
            "subtotal_set": {"shop_money": {"amount": "1.50", "currency_code": "EUR"}},
            "line_item": {"tax_lines": [{"rate": 0.2, "price": "0.20"}]},
        }
    ],
    "order_adjustments": [{"kind": "shipping_refund", "amount": "-1.00", "tax_amount": "0.00"}],
    "refund_shipping_lines": [{"subtotal_amount_set": {"shop_money": {"amount": "1.00"}}}],
    "transactions": [{"kind": "refund", "status": "success", "amount": "1.70", "currency": "EUR"}],
}
_REFUSAL = {"code": "woocommerce_rest_shop_order_invalid_id", "message": "Ungültige ID.", "data": {"status": 404}}
_DRAFT = {"status": "checkout-draft", "payment_url": "https://teas.example/kasse/?pay_for_order=true&key=wc_1"}
_LEGACY = {
    "order": woocommerce_order(created_at="2026-02-01T10:00:00Z", order_number=7),
    "customer": {"id": 4, "email": "ada@example.com", "created_at": "2026-02-01T10:00:00Z"},
    "product": {"id": 5, "title": "Tea &amp; honey", "price": "3.00"},
}
_CONSENTS = {
    "id": 88,
    "customer_id": 88,
    "email": "ada@example.com",
    "phone": "+4930123456",
    "tags": "vip, tea",
    "verified_email": True,
    "default_address": {"phone": "030 1", "country_code": "DE"},
    "email_marketing_consent": {"state": "subscribed", "consent_updated_at": "2026-01-01T00:00:00Z"},
    "sms_marketing_consent": {"state": "unsubscribed", "consent_updated_at": "2026-01-02T00:00:00+01:00"},
    "accepts_marketing": False,
    "accepts_marketing_updated_at": "2026-01-03T00:00:00Z",
}
_ASKED = {
    "shop_id": 1,
    "shop_domain": "teas.myshopify.com",
    "customer": {"id": 88, "email": "ada@example.com", "phone": "+4930123456"},
}
BY_HAND: tuple[tuple[Platform, str, Any], ...] = (
    ("shopify", "orders/updated", shopify_order(refunds=[_REFUND], fulfillment_status="fulfilled")),
    ("shopify", "orders/paid", shopify_order(taxes_included=True, customer=None)),
    ("shopify", "orders/edited", {"order_edit": {"id": 1, "order_id": 12, "line_items": {"additions": []}}}),
    ("shopify", "refunds/create", _REFUND),
    ("shopify", "customers/update", _CONSENTS),
    ("shopify", "customers_marketing_consent/update", _CONSENTS),
    ("shopify", "products/update", {"id": 1, "title": "T", "variants": [{"id": 2, "price": "1"}], "variant_gids": []}),
    ("shopify", "checkouts/delete", {"token": "chk-77"}),
    ("shopify", "customers/data_request", _ASKED | {"orders_requested": [12, "13"], "data_request": {"id": 9}}),
    ("shopify", "customers/redact", _ASKED | {"orders_to_redact": [12]}),
    ("shopify", "shop/redact", {"shop_id": 1, "shop_domain": "teas.myshopify.com"}),
    ("shopify", "app/uninstalled", {"id": 1, "domain": None, "myshopify_domain": "teas.myshopify.com"}),
    ("woocommerce", "order.updated", woocommerce_order(refunds=[{"id": 9, "total": "-3.00", "reason": "kaputt"}])),
    ("woocommerce", "order.updated", woocommerce_order(**_DRAFT)),
    ("woocommerce", "order.created", _LEGACY),
    ("woocommerce", "order.created", _REFUSAL),
    (
        "woocommerce",
        "product.updated",
        {"id": 5, "name": "T", "variations": [1, {"id": 2}], "images": [{"src": "//x"}]},
    ),
)


@dataclass(frozen=True, slots=True)
class Base:
    """A delivery as a platform sends it."""

    name: str
    platform: Platform
    topic: str
    body: bytes
    headers: tuple[tuple[str, str], ...]
    """As sent, with the topic."""

    @property
    def kind(self) -> str:
        """What its topic is about: `orders`, `order`, …"""
        return self.topic.replace("/", ".").partition(".")[0]


def bases() -> list[Base]:
    """All of them, in an order that stays."""
    return [*_simulated(), *_by_hand(), *_foreign()]


def _simulated() -> list[Base]:
    world = make_world(seed=1, start=START, days=DAYS, how_many=PEOPLE)
    writers = {"shopify": shopify, "woocommerce": woocommerce}
    stores = {store.name: store for store in STORES}
    told: dict[tuple[str, str], list[Base]] = {}
    for n, change in enumerate(world.changes):
        for topic in change.topics:
            if topic == "events":
                continue
            platform = change.store
            raw = writers[platform].body(change.state)
            if platform == "shopify":
                made = shopify.headers(
                    stores[platform], topic, raw, webhook_id=f"w-{n}", event_id=f"e-{n}", at=change.at
                )
            else:
                made = woocommerce.headers(stores[platform], topic, raw, sent_at=change.at)
            base = Base(f"shop {n}", platform, topic, raw, tuple(made.items()))
            told.setdefault((platform, topic), []).append(base)
    return [base for same in told.values() for base in same[:: max(1, len(same) // OF_EACH_TOPIC)]]


def _by_hand() -> list[Base]:
    return [
        Base(f"by hand {n}", platform, topic, json.dumps(body).encode(), _headers(platform, topic))
        for n, (platform, topic, body) in enumerate(BY_HAND)
    ]


def _foreign() -> list[Base]:
    if not corpus.present():
        return []
    found = []
    for file, delivery in corpus.deliveries():
        if delivery.platform in {"shopify", "woocommerce"}:
            platform: Platform = "shopify" if delivery.platform == "shopify" else "woocommerce"
            headers = tuple(delivery.headers.items()) or _headers(platform, delivery.topic)
            # Published examples of what is asked of a shop name none.
            body = delivery.body.replace(b"{shop}.myshopify.com", b"teas.myshopify.com")
            found.append(Base(file, platform, delivery.topic, body, headers))
    return found


def _headers(platform: Platform, topic: str) -> tuple[tuple[str, str], ...]:
    if platform == "shopify":
        return (
            ("X-Shopify-Topic", topic),
            ("X-Shopify-Shop-Domain", "teas.myshopify.com"),
            ("X-Shopify-Triggered-At", "2026-03-02T11:59:58.123456789Z"),
            ("X-Shopify-Webhook-Id", "w-1"),
        )
    return (("X-WC-Webhook-Topic", topic), ("X-WC-Webhook-Source", "https://teas.example/"))

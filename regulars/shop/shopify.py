"""What Shopify posts: bodies as its documentation and deliveries show them, and the headers around them."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Final, assert_never

from regulars.shop.model import (
    Aside,
    Cart,
    Checkout,
    Consent,
    Customer,
    Deleted,
    Order,
    ProductState,
    RefundTold,
    State,
    StoreSpec,
)
from regulars.shop.shopify_carts import cart_payload, checkout_payload
from regulars.shop.shopify_orders import order_payload, refund_payload
from regulars.shop.shopify_parts import Json, gid, local, money, named_customer

API_VERSION: Final = "2024-10"


def body(state: State) -> bytes:
    """The bytes that Shopify signs and sends for this state, whatever the topic."""
    return json.dumps(_payload(state), ensure_ascii=False, separators=(",", ":")).replace("&", "\\u0026").encode()


def headers(store: StoreSpec, topic: str, raw: bytes, *, webhook_id: str, event_id: str | None, at: datetime) -> Json:
    """The headers of one delivery, signed."""
    made = {
        "User-Agent": "Shopify-Captain-Hook",
        "Content-Type": "application/json",
        "X-Shopify-Topic": topic,
        "X-Shopify-Shop-Domain": store.domain,
        "X-Shopify-API-Version": API_VERSION,
        "X-Shopify-Webhook-Id": webhook_id,
        "X-Shopify-Triggered-At": f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{at.microsecond:06d}419Z",
        "X-Shopify-Hmac-Sha256": sign(store.secret, raw),
    }
    if event_id is not None:
        made["X-Shopify-Event-Id"] = event_id
    return made


def sign(secret: str, raw: bytes) -> str:
    """base64(HMAC-SHA256), as both platforms sign."""
    return base64.b64encode(hmac.digest(secret.encode(), raw, hashlib.sha256)).decode()


def _payload(state: State) -> Json:
    match state:
        case Order():
            return order_payload(state)
        case Checkout():
            return checkout_payload(state)
        case Cart():
            return cart_payload(state)
        case Customer():
            return _customer(state)
        case Consent():
            return _consent(state)
        case RefundTold():
            return refund_payload(state.order, state.refund)
        case ProductState():
            return _product(state)
        case Deleted():
            return {"id": state.order_id}
        case Aside():
            return dict(state.body)
        case _:
            assert_never(state)


def _customer(customer: Customer) -> Json:
    contact = customer.contact
    consent = None
    if customer.consent is not None:
        consent = {
            "state": customer.consent,
            "opt_in_level": "single_opt_in",
            "consent_updated_at": local(customer.consent_at),
        }
    return {
        **(named_customer(contact) or {}),
        "created_at": local(customer.created_at),
        "updated_at": local(customer.updated_at),
        "orders_count": customer.orders,
        "total_spent": "0.00",
        "last_order_id": None,
        "last_order_name": None,
        "addresses": [],
        "email_marketing_consent": consent
        or {"state": "not_subscribed", "opt_in_level": "single_opt_in", "consent_updated_at": None},
        "sms_marketing_consent": None,
    }


def _consent(consent: Consent) -> Json:
    return {
        "customer_id": consent.customer_id,
        "email_address": consent.email,
        "email_marketing_consent": {
            "state": consent.state,
            "opt_in_level": "single_opt_in",
            "consent_updated_at": local(consent.at),
        },
    }


def _product(state: ProductState) -> Json:
    product = state.product
    return {
        "id": product.id,
        "admin_graphql_api_id": gid("Product", product.id),
        "title": product.title,
        "body_html": "<p>Handgedreht &amp; zweimal gebrannt.</p>",
        "vendor": "Nordlicht",
        "product_type": "Keramik",
        "handle": product.sku.lower(),
        "status": "active",
        "published_scope": "web",
        "tags": "",
        "created_at": "2025-10-02T09:00:00+02:00",
        "updated_at": local(state.updated_at),
        "published_at": "2025-10-02T09:00:00+02:00",
        "template_suffix": None,
        "options": [{"id": product.id + 2, "product_id": product.id, "name": "Title", "position": 1}],
        "images": [],
        "image": None,
        "variants": [
            {
                "id": product.variant_id,
                "product_id": product.id,
                "title": "Default Title",
                "price": money(product.price),
                "sku": product.sku,
                "position": 1,
                "inventory_policy": "deny",
                "inventory_quantity": state.stock,
                "inventory_item_id": product.variant_id + 5,
                "taxable": True,
                "updated_at": local(state.updated_at),
            }
        ],
    }

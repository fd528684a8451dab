"""What WooCommerce posts: REST v3 representations as PHP encodes them, and the headers around them."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any, Final, assert_never
from zoneinfo import ZoneInfo

from regulars.shop.model import (
    Aside,
    Cart,
    Checkout,
    Consent,
    Contact,
    Customer,
    Deleted,
    Item,
    Order,
    ProductState,
    Refund,
    RefundTold,
    State,
    StoreSpec,
)
from regulars.shop.shopify import sign

AGENT: Final = "WooCommerce/10.0.4 Hookshot (WordPress/6.8.2)"
DRAFT: Final = "checkout-draft"
_ZONE = ZoneInfo("Europe/Berlin")
_WEBHOOK_IDS = {
    "order.created": 3,
    "order.updated": 4,
    "order.deleted": 5,
    "customer.created": 6,
    "customer.updated": 7,
    "product.created": 8,
    "product.updated": 9,
    "coupon.updated": 10,
    "coupon.deleted": 11,
}
_NATIONAL = {"DE": ("+49", "0"), "AT": ("+43", "0"), "NL": ("+31", "0")}

Json = dict[str, Any]


def body(state: State) -> bytes:
    """The bytes that WooCommerce signs and sends: ASCII, slashes and everything else escaped as PHP does."""
    return json.dumps(_payload(state), separators=(",", ":")).replace("/", "\\/").encode("ascii")


def headers(store: StoreSpec, topic: str, raw: bytes, *, sent_at: datetime) -> Json:
    """The headers of one delivery, signed. The delivery id is of the webhook and the second: no two deliveries' own."""
    resource, event = topic.split(".")
    webhook_id = _WEBHOOK_IDS[topic]
    delivery_id = hashlib.md5(f"{webhook_id}{int(sent_at.timestamp())}".encode(), usedforsecurity=False).hexdigest()
    return {
        "User-Agent": AGENT,
        "Content-Type": "application/json",
        "X-WC-Webhook-Source": store.domain + "/",
        "X-WC-Webhook-Topic": topic,
        "X-WC-Webhook-Resource": resource,
        "X-WC-Webhook-Event": event,
        "X-WC-Webhook-Signature": sign(store.secret, raw),
        "X-WC-Webhook-ID": str(webhook_id),
        "X-WC-Webhook-Delivery-ID": delivery_id,
    }


def _payload(state: State) -> Json:
    match state:
        case Order():
            return _order(state)
        case Customer():
            return _customer(state)
        case ProductState():
            return _product(state)
        case Deleted():
            return {"id": state.order_id}
        case Aside():
            return dict(state.body)
        case Cart() | Checkout() | RefundTold() | Consent():
            msg = f"WooCommerce sends no {type(state).__name__}"
            raise TypeError(msg)
        case _:
            assert_never(state)


def _money(cents: int) -> str:
    sign_ = "-" if cents < 0 else ""
    return f"{sign_}{abs(cents) // 100}.{abs(cents) % 100:02d}"


def _dates(name: str, at: datetime | None) -> Json:
    """Local time and UTC, neither with a suffix."""
    if at is None:
        return {name: None, f"{name}_gmt": None}
    return {
        name: f"{at.astimezone(_ZONE):%Y-%m-%dT%H:%M:%S}",
        f"{name}_gmt": f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}",
    }


def national(contact: Contact) -> str:
    """The phone as people type it at home; empty when not given."""
    if contact.phone is None:
        return ""
    prefix, trunk = _NATIONAL[contact.country]
    if not contact.phone.startswith(prefix):
        return contact.phone
    number = contact.phone.removeprefix(prefix)
    return f"{trunk}{number[:3]} {number[3:]}"


def _address(contact: Contact) -> Json:
    return {
        "first_name": contact.first,
        "last_name": contact.last,
        "company": "",
        "address_1": f"Hafenstraße {len(contact.last) * 3}" if contact.last else "",
        "address_2": "",
        "city": "Kiel" if contact.last else "",
        "state": "",
        "postcode": "24103" if contact.last else "",
        "country": contact.country,
    }


def _billing(contact: Contact) -> Json:
    return {**_address(contact), "email": contact.email or "", "phone": national(contact)}


def _line(item: Item) -> Json:
    subtotal = item.price * item.quantity
    total = subtotal - item.discount
    return {
        "id": item.id,
        "name": item.product.title,
        "product_id": item.product.id,
        "variation_id": 0,
        "quantity": item.quantity,
        "tax_class": "",
        "subtotal": _money(subtotal),
        "subtotal_tax": _money(item.tax),
        "total": _money(total),
        "total_tax": _money(item.tax),
        "taxes": [{"id": 1, "total": _money(item.tax), "subtotal": _money(item.tax)}],
        "meta_data": [{"id": item.id * 10, "key": "_reduced_stock", "value": str(item.quantity)}],
        "sku": item.product.sku,
        "price": total / 100 / item.quantity,
        "image": {"id": "", "src": ""},
        "parent_name": None,
    }


def _totals(order: Order) -> tuple[int, int]:
    """What is to be paid, and the tax in it."""
    tax = sum(item.tax for item in order.items) + sum(fee.tax for fee in order.fees) + order.shipping_tax
    net = sum(item.price * item.quantity - item.discount for item in order.items)
    return net + sum(fee.amount for fee in order.fees) + order.shipping + tax, tax


def _order(order: Order) -> Json:
    contact = order.contact
    total, tax = _totals(order)
    draft = order.status == DRAFT
    paid = order.status in {"processing", "completed", "refunded"}
    discount = sum(item.discount for item in order.items)
    return {
        "id": order.id,
        "parent_id": 0,
        "status": order.status,
        "currency": "EUR",
        "version": "10.0.4",
        "prices_include_tax": False,
        **_dates("date_created", order.created_at),
        **_dates("date_modified", order.updated_at),
        "discount_total": _money(discount),
        "discount_tax": "0.00",
        "shipping_total": _money(order.shipping),
        "shipping_tax": _money(order.shipping_tax),
        "cart_tax": _money(tax - order.shipping_tax),
        "total": _money(total),
        "total_tax": _money(tax),
        "customer_id": contact.customer_id or 0,
        "order_key": f"wc_order_{order.id:013x}",
        "billing": _billing(contact),
        "shipping": {**_address(contact), "phone": ""},
        "payment_method": "" if draft else "bacs" if order.status == "on-hold" else "stripe",
        "payment_method_title": "" if draft else "Überweisung" if order.status == "on-hold" else "Karte & Co.",
        "transaction_id": f"pi_{order.id:024x}" if paid else "",
        "customer_ip_address": contact.ip,
        "customer_user_agent": contact.agent,
        "created_via": "store-api" if draft else "checkout",
        "customer_note": "",
        **_dates("date_completed", order.fulfilled_at),
        **_dates("date_paid", order.created_at if paid else None),
        "cart_hash": f"{order.id * 7919:032x}",
        "number": order.number,
        "meta_data": _meta(order),
        "line_items": [_line(item) for item in order.items],
        "tax_lines": [
            {
                "id": order.id * 10 + 1,
                "rate_code": "DE-MWST-1",
                "rate_id": 1,
                "label": "MwSt.",
                "compound": False,
                "tax_total": _money(tax - order.shipping_tax),
                "shipping_tax_total": _money(order.shipping_tax),
                "rate_percent": 19,
                "meta_data": [],
            }
        ],
        "shipping_lines": [
            {
                "id": order.id * 10 + 2,
                "method_title": "Versand",
                "method_id": "flat_rate",
                "instance_id": "3",
                "total": _money(order.shipping),
                "total_tax": _money(order.shipping_tax),
                "taxes": [{"id": 1, "total": _money(order.shipping_tax), "subtotal": ""}],
                "meta_data": [],
            }
        ],
        "fee_lines": [
            {
                "id": fee.id,
                "name": fee.name,
                "tax_class": "",
                "tax_status": "taxable",
                "amount": _money(fee.amount),
                "total": _money(fee.amount),
                "total_tax": _money(fee.tax),
                "taxes": [{"id": 1, "total": _money(fee.tax), "subtotal": ""}],
                "meta_data": [],
            }
            for fee in order.fees
        ],
        "coupon_lines": [{"id": order.id * 10 + 3, "code": order.coupon, "discount": _money(discount)}]
        if order.coupon
        else [],
        "refunds": [_refund(refund) for refund in reversed(order.refunds)],
        "payment_url": f"https://werkstatt.nordlicht.example/kasse/order-pay/{order.id}/"
        f"?pay_for_order=true&key=wc_order_{order.id:013x}",
        "is_editable": order.status in {"pending", "on-hold"},
        "needs_payment": order.status in {"pending", "failed", DRAFT},
        "needs_processing": True,
        "currency_symbol": "€",
        "_links": {"self": [{"href": f"https://werkstatt.nordlicht.example/wp-json/wc/v3/orders/{order.id}"}]},
    }


def _refund(refund: Refund) -> Json:
    return {"id": refund.id, "reason": refund.reason, "total": _money(-refund.total)}


def _meta(order: Order) -> list[Json]:
    """Values are texts, lists or objects."""
    pages = 2 + order.id % 9
    return [
        {"id": order.id * 20, "key": "_wc_order_attribution_source_type", "value": "organic"},
        {"id": order.id * 20 + 1, "key": "_wc_order_attribution_session_pages", "value": str(pages)},
        {"id": order.id * 20 + 2, "key": "_packlist", "value": [{"fach": pages, "geprüft": True}]},
        {"id": order.id * 20 + 3, "key": "_gift", "value": {"note": "", "wrap": None}},
    ]


def _customer(customer: Customer) -> Json:
    contact = customer.contact
    return {
        "id": customer.id,
        **_dates("date_created", customer.created_at),
        **_dates("date_modified", customer.updated_at),
        "email": contact.email,
        "first_name": contact.first,
        "last_name": contact.last,
        "role": "customer",
        "username": (contact.email or "").partition("@")[0],
        "billing": _billing(contact),
        "shipping": {**_address(contact), "phone": ""},
        "is_paying_customer": customer.orders > 0,
        "avatar_url": "https://secure.gravatar.com/avatar/?s=96",
        "meta_data": [],
        "_links": {"self": [{"href": f"https://werkstatt.nordlicht.example/wp-json/wc/v3/customers/{customer.id}"}]},
    }


def _product(state: ProductState) -> Json:
    product = state.product
    link = f"https://werkstatt.nordlicht.example/produkt/{product.sku.lower()}/"
    return {
        "id": product.id,
        "name": product.title,
        "slug": product.sku.lower(),
        "permalink": link,
        **_dates("date_created", state.updated_at.replace(month=1, day=1)),
        **_dates("date_modified", state.updated_at),
        "type": "simple",
        "status": "publish",
        "featured": False,
        "catalog_visibility": "visible",
        "description": "<p>Handgedreht & zweimal gebrannt.</p>\n",
        "short_description": "",
        "sku": product.sku,
        "price": _money(product.price),
        "regular_price": _money(product.price),
        "sale_price": "",
        "on_sale": False,
        "purchasable": True,
        "total_sales": 0,
        "virtual": False,
        "tax_status": "taxable",
        "manage_stock": True,
        "stock_quantity": state.stock,
        "backorders": "no",
        "low_stock_amount": None,
        "stock_status": "instock" if state.stock else "outofstock",
        "variations": [],
        "attributes": [],
        "categories": [{"id": 15, "name": "Keramik", "slug": "keramik"}],
        "tags": [],
        "images": [],
        "meta_data": [],
    }

"""The pieces that Shopify's payloads share: money twice over, times with offsets, addresses, lines."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from regulars.shop.model import Checkout, Contact, Item

_ZONE = ZoneInfo("Europe/Berlin")
_COUNTRIES = {"DE": "Germany", "AT": "Austria", "NL": "Netherlands"}

Json = dict[str, Any]


def money(cents: int) -> str:
    """`12.50`."""
    sign_ = "-" if cents < 0 else ""
    return f"{sign_}{abs(cents) // 100}.{abs(cents) % 100:02d}"


def money_set(cents: int) -> Json:
    """The amount in the shop's money and in the buyer's, which are one here."""
    printed = {"amount": money(cents), "currency_code": "EUR"}
    return {"shop_money": printed, "presentment_money": printed}


def local(at: datetime | None) -> str | None:
    """In the shop's time, with its offset."""
    return None if at is None else at.astimezone(_ZONE).isoformat(timespec="seconds")


def zulu(at: datetime) -> str:
    """In UTC with milliseconds and a Z."""
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def gid(kind: str, number: int) -> str:
    """The id that GraphQL uses."""
    return f"gid://shopify/{kind}/{number}"


def recovery_url(checkout: Checkout) -> str:
    """Where the buyer goes on; it names the cart."""
    host = "https://nordlicht-keramik.example"
    return f"{host}/77120/checkouts/ac/{checkout.cart}/recover?key={checkout.id:x}&locale=de"


def address(contact: Contact) -> Json | None:
    """A postal address; None at the till."""
    if not contact.last:
        return None
    return {
        "first_name": contact.first,
        "last_name": contact.last,
        "name": f"{contact.first} {contact.last}",
        "company": None,
        "address1": f"Hafenstraße {len(contact.last) * 3}",
        "address2": None,
        "city": "Kiel",
        "zip": "24103",
        "province": None,
        "province_code": None,
        "country": _COUNTRIES[contact.country],
        "country_code": contact.country,
        "phone": contact.phone,
        "latitude": None,
        "longitude": None,
    }


def named_customer(contact: Contact) -> Json | None:
    """The embedded customer; None for guests."""
    if contact.customer_id is None:
        return None
    return {
        "id": contact.customer_id,
        "email": contact.email,
        "phone": contact.phone,
        "first_name": contact.first,
        "last_name": contact.last,
        "state": "enabled",
        "note": None,
        "verified_email": True,
        "multipass_identifier": None,
        "tax_exempt": False,
        "tags": "",
        "currency": "EUR",
        "tax_exemptions": [],
        "admin_graphql_api_id": gid("Customer", contact.customer_id),
        "default_address": {**(address(contact) or {}), "customer_id": contact.customer_id, "default": True},
    }


def line(item: Item) -> Json:
    """An order's line."""
    product = item.product
    return {
        "id": item.id,
        "admin_graphql_api_id": gid("LineItem", item.id),
        "current_quantity": item.quantity,
        "fulfillable_quantity": item.quantity,
        "fulfillment_service": "manual",
        "fulfillment_status": None,
        "gift_card": False,
        "grams": 450,
        "name": product.title,
        "price": money(item.price),
        "price_set": money_set(item.price),
        "product_exists": True,
        "product_id": product.id,
        "properties": [],
        "quantity": item.quantity,
        "requires_shipping": True,
        "sku": product.sku,
        "taxable": True,
        "title": product.title,
        "total_discount": "0.00",
        "total_discount_set": money_set(0),
        "variant_id": product.variant_id,
        "variant_inventory_management": "shopify",
        "variant_title": None,
        "vendor": "Nordlicht",
        "tax_lines": [tax_line(item.tax)],
        "duties": [],
        "discount_allocations": [
            {"amount": money(item.discount), "amount_set": money_set(item.discount), "discount_application_index": 0}
        ]
        if item.discount
        else [],
    }


def tax_line(cents: int) -> Json:
    """One tax, at the one rate that there is."""
    return {
        "title": "MwSt",
        "price": money(cents),
        "price_set": money_set(cents),
        "rate": 0.19,
        "channel_liable": False,
    }

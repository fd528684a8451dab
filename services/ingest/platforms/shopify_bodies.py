"""From Shopify's objects to the bodies that its webhooks would carry, which `shopify_orders` and others read.

Money is the shop's, ids are the webhooks' (`legacyResourceId`), states are in the webhooks' words. What GraphQL does
not have, an order's `cart_token` and `checkout_token` first of all, is left out, and so is not said.
"""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NamedTuple

from services.ingest.outcome import Unreadable
from services.ingest.platforms.port import as_printed
from services.ingest.platforms.shopify_objects import (
    Address,
    Bag,
    Checkout,
    CheckoutLine,
    Customer,
    Email,
    LineItem,
    Named,
    Order,
    Phone,
    Product,
    Refund,
    ShippingLine,
    TaxLine,
    Variant,
)
from services.ingest.printed import Scalar, decimal, identifier, required

Json = dict[str, Any]

_FULFILLED = {"FULFILLED": "fulfilled", "PARTIALLY_FULFILLED": "partial", "RESTOCKED": "restocked"}
"""Of GraphQL's states those that webhooks have; under all others they print null."""
_RECOVERY = re.compile(r"https?://[^/?#]+(?:/[^?#]*)?/checkouts/(?:(a?c|cn)/)?([A-Za-z0-9_-]{6,255})(?:[/?#].*)?")
"""Where a buyer goes on: `…/checkouts/TOKEN/recover`, and in newer shops `…/checkouts/ac/TOKEN OF THE CART/recover`."""


def order(one: Order) -> Json:
    """As under `orders/updated`."""
    return {
        "id": required_id(one.legacy_resource_id),
        "admin_graphql_api_id": one.id,
        "name": one.name,
        "created_at": one.created_at,
        "processed_at": one.processed_at,
        "updated_at": one.updated_at,
        "cancelled_at": one.cancelled_at,
        "currency": one.currency_code,
        "financial_status": _word(one.display_financial_status),
        "fulfillment_status": _FULFILLED.get(str(one.display_fulfillment_status)),
        "test": one.test,
        "taxes_included": one.taxes_included,
        "total_discounts": _discounts(one),
        "total_tax": _amount(one.total_tax_set),
        "original_total_duties_set": _set(one.original_total_duties_set),
        "original_total_additional_fees_set": _set(one.original_total_additional_fees_set),
        "email": one.email,
        "phone": one.phone,
        "customer_locale": one.customer_locale,
        "buyer_accepts_marketing": one.customer_accepts_marketing,
        "customer": _named(one.customer),
        "billing_address": _address(one.billing_address),
        "shipping_address": _address(one.shipping_address),
        "line_items": [_line(each) for each in one.line_items.nodes],
        "shipping_lines": [_shipping(each) for each in one.shipping_lines.nodes],
        "fulfillments": [{"status": _word(each.status), "created_at": each.created_at} for each in one.fulfillments],
        "refunds": [_refund(each) for each in one.refunds],
    }


def customer(one: Customer) -> Json:
    """As under `customers/update`, with what its newer versions leave to other topics."""
    return {
        **(_named(one) or {}),
        "id": required_id(one.legacy_resource_id),
        "created_at": one.created_at,
        "updated_at": one.updated_at,
        "verified_email": one.verified_email,
        "tags": one.tags,
        "email_marketing_consent": _consent(one.default_email_address),
        "sms_marketing_consent": _consent(one.default_phone_number),
    }


def product(one: Product) -> Json:
    """As under `products/update`, with all of its variants."""
    preview = one.featured_media.preview if one.featured_media else None
    return {
        "id": required_id(one.legacy_resource_id),
        "admin_graphql_api_id": one.id,
        "title": one.title,
        "handle": one.handle,
        "status": _word(one.status),
        "updated_at": one.updated_at,
        "image": {"src": preview.image.url} if preview and preview.image else None,
        "variants": [_variant(each) for each in one.variants.nodes],
    }


class Tokens(NamedTuple):
    """Of a checkout: its own and its cart's. GraphQL names neither but in the address where the buyer goes on."""

    own: str | None
    cart: str | None


def tokens(one: Checkout) -> Tokens:
    """One of the two. Raises Unreadable."""
    found = _RECOVERY.fullmatch(str(one.abandoned_checkout_url))
    if found is None:
        raise Unreadable("abandonedCheckoutUrl: names no checkout")
    return Tokens(None, found[2]) if found[1] else Tokens(found[2], None)


def checkout(one: Checkout) -> Json:
    """As under `checkouts/update`. Where its own token is not told, its cart's stands in for it."""
    told = tokens(one)
    return {
        "token": told.own or told.cart,
        "cart_token": told.cart,
        "created_at": one.created_at,
        "updated_at": one.updated_at,
        "completed_at": one.completed_at,
        "currency": (_set(one.total_price_set) or {"shop_money": {}})["shop_money"].get("currency_code"),
        "total_price": _amount(one.total_price_set),
        "customer": _named(one.customer),
        "billing_address": _address(one.billing_address),
        "shipping_address": _address(one.shipping_address),
        "abandoned_checkout_url": one.abandoned_checkout_url,
        "line_items": [_checkout_line(each) for each in one.line_items.nodes],
    }


def required_id(value: Scalar) -> int | str:
    """A `legacyResourceId`, which GraphQL prints as text. Raises Unreadable."""
    return as_printed(required(identifier(value), "legacyResourceId"))


def _line(one: LineItem) -> Json:
    return {
        "id": _number(one.id),
        "product_id": _id(one.product),
        "variant_id": _id(one.variant),
        "sku": one.sku,
        "title": one.title,
        "quantity": one.quantity,
        "price": _amount(one.original_unit_price_set),
        "discount_allocations": [{"amount": _amount(each.allocated_amount_set)} for each in one.discount_allocations],
        "tax_lines": _taxes(one.tax_lines),
    }


def _checkout_line(one: CheckoutLine) -> Json:
    off = _sum([one.original_total_price_set]) - _sum([one.discounted_total_price_with_code_discount])
    return {
        "product_id": _id(one.product),
        "variant_id": _id(one.variant),
        "sku": one.sku,
        "title": one.title,
        "quantity": one.quantity,
        "price": _amount(one.original_unit_price_set),
        "total_discount": f"{max(off, Decimal(0)):f}",
    }


def _shipping(one: ShippingLine) -> Json:
    return {
        "price": _amount(one.original_price_set),
        "discounted_price": _amount(one.discounted_price_set),
        "tax_lines": _taxes(one.tax_lines),
    }


def _refund(one: Refund) -> Json:
    return {
        "id": required_id(one.legacy_resource_id),
        "admin_graphql_api_id": one.id,
        "created_at": one.created_at,
        "note": one.note,
        "refund_line_items": [
            {
                "line_item_id": _number(each.line_item.id) if each.line_item else None,
                "quantity": each.quantity,
                "subtotal": _amount(each.subtotal_set),
                "total_tax": _amount(each.total_tax_set),
            }
            for each in one.refund_line_items.nodes
        ],
        "refund_shipping_lines": [
            {"subtotal_amount_set": _set(each.subtotal_amount_set), "tax_amount_set": _set(each.tax_amount_set)}
            for each in one.refund_shipping_lines.nodes
        ],
        # Shipping is never among them: since 2024-10 it has lines of its own.
        "order_adjustments": [
            {
                "kind": "refund_discrepancy",
                "reason": _word(each.reason),
                "amount": _amount(each.amount_set),
                "tax_amount": _amount(each.tax_amount_set),
            }
            for each in one.order_adjustments.nodes
        ],
        "transactions": [
            {"kind": _word(each.kind), "status": _word(each.status), "amount": _amount(each.amount_set)}
            for each in one.transactions.nodes
        ],
        "total_duties_set": {"shop_money": {"amount": f"{_sum(each.amount_set for each in one.duties or ()):f}"}},
    }


def _variant(one: Variant) -> Json:
    tracked = one.inventory_item is not None and one.inventory_item.tracked is True
    return {
        "id": required_id(one.legacy_resource_id),
        "title": one.title,
        "sku": one.sku,
        "price": one.price,
        "inventory_quantity": one.inventory_quantity,
        "inventory_management": "shopify" if tracked else None,
    }


def _named(one: Customer | None) -> Json | None:
    if one is None:
        return None
    return {
        "id": _id(one),
        "email": one.default_email_address.email_address if one.default_email_address else None,
        "phone": one.default_phone_number.phone_number if one.default_phone_number else None,
        "first_name": one.first_name,
        "last_name": one.last_name,
        "default_address": _address(one.default_address),
    }


def _address(one: Address | None) -> Json | None:
    if one is None:
        return None
    return {
        "first_name": one.first_name,
        "last_name": one.last_name,
        "phone": one.phone,
        "country_code": one.country_code_v2,
    }


def _consent(one: Email | Phone | None) -> Json | None:
    if one is None:
        return None
    return {"state": _word(one.marketing_state), "consent_updated_at": one.marketing_updated_at}


def _taxes(lines: Iterable[TaxLine]) -> list[Json]:
    return [{"price": _amount(each.price_set), "rate": each.rate} for each in lines]


def _amount(value: Bag | None) -> Scalar:
    return value.shop_money.amount if value and value.shop_money else None


def _set(value: Bag | None) -> Json | None:
    if value is None or value.shop_money is None:
        return None
    return {"shop_money": {"amount": value.shop_money.amount, "currency_code": value.shop_money.currency_code}}


def _discounts(one: Order) -> str:
    """As webhooks print them: those on shipping, too.

    Of GraphQL's total it is not documented whether it holds these, nor those of lines that were added later.
    """
    lines, shipping = one.line_items.nodes, one.shipping_lines.nodes
    borne = _sum(share.allocated_amount_set for each in lines for share in each.discount_allocations)
    borne += _sum(each.original_price_set for each in shipping) - _sum(each.discounted_price_set for each in shipping)
    return f"{max(_sum([one.total_discounts_set]), borne):f}"


def _sum(values: Iterable[Bag | None]) -> Decimal:
    return sum((decimal(_amount(each), "amount") for each in values), Decimal(0))


def _word(value: Scalar) -> str | None:
    return value.lower() if isinstance(value, str) else None


def _id(one: Named | Customer | None) -> int | str | None:
    return _number(one.legacy_resource_id) if one else None


def _number(value: Scalar) -> int | str | None:
    found = identifier(value)
    return as_printed(found) if found is not None else None

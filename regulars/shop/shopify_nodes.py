"""Shopify's objects as its Admin GraphQL API prints them: another hand than the webhooks', and the same shop."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from regulars.shop.model import Checkout, Contact, Customer, Item, Order, ProductState, Refund
from regulars.shop.shopify_parts import Json, gid, recovery_url


def amount(cents: int) -> str:
    """`12.5`, and `12.0` for twelve."""
    whole, fraction = divmod(abs(cents), 100)
    return f"{'-' if cents < 0 else ''}{whole}.{f'{fraction:02d}'.removesuffix('0')}"


def bag(cents: int) -> Json:
    """The amount in the shop's money."""
    return {"shopMoney": {"amount": amount(cents), "currencyCode": "EUR"}}


def zulu(at: datetime | None) -> str | None:
    """In UTC, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if at else None


def order(one: Order) -> Json:
    """All that is served of an order; its lists whole."""
    contact = one.contact
    discounts = sum(item.discount for item in one.items)
    return {
        "id": gid("Order", one.id),
        "legacyResourceId": str(one.id),
        "name": one.number,
        "createdAt": zulu(one.created_at),
        "processedAt": zulu(one.created_at),
        "updatedAt": zulu(one.updated_at),
        "cancelledAt": zulu(one.cancelled_at),
        "currencyCode": "EUR",
        "displayFinancialStatus": one.status.upper(),
        "displayFulfillmentStatus": "FULFILLED" if one.fulfilled_at else "UNFULFILLED",
        "test": one.test,
        "taxesIncluded": True,
        "email": contact.email,
        "phone": contact.phone if contact.email is None else None,
        "customerLocale": "de-DE",
        "customerAcceptsMarketing": one.ticked,
        "totalDiscountsSet": bag(discounts),
        "totalTaxSet": bag(sum(item.tax for item in one.items) + one.shipping_tax),
        "originalTotalDutiesSet": None,
        "originalTotalAdditionalFeesSet": None,
        "lineItems": [_line(item) for item in one.items],
        "shippingLines": [_shipping(one)] if one.shipping else [],
        "fulfillments": [{"status": "SUCCESS", "createdAt": zulu(one.fulfilled_at)}] if one.fulfilled_at else [],
        "refunds": [refund(each) for each in one.refunds],
        "customer": _named(contact),
        "billingAddress": _address(contact),
        "shippingAddress": _address(contact),
    }


def refund(one: Refund) -> Json:
    """Of an order: what was given back for its shipping has lines of its own."""
    tax = one.shipping_tax
    shipping = {"subtotalAmountSet": bag(one.shipping + tax), "taxAmountSet": bag(tax)}
    goodwill = {"reason": "REFUND_DISCREPANCY", "amountSet": bag(-one.goodwill), "taxAmountSet": bag(0)}
    return {
        "id": gid("Refund", one.id),
        "legacyResourceId": str(one.id),
        "createdAt": zulu(one.at),
        "note": one.reason,
        "duties": [],
        "refundLineItems": [
            {
                "quantity": quantity,
                "lineItem": {"id": gid("LineItem", line_id)},
                "subtotalSet": bag(subtotal),
                "totalTaxSet": bag(tax),
            }
            for line_id, quantity, subtotal, tax in one.items
        ],
        "refundShippingLines": [shipping] if one.shipping else [],
        "orderAdjustments": [goodwill] if one.goodwill else [],
        "transactions": [{"kind": "REFUND", "status": "SUCCESS", "amountSet": bag(one.total)}] if one.total else [],
    }


def customer(one: Customer) -> Json:
    """A record with its consents."""
    state = {"marketingState": (one.consent or "not_subscribed").upper(), "marketingUpdatedAt": zulu(one.consent_at)}
    named = _named(one.contact) or {}
    return {
        **named,
        "id": gid("Customer", one.id),
        "createdAt": zulu(one.created_at),
        "updatedAt": zulu(one.updated_at),
        "verifiedEmail": True,
        "tags": [],
        "defaultEmailAddress": {**named["defaultEmailAddress"], **state} if named["defaultEmailAddress"] else None,
    }


def product(one: ProductState) -> Json:
    """With its one variant."""
    return {
        "id": gid("Product", one.product.id),
        "legacyResourceId": str(one.product.id),
        "title": one.product.title,
        "handle": one.product.sku.lower(),
        "status": "ACTIVE",
        "updatedAt": zulu(one.updated_at),
        "featuredMedia": None,
        "variants": [
            {
                "id": gid("ProductVariant", one.product.variant_id),
                "legacyResourceId": str(one.product.variant_id),
                "title": "Default Title",
                "sku": one.product.sku,
                "price": amount(one.product.price),
                "inventoryQuantity": one.stock,
                "inventoryItem": {"tracked": True},
            }
        ],
    }


def checkout(one: Checkout) -> Json:
    """One that was left. Its own token is not told, and its cart's only in the address where the buyer goes on."""
    return {
        "id": gid("AbandonedCheckout", one.id),
        "createdAt": zulu(one.created_at),
        "updatedAt": zulu(one.updated_at),
        "completedAt": zulu(one.completed_at),
        "abandonedCheckoutUrl": recovery_url(one),
        "totalPriceSet": bag(sum(item.price * item.quantity for item in one.items)),
        "lineItems": [_checkout_line(item) for item in one.items],
        "customer": _named(one.contact),
        "billingAddress": _address(one.contact),
        "shippingAddress": _address(one.contact),
    }


def paged(nodes: Sequence[Any], first: int, after: int = 0) -> Json:
    """A piece of a list, and whether it goes on."""
    end = min(after + first, len(nodes))
    return {"nodes": nodes[after:end], "pageInfo": {"hasNextPage": end < len(nodes), "endCursor": f"at-{end}"}}


def _line(item: Item) -> Json:
    return {
        "id": gid("LineItem", item.id),
        "title": item.product.title,
        "quantity": item.quantity,
        "sku": item.product.sku,
        "originalUnitPriceSet": bag(item.price),
        "discountAllocations": [{"allocatedAmountSet": bag(item.discount)}] if item.discount else [],
        "taxLines": [{"rate": 0.19, "priceSet": bag(item.tax)}],
        "variant": {"legacyResourceId": str(item.product.variant_id)},
        "product": {"legacyResourceId": str(item.product.id)},
    }


def _checkout_line(item: Item) -> Json:
    whole = bag(item.price * item.quantity)
    return {
        "__typename": "AbandonedCheckoutLineItem",
        "id": gid("AbandonedCheckoutLineItem", item.id),
        "title": item.product.title,
        "quantity": item.quantity,
        "sku": item.product.sku,
        "originalUnitPriceSet": bag(item.price),
        "originalTotalPriceSet": whole,
        "discountedTotalPriceWithCodeDiscount": whole,
        "variant": {"legacyResourceId": str(item.product.variant_id)},
        "product": {"legacyResourceId": str(item.product.id)},
    }


def _shipping(one: Order) -> Json:
    taxes = [{"rate": 0.19, "priceSet": bag(one.shipping_tax)}]
    id_ = gid("ShippingLine", one.id)
    return {
        "id": id_,
        "originalPriceSet": bag(one.shipping),
        "discountedPriceSet": bag(one.shipping),
        "taxLines": taxes,
    }


def _named(contact: Contact) -> Json | None:
    if contact.customer_id is None:
        return None
    never = {"marketingState": "NOT_SUBSCRIBED", "marketingUpdatedAt": None}
    return {
        "legacyResourceId": str(contact.customer_id),
        "firstName": contact.first,
        "lastName": contact.last,
        "defaultEmailAddress": {"emailAddress": contact.email, **never} if contact.email else None,
        "defaultPhoneNumber": {"phoneNumber": contact.phone, **never} if contact.phone else None,
        "defaultAddress": _address(contact),
    }


def _address(contact: Contact) -> Json | None:
    if not contact.last:
        return None
    return {
        "firstName": contact.first,
        "lastName": contact.last,
        "phone": contact.phone,
        "countryCodeV2": contact.country,
    }

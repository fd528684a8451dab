"""Shopify's carts and checkouts. There is no "abandoned" topic: whoever reads these infers it by silence."""

from functools import partial
from typing import Any

import msgspec
from msgspec import Struct

from libs.common.contracts.commerce import CartObserved, CheckoutObserved, Line, Removed
from services.ingest.outcome import Arrival, Observation, Observations, Outcome, Parked
from services.ingest.printed import (
    Scalar,
    bounded,
    currency_code,
    decoded,
    identifier,
    instant,
    link,
    listed,
    minor,
    pieces,
    required,
    text,
    title,
)
from services.ingest.shopify_parts import AnyAddress, AnyCustomer, Customer, LineItem, flag, line, person, sent_at


class _Image(Struct):
    url: Scalar = None


class _CartLine(Struct):
    id: Scalar = None
    product_id: Scalar = None
    variant_id: Scalar = None
    sku: Scalar = None
    title: Scalar = None
    quantity: Scalar = None
    original_price: Scalar = None
    price: Scalar = None
    line_price: Scalar = None
    featured_image: _Image | Scalar | list[Any] = None


class _Cart(Struct):
    id: Scalar = None
    token: Scalar = None
    created_at: Scalar = None
    updated_at: Scalar = None
    line_items: list[_CartLine] | None = None


class _Checkout(Struct):
    id: Scalar = None
    token: Scalar = None
    cart_token: Scalar = None
    created_at: Scalar = None
    updated_at: Scalar = None
    completed_at: Scalar = None
    currency: Scalar = None
    total_price: Scalar = None
    line_items: list[LineItem] | None = None
    customer: AnyCustomer = None
    billing_address: AnyAddress = None
    shipping_address: AnyAddress = None
    email: Scalar = None
    phone: Scalar = None
    customer_locale: Scalar = None
    abandoned_checkout_url: Scalar = None
    buyer_accepts_marketing: Scalar = None


_CART = msgspec.json.Decoder(_Cart)
_CHECKOUT = msgspec.json.Decoder(_Checkout)


def cart(arrival: Arrival) -> Outcome:
    """`carts/create`, `carts/update`: nobody's, and in the store's currency; no lines: it was emptied."""
    body = decoded(_CART, arrival.body)
    token = required(identifier(body.token) or identifier(body.id), "token")
    currency = currency_code(arrival.store.currency)
    updated_at = instant(body.updated_at, "updated_at") or sent_at(arrival)
    lines = listed(partial(_cart_line, currency=currency), body.line_items, "line_items")
    observed = CartObserved(
        **arrival.envelope(token, updated_at),
        started_at=instant(body.created_at, "created_at") or updated_at,
        currency=currency,
        total=bounded(sum(each.total for each in lines), "line_items.line_price"),
        lines=lines,
    )
    return Observations([Observation("cart.observed", f"cart:{token}", observed)])


def checkout(arrival: Arrival) -> Outcome:
    """`checkouts/create`, `checkouts/update`. The token is the id: since 2026-04 there is no other."""
    body = decoded(_CHECKOUT, arrival.body)
    token = required(identifier(body.token), "token")
    currency = currency_code(body.currency, arrival.store.currency)
    updated_at = instant(body.updated_at, "updated_at") or sent_at(arrival)
    customer = body.customer if isinstance(body.customer, Customer) else Customer()
    # With the tax that is in a price: mail shows them to who saw them in the shop.
    lines = listed(partial(line, currency=currency, tax_inside=False), body.line_items, "line_items")
    total = minor(body.total_price, currency, "total_price")
    observed = CheckoutObserved(
        **arrival.envelope(token, updated_at),
        started_at=instant(body.created_at, "created_at") or updated_at,
        currency=currency,
        total=bounded(sum(each.total for each in lines), "line_items.price") if total is None else total,
        lines=lines,
        person=person(
            customer,
            body.billing_address,
            body.shipping_address,
            email=text(body.email),
            phone=text(body.phone),
            locale=text(body.customer_locale),
        ),
        customer_id=identifier(customer.id),
        cart_token=identifier(body.cart_token),
        completed_at=instant(body.completed_at, "completed_at"),
        recovery_url=link(body.abandoned_checkout_url),
        accepts_marketing=flag(body.buyer_accepts_marketing),
    )
    return Observations([Observation("checkout.observed", f"checkout:{token}", observed)])


def checkout_removed(arrival: Arrival) -> Outcome:
    """`checkouts/delete`."""
    token = identifier(decoded(_CHECKOUT, arrival.body).token)
    if token is None:
        # Some versions print the old numeric id instead, which newer checkouts do not have.
        return Parked("a deleted checkout without its token cannot be told from others")
    observed = Removed(**arrival.envelope(token, sent_at(arrival)))
    return Observations([Observation("checkout.removed", f"checkout:{token}", observed)])


def _cart_line(item: _CartLine, currency: str) -> Line:
    quantity = pieces(item.quantity)
    price = minor(item.original_price, currency, "original_price")
    if price is None:
        price = minor(item.price, currency, "price") or 0
    total = minor(item.line_price, currency, "line_price")
    return Line(
        title=title(item.title),
        quantity=quantity,
        price=price,
        total=bounded(price * quantity, "line_items.price") if total is None else total,
        source_id=identifier(item.id),
        product_id=identifier(item.product_id),
        variant_id=identifier(item.variant_id),
        sku=text(item.sku),
        image=link(item.featured_image.url) if isinstance(item.featured_image, _Image) else None,
    )

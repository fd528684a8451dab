"""WooCommerce's customers and products."""

from typing import Any

import msgspec
from msgspec import Struct

from libs.common.contracts.commerce import CustomerObserved, Person, ProductObserved, Variant
from services.ingest.outcome import Arrival, Observation, Observations, Outcome
from services.ingest.printed import (
    Scalar,
    currency_code,
    decoded,
    first,
    identifier,
    instant,
    minor,
    required,
    text,
    title,
    whole,
)
from services.ingest.woocommerce_orders import Address, AnyAddress, Image, dated


class _Customer(Struct):
    id: Scalar = None
    email: Scalar = None
    first_name: Scalar = None
    last_name: Scalar = None
    date_created: Scalar = None
    date_created_gmt: Scalar = None
    date_modified: Scalar = None
    date_modified_gmt: Scalar = None
    billing: AnyAddress = None
    shipping: AnyAddress = None
    # The legacy API's envelope, and its names inside.
    customer: "_Customer | Scalar | list[Any]" = None
    created_at: Scalar = None
    last_update: Scalar = None
    billing_address: AnyAddress = None
    shipping_address: AnyAddress = None


class _Product(Struct):
    id: Scalar = None
    name: Scalar = None
    type: Scalar = None
    status: Scalar = None
    permalink: Scalar = None
    sku: Scalar = None
    price: Scalar = None
    manage_stock: Scalar = None
    stock_quantity: Scalar = None
    stock_status: Scalar = None
    date_created: Scalar = None
    date_created_gmt: Scalar = None
    date_modified: Scalar = None
    date_modified_gmt: Scalar = None
    images: list[Image] | Scalar = None
    variations: list[Any] | Scalar = None
    # The legacy API's envelope, and its names inside.
    product: "_Product | Scalar | list[Any]" = None
    title: Scalar = None
    created_at: Scalar = None
    updated_at: Scalar = None


_CUSTOMER = msgspec.json.Decoder(_Customer)
_PRODUCT = msgspec.json.Decoder(_Product)


def customer(arrival: Arrival) -> Outcome:
    """`customer.created`, `customer.updated`. WooCommerce itself knows no consent and verifies no address."""
    body = decoded(_CUSTOMER, arrival.body)
    if isinstance(body.customer, _Customer):
        body = body.customer
    source_id = required(identifier(body.id), "id")
    zone = arrival.store.timezone
    created_at = dated(body.date_created_gmt, body.date_created, "date_created", zone) or instant(
        body.created_at, "created_at"
    )
    changed_at = dated(body.date_modified_gmt, body.date_modified, "date_modified", zone) or instant(
        body.last_update, "last_update"
    )
    candidates = (body.billing, body.billing_address, body.shipping, body.shipping_address)
    addresses = [each for each in candidates if isinstance(each, Address)]
    observed = CustomerObserved(
        **arrival.envelope(source_id, changed_at or created_at or arrival.received_at),
        person=Person(
            email=first(body.email, *(each.email for each in addresses)),
            phone=first(*(each.phone for each in addresses)),
            first_name=first(body.first_name, *(each.first_name for each in addresses)),
            last_name=first(body.last_name, *(each.last_name for each in addresses)),
            country=first(*(each.country for each in addresses)),
        ),
        created_at=created_at,
    )
    return Observations([Observation("customer.observed", f"customer:{source_id}", observed)])


def product(arrival: Arrival) -> Outcome:
    """`product.created`, `.updated`, `.restored`. A variable product prints the ids of its variations only."""
    body = decoded(_PRODUCT, arrival.body)
    if isinstance(body.product, _Product):
        body = body.product
    source_id = required(identifier(body.id), "id")
    currency = currency_code(arrival.store.currency)
    zone = arrival.store.timezone
    created_at = dated(body.date_created_gmt, body.date_created, "date_created", zone) or instant(
        body.created_at, "created_at"
    )
    changed_at = dated(body.date_modified_gmt, body.date_modified, "date_modified", zone) or instant(
        body.updated_at, "updated_at"
    )
    observed = ProductObserved(
        **arrival.envelope(source_id, changed_at or created_at or arrival.received_at),
        title=title(first(body.name, body.title)),
        status=text(body.status) or "unknown",
        currency=currency,
        url=text(body.permalink),
        image=next((src for src in (text(each.src) for each in _images(body)) if src), None),
        variants=_variations(body) or [_itself(body, source_id, currency)],
    )
    return Observations([Observation("product.observed", f"product:{source_id}", observed)])


def _images(body: _Product) -> list[Image]:
    return body.images if isinstance(body.images, list) else []


def _variations(body: _Product) -> list[Variant]:
    listed = body.variations if isinstance(body.variations, list) else []
    named = (identifier(each.get("id") if isinstance(each, dict) else each) for each in listed)
    return [Variant(source_id=each) for each in named if each is not None]


def _itself(body: _Product, source_id: str, currency: str) -> Variant:
    """A simple product, or one variation: its own only variant. Uncounted stock is unknown, unless it is out."""
    stock = whole(body.stock_quantity, "stock_quantity")
    if stock is None and body.stock_status == "outofstock":
        stock = 0
    return Variant(source_id=source_id, sku=text(body.sku), price=minor(body.price, currency, "price"), stock=stock)

"""One of Shopify's objects with all that its lists hold, as a webhook would carry it."""

from collections.abc import Mapping
from typing import Any, assert_never

import msgspec

from services.ingest.outcome import Unreadable
from services.ingest.platforms import shopify_bodies as bodies
from services.ingest.platforms.port import Fetched, Kind
from services.ingest.platforms.shopify_lines import Family
from services.ingest.platforms.shopify_objects import (
    AnyObject,
    Checkout,
    CheckoutLine,
    Customer,
    LineItem,
    Order,
    Product,
    ShippingLine,
    Variant,
    parts,
)
from services.ingest.printed import decoded, instant

_OBJECTS: Mapping[Kind, msgspec.json.Decoder[Any]] = {
    "orders": msgspec.json.Decoder(Order),
    "customers": msgspec.json.Decoder(Customer),
    "products": msgspec.json.Decoder(Product),
    "checkouts": msgspec.json.Decoder(Checkout),
}
_ITEMS: Mapping[str | None, tuple[str, msgspec.json.Decoder[Any]]] = {
    "LineItem": ("lineItems", msgspec.json.Decoder(LineItem)),
    "ShippingLine": ("shippingLines", msgspec.json.Decoder(ShippingLine)),
    "ProductVariant": ("variants", msgspec.json.Decoder(Variant)),
    "AbandonedCheckoutLineItem": ("checkoutLines", msgspec.json.Decoder(CheckoutLine)),
}
"""Of a bulk operation's lines, by their types: to which list they belong, and how they are read."""


def read(kind: Kind, content: bytes) -> AnyObject:
    """As a page has it: its lists may go on. Raises Unreadable."""
    one: AnyObject = decoded(_OBJECTS[kind], content)
    return one


def made(kind: Kind, family: Family) -> AnyObject:
    """As a bulk operation's file has it. Raises Unreadable."""
    one = read(kind, family.raw)
    lists = {part.name: part.connection for part in parts(one)}
    for item in family.items:
        found = _ITEMS.get(item.type)
        if found is None or found[0] not in lists:
            raise Unreadable("__typename: not one that was asked for")
        lists[found[0]].nodes.append(decoded(found[1], item.raw))
    return one


def told(one: AnyObject, headers: Mapping[str, str]) -> Fetched:
    """What a webhook with these headers would tell. Raises Unreadable."""
    match one:
        case Order():
            return _fetched("order", "orders/updated", bodies.order(one), headers)
        case Customer():
            return _fetched("customer", "customers/update", bodies.customer(one), headers)
        case Product():
            return _fetched("product", "products/update", bodies.product(one), headers)
        case Checkout():
            body = bodies.checkout(one)
            fetched = _fetched("checkout", "checkouts/update", body, headers, key="token")
            return fetched._replace(cart=body["cart_token"])
    assert_never(one)


def _fetched(name: str, topic: str, body: bodies.Json, headers: Mapping[str, str], *, key: str = "id") -> Fetched:
    changed_at = instant(body["updated_at"], "updatedAt")
    return Fetched(topic, f"{name}:{body[key]}", changed_at, msgspec.json.encode(body), headers=headers)

"""Shopify: which topic is read by what. The topic lives in the header only; one body comes under many.

- orders/*, refunds/*: `shopify_orders`, `shopify_refunds`
- carts/*, checkouts/*: `shopify_carts`
- customers/*, their consents, products/*: `shopify_records`
"""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from libs.common.contracts.commerce import Removed
from services.ingest import shopify_carts, shopify_orders, shopify_records, shopify_refunds
from services.ingest.outcome import Arrival, Ignored, Observation, Observations, Outcome, Parked
from services.ingest.printed import Scalar, decoded, identifier, required
from services.ingest.shopify_parts import is_test, sent_at


class _Root(Struct):
    """Where payloads name the object that they belong to; nothing else of them is decoded."""

    id: Any = None
    order_id: Any = None
    customer_id: Any = None
    token: Any = None
    order_edit: Any = None


class _Named(Struct):
    id: Scalar = None


_ROOT = msgspec.json.Decoder(_Root)
_NAMED = msgspec.json.Decoder(_Named)


def _removed(kind: str) -> Callable[[Arrival], Outcome]:
    """The normaliser of `{"id": …}`: gone, as of when Shopify said so."""

    def removed(arrival: Arrival) -> Outcome:
        source_id = required(identifier(decoded(_NAMED, arrival.body).id), "id")
        observed = Removed(**arrival.envelope(source_id, sent_at(arrival)))
        return Observations([Observation(f"{kind}.removed", f"{kind}:{source_id}", observed)])

    return removed


def _edited(arrival: Arrival) -> Outcome:  # noqa: ARG001 - one signature for all topics
    return Ignored("an edit names only what changed; orders/updated brings the order")


TOPICS: dict[str, Callable[[Arrival], Outcome]] = {
    "orders/create": shopify_orders.order,
    "orders/updated": shopify_orders.order,
    "orders/paid": shopify_orders.order,
    "orders/fulfilled": shopify_orders.order,
    "orders/partially_fulfilled": shopify_orders.order,
    "orders/cancelled": shopify_orders.order,
    "orders/edited": _edited,
    "orders/delete": _removed("order"),
    "refunds/create": shopify_refunds.refund,
    "carts/create": shopify_carts.cart,
    "carts/update": shopify_carts.cart,
    "checkouts/create": shopify_carts.checkout,
    "checkouts/update": shopify_carts.checkout,
    "checkouts/delete": shopify_carts.checkout_removed,
    "customers/create": shopify_records.customer,
    "customers/update": shopify_records.customer,
    "customers/enable": shopify_records.customer,
    "customers/disable": shopify_records.customer,
    "customers/delete": _removed("customer"),
    "customers_email_marketing_consent/update": shopify_records.consent,
    "customers_marketing_consent/update": shopify_records.consent,
    "products/create": shopify_records.product,
    "products/update": shopify_records.product,
    "products/delete": _removed("product"),
}

_ROOTS: dict[str, Callable[[_Root], tuple[str, Any]]] = {
    "orders": lambda root: ("order", root.order_edit.get("order_id") if isinstance(root.order_edit, dict) else root.id),
    "refunds": lambda root: ("order", root.order_id),
    "fulfillments": lambda root: ("order", root.order_id),
    "order_transactions": lambda root: ("order", root.order_id),
    "carts": lambda root: ("cart", root.token if identifier(root.token) else root.id),
    "checkouts": lambda root: ("checkout", root.token),
    "customers": lambda root: ("customer", root.id),
    "customers_email_marketing_consent": lambda root: (
        "customer",
        root.customer_id if identifier(root.customer_id) else root.id,
    ),
    "products": lambda root: ("product", root.id),
}
_ROOTS["customers_marketing_consent"] = _ROOTS["customers_email_marketing_consent"]


def normalise(topic: str, arrival: Arrival) -> Outcome:
    """What a delivery under `topic` shows. `Unreadable` when it is not what the topic promises."""
    read = TOPICS.get(topic)
    if read is None:
        return Parked(f"no normaliser for {topic or 'a delivery without topic'}")
    # What a test notification tells of has not happened: nobody may be written to because of it.
    return read(replace(arrival, origin="backfill") if is_test(arrival) else arrival)


def root(topic: str, body: bytes) -> tuple[str, Any] | None:
    """Kind and id of the object that the body belongs to; None when the topic has none. Raises `Unreadable`."""
    pick = _ROOTS.get(topic.partition("/")[0])
    return pick(decoded(_ROOT, body)) if pick else None

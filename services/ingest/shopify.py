"""Shopify: which topic is read by what. The topic lives in the header only; one body comes under many.

- orders/*, refunds/*: `shopify_orders`, `shopify_refunds`
- carts/*, checkouts/*: `shopify_carts`
- customers/*, their consents, products/*: `shopify_records`
- customers/redact, customers/data_request, shop/redact, app/uninstalled: `shopify_privacy`
"""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from libs.common.contracts.commerce import Removed
from services.ingest import shopify_carts, shopify_orders, shopify_privacy, shopify_records, shopify_refunds
from services.ingest.outcome import PRIVACY_ROOT, Arrival, Ignored, Observation, Observations, Outcome, Parked
from services.ingest.printed import Scalar, decoded, identifier, required
from services.ingest.shopify_parts import is_test, sent_at

T = TypeVar("T", bound=Struct)


class _Named(Struct):
    id: Scalar = None


class _OfOrder(Struct):
    order_id: Scalar = None


class _WithToken(Struct):
    id: Scalar = None
    token: Scalar = None


class _OfCheckout(Struct):
    token: Scalar = None


class _OfCustomer(Struct):
    id: Scalar = None
    customer_id: Scalar = None


class _Edit(Struct):
    id: Scalar = None
    order_edit: _OfOrder | Scalar | list[Any] = None


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
    "customers/data_request": shopify_privacy.data_request,
    "customers/redact": shopify_privacy.redact,
    "shop/redact": shopify_privacy.redact_store,
    "app/uninstalled": shopify_privacy.uninstalled,
}


def _by(kind: str, shape: type[T], pick: Callable[[T], Scalar]) -> Callable[[bytes], tuple[str, Scalar]]:
    """Decodes only what names the object, in the types of its normaliser: what that can read has the same root here."""
    decoder = msgspec.json.Decoder(shape)
    return lambda body: (kind, pick(decoded(decoder, body)))


def _of_store(body: bytes) -> tuple[str, Scalar]:  # noqa: ARG001 - one signature for all topics
    kind, _, id_ = PRIVACY_ROOT.partition(":")
    return kind, id_


_by_order = _by("order", _OfOrder, lambda body: body.order_id)
_by_customer = _by("customer", _OfCustomer, lambda body: body.customer_id if identifier(body.customer_id) else body.id)
_ROOTS: dict[str, Callable[[bytes], tuple[str, Scalar]]] = {
    "orders": _by("order", _Named, lambda body: body.id),
    "orders/edited": _by(
        "order", _Edit, lambda body: body.order_edit.order_id if isinstance(body.order_edit, _OfOrder) else body.id
    ),
    "refunds": _by_order,
    "fulfillments": _by_order,
    "order_transactions": _by_order,
    "carts": _by("cart", _WithToken, lambda body: body.token if identifier(body.token) else body.id),
    "checkouts": _by("checkout", _OfCheckout, lambda body: body.token),
    "customers": _by("customer", _Named, lambda body: body.id),
    "customers_email_marketing_consent": _by_customer,
    "customers_marketing_consent": _by_customer,
    "products": _by("product", _Named, lambda body: body.id),
    "customers/data_request": _of_store,
    "customers/redact": _of_store,
    "shop/redact": _of_store,
    "app/uninstalled": _of_store,
}
"""By topic, else by its first word."""


def normalise(topic: str, arrival: Arrival) -> Outcome:
    """What a delivery under `topic` shows. `Unreadable` when it is not what the topic promises."""
    read = TOPICS.get(topic)
    if read is None:
        return Parked(f"no normaliser for {topic or 'a delivery without topic'}")
    # What a test notification tells of has not happened: nobody may be written to because of it.
    return read(replace(arrival, origin="backfill") if is_test(arrival) else arrival)


def root(topic: str, body: bytes) -> tuple[str, Scalar] | None:
    """Kind and id of the object that the body belongs to; None when the topic has none. Raises `Unreadable`."""
    read = _ROOTS.get(topic) or _ROOTS.get(topic.partition("/")[0])
    return read(body) if read else None

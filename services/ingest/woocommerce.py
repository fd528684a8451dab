"""WooCommerce: which topic is read by what.

- order.*: `woocommerce_orders`; a `checkout-draft` is a checkout
- customer.*, product.*: `woocommerce_records`

`*.deleted` means trashed, and carries an id and no date. Posts share their ids, so trashing a coupon also sends
`product.deleted` under the coupon's id: a tombstone for what never was.
"""

import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from libs.common.contracts.commerce import Removed
from services.ingest import woocommerce_orders, woocommerce_records
from services.ingest.outcome import Arrival, Ignored, Observation, Observations, Outcome, Parked, Unreadable
from services.ingest.printed import Scalar, decoded, identifier, required

_CODE = re.compile(r"[a-z0-9_-]{1,100}", re.ASCII | re.IGNORECASE)
_TOLD = re.compile(r"(woocommerce_)?rest_[a-z_]+", re.ASCII)
"""Codes that are the shop's software's and nobody's text."""


class _Named(Struct):
    id: Scalar = None


class _Refusal(Struct):
    """The REST API's error body: the object was gone, or the webhook's owner may not see it."""

    code: str
    message: Any


# Where payloads name their object, bare or in the legacy API's envelope: decoded in the types of their normalisers, and
# nothing else is. What those can read has the same root here.


class _OrderRoot(Struct):
    id: Scalar = None
    order: _Named | Scalar | list[Any] = None


class _CustomerRoot(Struct):
    id: Scalar = None
    customer: _Named | Scalar | list[Any] = None


class _ProductRoot(Struct):
    id: Scalar = None
    product: _Named | Scalar | list[Any] = None


_NAMED = msgspec.json.Decoder(_Named)
_REFUSAL = msgspec.json.Decoder(_Refusal)
_ORDER_ROOT = msgspec.json.Decoder(_OrderRoot)
_CUSTOMER_ROOT = msgspec.json.Decoder(_CustomerRoot)
_PRODUCT_ROOT = msgspec.json.Decoder(_ProductRoot)


def _removed(kind: str) -> Callable[[Arrival], Outcome]:
    """The normaliser of `{"id": …}`: gone, as of when we heard.

    In whole seconds, as the shop dates its snapshots: of a deletion and a restoration within one second the later
    delivery wins.
    """

    def removed(arrival: Arrival) -> Outcome:
        source_id = required(identifier(decoded(_NAMED, arrival.body).id), "id")
        observed = Removed(**arrival.envelope(source_id, arrival.received_at.replace(microsecond=0)))
        return Observations([Observation(f"{kind}.removed", f"{kind}:{source_id}", observed)])

    return removed


TOPICS: dict[str, Callable[[Arrival], Outcome]] = {
    "order.created": woocommerce_orders.order,
    "order.updated": woocommerce_orders.order,
    "order.restored": woocommerce_orders.order,
    "order.deleted": _removed("order"),
    "customer.created": woocommerce_records.customer,
    "customer.updated": woocommerce_records.customer,
    "customer.deleted": _removed("customer"),
    "product.created": woocommerce_records.product,
    "product.updated": woocommerce_records.product,
    "product.restored": woocommerce_records.product,
    "product.deleted": _removed("product"),
}


def normalise(topic: str, arrival: Arrival) -> Outcome:
    """What a delivery under `topic` shows. `Unreadable` when it is not what the topic promises."""
    read = TOPICS.get(topic)
    if read is None:
        return Parked(f"no normaliser for {topic or 'a delivery without topic'} yet")
    try:
        return read(arrival)
    except Unreadable:
        code = _refused(arrival.body)
        if code is None:
            raise
        told = f": {code}" if _TOLD.fullmatch(code) else ""
        return Ignored(f"an error of the shop in place of the object{told}")


def root(topic: str, body: bytes) -> tuple[str, Scalar] | None:
    """Kind and id of the object that the body belongs to; None when the topic has none. Raises `Unreadable`."""
    kind, _, event = topic.partition(".")
    found: _Named | _OrderRoot | _CustomerRoot | _ProductRoot
    envelope: object = None
    match kind:
        case "order" | "customer" | "product" if event == "deleted":
            found = decoded(_NAMED, body)  # these come bare, whatever the API
        case "order":
            found = order = decoded(_ORDER_ROOT, body)
            envelope = order.order
        case "customer":
            found = customer = decoded(_CUSTOMER_ROOT, body)
            envelope = customer.customer
        case "product":
            found = product = decoded(_PRODUCT_ROOT, body)
            envelope = product.product
        case _:
            return None
    return kind, envelope.id if isinstance(envelope, _Named) else found.id


def _refused(body: bytes) -> str | None:
    try:
        code = decoded(_REFUSAL, body).code
    except Unreadable:
        return None
    return code if _CODE.fullmatch(code) else None

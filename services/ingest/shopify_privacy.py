"""What Shopify demands of every app: the data of a customer, the erasure of one, or of a whole shop; and its leave."""

import msgspec
from msgspec import Struct

from libs.common.contracts.commerce import Identifiers, PrivacyRequested
from libs.common.contracts.types import PrivacyKind
from libs.common.ids import derived_id
from services.ingest.outcome import (
    PRIVACY_ROOT,
    PRIVACY_TERM,
    Arrival,
    Ignored,
    Observation,
    Observations,
    Outcome,
    Uninstalled,
    Unreadable,
)
from services.ingest.printed import Scalar, decoded, identifier, text
from services.ingest.shopify_parts import header, is_test

MOST_ORDERS = 10_000
_TEST = Ignored("a test of what is asked for")


class _Customer(Struct):
    id: Scalar = None
    email: Scalar = None
    phone: Scalar = None


class _DataRequest(Struct):
    id: Scalar = None


class _Request(Struct):
    shop_domain: Scalar = None
    customer: _Customer | None = None
    orders_requested: list[Scalar] | None = None
    orders_to_redact: list[Scalar] | None = None
    data_request: _DataRequest | None = None


class _Shop(Struct):
    myshopify_domain: Scalar
    """Without it, it is no shop."""
    domain: Scalar = None


_REQUEST = msgspec.json.Decoder(_Request)
_SHOP = msgspec.json.Decoder(_Shop)


def data_request(arrival: Arrival) -> Outcome:
    """`customers/data_request`. The platform's own number of it says whether it is the same one again."""
    body = decoded(_REQUEST, arrival.body)
    _only(body.orders_to_redact)
    number = identifier(body.data_request.id) if body.data_request else None
    return _of_person(arrival, "data_request", body, body.orders_requested, number)


def redact(arrival: Arrival) -> Outcome:
    """`customers/redact`. Often an e-mail is all that is known, of somebody who bought as a guest."""
    body = decoded(_REQUEST, arrival.body)
    _only(body.orders_requested, body.data_request)
    return _of_person(arrival, "redact", body, body.orders_to_redact, None)


def redact_store(arrival: Arrival) -> Outcome:
    """`shop/redact`: 48 hours after an app was uninstalled."""
    body = decoded(_REQUEST, arrival.body)
    _only(body.customer, body.orders_requested, body.orders_to_redact, body.data_request)
    return _requested(arrival, "redact_store", body, Identifiers(), [], None)


def uninstalled(arrival: Arrival) -> Outcome:
    """`app/uninstalled`: the token that the app had is worth nothing any more."""
    if is_test(arrival):
        return _TEST
    shop = decoded(_SHOP, arrival.body)
    # Some print no domain; then the header's word is all there is, for what credentials set anew undo.
    _of_this_shop(arrival, shop.myshopify_domain or header(arrival, "shop-domain"), shop.domain)
    return Uninstalled()


def _of_person(
    arrival: Arrival, kind: PrivacyKind, body: _Request, orders: list[Scalar] | None, number: str | None
) -> Outcome:
    named = body.customer or _Customer()
    who = Identifiers(customer_id=identifier(named.id), email=text(named.email), phone=text(named.phone))
    ids = [id_ for id_ in map(identifier, orders or ()) if id_ is not None]
    if who == Identifiers() and not ids:
        raise Unreadable("customer: names nobody")
    if len(ids) > MOST_ORDERS:
        raise Unreadable(f"orders: more than {MOST_ORDERS}")
    return _requested(arrival, kind, body, who, ids, number)


def _requested(
    arrival: Arrival, kind: PrivacyKind, body: _Request, who: Identifiers, orders: list[str], number: str | None
) -> Outcome:
    if is_test(arrival):
        return _TEST
    _of_this_shop(arrival, body.shop_domain)
    # Without a number of its own it is as old as its delivery: the journal takes each of those once.
    id_ = derived_id("privacy", arrival.store.key, kind, *([number] if number else ["delivery", arrival.delivery]))
    observed = PrivacyRequested(
        **arrival.envelope(id_, arrival.received_at),
        kind=kind,
        due_at=arrival.received_at + PRIVACY_TERM,
        identifiers=who,
        orders=orders,
    )
    return Observations([Observation("privacy.requested", PRIVACY_ROOT, observed)])


def _only(*others: object) -> None:
    """Unreadable where any of what other topics say is there: the topic is not signed, and one asks for more."""
    if any(each is not None for each in others):
        raise Unreadable("it is the body of another topic")


def _of_this_shop(arrival: Arrival, *domains: Scalar) -> None:
    """Unreadable unless one of these is the store's.

    An app has one address and one secret for all shops that it is installed in, and what is erased is gone for good: so
    the body must say whose it is. It alone is signed; the topic is not, and bodies of other topics do not say that.
    """
    if arrival.store.domain not in {(text(domain) or "").lower() for domain in domains}:
        raise Unreadable("shop_domain: not the domain that this store was registered with")

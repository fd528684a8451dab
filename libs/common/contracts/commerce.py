"""Topic `commerce`: what was observed. Producer: ingest. Key: store and root object.

Every observation is a whole snapshot of one object, as its platform described it at `updated_at`. Two snapshots
of one object are ordered by `(updated_at, position)`; the later one wins whole. Money is in integer minor units
of `currency`; times are UTC instants.
"""

from datetime import date, datetime

from msgspec import Struct

from libs.common.contracts.types import Channel, ConsentState, Origin, Platform, PrivacyKind

MOST_REFUNDS = 1_000
"""Of one order, all that were ever told together. No shop gives so many; who sends more makes work for all others."""


class Observed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What each observation carries."""

    store: str
    platform: Platform
    source_id: str
    """The platform's own id of the object, as text (ids exceed 2^53)."""
    updated_at: datetime
    """The source's own last change; where a payload has none, when the platform sent it, else when we got it."""
    position: int
    """The delivery's offset in its journal partition: breaks ties of `updated_at`."""
    origin: Origin = "live"
    delivery: str | None = None
    """Id of the delivery that it came from."""


class Person(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who an order, checkout or customer record names. Raw as printed, but trimmed; empty is absent."""

    email: str | None = None
    phone: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    locale: str | None = None
    country: str | None = None
    """ISO 3166-1 alpha-2; what a national phone number is read with."""


class Line(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of an order, checkout or cart."""

    title: str
    quantity: int
    price: int
    """One unit, before discounts."""
    total: int
    """The whole line after its discounts; an order's without tax, a cart's and a checkout's as the shop showed it."""
    source_id: str | None = None
    product_id: str | None = None
    variant_id: str | None = None
    sku: str | None = None
    image: str | None = None


class Refund(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One refund: positive amounts, split into what it gave back of items, shipping and taxes."""

    source_id: str
    at: datetime | None = None
    returns: int
    """Item value, without tax and shipping."""
    shipping: int = 0
    taxes: int = 0
    reason: str | None = None
    currency: str | None = None
    """ISO 4217, where whoever tells of it alone says so. One in another than its order's counts nowhere."""


class OrderObserved(Observed, frozen=True, kw_only=True):
    """`order.observed`: the order as it stood at `updated_at`."""

    number: str
    status: str
    """The platform's own word: Shopify's financial_status, WooCommerce's status."""
    placed: bool
    """Its status is one that counts: WooCommerce on-hold, processing, completed, refunded; Shopify all but voided."""
    placed_at: datetime
    currency: str
    gross: int
    discounts: int
    shipping: int
    taxes: int
    test: bool = False
    cancelled_at: datetime | None = None
    fulfilled_at: datetime | None = None
    refunds: list[Refund] = []
    refunds_complete: bool = False
    """True: `refunds` is all there are (WooCommerce). False: add to those already known (Shopify)."""
    lines: list[Line] = []
    person: Person = Person()
    customer_id: str | None = None
    """The platform's id of the registered customer; None for a guest."""
    cart_token: str | None = None
    checkout_token: str | None = None
    """The `source_id` of the checkout that it came from."""
    accepts_marketing: bool | None = None


class RefundObserved(Observed, frozen=True, kw_only=True):
    """`refund.observed`: one refund told by itself; `source_id` is the order's."""

    refund: Refund


class CheckoutObserved(Observed, frozen=True, kw_only=True):
    """`checkout.observed`: `source_id` is the checkout's token (WooCommerce: the draft order's id)."""

    started_at: datetime
    currency: str
    total: int
    lines: list[Line] = []
    person: Person = Person()
    customer_id: str | None = None
    cart_token: str | None = None
    completed_at: datetime | None = None
    recovery_url: str | None = None
    recovery_ends_at: datetime | None = None
    """When `recovery_url` leads nowhere any more. None: it does not end by itself."""
    accepts_marketing: bool | None = None
    named_at: datetime | None = None
    """As of when it names its person, where that may be before `updated_at`: when a browser's proof was made."""


class CartObserved(Observed, frozen=True, kw_only=True):
    """`cart.observed`: `source_id` is the cart's token, without a `?key=` suffix."""

    started_at: datetime
    currency: str
    total: int
    lines: list[Line] = []
    customer_id: str | None = None


class Consent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a customer record says of one channel."""

    channel: Channel
    state: ConsentState
    at: datetime
    source: str
    """Where it was given: `checkout`, `customer`, `api`, …"""


class CustomerObserved(Observed, frozen=True, kw_only=True):
    """`customer.observed`: a registered customer of the platform."""

    person: Person
    created_at: datetime | None = None
    email_verified: bool = False
    birthday: date | None = None
    timezone: str | None = None
    tags: list[str] | None = None
    """None: this payload's version does not carry tags."""
    consents: list[Consent] = []
    """Channels not listed are not spoken of."""


class Variant(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One variant; a simple product is its own only variant."""

    source_id: str
    title: str | None = None
    sku: str | None = None
    price: int | None = None
    stock: int | None = None


class ProductObserved(Observed, frozen=True, kw_only=True):
    """`product.observed`."""

    title: str
    status: str
    currency: str
    url: str | None = None
    image: str | None = None
    variants: list[Variant] = []
    variants_complete: bool = True


class Removed(Observed, frozen=True, kw_only=True):
    """`order.removed`, `checkout.removed`, `cart.removed`, `customer.removed`, `product.removed`: a tombstone."""

    told_as: str | None = None
    """Of a checkout: its own token, under which it is told instead, from now on and for good. Of a cart
    that has several checkouts one of theirs: it is told under each."""


class Identifiers(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whom a first-party event speaks of; at least one is set."""

    email: str | None = None
    phone: str | None = None
    customer_id: str | None = None
    cart_token: str | None = None
    checkout_token: str | None = None


class ConsentObserved(Observed, frozen=True, kw_only=True):
    """`consent.observed`: a consent told by itself; `source_id` is the sender's event id."""

    identifiers: Identifiers
    consent: Consent


class ActivityObserved(Observed, frozen=True, kw_only=True):
    """`activity.observed`: a person did something (`product.viewed`, …); `source_id` is the sender's event id."""

    identifiers: Identifiers
    activity: str
    properties: dict[str, str | int | float | bool | None] = {}
    named_at: datetime | None = None
    """As of when it names its person, where that may be before `updated_at`: when a browser's proof was made."""


class StoreObserved(Observed, frozen=True, kw_only=True):
    """`store.observed`: a store was registered, changed or deleted; `source_id` is its key."""

    name: str
    domain: str
    currency: str
    timezone: str
    consent_policy: str
    """`explicit` or `soft_opt_in`."""
    email: str | None = None
    """Where its customers write to."""
    postal_address: str | None = None
    paused_at: datetime | None = None
    """When it was last paused: from then on nobody is written to in its name."""
    resumed_at: datetime | None = None
    """When that pause ended; None while it lasts."""
    deleted_at: datetime | None = None


class PrivacyRequested(Observed, frozen=True, kw_only=True):
    """`privacy.requested`: of all that was received until `updated_at`; `source_id` is the request's id.

    All requests of a store have one key, and one of them may be told again.
    """

    kind: PrivacyKind
    due_at: datetime
    """The latest moment to have acted."""
    identifiers: Identifiers = Identifiers()
    """Whom it is about; of `redact_store`: nobody in particular."""
    orders: list[str] = []
    """The platform's ids of orders that are the person's, whoever is named in them."""


TYPES: dict[str, type[Observed]] = {
    "order.observed": OrderObserved,
    "order.removed": Removed,
    "refund.observed": RefundObserved,
    "checkout.observed": CheckoutObserved,
    "checkout.removed": Removed,
    "cart.observed": CartObserved,
    "cart.removed": Removed,
    "customer.observed": CustomerObserved,
    "customer.removed": Removed,
    "product.observed": ProductObserved,
    "product.removed": Removed,
    "consent.observed": ConsentObserved,
    "activity.observed": ActivityObserved,
    "store.observed": StoreObserved,
    "privacy.requested": PrivacyRequested,
}

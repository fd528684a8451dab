"""Topic `customers`: who it was and what happened. Producer: profiles. Key: account (stores and products: their id).

Two kinds of event. A *state* event carries the whole state of its subject after the change, with a `revision` that
grows by one per subject: keep the highest, and any order or repetition ends in the same state. A *moment* event
(`order.cancelled`, `order.refunded`, `order.fulfilled`, `activity.seen`) says that something happened, once.
Money is in integer minor units of `currency`; times are UTC instants.
"""

from datetime import date, datetime

from msgspec import Struct, field

from libs.common.contracts.commerce import Line, Refund, Variant
from libs.common.contracts.types import Channel, ConsentState, Origin, Platform


class Fact(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What each fact carries."""

    store: str
    origin: Origin = "live"


class AccountMoved(Fact, frozen=True, kw_only=True):
    """`account.moved`: the account belongs to `to` now. `from` is None when the account is new."""

    account: str
    previous: str | None = field(name="from", default=None)
    profile: str = field(name="to")
    revision: int


class OrderView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An order as the ledger holds it. `shipping`, `taxes` and `total` are less what of them was refunded."""

    store: str
    source_id: str
    account: str | None = None
    """None: nobody can be named; counts as an order and not as a buyer."""
    counted: bool
    placed_at: datetime
    currency: str
    gross: int
    discounts: int
    returns: int
    net: int
    """gross - discounts - returns"""
    shipping: int
    taxes: int
    total: int
    """net + shipping + taxes"""
    cancelled_at: datetime | None = None
    fulfilled_at: datetime | None = None
    deleted: bool = False
    cart_token: str | None = None
    checkout_token: str | None = None


class OrderPlaced(Fact, frozen=True, kw_only=True):
    """`order.placed`: state; the first time that the order counts. Once per order."""

    order: OrderView
    revision: int


class OrderRevised(Fact, frozen=True, kw_only=True):
    """`order.revised`: state; anything in the view changed after it was placed (refund, edit, cancellation, …)."""

    before: OrderView
    order: OrderView
    """After."""
    revision: int


class OrderMoment(Fact, frozen=True, kw_only=True):
    """`order.cancelled`, `order.fulfilled`, `order.deleted`: moment, once per order."""

    account: str | None
    source_id: str
    at: datetime


class OrderRefunded(Fact, frozen=True, kw_only=True):
    """`order.refunded`: moment, once per refund."""

    account: str | None
    source_id: str
    refund: Refund
    currency: str


class CheckoutChanged(Fact, frozen=True, kw_only=True):
    """`checkout.started`, `checkout.changed`, `checkout.deleted`: state."""

    account: str | None = None
    token: str
    started_at: datetime
    changed_at: datetime
    """The last change that the platform tells."""
    items: int
    """Pieces in it."""
    currency: str
    total: int
    lines: list[Line] = []
    cart_token: str | None = None
    completed_at: datetime | None = None
    recovery_url: str | None = None
    recovery_ends_at: datetime | None = None
    """When `recovery_url` leads nowhere any more. None: it does not end by itself."""
    deleted: bool = False
    revision: int


class CartChanged(Fact, frozen=True, kw_only=True):
    """`cart.changed`: state."""

    account: str
    token: str
    started_at: datetime
    changed_at: datetime
    items: int
    currency: str
    total: int
    lines: list[Line] = []
    deleted: bool = False
    revision: int


class ProfileChanged(Fact, frozen=True, kw_only=True):
    """`profile.changed`: state; what one account says of its person. Normalised: e-mail lower case, phone E.164."""

    account: str
    platform: Platform
    customer_id: str | None = None
    email: str | None = None
    email_verified: bool = False
    phone: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    locale: str | None = None
    country: str | None = None
    timezone: str | None = None
    birthday: date | None = None
    deleted: bool = False
    revision: int


class ConsentChanged(Fact, frozen=True, kw_only=True):
    """`consent.changed`: state, per account and channel."""

    account: str
    channel: Channel
    state: ConsentState
    at: datetime
    source: str
    revision: int


class ActivitySeen(Fact, frozen=True, kw_only=True):
    """`activity.seen`: moment; a first-party event such as `product.viewed`."""

    account: str
    activity: str
    at: datetime


class ProductChanged(Fact, frozen=True, kw_only=True):
    """`product.changed`: state; `product.restocked`: moment, a variant went from none to some."""

    source_id: str
    title: str
    status: str
    currency: str
    url: str | None = None
    image: str | None = None
    variants: list[Variant] = []
    restocked: list[str] = []
    """Variant ids; only in `product.restocked`."""
    deleted: bool = False
    revision: int


class StoreChanged(Fact, frozen=True, kw_only=True):
    """`store.changed`: state."""

    platform: Platform
    name: str
    domain: str
    currency: str
    timezone: str
    consent_policy: str
    email: str | None = None
    """Where its customers write to."""
    postal_address: str | None = None
    paused_at: datetime | None = None
    """When it was last paused: from then on nobody is written to in its name."""
    resumed_at: datetime | None = None
    """When that pause ended; None while it lasts."""
    deleted_at: datetime | None = None
    revision: int


TYPES: dict[str, type[Fact]] = {
    "account.moved": AccountMoved,
    "order.placed": OrderPlaced,
    "order.revised": OrderRevised,
    "order.cancelled": OrderMoment,
    "order.fulfilled": OrderMoment,
    "order.deleted": OrderMoment,
    "order.refunded": OrderRefunded,
    "checkout.started": CheckoutChanged,
    "checkout.changed": CheckoutChanged,
    "checkout.deleted": CheckoutChanged,
    "cart.changed": CartChanged,
    "profile.changed": ProfileChanged,
    "consent.changed": ConsentChanged,
    "activity.seen": ActivitySeen,
    "product.changed": ProductChanged,
    "product.restocked": ProductChanged,
    "store.changed": StoreChanged,
}

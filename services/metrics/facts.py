"""The facts that KPIs are made of, as this service keeps them: one row per order, checkout, cart and account.

Instants are integers, microseconds since 1970 UTC: exact, cheap, and never out of range however odd a shop's dates are.
"""

from datetime import UTC, datetime, timedelta

from msgspec import Struct

from libs.common.contracts.customers import CartChanged, CheckoutChanged, OrderView

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def micros(at: datetime) -> int:
    """An aware datetime as microseconds since 1970."""
    return (at - EPOCH) // MICROSECOND


class Order(Struct, frozen=True):
    """An order as the ledger holds it, and whose it is."""

    tenant: str
    store: str
    source_id: str
    revision: int
    account: str | None
    profile: str | None
    """Whose the account is; None as long as that is unknown: an order without a buyer."""
    checkout: str
    """Token of the checkout that it came from. WooCommerce's drafts become the order and keep their id."""
    counted: bool
    placed_at: int
    currency: str
    gross: int
    discounts: int
    returns: int
    shipping: int
    taxes: int

    @property
    def key(self) -> tuple[str, str, str]:
        """What identifies it."""
        return (self.tenant, self.store, self.source_id)

    @property
    def has_buyer(self) -> bool:
        """Whether it makes its profile a buyer."""
        return self.counted and self.profile is not None


class Checkout(Struct, frozen=True):
    """A checkout with all that has come of it."""

    tenant: str
    store: str
    token: str
    started_at: int
    changed_at: int
    currency: str
    held: bool
    """It holds at least one item and was not deleted."""
    ordered_at: int | None
    """When the first counted order with its token was placed."""
    messaged_at: int | None
    """When the first recovery message was sent."""
    recovered_at: int | None
    """When the first counted order after that message was placed: of its token, or of its profile within 5 days."""
    recovered_net: int | None
    """That order's net sales."""


class CheckoutState(Struct, frozen=True):
    """A checkout as the platform tells it."""

    tenant: str
    store: str
    token: str
    revision: int
    account: str | None
    started_at: int
    changed_at: int
    currency: str
    held: bool

    @property
    def key(self) -> tuple[str, str, str]:
        """What identifies it."""
        return (self.tenant, self.store, self.token)


class Cart(Struct, frozen=True):
    """A cart as the platform tells it."""

    tenant: str
    store: str
    token: str
    revision: int
    started_at: int
    currency: str
    held: bool

    @property
    def key(self) -> tuple[str, str, str]:
        """What identifies it."""
        return (self.tenant, self.store, self.token)


def order_of(tenant: str, view: OrderView, revision: int) -> Order:
    """The order of a fact; its profile is not looked up yet."""
    return Order(
        tenant=tenant,
        store=view.store,
        source_id=view.source_id,
        revision=revision,
        account=view.account,
        profile=None,
        checkout=view.checkout_token or view.source_id,
        counted=view.counted,
        placed_at=micros(view.placed_at),
        currency=view.currency,
        gross=view.gross,
        discounts=view.discounts,
        returns=view.returns,
        shipping=view.shipping,
        taxes=view.taxes,
    )


def checkout_of(tenant: str, fact: CheckoutChanged) -> CheckoutState:
    """The checkout of a fact."""
    return CheckoutState(
        tenant=tenant,
        store=fact.store,
        token=fact.token,
        revision=fact.revision,
        account=fact.account,
        started_at=micros(fact.started_at),
        changed_at=micros(fact.changed_at),
        currency=fact.currency,
        held=fact.items > 0 and not fact.deleted,
    )


def cart_of(tenant: str, fact: CartChanged) -> Cart:
    """The cart of a fact."""
    return Cart(
        tenant=tenant,
        store=fact.store,
        token=fact.token,
        revision=fact.revision,
        started_at=micros(fact.started_at),
        currency=fact.currency,
        held=fact.items > 0 and not fact.deleted,
    )

"""What exists in the simulated shop, as it stood at one instant: plain values, in the shop's own terms.

Money is in cents as the shop prints it: Shopify's prices here contain tax, WooCommerce's do not. Times are UTC.
Every platform object keeps its identity (who, which cart, which checkout) for life; only its state changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

StoreName = Literal["shopify", "woocommerce"]
ConsentState = Literal["subscribed", "unsubscribed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSpec:
    """One of the merchant's two stores."""

    name: StoreName
    title: str
    domain: str
    secret: str
    policy: Literal["explicit", "soft_opt_in"]
    currency: str = "EUR"
    timezone: str = "Europe/Berlin"


@dataclass(frozen=True, slots=True)
class Product:
    """One product with one variant."""

    id: int
    variant_id: int
    title: str
    sku: str
    price: int
    """Cents, with tax."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """Who an object names, as its platform prints it; None: not printed."""

    first: str
    last: str
    country: str
    customer_id: int | None = None
    email: str | None = None
    phone: str | None = None
    """E.164; WooCommerce prints it the national way."""
    agent: str = ""
    ip: str = ""


NOBODY = Contact(first="", last="", country="DE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One line of a cart, checkout or order."""

    id: int
    product: Product
    quantity: int
    price: int
    """One unit, as printed."""
    discount: int = 0
    """Off the whole line, as printed."""
    tax: int = 0
    """Of the whole line after its discount."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fee:
    """A fee line of a WooCommerce order, without tax; negative: a rebate."""

    id: int
    name: str
    amount: int
    tax: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """One refund. WooCommerce prints only `total`; Shopify prints what it consists of."""

    id: int
    at: datetime
    reason: str
    total: int
    items: tuple[tuple[int, int, int, int], ...] = ()
    """(line id, quantity, subtotal as printed, tax in it)"""
    shipping: int = 0
    """Without tax."""
    shipping_tax: int = 0
    goodwill: int = 0
    """Money given back for nothing in return (a refund discrepancy)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order, or a WooCommerce draft of one."""

    store: StoreName
    id: int
    number: str
    status: str
    """Shopify's financial_status; WooCommerce's status."""
    created_at: datetime
    updated_at: datetime
    contact: Contact
    items: tuple[Item, ...]
    shipping: int = 0
    """As printed: Shopify with tax, WooCommerce without."""
    shipping_tax: int = 0
    fees: tuple[Fee, ...] = ()
    coupon: str | None = None
    refunds: tuple[Refund, ...] = ()
    test: bool = False
    cancelled_at: datetime | None = None
    fulfilled_at: datetime | None = None
    cart: str | None = None
    checkout: str | None = None
    ticked: bool = False
    """The box "keep me posted" of the checkout (Shopify)."""
    source: str = "web"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """A Shopify checkout."""

    store: StoreName
    id: int
    token: str
    cart: str
    created_at: datetime
    updated_at: datetime
    contact: Contact
    items: tuple[Item, ...]
    ticked: bool = False
    completed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cart:
    """A Shopify cart: nobody's until a checkout or order names its token."""

    store: StoreName
    token: str
    created_at: datetime
    updated_at: datetime
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """A registered customer."""

    store: StoreName
    id: int
    created_at: datetime
    updated_at: datetime
    contact: Contact
    consent: ConsentState | None = None
    """Of e-mail, as the platform keeps it; WooCommerce keeps none."""
    consent_at: datetime | None = None
    orders: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """A consent to e-mail told by itself: Shopify's own topic, or the merchant's site by `POST /v1/events`."""

    store: StoreName
    id: str
    at: datetime
    state: ConsentState
    customer_id: int | None
    email: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductState:
    """A product as its catalogue shows it."""

    store: StoreName
    product: Product
    updated_at: datetime
    stock: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundTold:
    """Shopify's `refunds/create`: a refund by itself."""

    order: Order
    refund: Refund


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """An order was deleted (Shopify) or put in the trash (WooCommerce): all that is told is its id."""

    store: StoreName
    order_id: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """A message about something that changes no figure: its body is all there is to it."""

    store: StoreName
    at: datetime
    body: Mapping[str, object] = field(default_factory=dict)


State = Order | Checkout | Cart | Customer | Consent | ProductState | RefundTold | Deleted | Aside


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something happened in a store, and the store tells it under these topics, one delivery each."""

    at: datetime
    store: StoreName
    topics: tuple[str, ...]
    state: State
    prompt: bool = False
    """Its first topic arrives within minutes, not hours: what a mail depends on is never unknowable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All that happens between `start` and `end`."""

    seed: int
    start: datetime
    end: datetime
    stores: tuple[StoreSpec, ...]
    changes: tuple[Change, ...]
    leavers: frozenset[str]
    """E-mail addresses whose owners press "unsubscribe" in the first mail that they get."""

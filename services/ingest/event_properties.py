"""What each type of first-party event must say in its `properties`: typed, and with the field's name where it is wrong.

Money is `{"amount": "12.50", "currency": "EUR"}`; all money of one event is in one currency. Orders, carts and
checkouts are told whole: what an event leaves out is not there.
"""

import re
from datetime import date, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from libs.common.contracts.commerce import Line
from libs.common.contracts.types import Channel, ConsentState
from libs.common.money import to_minor
from services.ingest import event_faults
from services.ingest.printed import LARGEST_AMOUNT, MOST_PIECES

Id = Annotated[str, Meta(min_length=1, max_length=128)]
Short = Annotated[str, Meta(min_length=1, max_length=255)]
Long = Annotated[str, Meta(max_length=1024)]
Country = Annotated[str, Meta(pattern="^[A-Za-z]{2}$", description="ISO 3166-1, two letters.")]
Instant = Annotated[datetime, Meta(tz=True)]
Scalar = str | int | float | bool | None

CUSTOM = re.compile(r"custom(?:\.[a-z][a-z0-9_]{0,39}){1,3}", re.ASCII)
"""Names of a sender's own types, `custom.quiz.finished`: none of ours begins so, now or later."""


class Wrong(Exception):
    """A field is not what the type demands. `pointer`: JSON pointer into the event; no value is in `detail`."""

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(detail)
        self.pointer = pointer
        self.detail = detail


class Money(Struct, frozen=True, forbid_unknown_fields=True):
    """An amount, as the API prints it."""

    amount: Annotated[str, Meta(max_length=40, description="Decimal, not negative; rounded to the currency's places.")]
    currency: Annotated[str, Meta(description="ISO 4217, upper case.")]


class Item(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of an order, checkout or cart."""

    title: Annotated[Short, Meta(description="As the customer reads it; stands in mails.")]
    quantity: Annotated[int, Meta(ge=0, le=MOST_PIECES, description="Pieces.")]
    price: Annotated[Money, Meta(description="Of one piece, before discounts, without tax.")]
    total: Annotated[
        Money | None,
        Meta(description="Of the whole line after its discounts, without tax. Default: price times quantity."),
    ] = None
    id: Annotated[Id | None, Meta(description="Of the line.")] = None
    product_id: Id | None = None
    variant_id: Id | None = None
    sku: Short | None = None
    image: Annotated[Long | None, Meta(description="Address of a picture.")] = None


Items = Annotated[list[Item], Meta(max_length=1000, description="What it holds now, whole; empty: nothing.")]


class Buyer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What else is known of who buys; the identifiers stand in the event's `profile`."""

    first_name: Short | None = None
    last_name: Short | None = None
    locale: Annotated[Short | None, Meta(description="Such as de-DE.")] = None
    country: Country | None = None


class Order(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The order as it stands at the event's `time`, told whole: what is left out is not there."""

    order_id: Annotated[Id, Meta(description="The shop's own; the same one again is the same order.")]
    lines: Annotated[list[Item], Meta(min_length=1, max_length=1000)]
    placed_at: Annotated[Instant | None, Meta(description="Default: the event's time.")] = None
    number: Annotated[Short | None, Meta(description="As the customer reads it. Default: order_id.")] = None
    status: Annotated[Short | None, Meta(description="The shop's own word. Default: placed, or cancelled.")] = None
    discounts: Annotated[
        Money | None, Meta(description="Off the whole order, beside those that are in the lines' totals.")
    ] = None
    shipping: Annotated[Money | None, Meta(description="As charged, without tax.")] = None
    taxes: Annotated[Money | None, Meta(description="All of them, that on shipping too.")] = None
    test: Annotated[bool, Meta(description="A test: kept, and counted nowhere.")] = False
    cancelled_at: Annotated[
        Instant | None, Meta(description="order.cancelled: default is the event's time. Set: the order does not count.")
    ] = None
    fulfilled_at: Instant | None = None
    buyer: Buyer = Buyer()
    accepts_marketing: Annotated[
        bool | None, Meta(description="true: subscribed to e-mail as of placed_at. Anything else says nothing.")
    ] = None


class Cancelled(Order, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole order, and when it was placed, which a cancellation's own time cannot say."""

    placed_at: Instant


class OrderRefund(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One refund of an order, given at the event's `time`. It may come before its order.

    In another currency than its order's it counts nowhere: nobody knows at which rate.
    """

    order_id: Id
    refund_id: Annotated[Id, Meta(description="The same one again is the same refund, not one more.")]
    amount: Annotated[Money, Meta(description="Of items, without tax and shipping.")]
    shipping: Annotated[Money | None, Meta(description="What of shipping was given back.")] = None
    taxes: Annotated[Money | None, Meta(description="What of taxes was given back.")] = None
    reason: Short | None = None


class Checkout(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The checkout of the profile's `checkout_token`, told whole at every change."""

    lines: Items
    total: Annotated[Money | None, Meta(description="To pay. Default: the sum of the lines' totals.")] = None
    started_at: Annotated[Instant | None, Meta(description="Default: the event's time. Say it in later ones.")] = None
    completed_at: Annotated[Instant | None, Meta(description="Set: it became an order; no recovery mail.")] = None
    recovery_url: Annotated[
        Annotated[str, Meta(pattern=r"^https?://", max_length=1024)] | None,
        Meta(description="Where the mail's button leads. Default: the shop's /cart."),
    ] = None
    buyer: Buyer = Buyer()
    accepts_marketing: Annotated[
        bool | None, Meta(description="true: subscribed to e-mail as of started_at. Anything else says nothing.")
    ] = None


class Cart(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The cart of the profile's `cart_token`, told whole at every change; no lines: it was emptied."""

    lines: Items
    total: Annotated[Money | None, Meta(description="Default: the sum of the lines' totals.")] = None
    started_at: Annotated[Instant | None, Meta(description="Default: the event's time. Say it in later ones.")] = None


class Consent(Struct, frozen=True, kw_only=True):
    """What the person said of a channel, at the event's `time`: the latest word holds; at one instant a withdrawal."""

    channel: Channel
    state: ConsentState
    source: Annotated[str, Meta(min_length=1, max_length=64, description="Where it was said.")] = "api"


class Customer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The record of the profile's `customer_id`, told whole: what is left out is not there."""

    first_name: Short | None = None
    last_name: Short | None = None
    locale: Annotated[Short | None, Meta(description="Such as de-DE.")] = None
    country: Country | None = None
    created_at: Annotated[Instant | None, Meta(description="When they registered.")] = None
    email_verified: Annotated[
        bool, Meta(description="true: the address is proven theirs, which is the stronger reason to join accounts.")
    ] = False
    birthday: date | None = None
    timezone: Annotated[Short | None, Meta(description="IANA, such as Europe/Berlin.")] = None
    tags: Annotated[list[Short], Meta(max_length=250)] | None = None


class View(Struct, frozen=True, kw_only=True):
    """A product was looked at."""

    product_id: Id


class Nps(Struct, frozen=True, kw_only=True, tag_field="survey", tag="nps"):
    """How likely the person is to recommend the shop. Kept; no KPI is made of it so far."""

    score: Annotated[int, Meta(ge=0, le=10, description="10: very likely.")]


class Csat(Struct, frozen=True, kw_only=True, tag_field="survey", tag="csat"):
    """How satisfied the person is. Kept; no KPI is made of it so far."""

    score: Annotated[int, Meta(ge=1, le=5, description="5: very satisfied.")]


class Asked(Struct, frozen=True, kw_only=True):
    """Somebody asked support something."""

    ticket_id: Id


class Settled(Struct, frozen=True, kw_only=True):
    """What somebody asked support is settled."""

    ticket_id: Id


class Loyalty(Struct, frozen=True, kw_only=True):
    """The balance after the change."""

    points: Annotated[int, Meta(ge=-(10**12), le=10**12)]
    tier: Short | None = None


class Review(Struct, frozen=True, kw_only=True):
    """A product was reviewed."""

    product_id: Id
    rating: Annotated[int, Meta(ge=1, le=5)]


class Lead(Struct, frozen=True, kw_only=True):
    """Somebody left an address or number."""

    source: Annotated[Short, Meta(description="Where.")]


class Subscription(Struct, frozen=True, kw_only=True):
    """Somebody wants to hear when a variant is there again. Kept; no mail goes out because of it so far."""

    variant_id: Id


COMMERCE: dict[str, Any] = {
    "order.placed": Order,
    "order.cancelled": Cancelled,
    "order.refunded": OrderRefund,
    "checkout.started": Checkout,
    "cart.changed": Cart,
    "consent.changed": Consent,
    "profile.updated": Customer,
}
"""What becomes the same observation as a platform's webhook."""
ACTIVITIES: dict[str, Any] = {
    "product.viewed": View,
    "survey.answered": Nps | Csat,
    "ticket.opened": Asked,
    "ticket.closed": Settled,
    "loyalty.changed": Loyalty,
    "review.submitted": Review,
    "lead.created": Lead,
    "back_in_stock.subscribed": Subscription,
}
"""What a person did: these properties, and whatever else is said."""


BEHAVIOUR = frozenset({"product.viewed", "cart.changed", "checkout.started"})
"""What somebody does on a page, so that the page may tell it; custom types are it, too. Everything else is a record of
the shop's, a word that binds somebody, or an address left: its server tells those."""


NEEDED: dict[str, str | None] = {
    "order.placed": None,
    "order.cancelled": None,
    "order.refunded": None,
    "checkout.started": "checkout_token",
    "cart.changed": "cart_token",
    "profile.updated": "customer_id",
}
"""The identifier that the event's profile must have; None: none at all. Types that are not here need any one."""


def known(type_: str) -> bool:
    """Whether this is a type of ours, or a name that a custom one may have."""
    return type_ in COMMERCE or type_ in ACTIVITIES or CUSTOM.fullmatch(type_) is not None


def typed(type_: str, properties: dict[str, Any]) -> Any:
    """The properties as their Struct; None for a custom type. Raises Wrong."""
    schema = COMMERCE.get(type_) or ACTIVITIES.get(type_)
    if schema is None:
        return None
    try:
        return msgspec.convert(properties, schema)
    except msgspec.ValidationError as error:
        pointer, detail = event_faults.told(str(error), schema)
        raise Wrong("/properties" + pointer, detail) from error


_NOT_SOLD = "This is negative, or more than any shop sells for."


class Purse:
    """Reads the money of one event, which is all in one currency."""

    def __init__(self, default: str) -> None:
        """`default`: the store's currency, for an event without any money in it."""
        self._default = default
        self._first: str | None = None

    @property
    def currency(self) -> str:
        """ISO 4217."""
        return self._first or self._default

    def minor(self, money: Money | None, pointer: str) -> int | None:
        """Minor units; Wrong for a negative amount, an unknown currency, or another one than before."""
        if money is None:
            return None
        if self._first is not None and money.currency != self._first:
            raise Wrong(f"{pointer}/currency", "All money of an event is in one currency.")
        try:
            found = to_minor(money.amount, money.currency)
        except ValueError as error:
            if "currency" in str(error):
                raise Wrong(f"{pointer}/currency", "This is not an ISO 4217 code in capitals, such as EUR.") from error
            large = "beyond" in str(error)
            detail = _NOT_SOLD if large else "This is not a decimal amount."
            raise Wrong(f"{pointer}/amount", detail) from error
        if not 0 <= found <= LARGEST_AMOUNT:
            raise Wrong(f"{pointer}/amount", _NOT_SOLD)
        self._first = money.currency
        return found

    def lines(self, items: list[Item]) -> list[Line]:
        """As the contract has them."""
        return [self._line(item, f"/properties/lines/{n}") for n, item in enumerate(items)]

    def _line(self, item: Item, pointer: str) -> Line:
        price = self.minor(item.price, f"{pointer}/price") or 0
        whole = price * item.quantity
        total = self.minor(item.total, f"{pointer}/total")
        if whole > LARGEST_AMOUNT:
            raise Wrong(f"{pointer}/quantity", "This many are more than any shop sells for.")
        if total is not None and total > whole:
            raise Wrong(f"{pointer}/total", "A line's total is not more than its price times its quantity.")
        return Line(
            title=item.title,
            quantity=item.quantity,
            price=price,
            total=whole if total is None else total,
            source_id=item.id,
            product_id=item.product_id,
            variant_id=item.variant_id,
            sku=item.sku,
            image=item.image,
        )


def flat(properties: dict[str, Any]) -> dict[str, Scalar]:
    """An activity's properties as its observation carries them: money becomes the text `12.50 EUR`. Raises Wrong."""
    told: dict[str, Scalar] = {}
    for name, value in properties.items():
        pointer = "/properties/" + name.replace("~", "~0").replace("/", "~1")
        if isinstance(value, dict):
            try:
                money = msgspec.convert(value, Money)
            except msgspec.ValidationError as error:
                raise Wrong(pointer, "This is neither a text, a number, a truth nor money.") from error
            Purse(money.currency).minor(money, pointer)
            told[name] = f"{money.amount} {money.currency}"
        elif isinstance(value, list):
            raise Wrong(pointer, "This is neither a text, a number, a truth nor money.")
        else:
            told[name] = value
    return told

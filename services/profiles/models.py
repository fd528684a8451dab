"""What the API answers: built from the states of the rules. Money is `{"amount": "12.50", "currency": "EUR"}`."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from pydantic import BaseModel, Field

from libs.common.contracts.commerce import Line, Refund
from libs.common.contracts.types import Channel, ConsentState, Platform
from libs.common.money import money
from services.profiles import checkouts, ledger, products
from services.profiles.checkouts import CheckoutState
from services.profiles.identity.resolve import MOST_TOGETHER, TIES
from services.profiles.ledger import OrderState
from services.profiles.products import ProductState


class Money(BaseModel):
    """An amount with the currency's decimals, as text."""

    amount: str
    currency: str


class RefundOut(BaseModel):
    """One refund, split."""

    source_id: str
    at: datetime = Field(
        description="When it was given. WooCommerce does not say: the date of the change that first showed it."
    )
    returns: Money
    shipping: Money
    tax: Money
    reason: str | None


class LineOut(BaseModel):
    """One line; `total` is after its discounts, without tax; `price` as the shop prints it, before discounts."""

    source_id: str | None
    product_id: str | None
    variant_id: str | None
    sku: str | None
    title: str
    quantity: int
    price: Money
    total: Money


class OrderOut(BaseModel):
    """An order as the ledger holds it. `shipping`, `tax` and `total` are less what of them was refunded."""

    store: str
    source_id: str
    number: str
    status: str = Field(description="The platform's own word.")
    placed_at: datetime
    updated_at: datetime
    cancelled_at: datetime | None
    fulfilled_at: datetime | None
    deleted: bool
    test: bool
    counted: bool = Field(description="Whether KPIs count it: placed, no test, neither cancelled nor deleted.")
    currency: str
    gross: Money
    discounts: Money
    returns: Money
    net: Money = Field(description="gross - discounts - returns")
    shipping: Money
    tax: Money
    total: Money = Field(description="net + shipping + tax")
    refunds: list[RefundOut]
    lines: list[LineOut]
    email: str | None
    customer_source_id: str | None
    checkout_token: str | None
    profile_id: str | None


class CheckoutOut(BaseModel):
    """A checkout as last described."""

    store: str
    token: str
    started_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    deleted: bool
    currency: str
    total: Money
    items: int
    lines: list[LineOut]
    email: str | None
    customer_source_id: str | None
    cart_token: str | None
    recovery_url: str | None
    profile_id: str | None


class VariantOut(BaseModel):
    """One variant of a product."""

    source_id: str
    title: str | None
    sku: str | None
    price: Money | None
    stock: int | None


class ProductOut(BaseModel):
    """A product as last described."""

    store: str
    source_id: str
    title: str
    status: str
    currency: str
    url: str | None
    image: str | None
    updated_at: datetime
    deleted: bool
    variants: list[VariantOut]


class IdentifierOut(BaseModel):
    """Something by which accounts of this profile are known."""

    kind: str
    value: str
    store: str | None = Field(description="Tokens belong to a store.")
    tier: str = Field(description="`strong` joins accounts by itself; `weak` never two customers of one store.")
    quarantined: bool = Field(description="Shared by too many accounts: joins nobody.")
    accounts: list[str]


class AccountOut(BaseModel):
    """One identity as one source knows it."""

    account: str
    kind: str = Field(description="`customer` (registered), `guest` or `cart`.")
    store: str
    platform: Platform | None
    customer_source_id: str | None
    first_seen_at: datetime | None
    last_activity_at: datetime | None
    deleted: bool
    crowded: bool = Field(
        description=f"Hangs together with more than {MOST_TOGETHER:,} accounts by what they are known by, or by more"
        f" than {MOST_TOGETHER * TIES:,} ties (an account and what it shares with others), which proves nothing of any"
        " of them: it stands alone."
    )


class TraitsOut(BaseModel):
    """Who it is: customer records first, then what orders and checkouts mention; newest first."""

    email: str | None
    phone: str | None
    first_name: str | None
    last_name: str | None
    locale: str | None
    country: str | None
    timezone: str | None
    birthday: date | None


class ConsentOut(BaseModel):
    """What holds for a channel: the strictest over all accounts."""

    state: ConsentState
    at: datetime
    source: str


class TotalsOut(BaseModel):
    """Over the counted orders of all accounts."""

    orders: int
    net: list[Money] = Field(description="One for each currency.")
    first_order_at: datetime | None
    last_order_at: datetime | None


class ProfileOut(BaseModel):
    """One person."""

    id: str
    created_at: datetime | None
    last_activity_at: datetime | None
    traits: TraitsOut
    identifiers: list[IdentifierOut]
    accounts: list[AccountOut]
    consent: dict[Channel, ConsentOut] = Field(description="Channels never spoken of are absent.")
    totals: TotalsOut


class EntryOut(BaseModel):
    """One line of a timeline."""

    at: datetime
    kind: str
    store: str
    account: str
    subject: str
    summary: dict[str, Any]


def _money(minor: int, currency: str) -> Money:
    return Money(**money(minor, currency))


def _lines(lines: Sequence[Line], currency: str) -> list[LineOut]:
    return [
        LineOut(
            source_id=line.source_id,
            product_id=line.product_id,
            variant_id=line.variant_id,
            sku=line.sku,
            title=line.title,
            quantity=line.quantity,
            price=_money(line.price, currency),
            total=_money(line.total, currency),
        )
        for line in lines
    ]


def _refund(refund: Refund, at: datetime, currency: str) -> RefundOut:
    return RefundOut(
        source_id=refund.source_id,
        at=at,
        returns=_money(refund.returns, currency),
        shipping=_money(refund.shipping, currency),
        tax=_money(refund.taxes, currency),
        reason=refund.reason,
    )


def order_out(state: OrderState, profile: str | None) -> OrderOut | None:
    """The answer for an order; None while only a refund or a tombstone is known."""
    view, snapshot = ledger.view(state), state.snapshot
    if view is None or snapshot is None:
        return None
    amounts = {
        name: _money(minor, view.currency)
        for name, minor in {
            "gross": view.gross,
            "discounts": view.discounts,
            "returns": view.returns,
            "net": view.net,
            "shipping": view.shipping,
            "tax": view.taxes,
            "total": view.total,
        }.items()
    }
    return OrderOut(
        store=view.store,
        source_id=view.source_id,
        number=snapshot.number,
        status=snapshot.status,
        placed_at=view.placed_at,
        updated_at=snapshot.updated_at,
        cancelled_at=view.cancelled_at,
        fulfilled_at=view.fulfilled_at,
        deleted=view.deleted,
        test=snapshot.test,
        counted=view.counted,
        currency=view.currency,
        **amounts,
        refunds=[
            _refund(refund, state.refunds[refund.source_id].at, view.currency) for refund in ledger.refunds(state)
        ],
        lines=_lines(snapshot.lines, view.currency),
        email=snapshot.person.email,
        customer_source_id=snapshot.customer_id,
        checkout_token=view.checkout_token,
        profile_id=profile,
    )


def checkout_out(state: CheckoutState, profile: str | None) -> CheckoutOut | None:
    """The answer for a checkout; None while only a tombstone is known."""
    view, snapshot = checkouts.view(state), state.snapshot
    if view is None or snapshot is None:
        return None
    return CheckoutOut(
        store=view.store,
        token=view.token,
        started_at=view.started_at,
        updated_at=snapshot.updated_at,
        completed_at=view.completed_at,
        deleted=view.deleted,
        currency=view.currency,
        total=_money(view.total, view.currency),
        items=view.items,
        lines=_lines(view.lines, view.currency),
        email=snapshot.person.email,
        customer_source_id=snapshot.customer_id,
        cart_token=view.cart_token,
        recovery_url=view.recovery_url,
        profile_id=profile,
    )


def product_out(state: ProductState) -> ProductOut | None:
    """The answer for a product; None while only a tombstone is known."""
    view, snapshot = products.view(state), state.snapshot
    if view is None or snapshot is None:
        return None
    return ProductOut(
        store=view.store,
        source_id=view.source_id,
        title=view.title,
        status=view.status,
        currency=view.currency,
        url=view.url,
        image=view.image,
        updated_at=snapshot.updated_at,
        deleted=view.deleted,
        variants=[
            VariantOut(
                source_id=variant.source_id,
                title=variant.title,
                sku=variant.sku,
                price=None if variant.price is None else _money(variant.price, view.currency),
                stock=variant.stock,
            )
            for variant in view.variants
        ],
    )

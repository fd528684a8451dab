"""Shopify's orders: the typed payload in, an observed snapshot out.

Money is the shop's (`shop_money`), never the buyer's. An edited or returned order keeps its original lines; what was
taken off again comes as a refund, so that lines, discounts and `total_price` are one and the same state.
"""

from datetime import datetime
from functools import partial
from typing import NamedTuple

import msgspec
from msgspec import Struct

from libs.common.contracts.commerce import MOST_REFUNDS, Line, OrderObserved
from services.ingest.outcome import Arrival, Observation, Observations, Outcome, Unreadable
from services.ingest.printed import (
    Scalar,
    bounded,
    currency_code,
    decoded,
    first,
    identifier,
    instant,
    listed,
    minor,
    required,
    text,
)
from services.ingest.shopify_parts import (
    Allocation,
    AnyAddress,
    AnyCustomer,
    Customer,
    LineItem,
    MoneySet,
    TaxLine,
    flag,
    is_test,
    line,
    line_discount,
    person,
    sent_at,
    share,
    shop_money,
    tax_within_discount,
    total_of,
)
from services.ingest.shopify_refunds import RefundBody, refund_of


class _ShippingLine(Struct):
    price: Scalar = None
    discounted_price: Scalar = None
    discount_allocations: list[Allocation] | None = None
    tax_lines: list[TaxLine] | None = None
    is_removed: Scalar = None


class _Fulfillment(Struct):
    status: Scalar = None
    created_at: Scalar = None


class _Order(Struct):
    id: Scalar = None
    name: Scalar = None
    order_number: Scalar = None
    number: Scalar = None
    created_at: Scalar = None
    processed_at: Scalar = None
    updated_at: Scalar = None
    cancelled_at: Scalar = None
    currency: Scalar = None
    financial_status: Scalar = None
    fulfillment_status: Scalar = None
    test: Scalar = None
    taxes_included: Scalar = None
    total_discounts: Scalar = None
    total_line_items_price: Scalar = None
    total_tax: Scalar = None
    total_shipping_price_set: MoneySet | None = None
    original_total_duties_set: MoneySet | None = None
    original_total_additional_fees_set: MoneySet | None = None
    line_items: list[LineItem] | None = None
    shipping_lines: list[_ShippingLine] | None = None
    fulfillments: list[_Fulfillment] | None = None
    refunds: list[RefundBody] | None = None
    customer: AnyCustomer = None
    billing_address: AnyAddress = None
    shipping_address: AnyAddress = None
    email: Scalar = None
    contact_email: Scalar = None
    phone: Scalar = None
    customer_locale: Scalar = None
    cart_token: Scalar = None
    checkout_token: Scalar = None
    buyer_accepts_marketing: Scalar = None


class _Amounts(NamedTuple):
    gross: int
    discounts: int
    shipping: int
    taxes: int


_ORDER = msgspec.json.Decoder(_Order)


def order(arrival: Arrival) -> Outcome:
    """`orders/create`, `/updated`, `/paid`, …: one body under all of these topics."""
    body = decoded(_ORDER, arrival.body)
    source_id = required(identifier(body.id), "id")
    currency = currency_code(body.currency, arrival.store.currency)
    updated_at = instant(body.updated_at, "updated_at") or sent_at(arrival)
    status = text(body.financial_status) or "unknown"
    tax_inside = body.taxes_included is True
    customer = body.customer if isinstance(body.customer, Customer) else Customer()
    created_at = instant(body.created_at, "created_at")
    if created_at is None and body.line_items is None and body.total_line_items_price is None:
        raise Unreadable("an order without a date, lines and amounts")
    lines = listed(partial(line, currency=currency, tax_inside=tax_inside), body.line_items, "line_items")
    amounts = _amounts(body, lines, currency, tax_inside=tax_inside)
    observed = OrderObserved(
        **arrival.envelope(source_id, updated_at),
        number=first(body.name, body.order_number, body.number) or source_id,
        status=status,
        placed=status != "voided",
        placed_at=instant(body.processed_at, "processed_at") or created_at or updated_at,
        currency=currency,
        gross=amounts.gross,
        discounts=amounts.discounts,
        shipping=amounts.shipping,
        taxes=amounts.taxes,
        test=body.test is True or is_test(arrival),
        cancelled_at=instant(body.cancelled_at, "cancelled_at"),
        fulfilled_at=_fulfilled_at(body, updated_at),
        refunds=listed(
            partial(refund_of, currency=currency, tax_inside=tax_inside), body.refunds, "refunds", MOST_REFUNDS
        ),
        lines=lines,
        person=person(
            customer,
            body.billing_address,
            body.shipping_address,
            email=first(body.email, body.contact_email),
            phone=text(body.phone),
            locale=text(body.customer_locale),
        ),
        customer_id=identifier(customer.id),
        cart_token=identifier(body.cart_token),
        checkout_token=identifier(body.checkout_token),
        accepts_marketing=flag(body.buyer_accepts_marketing),
    )
    return Observations([Observation("order.observed", f"order:{source_id}", observed)])


def _amounts(body: _Order, lines: list[Line], currency: str, *, tax_inside: bool) -> _Amounts:
    """`gross - discounts + shipping + taxes` is `total_price` less tips, which are no sales."""
    taxes = minor(body.total_tax, currency, "total_tax") or 0
    shipping, shipping_discount, shipping_tax = _shipping(body, currency)
    gross = sum(each.price * each.quantity for each in lines)
    if not lines:
        gross = minor(body.total_line_items_price, currency, "total_line_items_price") or 0
    on_lines = sum(line_discount(item, currency) for item in body.line_items or ())
    discounts = minor(body.total_discounts, currency, "total_discounts")
    # `total_discounts` holds those on shipping too, and shipping is reported as it was charged.
    discounts = on_lines if discounts is None else discounts - shipping_discount
    if tax_inside:
        item_tax = taxes - shipping_tax
        untaxed = sum(tax_within_discount(item, currency) for item in body.line_items or ())
        untaxed += share(discounts - on_lines, item_tax, gross - discounts)
        gross -= item_tax + untaxed
        discounts -= untaxed
        shipping -= shipping_tax
    return _Amounts(
        gross=bounded(gross, "line_items.price")
        + shop_money(body.original_total_additional_fees_set, currency, "additional fees"),
        discounts=bounded(discounts, "total_discounts"),
        shipping=bounded(shipping, "shipping_lines.price"),
        taxes=bounded(taxes + shop_money(body.original_total_duties_set, currency, "duties"), "total_tax"),
    )


def _shipping(body: _Order, currency: str) -> tuple[int, int, int]:
    """Charged, taken off, and the tax on it."""
    if body.shipping_lines is None:
        return shop_money(body.total_shipping_price_set, currency, "total_shipping_price_set"), 0, 0
    charged = off = tax = 0
    for shipping in body.shipping_lines:
        if shipping.is_removed is True:
            continue
        price = minor(shipping.price, currency, "shipping_lines.price") or 0
        paid = minor(shipping.discounted_price, currency, "shipping_lines.discounted_price")
        if paid is None:
            paid = price - total_of((each.amount for each in shipping.discount_allocations or ()), currency, "amount")
        charged += paid
        off += price - paid
        tax += total_of((each.price for each in shipping.tax_lines or ()), currency, "shipping_lines.tax_lines.price")
    return charged, off, tax


def _fulfilled_at(body: _Order, updated_at: datetime) -> datetime | None:
    if body.fulfillment_status != "fulfilled":
        return None
    done = (
        instant(each.created_at, "fulfillments.created_at")
        for each in body.fulfillments or ()
        if each.status not in {"cancelled", "error", "failure"}
    )
    return max((at for at in done if at is not None), default=updated_at)

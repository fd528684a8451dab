"""What Shopify's orders, refunds and checkouts have in common: their pieces, and how each is read."""

from collections.abc import Iterable
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from msgspec import Struct

from libs.common.contracts import commerce
from libs.common.contracts.commerce import Person
from services.ingest.outcome import Arrival, Unreadable
from services.ingest.printed import Scalar, bounded, decimal, first, identifier, instant, minor, pieces, text, title

HIGHEST_RATE = 1
"""Of tax: 100 %."""


class ShopMoney(Struct):
    """`…shop_money.shop_money`."""

    amount: Scalar = None
    currency_code: Scalar = None


class MoneySet(Struct):
    """`…shop_money`: one amount in the shop's money and, unread, in the buyer's."""

    shop_money: ShopMoney | None = None


class Allocation(Struct):
    """What a line bears of a discount."""

    amount: Scalar = None


class TaxLine(Struct):
    """One tax on a line; `rate` 0.19 is 19 %."""

    price: Scalar = None
    rate: Scalar = None


class LineItem(Struct):
    """A line of an order, a refund or a checkout."""

    id: Scalar = None
    product_id: Scalar = None
    variant_id: Scalar = None
    sku: Scalar = None
    title: Scalar = None
    quantity: Scalar = None
    price: Scalar = None
    total_discount: Scalar = None
    discount_allocations: list[Allocation] | None = None
    tax_lines: list[TaxLine] | None = None


class Address(Struct):
    """A billing, shipping or default address."""

    first_name: Scalar = None
    last_name: Scalar = None
    phone: Scalar = None
    country_code: Scalar = None


AnyAddress = Address | Scalar | list[Any]


class Customer(Struct):
    """The customer record that orders and checkouts embed."""

    id: Scalar = None
    email: Scalar = None
    phone: Scalar = None
    first_name: Scalar = None
    last_name: Scalar = None
    default_address: AnyAddress = None


AnyCustomer = Customer | Scalar | list[Any]


def header(arrival: Arrival, name: str) -> str | None:
    """A Shopify header of either family: `X-Shopify-Topic`, or `Shopify-Topic` of newer subscriptions."""
    return text(arrival.headers.get(f"x-shopify-{name}") or arrival.headers.get(f"shopify-{name}"))


def is_test(arrival: Arrival) -> bool:
    """Whether it is a test notification: what it tells of has not happened."""
    return (header(arrival, "test") or "").lower() == "true"


def sent_at(arrival: Arrival) -> datetime:
    """When Shopify says it happened, else when we got it: the date of what prints none itself."""
    return instant(header(arrival, "triggered-at"), "Triggered-At header") or arrival.received_at


def line(item: LineItem, currency: str, *, tax_inside: bool) -> commerce.Line:
    """One line; its total bears its discounts and, whatever the shop prints, no tax."""
    quantity = pieces(item.quantity)
    price = minor(item.price, currency, "price") or 0
    tax = total_of((tax.price for tax in item.tax_lines or ()), currency, "tax_lines.price") if tax_inside else 0
    return commerce.Line(
        title=title(item.title),
        quantity=quantity,
        price=price,
        total=bounded(price * quantity - line_discount(item, currency) - tax, "price"),
        source_id=identifier(item.id),
        product_id=identifier(item.product_id),
        variant_id=identifier(item.variant_id),
        sku=text(item.sku),
    )


def line_discount(item: LineItem, currency: str) -> int:
    """What was taken off the line: its shares of all discounts, or the one figure that old payloads print."""
    if item.discount_allocations:
        return total_of((each.amount for each in item.discount_allocations), currency, "discount_allocations.amount")
    return minor(item.total_discount, currency, "total_discount") or 0


def tax_within_discount(item: LineItem, currency: str) -> int:
    """What of the line's discount is tax, where prices include it: it is not in `tax_lines`, since nobody pays it."""
    off = line_discount(item, currency)
    if not off:
        return 0
    rate = sum((_rate(tax) for tax in item.tax_lines or ()), Decimal(0))
    if rate:
        return rounded(off * rate / (1 + rate))
    paid = (minor(item.price, currency, "price") or 0) * pieces(item.quantity) - off
    return share(off, total_of((tax.price for tax in item.tax_lines or ()), currency, "tax_lines.price"), paid)


def _rate(tax: TaxLine) -> Decimal:
    """0 for one that cannot be read or be meant: what the tax came to says it, too, if less exactly."""
    try:
        rate = decimal(tax.rate, "tax_lines.rate")
    except Unreadable:
        return Decimal(0)
    return rate if 0 < rate <= HIGHEST_RATE else Decimal(0)


def share(amount: int, part: int, whole: int) -> int:
    """`amount` times `part / whole`, halves up; 0 when that is no share of it."""
    return rounded(Decimal(amount) * part / whole) if 0 < part <= whole else 0


def rounded(amount: Decimal) -> int:
    """Halves up."""
    return int(amount.to_integral_value(ROUND_HALF_UP))


def person(
    customer: Customer,
    billing: AnyAddress,
    shipping: AnyAddress,
    *,
    email: str | None,
    phone: str | None,
    locale: str | None,
) -> Person:
    """Whom an order or checkout names; the object's own fields before the customer's, those before the addresses'."""
    addresses = [address for address in (billing, shipping, customer.default_address) if isinstance(address, Address)]
    return Person(
        email=first(email, customer.email),
        phone=first(phone, customer.phone, *(address.phone for address in addresses)),
        first_name=first(customer.first_name, *(address.first_name for address in addresses)),
        last_name=first(customer.last_name, *(address.last_name for address in addresses)),
        locale=locale,
        country=country(*(address.country_code for address in addresses)),
    )


def country(*codes: Scalar) -> str | None:
    """The first two-letter code."""
    return next((str(code).upper() for code in codes if isinstance(code, str) and len(code) == 2), None)  # noqa: PLR2004


def flag(value: Scalar) -> bool | None:
    """A boolean, or not said."""
    return value if isinstance(value, bool) else None


def total_of(values: Iterable[Scalar], currency: str, name: str) -> int:
    """The sum of printed amounts, in minor units."""
    return bounded(sum(minor(value, currency, name) or 0 for value in values), name)


def shop_money(value: MoneySet | None, currency: str, name: str) -> int:
    """A `…_set`'s amount in the shop's currency; 0 when absent."""
    return minor(value.shop_money.amount, currency, name) or 0 if value and value.shop_money else 0

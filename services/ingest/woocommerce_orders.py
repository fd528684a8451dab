"""WooCommerce's orders: typed payloads of REST v3 and its forerunners in, observed snapshots out.

The block checkout keeps its cart as an order in status `checkout-draft`: that is a checkout here, and becomes an
order, under the same id, when the status leaves it. Refunds are printed inside the order, as bare totals.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct

from libs.common.contracts.commerce import MOST_REFUNDS, CheckoutObserved, Line, OrderObserved, Person, Refund
from services.ingest.outcome import Arrival, Observation, Observations, Outcome, Unreadable
from services.ingest.printed import (
    Scalar,
    currency_code,
    decimal,
    decoded,
    first,
    identifier,
    instant,
    link,
    listed,
    minor,
    pieces,
    required,
    text,
    title,
)

PLACED = frozenset({"on-hold", "processing", "completed", "refunded"})
NOT_PLACED = frozenset({"pending", "cancelled", "failed", "trash", "draft", "auto-draft"})
"""A status in neither set is a plugin's own: it counts as placed once the order was paid."""
CHECKOUT = "checkout-draft"
DRAFT_LIFE = timedelta(days=1)
"""Untouched for so long a draft is deleted, at the next midnight, and nothing is sent about it."""


class Address(Struct):
    """Billing or shipping."""

    first_name: Scalar = None
    last_name: Scalar = None
    email: Scalar = None
    phone: Scalar = None
    country: Scalar = None


AnyAddress = Address | Scalar | list[Any]


class Image(Struct):
    """A picture of a line or a product."""

    src: Scalar = None


class _Line(Struct):
    id: Scalar = None
    name: Scalar = None
    product_id: Scalar = None
    variation_id: Scalar = None
    quantity: Scalar = None
    subtotal: Scalar = None
    subtotal_tax: Scalar = None
    total: Scalar = None
    total_tax: Scalar = None
    sku: Scalar = None
    image: Image | Scalar | list[Any] = None


class _Total(Struct):
    total: Scalar = None


class _Refund(Struct):
    id: Scalar = None
    reason: Scalar = None
    total: Scalar = None


class _Order(Struct):
    id: Scalar = None
    number: Scalar = None
    status: Scalar = None
    currency: Scalar = None
    date_created: Scalar = None
    date_created_gmt: Scalar = None
    date_modified: Scalar = None
    date_modified_gmt: Scalar = None
    date_paid: Scalar = None
    date_paid_gmt: Scalar = None
    date_completed: Scalar = None
    date_completed_gmt: Scalar = None
    total: Scalar = None
    total_tax: Scalar = None
    shipping_total: Scalar = None
    shipping_tax: Scalar = None
    prices_include_tax: Scalar = None
    customer_id: Scalar = None
    payment_url: Scalar = None
    billing: AnyAddress = None
    shipping: AnyAddress = None
    line_items: list[_Line] | None = None
    fee_lines: list[_Total] | None = None
    refunds: list[_Refund] | None = None
    # The legacy API's envelope, and its names inside.
    order: "_Order | Scalar | list[Any]" = None
    order_number: Scalar = None
    created_at: Scalar = None
    updated_at: Scalar = None
    completed_at: Scalar = None
    total_shipping: Scalar = None
    billing_address: AnyAddress = None
    shipping_address: AnyAddress = None


class Parts(Struct, frozen=True):
    """An order's money in minor units; `taxes` are those of the items and `shipping_tax`."""

    gross: int
    discounts: int
    shipping: int
    taxes: int
    shipping_tax: int


_ORDER = msgspec.json.Decoder(_Order)


def order(arrival: Arrival) -> Outcome:
    """`order.created`, `.updated`, `.restored`: the order as it stood when the delivery was built."""
    body = decoded(_ORDER, arrival.body)
    if isinstance(body.order, _Order):
        body = body.order
    source_id = required(identifier(body.id), "id")
    currency = currency_code(body.currency, arrival.store.currency)
    zone = arrival.store.timezone
    created_at = dated(body.date_created_gmt, body.date_created, "date_created", zone) or instant(
        body.created_at, "created_at"
    )
    changed_at = dated(body.date_modified_gmt, body.date_modified, "date_modified", zone) or instant(
        body.updated_at, "updated_at"
    )
    if created_at is None and body.line_items is None and body.total is None:
        raise Unreadable("an order without a date, lines and amounts")
    updated_at = changed_at or created_at or arrival.received_at
    started_at = created_at or updated_at
    status = (text(body.status) or "unknown").removeprefix("wc-")
    if status == CHECKOUT:
        observed = _checkout(body, arrival.envelope(source_id, updated_at), currency, started_at, updated_at)
        return Observations([Observation("checkout.observed", f"order:{source_id}", observed)])
    parts = _parts(body, currency)
    paid_at = dated(body.date_paid_gmt, body.date_paid, "date_paid", zone)
    fulfilled_at = dated(body.date_completed_gmt, body.date_completed, "date_completed", zone)
    observed_order = OrderObserved(
        **arrival.envelope(source_id, updated_at),
        number=first(body.number, body.order_number) or source_id,
        status=status,
        placed=status in PLACED or (status not in NOT_PLACED and paid_at is not None),
        placed_at=started_at,
        currency=currency,
        gross=parts.gross,
        discounts=parts.discounts,
        shipping=parts.shipping,
        taxes=parts.taxes,
        cancelled_at=updated_at if status == "cancelled" else None,
        fulfilled_at=fulfilled_at or instant(body.completed_at, "completed_at"),
        refunds=_refunds(body, parts, currency),
        refunds_complete=body.refunds is not None,
        lines=listed(partial(_line, currency=currency), body.line_items, "line_items"),
        person=_person(body),
        customer_id=identifier(body.customer_id),
        # Nothing in an order says whether it was a draft; where there was none, no checkout has this id.
        checkout_token=source_id,
    )
    return Observations([Observation("order.observed", f"order:{source_id}", observed_order)])


def dated(gmt: Scalar, local: Scalar, name: str, zone: str) -> datetime | None:
    """The UTC twin of a date, which carries no suffix; without it the local one, in the store's time zone."""
    return instant(gmt, f"{name}_gmt") or instant(local, name, zone)


def split_refunds(refunds: Sequence[tuple[str, int, str | None]], parts: Parts) -> list[Refund]:
    """(id, amount, reason) as returns, shipping and taxes: WooCommerce prints only what each gave back in all.

    What was refunded so far counts first against items and their tax, in proportion, then against shipping and its
    tax; each refund is what it adds to that. Exact for full refunds and where one tax rate rules. A surplus over the
    order's total (edited down after a refund) counts as returns: the parts always sum up to what was given back.
    """
    done: list[Refund] = []
    so_far = 0
    before = (0, 0, 0)
    for source_id, refunded, reason in refunds:
        so_far += refunded
        after = _split(so_far, parts)
        returns, shipping, taxes = (new - old for new, old in zip(after, before, strict=True))
        done.append(Refund(source_id=source_id, returns=returns, shipping=shipping, taxes=taxes, reason=reason))
        before = after
    return done


def _split(refunded: int, parts: Parts) -> tuple[int, int, int]:
    items = parts.gross - parts.discounts
    returns, item_tax = _share(refunded, items, parts.taxes - parts.shipping_tax)
    left = refunded - returns - item_tax
    shipping, shipping_tax = _share(left, parts.shipping, parts.shipping_tax)
    left -= shipping + shipping_tax
    return returns + left, shipping, item_tax + shipping_tax


def _share(refunded: int, net: int, tax: int) -> tuple[int, int]:
    """Of `refunded`, at most `net + tax`: what is net and what is tax, halves up."""
    taken = min(refunded, max(net + tax, 0))
    if taken == 0 or net < 0 or tax < 0:
        return taken, 0
    share = (2 * taken * net + net + tax) // (2 * (net + tax))
    return share, taken - share


def _refunds(body: _Order, parts: Parts, currency: str) -> list[Refund]:
    told = listed(partial(_refund, currency=currency), body.refunds, "refunds", MOST_REFUNDS)
    # Ids grow with time; the list's order is the REST controller's affair.
    return split_refunds(sorted(told, key=lambda each: (len(each[0]), each[0])), parts)


def _refund(each: _Refund, currency: str) -> tuple[str, int, str | None]:
    return (
        required(identifier(each.id), "id"),
        abs(minor(each.total, currency, "total") or 0),
        text(each.reason),
    )


def _parts(body: _Order, currency: str) -> Parts:
    """Lines, fees and shipping are printed without tax, in the shop's number of decimals; so round sums, not lines.

    `gross - discounts + shipping + taxes` is the printed total but for what a plugin took off as means of payment
    (gift cards, store credit): what is paid with those is sold all the same.
    """
    gross = discounts = Decimal(0)
    for item in body.line_items or ():
        total = decimal(item.total, "line_items.total")
        subtotal = total if item.subtotal is None else decimal(item.subtotal, "line_items.subtotal")
        gross += max(subtotal, total)
        discounts += max(subtotal - total, Decimal(0))
    for fee in body.fee_lines or ():
        total = decimal(fee.total, "fee_lines.total")
        gross += max(total, Decimal(0))
        discounts += max(-total, Decimal(0))
    shipping_total = body.total_shipping if body.shipping_total is None else body.shipping_total
    parts = Parts(
        gross=_minor(gross, currency),
        discounts=_minor(discounts, currency),
        shipping=minor(shipping_total, currency, "shipping_total") or 0,
        taxes=minor(body.total_tax, currency, "total_tax") or 0,
        shipping_tax=minor(body.shipping_tax, currency, "shipping_tax") or 0,
    )
    printed = minor(body.total, currency, "total")
    if printed is None:
        return parts
    rounding = printed - (parts.gross - parts.discounts + parts.shipping + parts.taxes)
    # An order made by hand or by an import may print a total and no lines: that is what was sold.
    told_whole = not body.line_items and not body.fee_lines and rounding > 0
    if abs(rounding) > len(body.line_items or ()) + 3 and not told_whole:
        return parts
    return msgspec.structs.replace(parts, gross=parts.gross + rounding) if rounding else parts


def _minor(value: Decimal, currency: str) -> int:
    return minor(value, currency, "line_items.total") or 0


def _line(item: _Line, currency: str, *, with_tax: bool = False) -> Line:
    total = decimal(item.total, "total")
    subtotal = total if item.subtotal is None else decimal(item.subtotal, "subtotal")
    if with_tax:
        total += decimal(item.total_tax, "total_tax")
        subtotal += decimal(item.subtotal_tax, "subtotal_tax")
    quantity = decimal(item.quantity, "quantity")
    # `price` is a float and after discounts.
    unit = subtotal / quantity if quantity else subtotal
    product_id = identifier(item.product_id)
    return Line(
        title=title(item.name),
        quantity=pieces(item.quantity),
        price=_minor(unit, currency),
        total=_minor(total, currency),
        source_id=identifier(item.id),
        product_id=product_id,
        variant_id=identifier(item.variation_id) or product_id,
        sku=text(item.sku),
        image=text(item.image.src) if isinstance(item.image, Image) else None,
    )


def _checkout(
    body: _Order, envelope: dict[str, Any], currency: str, started_at: datetime, changed_at: datetime
) -> CheckoutObserved:
    """A draft of the block checkout: whoever has its link may pay it, on any device, until the shop throws it away."""
    url = link(body.payment_url)
    return CheckoutObserved(
        **envelope,
        started_at=started_at,
        currency=currency,
        total=minor(body.total, currency, "total") or 0,
        lines=listed(
            partial(_line, currency=currency, with_tax=body.prices_include_tax is True), body.line_items, "line_items"
        ),
        person=_person(body),
        customer_id=identifier(body.customer_id),
        recovery_url=url,
        recovery_ends_at=changed_at + DRAFT_LIFE if url else None,
    )


def _person(body: _Order) -> Person:
    """A guest's identity stands in `billing` alone: who it is shipped to may be somebody else."""
    candidates = (body.billing, body.billing_address, body.shipping, body.shipping_address)
    addresses = [each for each in candidates if isinstance(each, Address)]
    billing = [each for each in candidates[:2] if isinstance(each, Address)]
    return Person(
        email=first(*(each.email for each in billing)),
        phone=first(*(each.phone for each in billing)),
        first_name=first(*(each.first_name for each in addresses)),
        last_name=first(*(each.last_name for each in addresses)),
        country=first(*(each.country for each in addresses)),
    )

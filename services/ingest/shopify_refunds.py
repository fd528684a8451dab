"""Shopify's refunds, inside their order or told by themselves."""

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from libs.common.contracts.commerce import Refund, RefundObserved
from services.ingest.outcome import Arrival, Observation, Observations, Outcome
from services.ingest.printed import Scalar, bounded, currency_code, decoded, identifier, instant, minor, required, text
from services.ingest.shopify_parts import LineItem, MoneySet, sent_at, shop_money, total_of

_NO_RATE = 10
"""Taxes of 1,000 % there are none."""


class _RefundLine(Struct):
    subtotal: Scalar = None
    total_tax: Scalar = None
    subtotal_set: MoneySet | None = None
    line_item: LineItem | None = None


class _RefundShippingLine(Struct):
    subtotal_amount_set: MoneySet | None = None
    tax_amount_set: MoneySet | None = None


class _Adjustment(Struct):
    kind: Scalar = None
    amount: Scalar = None
    tax_amount: Scalar = None
    amount_set: MoneySet | None = None


class _Transaction(Struct):
    kind: Scalar = None
    status: Scalar = None
    amount: Scalar = None
    currency: Scalar = None


class RefundBody(Struct):
    """A refund as the API prints it."""

    id: Scalar = None
    order_id: Scalar = None
    created_at: Scalar = None
    processed_at: Scalar = None
    note: Scalar = None
    refund_line_items: list[_RefundLine] | None = None
    refund_shipping_lines: list[_RefundShippingLine] | None = None
    order_adjustments: list[_Adjustment] | None = None
    transactions: list[_Transaction] | None = None
    total_duties_set: MoneySet | None = None
    total_additional_fees_set: MoneySet | None = None


_REFUND = msgspec.json.Decoder(RefundBody)


def refund(arrival: Arrival) -> Outcome:
    """`refunds/create`: told by itself, joined to its order by `order_id`."""
    body = decoded(_REFUND, arrival.body)
    order_id = required(identifier(body.order_id), "order_id")
    currency = currency_code(_refund_currency(body), arrival.store.currency)
    told = refund_of(body, currency, tax_inside=_tax_inside(body, currency))
    if currency != arrival.store.currency:
        # Whether that is its order's, this alone does not say.
        told = replace(told, currency=currency)
    observed = RefundObserved(**arrival.envelope(order_id, told.at or sent_at(arrival)), refund=told)
    return Observations([Observation("refund.observed", f"order:{order_id}", observed)])


def refund_of(body: RefundBody, currency: str, *, tax_inside: bool) -> Refund:
    """What one refund gave back, by kind. One that moves no money still takes its lines off the order."""
    lines = body.refund_line_items or ()
    item_tax = total_of((each.total_tax for each in lines), currency, "total_tax")
    returns = total_of((each.subtotal for each in lines), currency, "subtotal") - (item_tax if tax_inside else 0)
    taxes = item_tax + shop_money(body.total_duties_set, currency, "total_duties_set")
    shipping = 0
    for adjustment in body.order_adjustments or ():
        amount = minor(adjustment.amount, currency, "order_adjustments.amount") or 0
        # Adjustments are booked against the shop: what the buyer gets is negative.
        taxes -= minor(adjustment.tax_amount, currency, "order_adjustments.tax_amount") or 0
        if adjustment.kind == "shipping_refund":
            shipping -= amount
        else:
            returns -= amount
    for each in body.refund_shipping_lines or ():  # in place of that adjustment since 2024-10
        tax = shop_money(each.tax_amount_set, currency, "tax_amount_set")
        shipping += shop_money(each.subtotal_amount_set, currency, "subtotal_amount_set") - (tax if tax_inside else 0)
        taxes += tax
    return Refund(
        source_id=required(identifier(body.id), "id"),
        at=instant(body.processed_at, "processed_at") or instant(body.created_at, "created_at"),
        returns=bounded(
            returns + shop_money(body.total_additional_fees_set, currency, "total_additional_fees_set"),
            "refund_line_items.subtotal",
        ),
        shipping=bounded(shipping, "refund_shipping_lines.subtotal_amount_set"),
        taxes=bounded(taxes, "refund_line_items.total_tax"),
        reason=text(body.note),
    )


def _refund_currency(body: RefundBody) -> Scalar:
    """The shop's currency, if any amount is printed with it: a refund has no currency of its own."""
    sets = [
        *(each.subtotal_set for each in body.refund_line_items or ()),
        *(each.subtotal_amount_set for each in body.refund_shipping_lines or ()),
        *(each.amount_set for each in body.order_adjustments or ()),
        body.total_duties_set,
        body.total_additional_fees_set,
    ]
    return next((each.shop_money.currency_code for each in sets if each and each.shop_money), None)


def _tax_inside(body: RefundBody, currency: str) -> bool:
    """Whether its order's prices include tax: a refund by itself does not say, but the money that it moved does."""
    inside, outside = (refund_of(body, currency, tax_inside=each) for each in (True, False))
    sums = [each.returns + each.shipping + each.taxes for each in (inside, outside)]
    if sums[0] == sums[1]:
        return False
    moved = total_of(
        (
            each.amount
            for each in body.transactions or ()
            if each.kind == "refund" and each.status == "success" and each.currency in {None, currency}
        ),
        currency,
        "transactions.amount",
    )
    if moved in sums:
        return moved == sums[0]
    return sum(map(_leans_inside, body.refund_line_items or ())) > 0


def _leans_inside(body: _RefundLine) -> float:
    """Above 0 when the line's tax is nearer to tax contained in its amount than to tax added on top; 0 for neither."""
    rates = (each.rate for each in (body.line_item.tax_lines if body.line_item else None) or ())
    rate = sum(each for each in rates if isinstance(each, int | float) and 0 < each < _NO_RATE)
    if rate <= 0 or not isinstance(body.subtotal, int | float) or not isinstance(body.total_tax, int | float):
        return 0
    added = body.subtotal * rate
    contained = added / (1 + rate)
    from_added, from_contained = abs(body.total_tax - added), abs(body.total_tax - contained)
    # Far from both, the rate is not what this tax was made by, and says nothing.
    return 0 if min(from_added, from_contained) > added - contained else from_added - from_contained

"""Whatever a body turns into on its way, a normaliser answers or says `Unreadable`; and money keeps its identities."""

import copy
import json
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from libs.common.contracts.commerce import OrderObserved
from services.ingest import shopify, woocommerce
from services.ingest.normalise import Observations, Unreadable, root_key
from services.ingest.woocommerce_orders import Parts, split_refunds
from tests.unit.ingest.payloads import (
    observed,
    outcome,
    shopify_line,
    shopify_order,
    woocommerce_line,
    woocommerce_order,
)

TOPICS = [("shopify", each) for each in shopify.TOPICS] + [("woocommerce", each) for each in woocommerce.TOPICS]
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=10**18, max_value=10**45),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.sampled_from(
        ["", "0", "-1", "1e15", "12.5", "NaN", "\x00", "2026-03-01T10:00:00", "0000-00-00 00:00:00", "gid://x/", "?"]
    ),
    st.just([]),
    st.just({}),
    st.just([{}]),
    st.just({"id": 7, "shop_money": {"amount": "1.00"}}),
)
REFUND = {
    "id": 5,
    "order_id": 12,
    "refund_line_items": [
        {"subtotal": 1.5, "total_tax": 0.2, "line_item": {"tax_lines": [{"rate": 0.2, "price": "0.20"}]}}
    ],
    "order_adjustments": [{"kind": "shipping_refund", "amount": "-1.00", "tax_amount": "0.00"}],
    "refund_shipping_lines": [{"subtotal_amount_set": {"shop_money": {"amount": "1.00"}}}],
    "transactions": [{"kind": "refund", "status": "success", "amount": "1.70"}],
}
PEOPLE: dict[str, Any] = {
    "token": "t-1",
    "customer_id": 3,
    "tags": "a,b",
    "verified_email": True,
    "default_address": {"phone": "1", "country_code": "DE"},
    "email_marketing_consent": {"state": "subscribed", "consent_updated_at": "2026-01-01T00:00:00Z"},
    "sms_marketing_consent": {"state": "unsubscribed"},
    "variants": [{"id": 1, "price": "1.00", "inventory_quantity": 3}],
    "variations": [1, {"id": 2}],
    "images": [{"src": "//x"}],
    "price": "3.00",
    "stock_quantity": 4,
}
BODIES: list[dict[str, Any]] = [
    shopify_order(refunds=[REFUND], fulfillment_status="fulfilled", fulfillments=[{"created_at": "2026-03-01"}])
    | PEOPLE,
    woocommerce_order(refunds=[{"id": 9, "total": "-3.00"}], fee_lines=[{"total": "-1.00"}]) | PEOPLE,
    {"order": woocommerce_order(), "customer": {"id": 4, "email": "a@b"}, "product": {"id": 5, "title": "t"}},
    REFUND,
]
MINOR = st.integers(min_value=0, max_value=50_000)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything in it."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [found for key, each in inside for found in places(each, (*path, key))]


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    body = copy.deepcopy(draw(st.sampled_from(BODIES)))
    for path in draw(st.lists(st.sampled_from(places(body)), min_size=1, max_size=4)):
        target = body
        try:
            for key in path[:-1]:
                target = target[key]
            target[path[-1]] = draw(ODD)
        except (KeyError, IndexError, TypeError):
            # An earlier change took the place away.
            continue
    return body


def check(platform: str, topic: str, body: bytes) -> None:
    key = root_key(platform, topic, body)
    try:
        found = outcome(platform, topic, body)
    except Unreadable:
        return
    if isinstance(found, Observations):
        for observation in found.observations:
            assert observation.root == key
            assert "\x00" not in repr(observation)
    else:
        assert found.reason


@given(st.sampled_from(TOPICS), mutated())
def test_mutated_payloads(topic: tuple[str, str], body: Any) -> None:
    check(*topic, json.dumps(body).encode())


@given(st.sampled_from(TOPICS), st.sampled_from(BODIES), st.data())
def test_damaged_bytes(topic: tuple[str, str], body: Any, data: st.DataObject) -> None:
    raw = bytearray(json.dumps(body).encode())
    start = data.draw(st.integers(0, len(raw)))
    raw[start : start + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=6))
    check(*topic, bytes(raw))


@given(st.sampled_from(TOPICS), st.binary(max_size=200))
def test_any_bytes(topic: tuple[str, str], body: bytes) -> None:
    check(*topic, body)


def printed(minor: int) -> str:
    return str(Decimal(minor).scaleb(-2))


@given(
    lines=st.lists(st.tuples(MINOR, st.integers(1, 9), st.integers(0, 100), MINOR), min_size=1, max_size=5),
    shipping=st.tuples(MINOR, st.integers(0, 100), MINOR),
    tax_inside=st.booleans(),
)
def test_a_shopify_order_sums_up_to_its_printed_total(
    *, lines: list[tuple[int, int, int, int]], shipping: tuple[int, int, int], tax_inside: bool
) -> None:
    offs = [price * quantity * percent // 100 for price, quantity, percent, _ in lines]
    shipping_off = shipping[0] * shipping[1] // 100
    goods = sum(price * quantity for price, quantity, _, _ in lines) - sum(offs)
    taxes = sum(tax for _, _, _, tax in lines) + shipping[2]
    total = goods + shipping[0] - shipping_off + (0 if tax_inside else taxes)
    found = observed(
        OrderObserved,
        "shopify",
        "orders/create",
        shopify_order(
            taxes_included=tax_inside,
            total_tax=printed(taxes),
            total_discounts=printed(sum(offs) + shipping_off),
            total_price=printed(total),
            line_items=[
                shopify_line(
                    price=printed(price),
                    quantity=quantity,
                    discount_allocations=[{"amount": printed(off)}],
                    tax_lines=[{"price": printed(tax)}],
                )
                for (price, quantity, _, tax), off in zip(lines, offs, strict=True)
            ],
            shipping_lines=[
                {
                    "price": printed(shipping[0]),
                    "discounted_price": printed(shipping[0] - shipping_off),
                    "tax_lines": [{"price": printed(shipping[2])}],
                }
            ],
        ),
    )
    assert found.gross - found.discounts + found.shipping + found.taxes == total
    assert sum(line.total for line in found.lines) == found.gross - found.discounts


@given(
    lines=st.lists(st.tuples(MINOR, st.integers(0, 100)), min_size=1, max_size=5),
    fee=st.integers(-500, 5000),
    shipping=MINOR,
    taxes=st.tuples(MINOR, MINOR),
    currency=st.sampled_from(["EUR", "JPY", "KWD"]),
)
def test_a_woocommerce_order_sums_up_to_its_printed_total_in_any_currency(
    lines: list[tuple[int, int]], fee: int, shipping: int, taxes: tuple[int, int], currency: str
) -> None:
    """The shop prints two decimals whatever the currency has."""
    offs = [price * percent // 100 for price, percent in lines]
    total = sum(price for price, _ in lines) - sum(offs) + fee + shipping + sum(taxes)
    found = observed(
        OrderObserved,
        "woocommerce",
        "order.updated",
        woocommerce_order(
            currency=currency,
            line_items=[
                woocommerce_line(subtotal=printed(price), total=printed(price - off), quantity=1)
                for (price, _), off in zip(lines, offs, strict=True)
            ],
            fee_lines=[{"total": printed(fee)}],
            shipping_total=printed(shipping),
            shipping_tax=printed(taxes[1]),
            total_tax=printed(sum(taxes)),
            total=printed(total),
        ),
    )
    exponent = {"EUR": 0, "JPY": -2, "KWD": 1}[currency]
    expected = int(Decimal(total).scaleb(exponent).quantize(Decimal(1), "ROUND_HALF_UP"))
    assert found.gross - found.discounts + found.shipping + found.taxes == expected


@given(
    gross=MINOR,
    discounts=MINOR,
    shipping=MINOR,
    item_tax=MINOR,
    shipping_tax=MINOR,
    shares=st.lists(st.integers(0, 100), max_size=6),
    full=st.booleans(),
)
def test_split_refunds_never_exceed_the_parts_and_always_sum_up(
    *, gross: int, discounts: int, shipping: int, item_tax: int, shipping_tax: int, shares: list[int], full: bool
) -> None:
    discounts = min(discounts, gross)
    parts = Parts(
        gross=gross, discounts=discounts, shipping=shipping, taxes=item_tax + shipping_tax, shipping_tax=shipping_tax
    )
    total = gross - discounts + shipping + parts.taxes
    left, refunds = total, []
    for number, share in enumerate(shares):
        amount = left * share // 100
        refunds.append((str(number), amount, None))
        left -= amount
    if full:
        refunds.append(("999", left, None))
    found = split_refunds(refunds, parts)
    for (_, amount, _), each in zip(refunds, found, strict=True):
        assert min(each.returns, each.shipping, each.taxes) >= 0
        assert each.returns + each.shipping + each.taxes == amount
    sums = [sum(getattr(each, name) for each in found) for name in ("returns", "shipping", "taxes")]
    whole = [gross - discounts, shipping, parts.taxes]
    assert all(part <= most for part, most in zip(sums, whole, strict=True))
    if full:
        assert sums == whole

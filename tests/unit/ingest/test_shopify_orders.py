import re
from datetime import UTC, datetime
from typing import Any

import pytest

from libs.common.contracts.commerce import OrderObserved, Refund, RefundObserved, Removed
from services.ingest.normalise import Ignored, Unreadable
from tests.unit.ingest.payloads import RECEIVED_AT, outcome, shopify_line, shopify_order
from tests.unit.ingest.payloads import observed as observed_in


def order(topic: str = "orders/create", headers: dict[str, str] | None = None, **changes: Any) -> OrderObserved:
    return observed_in(OrderObserved, "shopify", topic, shopify_order(**changes), headers=headers)


def total(found: OrderObserved) -> int:
    return found.gross - found.discounts + found.shipping + found.taxes


def refund(**changes: Any) -> dict[str, Any]:
    return {
        "id": 61,
        "order_id": 9007199254740993,
        "created_at": "2026-03-02T10:00:00Z",
        "processed_at": None,
        "note": "too bitter",
        "refund_line_items": [{"subtotal": 27.0, "total_tax": 5.13}],
        "order_adjustments": [],
        "transactions": [{"kind": "refund", "status": "success", "amount": "32.13", "currency": "EUR"}],
    } | changes


def test_an_order_is_read_whole() -> None:
    found = order()
    assert found.source_id == "9007199254740993"
    assert (found.store, found.platform, found.position, found.delivery) == ("st_1", "shopify", 7, "j-1")
    assert (found.number, found.status, found.placed, found.test) == ("#1001", "paid", True, False)
    assert found.placed_at == datetime(2026, 3, 1, 8, 59, 58, tzinfo=UTC)
    assert found.updated_at == datetime(2026, 3, 1, 9, 0, 5, tzinfo=UTC)
    assert (found.gross, found.discounts, found.shipping, found.taxes) == (8000, 800, 500, 1368)
    assert [(each.title, each.quantity, each.price, each.total) for each in found.lines] == [
        ("Green tea", 2, 3000, 5400),
        ("Cup", 1, 2000, 1800),
    ]
    assert (found.lines[0].product_id, found.lines[0].variant_id, found.lines[0].sku) == ("501", "502", "TEA-1")
    assert (found.person.email, found.person.phone) == ("Ada@Example.com", "030 123456")
    assert (found.person.first_name, found.person.locale, found.person.country) == ("Ada", "de-DE", "DE")
    assert (found.customer_id, found.cart_token, found.checkout_token) == ("88", "c1-5f2", "chk-77")
    assert found.accepts_marketing is True


def test_prices_with_tax_are_reported_without_and_sum_up_to_what_was_printed() -> None:
    found = order(
        taxes_included=True,
        line_items=[
            shopify_line(quantity=1, price="119.00", tax_lines=[{"price": "19.00", "rate": 0.19}]),
        ],
        shipping_lines=[{"price": "5.95", "discounted_price": "5.95", "tax_lines": [{"price": "0.95"}]}],
        total_discounts="0.00",
        total_tax="19.95",
        total_price="124.95",
    )
    assert (found.gross, found.shipping, found.taxes) == (10000, 500, 1995)
    assert total(found) == 12495
    assert found.lines[0].total == 10000


def taxed(**changes: Any) -> dict[str, Any]:
    """One cup of 119.00 with 19.00 of tax inside, 10 % off."""
    told: dict[str, Any] = {
        "taxes_included": True,
        "line_items": [
            shopify_line(
                quantity=1,
                price="119.00",
                discount_allocations=[{"amount": "11.90"}],
                tax_lines=[{"price": "17.10", "rate": 0.19}],
            )
        ],
        "shipping_lines": [],
        "total_discounts": "11.90",
        "total_tax": "17.10",
        "total_price": "107.10",
    }
    return told | changes


@pytest.mark.parametrize(
    "told",
    [
        taxed(),
        taxed(
            line_items=[
                shopify_line(
                    quantity=1,
                    price="119.00",
                    discount_allocations=[{"amount": "11.90"}],
                    tax_lines=[{"price": "17.10"}],
                )
            ]
        ),
        taxed(line_items=[shopify_line(quantity=1, price="119.00", tax_lines=[{"price": "17.10", "rate": 0.19}])]),
    ],
    ids=["by the printed rate", "without a rate", "off the whole order"],
)
def test_where_prices_include_tax_gross_and_discounts_are_both_without(told: dict[str, Any]) -> None:
    found = order(**told)
    assert (found.gross, found.discounts, found.taxes) == (10000, 1000, 1710)
    assert total(found) == 10710


@pytest.mark.parametrize("rate", ["0,19", "NaN", 19, -1, "1e-300"])
def test_a_rate_that_cannot_be_meant_is_what_the_tax_comes_to(rate: object) -> None:
    item = shopify_line(
        quantity=1,
        price="119.00",
        discount_allocations=[{"amount": "11.90"}],
        tax_lines=[{"price": "17.10", "rate": rate}],
    )
    found = order(**taxed(line_items=[item]))
    assert (found.gross, found.discounts, found.taxes) == (10000, 1000, 1710)


def test_what_was_given_away_with_tax_inside_was_worth_its_price_without() -> None:
    free = shopify_line(
        quantity=1,
        price="119.00",
        discount_allocations=[{"amount": "119.00"}],
        tax_lines=[{"price": "0.00", "rate": 0.19}],
    )
    found = order(**taxed(line_items=[free], total_discounts="119.00", total_tax="0.00", total_price="0.00"))
    assert (found.gross, found.discounts, found.taxes) == (10000, 10000, 0)


def test_a_discount_on_shipping_is_not_taken_off_the_goods() -> None:
    found = order(
        shipping_lines=[{"price": "5.00", "discounted_price": "0.00", "discount_allocations": [{"amount": "5.00"}]}],
        total_discounts="13.00",
        total_price="85.68",
    )
    assert (found.discounts, found.shipping) == (800, 0)
    assert total(found) == 8568


def test_duties_count_as_taxes_and_tips_as_nothing() -> None:
    duties = {"shop_money": {"amount": "4.00", "currency_code": "EUR"}}
    found = order(original_total_duties_set=duties, total_tip_received="2.00", total_price="96.68")
    assert total(found) == 9668 - 200


def test_old_payloads_without_totals_fall_back_to_their_lines() -> None:
    lines = [shopify_line(total_discount="6.00", discount_allocations=None)]
    found = order(line_items=lines, total_discounts=None)
    assert (found.gross, found.discounts) == (6000, 600)
    bare = order(line_items=[], shipping_lines=None, total_shipping_price_set={"shop_money": {"amount": "5.00"}})
    assert (bare.gross, bare.shipping) == (8000, 500)


@pytest.mark.parametrize(
    ("changes", "headers"),
    [
        ({"test": True}, {}),
        ({}, {"x-shopify-test": "true"}),
        ({}, {"shopify-test": "true"}),
        ({}, {"x-shopify-test": "TRUE"}),
    ],
)
def test_test_orders_are_marked_by_payload_or_either_header(changes: dict[str, Any], headers: dict[str, str]) -> None:
    assert order(headers=headers, **changes).test


def test_voided_is_not_placed_and_cancelled_says_when() -> None:
    assert not order(financial_status="voided").placed
    cancelled = order("orders/cancelled", cancelled_at="2026-03-01T11:00:00Z")
    assert cancelled.placed
    assert cancelled.cancelled_at == datetime(2026, 3, 1, 11, tzinfo=UTC)


@pytest.mark.parametrize("customer", [None, [], "", {"id": None}, {"id": 0}])
def test_guests_have_no_customer_id_and_staff_are_not_customers(customer: object) -> None:
    found = order(customer=customer, contact_email="guest@example.com", email="")
    assert found.customer_id is None
    assert found.person.email == "guest@example.com"


def test_fulfilled_at_is_when_the_last_parcel_left() -> None:
    parcels = [
        {"status": "success", "created_at": "2026-03-03T08:00:00Z"},
        {"status": "success", "created_at": "2026-03-04T08:00:00Z"},
        {"status": "cancelled", "created_at": "2026-03-05T08:00:00Z"},
    ]
    done = order("orders/fulfilled", fulfillment_status="fulfilled", fulfillments=parcels)
    assert done.fulfilled_at == datetime(2026, 3, 4, 8, tzinfo=UTC)
    assert order(fulfillment_status="partial", fulfillments=parcels).fulfilled_at is None
    assert order(fulfillment_status="fulfilled").fulfilled_at == order().updated_at


def test_foreign_buyers_pay_in_their_money_and_the_shop_counts_in_its_own() -> None:
    found = order(presentment_currency="USD", currency="jpy", total_tax="13", total_discounts="8")
    assert found.currency == "JPY"
    assert found.gross == 80


def test_refunds_inside_an_order_know_whether_its_prices_hold_tax() -> None:
    found = order("orders/updated", taxes_included=True, refunds=[refund()])
    assert found.refunds == [
        Refund(
            source_id="61",
            at=datetime(2026, 3, 2, 10, tzinfo=UTC),
            returns=2187,
            shipping=0,
            taxes=513,
            reason="too bitter",
        )
    ]
    assert not found.refunds_complete


def told(**changes: Any) -> Refund:
    return observed_in(RefundObserved, "shopify", "refunds/create", refund(**changes)).refund


def test_a_refund_by_itself_is_joined_to_its_order() -> None:
    found = observed_in(RefundObserved, "shopify", "refunds/create", refund())
    assert found.source_id == "9007199254740993"
    assert found.updated_at == datetime(2026, 3, 2, 10, tzinfo=UTC)
    assert (found.refund.returns, found.refund.taxes, found.refund.shipping) == (2700, 513, 0)


def test_a_refund_of_prices_with_tax_is_known_by_the_money_that_it_moved() -> None:
    moved = [{"kind": "refund", "status": "success", "amount": "27.00", "currency": "EUR"}]
    assert (told(transactions=moved).returns, told(transactions=moved).taxes) == (2187, 513)


@pytest.mark.parametrize(("tax", "returns"), [(19.0, 10000), (15.97, 8403)])
def test_or_else_by_the_rate_of_its_tax(tax: float, returns: int) -> None:
    line = {"subtotal": 100.0, "total_tax": tax, "line_item": {"tax_lines": [{"rate": 0.19}]}}
    assert told(refund_line_items=[line], transactions=[]).returns == returns


def test_a_rate_that_is_none_decides_nothing() -> None:
    line = {"subtotal": 100.0, "total_tax": 15.97, "line_item": {"tax_lines": [{"rate": 10**400}, {"rate": 1e308}]}}
    assert told(refund_line_items=[line], transactions=[]).returns == 10000


def test_refunded_shipping_in_both_of_its_forms() -> None:
    adjustment = {"kind": "shipping_refund", "amount": "-5.00", "tax_amount": "-0.95"}
    old = told(refund_line_items=[], order_adjustments=[adjustment], transactions=[])
    line = {
        "subtotal_amount_set": {"shop_money": {"amount": "5.00"}},
        "tax_amount_set": {"shop_money": {"amount": "0.95"}},
    }
    new = told(refund_line_items=[], refund_shipping_lines=[line], transactions=[])
    for each in (old, new):
        assert (each.returns, each.shipping, each.taxes) == (0, 500, 95)


def _yen(amount: str) -> dict[str, Any]:
    return {"shop_money": {"amount": amount, "currency_code": "JPY"}}


@pytest.mark.parametrize(
    "printed",
    [
        {"refund_line_items": [{"subtotal": "500", "total_tax": "0", "subtotal_set": _yen("500")}]},
        {"refund_shipping_lines": [{"subtotal_amount_set": _yen("500")}]},
        {"order_adjustments": [{"kind": "refund_discrepancy", "amount": "-500", "amount_set": _yen("-500")}]},
        {"total_duties_set": _yen("500")},
        {"total_additional_fees_set": _yen("500")},
    ],
)
def test_a_refund_of_another_currency_than_its_store_s_says_so(printed: dict[str, Any]) -> None:
    """Whether its order is of that, too, it does not know."""
    found = told(**{"refund_line_items": [], "transactions": [], **printed})
    assert found.currency == "JPY"
    assert found.returns + found.shipping + found.taxes == 500
    assert told().currency is None


def test_a_refund_of_another_amount_than_its_lines() -> None:
    discrepancy = {"kind": "refund_discrepancy", "amount": "7.00", "tax_amount": "0.00"}
    moved = [{"kind": "refund", "status": "success", "amount": "25.13", "currency": "EUR"}]
    assert told(order_adjustments=[discrepancy], transactions=moved).returns == 2000
    goodwill = {"kind": "refund_discrepancy", "amount": "-8.00", "tax_amount": "0.00"}
    assert told(refund_line_items=[], order_adjustments=[goodwill], transactions=[]).returns == 800


def test_a_refund_that_moves_no_money_takes_its_lines_off_all_the_same() -> None:
    assert told(transactions=[]).returns == 2700
    assert told(transactions=[], refund_line_items=[]).returns == 0


def test_a_deleted_order_is_dated_by_the_header() -> None:
    header = {"x-shopify-triggered-at": "2026-03-02T11:59:00.617878896Z"}
    dated = observed_in(Removed, "shopify", "orders/delete", {"id": 9007199254740993}, headers=header)
    assert dated.source_id == "9007199254740993"
    assert dated.updated_at == datetime(2026, 3, 2, 11, 59, 0, 617878, tzinfo=UTC)
    assert observed_in(Removed, "shopify", "orders/delete", {"id": 1}).updated_at == RECEIVED_AT


def test_an_edit_carries_no_order() -> None:
    assert isinstance(outcome("shopify", "orders/edited", {"order_edit": {"order_id": 1}}), Ignored)


@pytest.mark.parametrize("field", ["billing_address", "shipping_address", "customer"])
@pytest.mark.parametrize("odd", ["abc", [], 3, False, None])
def test_odd_addresses_and_customers_are_no_reason_to_lose_an_order(field: str, odd: object) -> None:
    changes: dict[str, Any] = {field: odd}
    assert total(order(**changes)) == 9068


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": None}, "id: missing"),
        ({"id": ""}, "id: missing"),
        ({"currency": "example string"}, "currency: not an ISO 4217 code"),
        ({"total_tax": "example string"}, "total_tax: not a decimal amount"),
        ({"total_tax": "1e20"}, "total_tax: amount beyond 10^15"),
        ({"updated_at": "example string"}, "updated_at: not a date"),
        ({"created_at": "9999-01-01T00:00:00Z"}, "created_at: beyond any calendar of a shop"),
        ({"line_items": [shopify_line(), shopify_line(quantity=-1)]}, "line_items[1].quantity: out of range"),
        ({"line_items": [shopify_line(price="a lot")]}, "line_items[0].price: not a decimal amount"),
        ({"refunds": [{"id": 1}, {"id": None}]}, "refunds[1].id: missing"),
        ({"refunds": [{"id": n + 1} for n in range(1001)]}, "refunds: more than 1000"),
        ({"line_items": {"0": shopify_line()}}, "unexpected shape: Expected `array | null`, got `object`"),
    ],
)
def test_what_cannot_be_understood_says_which_field(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unreadable, match=re.escape(reason)):
        order(**changes)


def test_an_order_that_says_nothing_is_none() -> None:
    with pytest.raises(Unreadable, match="without a date, lines and amounts"):
        outcome("shopify", "orders/create", {"id": 9})


def test_sums_are_bounded_like_what_they_are_made_of() -> None:
    parcels = [{"price": "9000000000000.00"}] * 2000
    with pytest.raises(Unreadable, match=re.escape("shipping_lines.price: amount beyond 10^15")):
        order(shipping_lines=parcels)


def test_nobody_is_written_to_because_of_a_test_notification() -> None:
    assert order(headers={"x-shopify-test": "TRUE"}).origin == "backfill"
    assert order().origin == "live"


def test_money_as_number_and_with_more_decimals() -> None:
    found = order(total_tax=13.68, total_discounts="8.000", line_items=[shopify_line(price=170.19999999999999)])
    assert (found.taxes, found.discounts, found.gross) == (1368, 800, 34040)

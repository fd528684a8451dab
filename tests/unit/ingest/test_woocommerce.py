import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from libs.common.contracts.commerce import (
    CheckoutObserved,
    CustomerObserved,
    OrderObserved,
    ProductObserved,
    Refund,
    Removed,
)
from services.ingest.normalise import Ignored, Parked, Unreadable
from tests.unit.ingest.payloads import RECEIVED_AT, STORE, observed, outcome, woocommerce_line, woocommerce_order

MODIFIED = datetime(2026, 3, 1, 9, 5, tzinfo=UTC)


def order(topic: str = "order.updated", **changes: Any) -> OrderObserved:
    return observed(OrderObserved, "woocommerce", topic, woocommerce_order(**changes))


def total(found: OrderObserved) -> int:
    return found.gross - found.discounts + found.shipping + found.taxes


def test_an_order_is_read_whole() -> None:
    found = order()
    assert (found.source_id, found.number, found.status, found.placed) == ("727", "727", "processing", True)
    assert (found.placed_at, found.updated_at) == (datetime(2026, 3, 1, 9, tzinfo=UTC), MODIFIED)
    assert (found.gross, found.discounts, found.shipping, found.taxes) == (3000, 300, 500, 608)
    assert total(found) == 3808
    (line,) = found.lines
    assert (line.title, line.quantity, line.price, line.total) == ("Tea & honey", 3, 1000, 2700)
    assert (line.product_id, line.variant_id, line.sku, line.image) == ("93", "93", "TEA-H", None)
    assert (found.person.email, found.person.phone) == ("grace@example.com", "+49 30 9876")
    assert (found.person.first_name, found.person.country) == ("Grace", "DE")
    assert (found.customer_id, found.checkout_token, found.refunds_complete) == (None, "727", True)
    assert order(customer_id=25).customer_id == "25"


@pytest.mark.parametrize(
    ("status", "paid", "placed"),
    [
        ("on-hold", False, True),
        ("processing", True, True),
        ("wc-completed", True, True),
        ("refunded", True, True),
        ("pending", True, False),
        ("failed", True, False),
        ("trash", True, False),
        ("draft", False, False),
        ("auto-draft", False, False),
        ("cancelled", True, False),
        ("being-packed", True, True),
        ("awaiting-quote", False, False),
    ],
)
def test_statuses_that_count(status: str, paid: bool, placed: bool) -> None:  # noqa: FBT001 - a table's column
    found = order(status=status, date_paid_gmt="2026-03-01T09:04:00" if paid else None)
    assert found.placed is placed
    assert found.cancelled_at == (MODIFIED if status == "cancelled" else None)


def test_dates_are_utc_or_the_stores() -> None:
    local = order(date_created_gmt=None, date_modified_gmt=None)
    assert (local.placed_at, local.updated_at) == (datetime(2026, 3, 1, 9, tzinfo=UTC), MODIFIED)
    undated = order(date_created=None, date_created_gmt=None, date_modified=None, date_modified_gmt=None)
    assert undated.updated_at == RECEIVED_AT
    assert order(date_completed_gmt="2026-03-02T08:00:00").fulfilled_at == datetime(2026, 3, 2, 8, tzinfo=UTC)
    assert order(date_modified_gmt="0000-00-00T00:00:00", date_modified="").updated_at == local.placed_at


def test_the_draft_of_a_block_checkout_is_a_checkout() -> None:
    draft = woocommerce_order(status="checkout-draft", date_paid_gmt=None)
    found = observed(CheckoutObserved, "woocommerce", "order.created", draft)
    assert (found.source_id, found.total, found.person.email) == ("727", 3808, "grace@example.com")
    assert found.started_at == datetime(2026, 3, 1, 9, tzinfo=UTC)
    assert found.recovery_url is None
    assert found.recovery_ends_at is None
    assert order().checkout_token == found.source_id


def test_a_draft_is_paid_by_its_link_until_the_shop_throws_it_away() -> None:
    url = "https://shop.example/checkout/order-pay/727/?pay_for_order=true&key=wc_order_1a2b"
    draft = woocommerce_order(status="checkout-draft", date_paid_gmt=None, payment_url=url)
    found = observed(CheckoutObserved, "woocommerce", "order.updated", draft)
    assert (found.recovery_url, found.recovery_ends_at) == (url, MODIFIED + timedelta(days=1))


def test_a_draft_that_is_shown_again_ends_when_its_shop_deletes_it() -> None:
    """Not a day after the deletion that it turned out not to have had."""
    url = "https://shop.example/checkout/order-pay/727/?pay_for_order=true&key=wc_order_1a2b"
    draft = woocommerce_order(status="checkout-draft", date_paid_gmt=None, payment_url=url)
    found = observed(CheckoutObserved, "woocommerce", "order.updated", draft, not_before=MODIFIED + timedelta(hours=20))
    assert found.updated_at == MODIFIED + timedelta(hours=20)
    assert found.recovery_ends_at == MODIFIED + timedelta(days=1)


@pytest.mark.parametrize(("inside", "price", "total"), [(True, 1190, 2142), (False, 1000, 1800)])
def test_a_drafts_lines_are_what_the_shop_showed(inside: bool, price: int, total: int) -> None:  # noqa: FBT001 - a table's column
    item = woocommerce_line(quantity=2, subtotal="20.00", subtotal_tax="3.80", total="18.00", total_tax="3.42")
    draft = woocommerce_order(status="checkout-draft", prices_include_tax=inside, line_items=[item])
    found = observed(CheckoutObserved, "woocommerce", "order.updated", draft)
    assert (found.lines[0].price, found.lines[0].total) == (price, total)


def test_an_order_that_says_nothing_is_none() -> None:
    with pytest.raises(Unreadable, match="without a date, lines and amounts"):
        outcome("woocommerce", "order.created", {"id": 5, "status": "processing"})


def test_more_lines_than_anybody_means() -> None:
    with pytest.raises(Unreadable, match="line_items: more than 10000"):
        outcome("woocommerce", "order.created", woocommerce_order(line_items=[{}] * 10_001))


def test_more_refunds_than_anybody_gives() -> None:
    with pytest.raises(Unreadable, match="refunds: more than 1000"):
        outcome("woocommerce", "order.created", woocommerce_order(refunds=[{"id": n + 1} for n in range(1001)]))


def test_fees_and_rebates() -> None:
    found = order(fee_lines=[{"total": "10.00"}, {"total": "-4.00"}], total="44.08")
    assert (found.gross, found.discounts, total(found)) == (4000, 700, 4408)


def test_a_raised_line_is_no_negative_discount() -> None:
    found = order(line_items=[woocommerce_line(subtotal="30.00", total="33.00")], total="44.08")
    assert (found.gross, found.discounts) == (3300, 0)


def test_more_decimals_than_the_currency_has_are_rounded_once() -> None:
    line = woocommerce_line(subtotal="35.58", total="35.58", quantity=1)
    changes = {"total_tax": "3.56", "shipping_total": "0", "shipping_tax": "0", "total": "110.30"}
    found = order(currency="JPY", line_items=[line] * 3, **changes)
    assert (found.gross, found.taxes, total(found)) == (106, 4, 110)


def test_gift_cards_pay_for_what_is_sold_all_the_same() -> None:
    assert total(order(total="8.08", gift_cards=[{"amount": 30}])) == 3808


def test_pieces_of_one_and_a_half() -> None:
    (line,) = order(line_items=[woocommerce_line(quantity=1.5, subtotal="30.00")]).lines
    assert (line.quantity, line.price) == (2, 2000)


def test_a_full_refund_gives_back_every_part() -> None:
    (found,) = order(status="refunded", refunds=[{"id": 9, "reason": "", "total": "-38.08"}]).refunds
    assert found == Refund(source_id="9", returns=2700, shipping=500, taxes=608)


def test_partial_refunds_take_goods_first_in_order_of_their_ids() -> None:
    refunds = [
        {"id": 101, "reason": "rest", "total": "-25.95"},
        {"id": 99, "reason": "cracked", "total": "-11.90"},
        {"id": 100, "reason": None, "total": "0.00"},
    ]
    first, nothing, rest = order(refunds=refunds).refunds
    assert (first.source_id, first.returns, first.taxes, first.shipping) == ("99", 1000, 190, 0)
    assert (nothing.returns, nothing.taxes, nothing.shipping) == (0, 0, 0)
    assert (rest.returns, rest.shipping, rest.taxes) == (1700, 481, 323 + 91)
    assert rest.returns + rest.shipping + rest.taxes == 2595


def test_a_refund_beyond_an_order_that_was_edited_down() -> None:
    (found,) = order(refunds=[{"id": 9, "total": "-40.00"}]).refunds
    assert (found.returns, found.shipping, found.taxes) == (2700 + 192, 500, 608)


@pytest.mark.parametrize("field", ["date_created_gmt", "date_modified_gmt", "date_paid_gmt"])
def test_a_date_that_is_none_says_which(field: str) -> None:
    with pytest.raises(Unreadable, match=f"{field}: not a date"):
        order(**{field: "example string"})


def test_an_amount_that_sums_cannot_hold_is_named_whatever_its_currency_counts_by() -> None:
    # 10^15 dinars are 10^18 fils: ten such refunds would outgrow a bigint.
    with pytest.raises(Unreadable, match=re.escape("refunds[0].total: amount beyond 10^15 minor units")):
        order(currency="KWD", refunds=[{"id": 9, "total": "-1000000000000000.000"}])


def test_orders_from_before_refunds_were_printed_do_not_deny_them() -> None:
    bare = woocommerce_order()
    del bare["refunds"]
    assert not observed(OrderObserved, "woocommerce", "order.updated", bare).refunds_complete


def test_the_legacy_envelope() -> None:
    payload = {
        "order": {
            "id": 118,
            "order_number": 118,
            "created_at": "2016-05-03T18:10:00Z",
            "updated_at": "2016-05-16T03:30:30Z",
            "completed_at": "2016-05-16T03:29:19Z",
            "status": "completed",
            "currency": "EUR",
            "total": "14.00",
            "total_shipping": "10.00",
            "total_tax": "0.00",
            "customer_id": 0,
            "billing_address": {"email": "joan@example.com", "country": "US"},
            "line_items": [
                {"id": 8, "name": "Tea", "quantity": 2, "price": "2.00", "subtotal": "4.00", "total": "4.00"}
            ],
        }
    }
    found = observed(OrderObserved, "woocommerce", "order.updated", payload)
    assert (found.source_id, found.number, total(found), found.person.email) == ("118", "118", 1400, "joan@example.com")
    assert found.placed_at == datetime(2016, 5, 3, 18, 10, tzinfo=UTC)
    assert found.fulfilled_at == datetime(2016, 5, 16, 3, 29, 19, tzinfo=UTC)


@pytest.mark.parametrize("kind", ["order", "product", "customer"])
def test_trashed_means_gone_as_of_now(kind: str) -> None:
    found = observed(Removed, "woocommerce", f"{kind}.deleted", b'{"id":16}')
    assert (found.source_id, found.updated_at) == ("16", RECEIVED_AT)


def test_a_restored_order_comes_back_by_a_newer_snapshot() -> None:
    found = order("order.restored", date_modified_gmt="2026-03-02T12:03:00")
    assert found.updated_at > RECEIVED_AT


def test_no_snapshot_is_dated_by_a_clock_that_is_far_ahead() -> None:
    assert order(date_modified_gmt="2026-03-02T12:05:01").updated_at == RECEIVED_AT


def test_error_bodies_are_ignored_by_name() -> None:
    error = {"code": "woocommerce_rest_shop_order_invalid_id", "message": "Invalid ID.", "data": {"status": 404}}
    found = outcome("woocommerce", "order.created", error)
    assert found == Ignored("an error of the shop in place of the object: woocommerce_rest_shop_order_invalid_id")
    plugin = error | {"code": "ada_lovelace_1815"}
    assert outcome("woocommerce", "order.created", plugin) == Ignored("an error of the shop in place of the object")
    odd = error | {"code": "<a secret of somebody>"}
    with pytest.raises(Unreadable, match="id: missing"):
        outcome("woocommerce", "order.created", odd)


@pytest.mark.parametrize(
    ("topic", "body"),
    [
        ("coupon.deleted", b'{"id":16}'),
        ("action.woocommerce_add_to_cart", b'{"action":"woocommerce_add_to_cart","arg":"7cbb"}'),
        ("", b"webhook_id=7"),
    ],
)
def test_topics_that_nothing_reads_yet_are_parked(topic: str, body: bytes) -> None:
    assert isinstance(outcome("woocommerce", topic, body), Parked)


def test_a_nul_character_in_a_note_or_name_gets_through() -> None:
    found = order(
        billing={"first_name": "Gr\x00ace\x00", "email": "\x00"}, line_items=[woocommerce_line(name="\x00Tea")]
    )
    assert (found.person.first_name, found.person.email, found.lines[0].title) == ("Grace", None, "Tea")


@pytest.mark.parametrize("odd", ["", [], False, None])
def test_php_prints_empty_objects_in_many_ways(odd: object) -> None:
    assert order(billing=odd, shipping=odd, line_items=[woocommerce_line(image=odd)]).person.email is None


def test_a_customer() -> None:
    payload = {
        "id": 25,
        "email": "joan@example.com",
        "first_name": "",
        "date_created_gmt": "2026-01-01T00:00:00",
        "date_modified_gmt": None,
        "date_modified": "2026-03-01T01:00:00",
        "billing": {"first_name": "Joan", "phone": "030 2", "country": "DE"},
    }
    found = observed(CustomerObserved, "woocommerce", "customer.updated", payload)
    assert (found.source_id, found.person.email, found.person.first_name) == ("25", "joan@example.com", "Joan")
    assert (found.person.phone, found.person.country, found.consents) == ("030 2", "DE", [])
    assert found.updated_at == datetime(2026, 3, 1, tzinfo=UTC)
    assert not found.email_verified


def product(**changes: Any) -> ProductObserved:
    payload = {
        "id": 93,
        "name": "Tea &amp; honey",
        "type": "simple",
        "status": "publish",
        "permalink": "https://shop.example/tea",
        "sku": 123,
        "price": "10.5",
        "stock_quantity": None,
        "stock_status": "instock",
        "images": [{"src": "https://shop.example/tea.png"}],
        "variations": [],
        "date_modified_gmt": "2026-03-01T00:00:00",
    } | changes
    return observed(ProductObserved, "woocommerce", "product.updated", payload)


def test_a_simple_product_is_its_own_variant() -> None:
    found = product()
    assert (found.title, found.status, found.currency, found.image) == (
        "Tea & honey",
        "publish",
        STORE.currency,
        "https://shop.example/tea.png",
    )
    (itself,) = found.variants
    assert (itself.source_id, itself.sku, itself.price, itself.stock) == ("93", "123", 1050, None)
    assert product(stock_status="outofstock").variants[0].stock == 0
    assert product(stock_quantity="7.0").variants[0].stock == 7


def test_a_variable_product_names_its_variations() -> None:
    assert [each.source_id for each in product(variations=[94, {"id": 95}]).variants] == ["94", "95"]


@pytest.mark.parametrize("price", ["", None])
def test_a_product_without_price(price: object) -> None:
    assert product(price=price, images=False, variations="").variants[0].price is None

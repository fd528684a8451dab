"""What is known does not depend on how it was told; look-alikes stay apart."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

from regulars.shop.catalog import tax_upon, tax_within
from regulars.shop.delivery import Delivery
from regulars.shop.knowledge import Knowledge, shared_phones
from regulars.shop.ledger import sale, sales
from regulars.shop.model import Contact, Customer, Deleted, Item, Order, Product, Refund, RefundTold

AT = datetime(2026, 2, 3, 10, tzinfo=UTC)
PRODUCT = Product(id=5, variant_id=6, title="Vase", sku="V", price=11900)
ITEM = Item(id=1, product=PRODUCT, quantity=2, price=11900, discount=3800, tax=3193)
ADA = Contact(first="Ada", last="L", country="DE", email="ada@example.com")


def order(**changes: object) -> Order:
    made = Order(
        store="shopify", id=77, number="#1", status="paid", created_at=AT, updated_at=AT, contact=ADA, items=(ITEM,),
        shipping=595, shipping_tax=95,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def test_any_order_and_duplication_of_deliveries_gives_the_same_knowledge(arriving: list[Delivery]) -> None:
    states = [each.state for each in arriving if each.outcome == "observed" and each.state is not None]
    shared = shared_phones(arriving)
    plain, shuffled = Knowledge(shared), Knowledge(shared)
    for state in states:
        plain.hear(state)
    dice = Random(3)
    mixed = states + dice.sample(states, 300)
    dice.shuffle(mixed)
    for state in mixed:
        shuffled.hear(state)
    assert set(plain.people()) == set(shuffled.people())
    assert {s.id: s for s in sales(plain)} == {s.id: s for s in sales(shuffled)}
    assert plain.checkouts == shuffled.checkouts
    assert plain.consents == shuffled.consents


def test_shopify_prints_prices_with_tax() -> None:
    known = Knowledge(frozenset())
    known.hear(order())
    found = sale(known, ("shopify", "77"))
    assert (found.gross, found.discounts, found.shipping, found.taxes) == (20000, 3193, 500, 3193 + 95)
    assert found.total == 23800 - 3800 + 595


def test_a_refund_told_by_itself_counts_once_and_in_full() -> None:
    refund = Refund(id=9, at=AT, reason="", total=20595, items=((1, 2, 20000, 3193),), shipping=500, shipping_tax=95)
    known = Knowledge(frozenset())
    known.hear(RefundTold(order=order(), refund=refund))
    known.hear(order(refunds=(refund,), status="refunded", updated_at=AT + timedelta(days=1)))
    known.hear(order())
    found = sale(known, ("shopify", "77"))
    assert (found.net, found.shipping, found.taxes, found.total) == (0, 0, 0, 0)
    assert found.counted


def test_woocommerce_refunds_are_split_over_items_first() -> None:
    item = replace(ITEM, price=10000, discount=0, quantity=1, tax=1900)
    woo = order(
        store="woocommerce", items=(item,), shipping=500, shipping_tax=95, status="completed",
        refunds=(Refund(id=1, at=AT, reason="", total=11900), Refund(id=2, at=AT, reason="", total=119)),
    )  # fmt: skip
    known = Knowledge(frozenset())
    known.hear(woo)
    found = sale(known, ("woocommerce", "77"))
    assert (found.returns, found.shipping, found.taxes) == (10000, 400, 1900 + 95 - 1900 - 19)


def test_a_deleted_order_does_not_count_whatever_comes_late() -> None:
    known = Knowledge(frozenset())
    known.hear(Deleted(store="shopify", order_id=77, at=AT + timedelta(days=1)))
    known.hear(order())
    assert not sale(known, ("shopify", "77")).counted


def test_a_couple_with_one_phone_stays_two_people() -> None:
    couple = [
        Customer(
            store="shopify", id=number, created_at=AT, updated_at=AT,
            contact=Contact(
                first="", last="", country="DE", customer_id=number, email=f"{number}@example.com", phone="+49151200"
            ),
        )
        for number in (1, 2)
    ]  # fmt: skip
    told = [
        Delivery(
            at=AT, store="shopify", topic="customers/create", outcome="observed", state=each, sent_at=AT, webhook_id=""
        )
        for each in couple
    ]
    known = Knowledge(shared_phones(told))
    for each in couple:
        known.hear(each)
    assert len(known.people()) == 2


def test_one_phone_joins_two_addresses_of_two_stores() -> None:
    phone = "+4915120000"
    known = Knowledge(frozenset())
    known.hear(order(contact=replace(ADA, phone=phone)))
    known.hear(order(store="woocommerce", id=3, contact=replace(ADA, email="a.l@example.org", phone=phone)))
    known.hear(order(store="woocommerce", id=4, contact=replace(ADA, email="x@example.org", phone="0000000000")))
    known.hear(order(store="woocommerce", id=5, contact=replace(ADA, email="y@example.org", phone="0000000000")))
    assert sorted(map(len, known.people())) == [1, 1, 2]


def test_taxes_round_half_up() -> None:
    assert (tax_within(11900), tax_within(1), tax_upon(10000), tax_upon(-168)) == (1900, 0, 1900, -32)

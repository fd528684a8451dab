"""Visits to the WooCommerce store: draft, order, and what becomes of the order. One id serves both."""

from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import Final

from regulars.shop.book import Book, after, chance, fate, fill, priced
from regulars.shop.catalog import tax_upon
from regulars.shop.model import Contact, Deleted, Fee, Item, Order, Product, Refund
from regulars.shop.people import Person
from regulars.shop.shopify_sales import LONG

STORE: Final = "woocommerce"
SHIPPING = 504
FREE_SHIPPING_FROM = 6500


def visit(book: Book, person: Person, catalogue: list[Product], at: datetime, dice: Random) -> None:
    """One visit: by the block checkout (a draft first, and identified) or by the classic one (an order at once)."""
    contact = person.contact(STORE, at, dice)
    if chance(dice, 0.3):
        order = _order(book, contact, catalogue, at, dice)
        _settle(book, order, dice)
        return
    if chance(dice, 0.08):  # a draft that never learns whose it is
        contact = Contact(first="", last="", country="DE", agent=contact.agent, ip=contact.ip)
        _tell_draft(book, _order(book, contact, catalogue, at, dice), first=True)
        return
    draft = _draft(book, contact, catalogue, at, dice)
    end = fate(dice, buys=55, buys_later=13, leaves=32)
    if end == "buys":
        _place(book, draft, after(draft.updated_at, dice, 1, 8), dice)
    elif end == "buys_later":  # before the draft is purged
        back = after(draft.updated_at, dice, 100, 20 * 60)
        draft = replace(draft, updated_at=back)
        _tell_draft(book, draft, first=False)
        _place(book, draft, after(back, dice, 2, 9), dice)


def _draft(book: Book, contact: Contact, catalogue: list[Product], at: datetime, dice: Random) -> Order:
    draft = replace(_order(book, contact, catalogue, at, dice), status="checkout-draft")
    _tell_draft(book, draft, first=True)
    for _ in range(dice.choice([0, 1, 2])):
        at = after(at, dice, 1, 6)
        more = _priced(book, catalogue, dice, percent=0)[:1] if chance(dice, 0.4) else ()
        draft = replace(draft, updated_at=at, items=(*draft.items, *more))
        _tell_draft(book, draft, first=False)
    return draft


def _tell_draft(book: Book, draft: Order, *, first: bool) -> None:
    draft = replace(draft, status="checkout-draft")
    book.tell(draft.updated_at, STORE, "order.created" if first else "order.updated", draft, prompt=True)


def _order(book: Book, contact: Contact, catalogue: list[Product], at: datetime, dice: Random) -> Order:
    percent = dice.choice([0, 0, 0, 10, 20])
    items = _priced(book, catalogue, dice, percent=percent)
    value = sum(item.price * item.quantity - item.discount for item in items)
    shipping = 0 if value >= FREE_SHIPPING_FROM else SHIPPING
    number = book.next_id(STORE, "order")
    fees = []
    if chance(dice, 0.15):
        fees.append(Fee(id=book.next_id(STORE, "fee"), name="Geschenkpapier", amount=252, tax=tax_upon(252)))
    if chance(dice, 0.08):
        fees.append(Fee(id=book.next_id(STORE, "fee"), name="Abholrabatt", amount=-168, tax=tax_upon(-168)))
    return Order(
        store=STORE,
        id=number,
        number=str(number),
        status="processing",
        created_at=at,
        updated_at=at,
        contact=contact,
        items=items,
        shipping=shipping,
        shipping_tax=tax_upon(shipping),
        fees=tuple(fees),
        coupon=f"werk{percent}" if percent else None,
        checkout=str(number),
    )


def _priced(book: Book, catalogue: list[Product], dice: Random, *, percent: int) -> tuple[Item, ...]:
    items = fill(book, STORE, catalogue, dice, lines=dice.choice([1, 1, 2, 3]))
    return tuple(priced(item, STORE, percent_off=percent) for item in items)


def _place(book: Book, draft: Order, at: datetime, dice: Random) -> None:
    """The draft becomes the order; WooCommerce dates it anew."""
    _settle(book, replace(draft, created_at=at, updated_at=at, status="processing"), dice, was_draft=True)


def _settle(book: Book, order: Order, dice: Random, *, was_draft: bool = False) -> None:
    told = "order.updated" if was_draft else "order.created order.updated"
    payment = fate(dice, never=0 if was_draft else 10, transfer=15, card=75)
    if payment == "never":
        _never_paid(book, order, dice)
        return
    if payment == "transfer":
        order = replace(order, status="on-hold")
        book.tell(order.updated_at, STORE, told, order, prompt=True)
        if chance(dice, 0.4):  # staff corrects a quantity while it may still be edited
            at = after(order.updated_at, dice, 20, 200)
            first = order.items[0]
            more = priced(replace(first, quantity=first.quantity + 1), STORE)
            order = replace(order, updated_at=at, items=(more, *order.items[1:]))
            book.tell(at, STORE, "order.updated", order)
        at = after(order.updated_at, dice, 600, 3 * 1440)
        order = replace(order, status="processing", updated_at=at)
        book.tell(at, STORE, "order.updated", order)
    else:
        book.tell(order.updated_at, STORE, told, order, prompt=True)
    _afterwards(book, order, dice)


def _never_paid(book: Book, order: Order, dice: Random) -> None:
    order = replace(order, status="pending")
    book.tell(order.updated_at, STORE, "order.created", order, prompt=True)
    end = dice.choice(["pending", "failed", "cancelled"])
    if end != "pending":
        at = after(order.updated_at, dice, 60, 600)
        book.tell(at, STORE, "order.updated", replace(order, status=end, updated_at=at))


def _afterwards(book: Book, order: Order, dice: Random) -> None:
    end = fate(dice, cancelled=4, some_back=8, all_back=4, kept=84)
    at = after(order.updated_at, dice, *(LONG if end == "cancelled" else (600, 3000)))
    if end == "cancelled":
        order = replace(order, status="cancelled", updated_at=at)
        book.tell(at, STORE, "order.updated", order)
        if chance(dice, 0.4):
            gone = at + timedelta(days=1)
            book.tell(gone, STORE, "order.deleted", Deleted(store=STORE, order_id=order.id, at=gone))
            if chance(dice, 0.5):  # deleting one kind of post also tells of the other
                book.tell(gone, STORE, "coupon.deleted", Deleted(store=STORE, order_id=order.id, at=gone))
        return
    order = replace(order, status="completed", updated_at=at, fulfilled_at=at)
    book.tell(at, STORE, "order.updated", order)
    at = after(at, dice, 1440, 14 * 1440)
    if end == "some_back":
        item = dice.choice(order.items)
        total = item.price * item.quantity - item.discount + item.tax
        order = _refund(book, order, total, at, "beschädigt / kaputt")
        if chance(dice, 0.3):
            _refund(book, order, _value(order) - total, after(at, dice, 60, 2880), "")
    elif end == "all_back":
        _refund(book, order, _value(order), at, "Widerruf")


def _value(order: Order) -> int:
    lines = sum(item.price * item.quantity - item.discount + item.tax for item in order.items)
    return lines + sum(fee.amount + fee.tax for fee in order.fees) + order.shipping + order.shipping_tax


def _refund(book: Book, order: Order, total: int, at: datetime, reason: str) -> Order:
    refunds = (*order.refunds, Refund(id=book.next_id(STORE, "refund"), at=at, reason=reason, total=total))
    status = "refunded" if sum(each.total for each in refunds) >= _value(order) else order.status
    order = replace(order, refunds=refunds, status=status, updated_at=at)
    book.tell(at, STORE, "order.updated", order)
    return order

"""Visits to the Shopify store: cart, checkout, order, and what becomes of the order."""

from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import Final

from regulars.shop.book import Book, after, chance, fate, fill, priced
from regulars.shop.catalog import tax_within
from regulars.shop.model import (
    NOBODY,
    Aside,
    Cart,
    Checkout,
    Contact,
    Deleted,
    Item,
    Order,
    Product,
    Refund,
    RefundTold,
)
from regulars.shop.people import Person

STORE: Final = "shopify"
SHIPPING = 490
FREE_SHIPPING_FROM = 6000
LONG = (50 * 60, 90 * 60)
"""Minutes after which an order may be undone: every run that it ended has seen it by then, so that "at once" and "at
the next look" are the same."""


def visit(book: Book, person: Person, catalogue: list[Product], at: datetime, dice: Random) -> None:
    """One visit: a cart, mostly a checkout, often an order, sometimes a day or two later."""
    cart = _cart(book, catalogue, at, dice)
    if chance(dice, 0.12):  # leaves without saying who it was
        return
    checkout = _checkout(book, person, cart, dice)
    end = fate(dice, buys=56, buys_later=14, looks_again=8, leaves=22)
    if end == "buys":
        _buy(book, person, checkout, after(checkout.updated_at, dice, 1, 8), dice)
    elif end == "buys_later":
        back = after(checkout.updated_at, dice, 100, 60 * 60)
        checkout = replace(checkout, updated_at=back)
        book.tell(back, STORE, "checkouts/update", checkout, prompt=True)
        _buy(book, person, checkout, after(back, dice, 2, 9), dice)
    elif end == "looks_again":
        back = after(checkout.updated_at, dice, 100, 30 * 60)
        more = fill(book, STORE, catalogue, dice, lines=1)
        checkout = replace(checkout, updated_at=back, items=(*checkout.items[:1], *more))
        book.tell(back, STORE, "checkouts/update", checkout, prompt=True)


def _cart(book: Book, catalogue: list[Product], at: datetime, dice: Random) -> Cart:
    items = fill(book, STORE, catalogue, dice, lines=dice.choice([1, 1, 2, 3]))
    cart = Cart(store=STORE, token=f"c1-{dice.getrandbits(96):024x}", created_at=at, updated_at=at, items=items)
    book.tell(at, STORE, "carts/create", cart, prompt=True)
    for _ in range(dice.choice([0, 1, 1, 2])):
        at = after(at, dice, 0.5, 6)
        cart = replace(cart, updated_at=at, items=(*cart.items, *fill(book, STORE, catalogue, dice, lines=1)))
        book.tell(at, STORE, "carts/update", cart, prompt=True)
    return cart


def _checkout(book: Book, person: Person, cart: Cart, dice: Random) -> Checkout:
    at = after(cart.updated_at, dice, 1, 5)
    checkout = Checkout(
        store=STORE,
        id=book.next_id(STORE, "checkout"),
        token=f"{dice.getrandbits(128):032x}",
        cart=cart.token,
        created_at=at,
        updated_at=at,
        contact=person.contact(STORE, at, dice),
        items=cart.items,
        ticked=not person.leaves and person.subscribed(STORE, at),
    )
    book.tell(at, STORE, "checkouts/create", checkout, prompt=True)
    for _ in range(dice.choice([0, 1, 2])):
        at = after(at, dice, 0.5, 5)
        checkout = replace(checkout, updated_at=at)
        book.tell(at, STORE, "checkouts/update", checkout, prompt=True)
    return checkout


def _buy(book: Book, person: Person, checkout: Checkout, at: datetime, dice: Random) -> None:
    ticked = not person.leaves and person.subscribed(STORE, at)
    order = _order(book, checkout.contact, checkout.items, at, dice)
    order = replace(order, cart=checkout.cart, checkout=checkout.token, ticked=ticked)
    done = replace(checkout, updated_at=at, completed_at=at, ticked=ticked)
    book.tell(at, STORE, "checkouts/update", done, prompt=True)
    payment = fate(dice, paid=82, authorized=9, pending=9)
    if payment == "paid":
        order = replace(order, status="paid")
        book.tell(at, STORE, "orders/create orders/paid orders/updated", order, prompt=True)
    else:
        order = replace(order, status=payment)
        book.tell(at, STORE, "orders/create orders/updated", order, prompt=True)
        at = after(at, dice, *(LONG if payment == "authorized" else (600, 2000)))
        void = payment == "authorized" and chance(dice, 0.3)
        order = replace(order, status="voided" if void else "paid", updated_at=at)
        book.tell(at, STORE, "orders/updated" if void else "orders/paid orders/updated", order)
        if void:
            return
    _afterwards(book, order, dice)


def _order(book: Book, contact: Contact, items: tuple[Item, ...], at: datetime, dice: Random) -> Order:
    percent = dice.choice([0, 0, 0, 10, 15])
    lines = tuple(priced(item, STORE, percent_off=percent) for item in items)
    value = sum(line.price * line.quantity - line.discount for line in lines)
    shipping = 0 if value >= FREE_SHIPPING_FROM else SHIPPING
    return Order(
        store=STORE,
        id=book.next_id(STORE, "order"),
        number=f"#{book.next_number(STORE)}",
        status="paid",
        created_at=at,
        updated_at=at,
        contact=contact,
        items=lines,
        shipping=shipping,
        shipping_tax=tax_within(shipping),
        coupon=f"NORD{percent}" if percent else None,
    )


def _afterwards(book: Book, order: Order, dice: Random) -> None:
    soon = fate(dice, edited=5, cancelled=4, nothing=91)
    if soon == "edited":
        order = _edit(book, order, dice)
    elif soon == "cancelled":
        _cancel(book, order, dice)
        return
    order = _fulfil(book, order, dice)
    later = fate(dice, some=8, all=4, exchange=1, nothing=87)
    if later == "some":
        order = _refund_some(book, order, dice)
        if chance(dice, 0.3):
            _refund_goodwill(book, order, dice)
    elif later == "all":
        _refund_all(book, order, after(order.updated_at, dice, 1440, 14 * 1440), "changed their mind")
    elif later == "exchange":
        _refund(book, order, Refund(id=0, at=order.updated_at, reason="exchanged", total=0), dice)


def _edit(book: Book, order: Order, dice: Random) -> Order:
    """Staff adds a line to the order within the hour."""
    at = after(order.updated_at, dice, 10, 50)
    extra = priced(replace(order.items[0], id=book.next_id(STORE, "line"), quantity=1), STORE)
    order = replace(order, items=(*order.items, extra), updated_at=at)
    edit: dict[str, object] = {
        "order_edit": {
            "id": book.next_id(STORE, "edit"),
            "app_id": None,
            "created_at": (at - timedelta(seconds=40)).isoformat(),
            "notify_customer": False,
            "committed_at": at.isoformat(),
            "order_id": order.id,
            "staff_note": "",
            "user_id": 548_380_009,
            "line_items": {"additions": [{"id": extra.id, "delta": 1}], "removals": []},
            "discounts": {"line_item": {"additions": [], "removals": []}},
            "shipping_lines": {"additions": [], "removals": []},
        }
    }
    book.tell(at, STORE, "orders/edited", Aside(store=STORE, at=at, body=edit))
    book.tell(at, STORE, "orders/updated", order)
    return order


def _cancel(book: Book, order: Order, dice: Random) -> None:
    at = after(order.updated_at, dice, *LONG)
    order = replace(order, cancelled_at=at, updated_at=at)
    if chance(dice, 0.5):  # cancelled before the money was taken
        order = replace(order, status="voided")
        book.tell(at, STORE, "orders/cancelled orders/updated", order)
    else:
        order = _refund_all(book, order, at, "cancelled", topics="refunds/create")
        book.tell(at, STORE, "orders/cancelled orders/updated", order)
    if chance(dice, 0.3):
        gone = at + timedelta(days=2)
        book.tell(gone, STORE, "orders/delete", Deleted(store=STORE, order_id=order.id, at=gone))


def _fulfil(book: Book, order: Order, dice: Random) -> Order:
    at = after(order.updated_at, dice, 600, 4000)
    order = replace(order, fulfilled_at=at, updated_at=at)
    parcel = {
        "id": book.next_id(STORE, "fulfillment"),
        "order_id": order.id,
        "status": "success",
        "created_at": at.isoformat(),
        "updated_at": at.isoformat(),
        "service": "manual",
        "tracking_company": "DHL",
        "tracking_number": f"00340{order.id % 10**12:012d}",
        "shipment_status": None,
        "name": f"{order.number}.1",
        "line_items": [{"id": item.id, "quantity": item.quantity} for item in order.items],
    }
    book.tell(at, STORE, "fulfillments/create", Aside(store=STORE, at=at, body=parcel))
    book.tell(at, STORE, "orders/fulfilled orders/updated", order)
    return order


def _refund_some(book: Book, order: Order, dice: Random) -> Order:
    """One line comes back, whole or a piece of it; now and then the merchant adds the shipping."""
    item = dice.choice(order.items)
    pieces = dice.randint(1, item.quantity)
    paid = (item.price * item.quantity - item.discount) * pieces // item.quantity
    tax = item.tax * pieces // item.quantity
    shipping = order.shipping - order.shipping_tax if chance(dice, 0.3) else 0
    refund = Refund(
        id=0,
        at=order.updated_at,
        reason="arrived broken",
        total=paid + (order.shipping if shipping else 0),
        items=((item.id, pieces, paid, tax),),
        shipping=shipping,
        shipping_tax=order.shipping_tax if shipping else 0,
    )
    return _refund(book, order, refund, dice)


def _refund_goodwill(book: Book, order: Order, dice: Random) -> None:
    _refund(book, order, Refund(id=0, at=order.updated_at, reason="sorry", total=200, goodwill=200), dice)


def _refund(book: Book, order: Order, refund: Refund, dice: Random) -> Order:
    at = after(order.updated_at, dice, 1440, 12 * 1440)
    refund = replace(refund, id=book.next_id(STORE, "refund"), at=at)
    return _tell_refund(book, order, refund)


def _refund_all(
    book: Book, order: Order, at: datetime, reason: str, topics: str = "refunds/create orders/updated"
) -> Order:
    items = tuple((i.id, i.quantity, i.price * i.quantity - i.discount, i.tax) for i in order.items)
    refund = Refund(
        id=book.next_id(STORE, "refund"),
        at=at,
        reason=reason,
        total=sum(line[2] for line in items) + order.shipping,
        items=items,
        shipping=order.shipping - order.shipping_tax,
        shipping_tax=order.shipping_tax,
    )
    return _tell_refund(book, order, refund, topics)


def _tell_refund(book: Book, order: Order, refund: Refund, topics: str = "refunds/create orders/updated") -> Order:
    refunds = (*order.refunds, refund)
    given = sum(each.total for each in refunds)
    value = sum(item.price * item.quantity - item.discount for item in order.items) + order.shipping
    status = order.status
    if given:
        status = "refunded" if given >= value else "partially_refunded"
    order = replace(order, refunds=refunds, status=status, updated_at=refund.at)
    book.tell(refund.at, STORE, "refunds/create", RefundTold(order=order, refund=refund))
    if "orders/updated" in topics:
        book.tell(refund.at, STORE, "orders/updated", order)
    return order


def test_order(book: Book, catalogue: list[Product], at: datetime, dice: Random) -> None:
    """Staff tries the payment gateway: printed as a test, to be kept out of every figure."""
    contact = Contact(first="Nora", last="Probe", country="DE", email="probe@nordlicht.example.com")
    order = _order(book, contact, fill(book, STORE, catalogue, dice, lines=1), at, dice)
    book.tell(at, STORE, "orders/create orders/paid", replace(order, test=True))


def till(book: Book, catalogue: list[Product], at: datetime, dice: Random) -> None:
    """A sale over the counter: an order that nobody can be named for."""
    order = _order(book, NOBODY, fill(book, STORE, catalogue, dice, lines=2), at, dice)
    order = replace(order, source="pos", shipping=0, shipping_tax=0)
    book.tell(at, STORE, "orders/create orders/paid", order, prompt=True)

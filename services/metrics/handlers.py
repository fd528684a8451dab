"""Facts in, sums out: what a batch changes is taken off as it was and put on as it is."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TypeVar, assert_never

from msgspec.structs import replace

from libs.common.contracts.customers import (
    AccountMoved,
    CartChanged,
    CheckoutChanged,
    OrderPlaced,
    OrderRevised,
    StoreChanged,
)
from libs.common.contracts.messages import MessageSent
from libs.common.db import Tx
from libs.common.log.base import Record
from libs.common.money import known_currency
from libs.common.worker import Batch, Reject
from services.metrics import steps, store
from services.metrics.algebra import ALL_STORES, Points, of_cart, of_checkout, of_order, of_profile
from services.metrics.facts import Cart, Checkout, CheckoutState, Order, cart_of, checkout_of, micros, order_of
from services.metrics.store import Account, Key, Segment

RECOVERY_FLOW = "cart_abandonment"

HEARD = frozenset(
    {
        "account.moved",
        "order.placed",
        "order.revised",
        "checkout.started",
        "checkout.changed",
        "checkout.deleted",
        "cart.changed",
        "message.sent",
        "store.changed",
    }
)
"""The events that figures are made of; all others pass unread."""

T = TypeVar("T", Account, Order, CheckoutState, Cart)

Heard = AccountMoved | OrderPlaced | OrderRevised | CheckoutChanged | CartChanged | MessageSent | StoreChanged


@dataclass(slots=True)
class Told:
    """What a batch tells, the latest of each subject."""

    accounts: dict[tuple[str, str], Account] = field(default_factory=dict)
    orders: dict[Key, Order] = field(default_factory=dict)
    checkouts: dict[Key, CheckoutState] = field(default_factory=dict)
    carts: dict[Key, Cart] = field(default_factory=dict)
    messages: dict[Key, int] = field(default_factory=dict)
    """Checkout -> when the first recovery message was sent."""
    stores: set[tuple[str, str]] = field(default_factory=set)

    def tenants(self) -> set[str]:
        """Whose facts these are."""
        subjects = (self.accounts, self.orders, self.checkouts, self.carts, self.messages)
        return {key[0] for facts in subjects for key in facts}

    def hear(self, tenant: str, fact: Heard) -> None:
        """Takes in one fact. Reject if it cannot be counted."""
        match fact:
            case AccountMoved():
                account = Account(fact.profile, fact.revision)
                self.accounts[tenant, fact.account] = _later(account, self.accounts.get((tenant, fact.account)))
            case OrderPlaced() | OrderRevised():
                order = order_of(tenant, fact.order, fact.revision)
                _check_currency(order.currency)
                self.orders[order.key] = _later(order, self.orders.get(order.key))
            case CheckoutChanged():
                checkout = checkout_of(tenant, fact)
                _check_currency(checkout.currency)
                self.checkouts[checkout.key] = _later(checkout, self.checkouts.get(checkout.key))
            case CartChanged():
                cart = cart_of(tenant, fact)
                _check_currency(cart.currency)
                self.carts[cart.key] = _later(cart, self.carts.get(cart.key))
            case MessageSent():
                if fact.flow == RECOVERY_FLOW and fact.checkout_token is not None:
                    key, sent = (tenant, fact.store, fact.checkout_token), micros(fact.at)
                    self.messages[key] = min(sent, self.messages.get(key, sent))
            case StoreChanged():
                self.stores.add((tenant, fact.store))
            case _:
                assert_never(fact)


async def on_facts(batch: Batch) -> None:
    """Folds a batch of facts into the figures, however often and in whatever order they come."""
    told = Told()
    for record in batch.records:
        if record.type in HEARD:
            _hear(batch, told, record)
    await store.save_stores(batch.tx, told.stores)
    tenants = told.tenants()
    if not tenants:
        return
    tx, points = batch.tx, Points()
    await store.lock(tx, tenants)
    moved, orders = await _orders(tx, told)
    await _fold_orders(tx, points, orders)
    await _fold_carts(tx, points, told)
    touched = await _touched_checkouts(tx, told, moved, orders)
    _put(points, await store.checkouts(tx, touched), -1)
    await store.save_accounts(tx, moved)
    await store.save_orders(tx, [after for _, after in orders])
    await store.save_checkouts(tx, told.checkouts.values())
    await store.save_messages(tx, told.messages)
    _put(points, await store.checkouts(tx, touched), 1)
    await steps.fold(tx, points)


Change = tuple[Order | None, Order]
"""An order before and after."""


async def _orders(tx: Tx, told: Told) -> tuple[dict[tuple[str, str], Account], list[Change]]:
    """The accounts that belong to somebody else now, and the orders that are not what they were."""
    mentioned = {(order.tenant, order.account) for order in told.orders.values() if order.account is not None}
    known = await store.accounts(tx, mentioned | told.accounts.keys())
    moved = {
        key: account
        for key, account in told.accounts.items()
        if key not in known or account.revision > known[key].revision
    }
    owners = known | moved
    stored = await store.orders(tx, told.orders.keys(), moved.keys())
    changes: list[Change] = []
    for key in stored.keys() | told.orders.keys():
        before, news = stored.get(key), told.orders.get(key)
        if news is not None and (before is None or news.revision > before.revision):
            changes.append((before, _owned(news, owners)))
        elif before is not None and (before.tenant, before.account) in moved:
            changes.append((before, _owned(before, owners)))
    return moved, changes


def _owned(order: Order, owners: dict[tuple[str, str], Account]) -> Order:
    owner = owners.get((order.tenant, order.account)) if order.account is not None else None
    return replace(order, profile=owner.profile if owner is not None else None)


async def _fold_orders(tx: Tx, points: Points, changes: list[Change]) -> None:
    """Each order by itself, and each profile's orders as they follow one another, in each scope."""
    gone: dict[tuple[str, str, str, str], Counter[int]] = {}
    come: dict[tuple[str, str, str, str], Counter[int]] = {}
    for before, after in changes:
        if before is not None:
            points.everywhere(before.tenant, before.store, before.currency, of_order(before), -1)
        points.everywhere(after.tenant, after.store, after.currency, of_order(after), 1)
        for placed, order in ((gone, before), (come, after)):
            if order is not None and order.has_buyer and order.profile is not None:
                for scope in (order.store, ALL_STORES):
                    key = (order.tenant, scope, order.profile, order.currency)
                    placed.setdefault(key, Counter())[order.placed_at] += 1
    nothing: Counter[int] = Counter()
    segments = []
    for key in gone.keys() | come.keys():
        off, on = gone.get(key, nothing), come.get(key, nothing)
        if off != on:
            segments.append(Segment(*key, first=min(off | on), last=max(off | on)))
    for segment, stored in zip(segments, await store.placed(tx, segments), strict=True):
        chain = (segment.tenant, segment.store, segment.profile, segment.currency)
        place = (segment.tenant, segment.store, segment.currency)
        held = Counter(stored)
        was = sorted(held.elements())
        now = sorted((held - gone.get(chain, nothing) + come.get(chain, nothing)).elements())
        # Most orders come last.
        same = _in_common(was, now)
        points.add(place, of_profile(was, same), -1)
        points.add(place, of_profile(now, same), 1)


def _in_common(was: list[int], now: list[int]) -> int:
    """How many they begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(was, now, strict=False)))


async def _fold_carts(tx: Tx, points: Points, told: Told) -> None:
    stored = await store.carts(tx, told.carts.keys())
    changed = []
    for key, news in told.carts.items():
        before = stored.get(key)
        if before is None or news.revision > before.revision:
            if before is not None:
                points.everywhere(before.tenant, before.store, before.currency, of_cart(before), -1)
            points.everywhere(news.tenant, news.store, news.currency, of_cart(news), 1)
            changed.append(news)
    await store.save_carts(tx, changed)


async def _touched_checkouts(
    tx: Tx, told: Told, moved: dict[tuple[str, str], Account], changes: list[Change]
) -> set[Key]:
    """Every checkout of which this batch may change what came of it."""
    orders = [order for change in changes for order in change if order is not None]
    touched = {*told.checkouts, *told.messages}
    touched.update((order.tenant, order.store, order.checkout) for order in orders)
    touched.update(
        await store.messaged_checkouts(
            tx,
            {(o.tenant, o.profile, o.placed_at) for o in orders if o.profile is not None},
        )
    )
    touched.update(await store.checkouts_of(tx, moved.keys()))
    return touched


def _put(points: Points, checkouts: list[Checkout], sign: int) -> None:
    for checkout in checkouts:
        points.everywhere(checkout.tenant, checkout.store, checkout.currency, of_checkout(checkout), sign)


def _hear(batch: Batch, told: Told, record: Record) -> None:
    try:
        told.hear(record.tenant, batch.data(record))
    except Reject as rejected:
        batch.reject(record, rejected.reason)


def _check_currency(code: str) -> None:
    if not known_currency(code):
        raise Reject("unknown currency")


def _later(new: T, known: T | None) -> T:
    return new if known is None or new.revision > known.revision else known

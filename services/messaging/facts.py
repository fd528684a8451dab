"""What a batch of facts comes to: of each subject its newest state, of each account its latest activity."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

import msgspec

from libs.common.contracts.customers import (
    AccountMoved,
    ActivitySeen,
    CartChanged,
    CheckoutChanged,
    ConsentChanged,
    Fact,
    OrderPlaced,
    OrderRevised,
    OrderView,
    ProfileChanged,
    StoreChanged,
)
from services.messaging.rules import Basket

Key = tuple[str, ...]
"""Tenant first."""
State = TypeVar("State", AccountMoved, ProfileChanged, ConsentChanged, StoreChanged)

SHOWN_LINES = 20
"""More lines than these no mail shows."""


@dataclass(slots=True)
class Activity:
    """The latest that an account did, and the latest that was told as it happened."""

    store: str
    at: datetime
    live_at: datetime | None


@dataclass(slots=True)
class Order:
    """The newest view of an order."""

    view: OrderView
    revision: int
    live: bool


@dataclass(slots=True)
class Versioned:
    """The newest state of a cart or checkout."""

    basket: Basket
    revision: int


@dataclass(slots=True)
class Facts:
    """A batch, folded. Highest revision wins; `live` and the latest moments are kept whatever the order."""

    moved: dict[Key, AccountMoved] = field(default_factory=dict)
    people: dict[Key, ProfileChanged] = field(default_factory=dict)
    consents: dict[Key, ConsentChanged] = field(default_factory=dict)
    stores: dict[Key, StoreChanged] = field(default_factory=dict)
    orders: dict[Key, Order] = field(default_factory=dict)
    baskets: dict[Key, Versioned] = field(default_factory=dict)
    activities: dict[Key, Activity] = field(default_factory=dict)

    def add(self, tenant: str, fact: Fact) -> None:
        """Folds one fact in."""
        match fact:
            case AccountMoved():
                _newest(self.moved, (tenant, fact.account), fact)
            case ProfileChanged():
                _newest(self.people, (tenant, fact.account), fact)
            case ConsentChanged():
                _newest(self.consents, (tenant, fact.account, fact.channel), fact)
            case StoreChanged():
                _newest(self.stores, (tenant, fact.store), fact)
            case OrderPlaced() | OrderRevised():
                self._order(tenant, fact)
            case CartChanged() | CheckoutChanged():
                self._basket(tenant, fact)
            case ActivitySeen():
                self._activity(tenant, fact)
            case _:
                # Order moments and products: said by the states above, or of no use to a flow that exists.
                pass

    def _order(self, tenant: str, fact: OrderPlaced | OrderRevised) -> None:
        key = (tenant, fact.order.store, fact.order.source_id)
        new = Order(fact.order, fact.revision, fact.origin == "live")
        old = self.orders.get(key)
        if old is not None:
            new.live = old.live = old.live or new.live
        if old is None or new.revision > old.revision:
            self.orders[key] = new

    def _basket(self, tenant: str, fact: CartChanged | CheckoutChanged) -> None:
        cart = isinstance(fact, CartChanged)
        key = (tenant, fact.store, "cart" if cart else "checkout", fact.token)
        old = self.baskets.get(key)
        live = fact.origin == "live" or (old is not None and old.basket.live)
        if old is not None and old.revision >= fact.revision:
            self.baskets[key] = Versioned(msgspec.structs.replace(old.basket, live=live), old.revision)
        else:
            self.baskets[key] = Versioned(_as_basket(fact, live=live), fact.revision)

    def _activity(self, tenant: str, fact: ActivitySeen) -> None:
        key = (tenant, fact.account)
        live_at = fact.at if fact.origin == "live" else None
        old = self.activities.get(key)
        if old is None:
            self.activities[key] = Activity(fact.store, fact.at, live_at)
            return
        old.at = max(old.at, fact.at)
        if live_at is not None:
            old.live_at = max(old.live_at or live_at, live_at)

    def tenants(self) -> set[str]:
        """Whose facts these are."""
        places = (self.moved, self.people, self.orders, self.baskets, self.activities)
        return {key[0] for place in places for key in place}

    def idle_baskets(self) -> Iterator[tuple[str, Basket]]:
        """Tenant and basket of those that somebody may be abandoning."""
        for (tenant, *_), newest in self.baskets.items():
            basket = newest.basket
            gone = basket.deleted or basket.completed_at is not None or basket.items < 1
            if basket.live and basket.account is not None and not gone:
                yield tenant, basket

    def reached(self) -> set[Key]:
        """Accounts about whose person something was learned: a cart that was nobody's may be somebody's now."""
        named = {key for key, fact in self.people.items() if fact.email is not None}
        return named | set(self.moved)

    def ending(self) -> set[Key]:
        """Accounts of which something was told that ends what is under way with their people."""
        orders = {(key[0], str(o.view.account)) for key, o in self.orders.items() if o.view.account and o.view.counted}
        left = {(key[0], key[1]) for key, fact in self.consents.items() if fact.state == "unsubscribed"}
        gone = {key for key, fact in self.people.items() if fact.deleted}
        baskets = {(key[0], str(b.basket.account)) for key, b in self.baskets.items() if b.basket.account}
        return orders | left | gone | baskets | set(self.activities)

    def deleted_stores(self) -> set[Key]:
        """Tenant and key of the stores that were deleted."""
        return {key for key, fact in self.stores.items() if fact.deleted_at is not None}

    def touched(self) -> dict[Key, datetime | None]:
        """Accounts from which a lapse may be counted, with the moment of their latest order or activity.

        None: the account only moved, and brings along what it had.
        """
        moments: list[tuple[Key, datetime]] = [
            ((key[0], order.view.account), order.view.placed_at)
            for key, order in self.orders.items()
            if order.view.account is not None and order.view.counted
        ]
        moments += [
            ((key[0], newest.basket.account), newest.basket.changed_at)
            for key, newest in self.baskets.items()
            if newest.basket.live and newest.basket.account is not None and not newest.basket.deleted
        ]
        moments += [(key, a.live_at) for key, a in self.activities.items() if a.live_at is not None]
        touched: dict[Key, datetime | None] = {key: None for key, fact in self.moved.items() if fact.previous}
        return touched | dict(sorted(moments, key=lambda moment: moment[1]))


def _newest(kept: dict[Key, State], key: Key, fact: State) -> None:
    if key not in kept or kept[key].revision < fact.revision:
        kept[key] = fact


def _as_basket(fact: CartChanged | CheckoutChanged, *, live: bool) -> Basket:
    checkout = fact if isinstance(fact, CheckoutChanged) else None
    return Basket(
        kind="cart" if checkout is None else "checkout",
        store=fact.store,
        token=fact.token,
        account=fact.account,
        started_at=fact.started_at,
        changed_at=fact.changed_at,
        items=fact.items,
        currency=fact.currency,
        total=fact.total,
        lines=msgspec.json.encode(fact.lines[:SHOWN_LINES]).decode(),
        cart_token=checkout.cart_token if checkout else None,
        completed_at=checkout.completed_at if checkout else None,
        recovery_url=checkout.recovery_url if checkout else None,
        recovery_ends_at=checkout.recovery_ends_at if checkout else None,
        deleted=fact.deleted,
        live=live,
    )

"""Who must get which mail, and when: the two built-in flows and the gate, told by the tick of a driven clock.

A tick ends at an instant. What arrived by then is known; every step that is due by then is decided, in the order of
being due, by what is known. Nothing happens between two ends.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from heapq import heappop, heappush

from regulars.shop.knowledge import Basket, Key, Knowledge
from regulars.shop.ledger import Sale, sale
from regulars.shop.model import Cart, Checkout, Order, State, StoreName

CART, LAPSE = "cart_abandonment", "re_engagement"
DELAYS = {
    CART: (timedelta(minutes=45), timedelta(hours=24), timedelta(hours=48)),
    LAPSE: (timedelta(days=30), timedelta(days=37)),
}
CEILING = {CART: timedelta(hours=6), LAPSE: timedelta(hours=24)}
AGAIN = {CART: timedelta(hours=24), LAPSE: timedelta(days=90)}
CAP = timedelta(hours=16)


@dataclass(frozen=True, slots=True, order=True)
class Mail:
    """One mail that went out."""

    at: datetime
    flow: str
    step: int
    recipient: str
    cause: str
    """cart_abandonment: the checkout's token. re_engagement: the last order or activity, as a timestamp."""
    store: StoreName = field(compare=False)
    account: str = field(compare=False)


@dataclass(slots=True)
class Run:
    """One person's way through a flow."""

    flow: str
    cause: str
    account: str
    began_at: datetime
    step: int = 0
    ended: bool = False


@dataclass(slots=True)
class Postbox:
    """Follows the deliveries, tick by tick."""

    known: Knowledge
    policies: dict[StoreName, str]
    sent: list[Mail] = field(default_factory=list)
    skipped: int = 0
    """Steps that came due and were not to be sent."""
    gone: set[str] = field(default_factory=set)
    """Addresses whose owners pressed "unsubscribe"."""
    _orders: defaultdict[str, set[Key]] = field(default_factory=lambda: defaultdict(set))
    _baskets: defaultdict[str, set[tuple[str, Key]]] = field(default_factory=lambda: defaultdict(set))
    _carts: dict[Key, Run] = field(default_factory=dict)
    _runs: list[Run] = field(default_factory=list)
    _runs_of: defaultdict[str, list[Run]] = field(default_factory=lambda: defaultdict(list))
    _timers: list[tuple[datetime, str, str, str]] = field(default_factory=list)
    """(due, flow, store, token), or (due, flow, "", account)."""

    def hear(self, state: State) -> None:
        """A delivery that arrived in this tick."""
        self.known.hear(state)
        match state:
            case Order(status="checkout-draft"):
                self._touch("checkout", (state.store, str(state.id)))
            case Order():
                self._ordered((state.store, str(state.id)))
            case Checkout():
                self._touch("checkout", (state.store, state.token))
            case Cart():
                self._touch("cart", (state.store, state.token))
            case _:
                pass

    def _touch(self, kind: str, key: Key) -> None:
        basket = (self.known.checkouts if kind == "checkout" else self.known.carts)[key]
        if basket.account is None:
            return
        self._baskets[basket.account].add((kind, key))
        if kind == "checkout":
            heappush(self._timers, (basket.changed_at + DELAYS[CART][0], CART, *key))
        heappush(self._timers, (basket.changed_at + DELAYS[LAPSE][0], LAPSE, "", basket.account))

    def _ordered(self, key: Key) -> None:
        found = sale(self.known, key)
        if found.account is not None:
            self._orders[found.account].add(key)
            heappush(self._timers, (found.placed_at + DELAYS[LAPSE][0], LAPSE, "", found.account))

    def unsubscribe(self, mail: Mail) -> None:
        """The reader of `mail` pressed the button, after its tick and before the next."""
        self.gone.add(mail.recipient)
        self.known.consents[mail.account] = (mail.at, "unsubscribed")

    def next_due(self) -> datetime | None:
        """When the next timer looks."""
        return self._timers[0][0] if self._timers else None

    def end_tick(self, now: datetime) -> list[Mail]:
        """Everything due by `now`, decided; the mails that go out."""
        before = len(self.sent)
        while self._timers and self._timers[0][0] <= now:
            due, flow, store, subject = heappop(self._timers)
            while self._timers and self._timers[0][:4] == (due, flow, store, subject):
                heappop(self._timers)
            if flow == CART:
                self._look_at_checkout(("shopify" if store == "shopify" else "woocommerce", subject), now)
            else:
                self._look_at_person(subject, now)
        return self.sent[before:]

    # cart_abandonment ------------------------------------------------------------------------------------------------

    def _look_at_checkout(self, key: Key, now: datetime) -> None:
        basket = self.known.checkouts[key]
        run = self._carts.get(key)
        step = 0 if run is None else run.step
        if run is not None and (run.ended or step >= len(DELAYS[CART])):
            return
        account = basket.account
        if account is None or self._address(account) is None:
            return
        if self._cart_is_over(basket, run, account):
            if run is not None:
                run.ended = True
            return
        due = basket.changed_at + DELAYS[CART][step]
        if due > now:
            heappush(self._timers, (due, CART, *key))
            return
        if run is None:
            run = self._begin(CART, basket.token, account, basket.changed_at)
            if run is None:
                return
            self._carts[key] = run
        elif self._withdrawn(account):
            run.ended = True
            return
        self._speak(run, basket.store, due, now)
        if run.step < len(DELAYS[CART]):
            heappush(self._timers, (basket.changed_at + DELAYS[CART][run.step], CART, *key))

    def _cart_is_over(self, basket: Basket, run: Run | None, account: str) -> bool:
        """Ordered, by this token or otherwise since; or emptied."""
        orders = self._sales_of(account)
        token = any(order.store == basket.store and order.checkout == basket.token for order in orders)
        since = basket.changed_at if run is None else run.began_at
        bought = any(order.placed_at >= since for order in orders)
        return basket.completed or token or bought or not basket.items

    # re_engagement ---------------------------------------------------------------------------------------------------

    def _look_at_person(self, account: str, now: datetime) -> None:
        orders = self._sales_of(account)
        if not orders:
            return
        touched = max(
            [
                *(order.placed_at for order in orders),
                *(basket.changed_at for basket in self.baskets_of(self._accounts(account))),
            ]
        )
        run = next((r for r in self._runs_of_person(account) if r.flow == LAPSE and not r.ended), None)
        if run is not None and touched > run.began_at:
            run.ended = True
            run = None
        step = 0 if run is None else run.step
        if step >= len(DELAYS[LAPSE]):
            return
        due = touched + DELAYS[LAPSE][step]
        if due > now:
            heappush(self._timers, (due, LAPSE, "", account))
            return
        last = max(orders, key=lambda order: order.placed_at)
        if last.account is None:
            return
        if run is None:
            run = self._begin(LAPSE, touched.isoformat(), last.account, touched)
            if run is None:
                return
        elif self._withdrawn(account):
            run.ended = True
            return
        self._speak(run, last.store, due, now, account=last.account)
        if run.step < len(DELAYS[LAPSE]):
            heappush(self._timers, (touched + DELAYS[LAPSE][run.step], LAPSE, "", account))

    # Both ------------------------------------------------------------------------------------------------------------

    def _begin(self, flow: str, cause: str, account: str, anchor: datetime) -> Run | None:
        others = [run for run in self._runs_of_person(account) if run.flow == flow]
        if any(abs(anchor - run.began_at) < AGAIN[flow] for run in others):
            return None
        run = Run(flow, cause, account, anchor)
        self._runs.append(run)
        self._runs_of[account].append(run)
        return run

    def _speak(self, run: Run, store: StoreName, due: datetime, now: datetime, account: str | None = None) -> None:
        run.step += 1
        account = account or run.account
        recipient = self._address(account)
        if (
            now - due > CEILING[run.flow]
            or recipient is None
            or not self._may_write(account, store)
            or recipient in self.gone
            or self._capped(account, now)
        ):
            self.skipped += 1
            return
        mail = Mail(
            at=now, flow=run.flow, step=run.step, recipient=recipient, cause=run.cause, store=store, account=account
        )
        self.sent.append(mail)

    def _may_write(self, account: str, store: StoreName) -> bool:
        """Withdrawn always wins; else subscribed; else, where the store's policy says so, a buyer."""
        said = {self.known.consents[each][1] for each in self._accounts(account) if each in self.known.consents}
        if "unsubscribed" in said:
            return False
        return "subscribed" in said or (self.policies[store] == "soft_opt_in" and bool(self._sales_of(account)))

    def _withdrawn(self, account: str) -> bool:
        accounts = self._accounts(account)
        said = {self.known.consents[each][1] for each in accounts if each in self.known.consents}
        return "unsubscribed" in said or self._address(account) in self.gone

    def _address(self, account: str) -> str | None:
        """The account's own; where it has none (a guest known by phone), the person's."""
        theirs = (self.known.emails.get(each) for each in sorted(self._accounts(account)))
        return self.known.emails.get(account) or next(filter(None, theirs), None)

    def _capped(self, account: str, now: datetime) -> bool:
        accounts = self._accounts(account)
        return any(mail.account in accounts and now - mail.at < CAP for mail in reversed(self.sent))

    def _accounts(self, account: str) -> set[str]:
        return self.known.accounts_of(account)

    def _sales_of(self, account: str) -> list[Sale]:
        return self.sales_of(self._accounts(account))

    def sales_of(self, accounts: Iterable[str]) -> list[Sale]:
        """The counted orders of these accounts, in all stores."""
        found = (sale(self.known, key) for each in accounts for key in self._orders.get(each, ()))
        return [each for each in found if each.counted]

    def baskets_of(self, accounts: Iterable[str]) -> list[Basket]:
        """The carts and checkouts of these accounts."""
        places = {"checkout": self.known.checkouts, "cart": self.known.carts}
        return [places[kind][key] for each in accounts for kind, key in self._baskets.get(each, ())]

    def _runs_of_person(self, account: str) -> list[Run]:
        return [run for each in self._accounts(account) for run in self._runs_of.get(each, ())]

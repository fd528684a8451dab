"""What an ideal listener knows once some deliveries have arrived: the latest state of everything, and who is who.

Written from the definitions alone; nothing of it comes from the services. Accounts are texts as the API prints them,
`customer:<store>:<id>`, `guest:<store>:<e-mail or phone>`, `cart:<store>:<token>`, with the store's name for its key.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never

from regulars.shop.delivery import Delivery
from regulars.shop.model import (
    Aside,
    Cart,
    Checkout,
    Consent,
    Contact,
    Customer,
    Deleted,
    Order,
    ProductState,
    Refund,
    RefundTold,
    State,
    StoreName,
)

DRAFT = "checkout-draft"
Key = tuple[StoreName, str]
"""Store and the platform's own id, or token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Basket:
    """A cart or checkout as last told."""

    store: StoreName
    token: str
    account: str | None
    started_at: datetime
    changed_at: datetime
    items: int
    cart: str | None
    completed: bool


def account_of(store: StoreName, contact: Contact, *, token: str | None = None) -> str | None:
    """Whose it is: the customer's, else the guest's by e-mail, else by phone, else the cart's; else nobody's."""
    if contact.customer_id is not None:
        return f"customer:{store}:{contact.customer_id}"
    if contact.email:
        return f"guest:{store}:{contact.email.lower()}"
    if phone := phone_of(contact):
        return f"guest:{store}:{phone}"
    return f"cart:{store}:{token}" if token else None


def phone_of(contact: Contact) -> str | None:
    """The phone, unless it is what people type who have none."""
    return contact.phone if contact.phone and contact.phone.startswith("+") else None


def shared_phones(deliveries: Iterable[Delivery]) -> frozenset[str]:
    """Phones of two registered customers of one store: a couple's. They prove nothing."""
    owners: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for delivery in deliveries:
        contact = getattr(delivery.state, "contact", None)
        if contact is not None and contact.customer_id is not None and (phone := phone_of(contact)):
            owners[delivery.store, phone].add(str(contact.customer_id))
    return frozenset(phone for (_, phone), ids in owners.items() if len(ids) > 1)


@dataclass(slots=True)
class Knowledge:
    """Fed with deliveries in any order and number; what is known does not depend on it."""

    shared: frozenset[str]
    """Phones that prove nothing."""
    orders: dict[Key, Order] = field(default_factory=dict)
    refunds: defaultdict[Key, dict[int, Refund]] = field(default_factory=lambda: defaultdict(dict))
    deleted: dict[Key, datetime] = field(default_factory=dict)
    checkouts: dict[Key, Basket] = field(default_factory=dict)
    carts: dict[Key, Basket] = field(default_factory=dict)
    consents: dict[str, tuple[datetime, str]] = field(default_factory=dict)
    """Account -> the latest word on e-mail."""
    emails: dict[str, str] = field(default_factory=dict)
    """Account -> its e-mail address."""
    _parent: dict[str, str] = field(default_factory=dict)
    _members: dict[str, set[str]] = field(default_factory=dict)
    """Root -> the accounts of that person."""

    def hear(self, state: State) -> None:
        """One delivery's state."""
        match state:
            case Order(status="checkout-draft"):
                self._checkout(_draft(state), state.contact)
            case Order():
                self._order(state)
            case Checkout():
                self._checkout(_checkout(state), state.contact)
                if state.ticked:
                    self._consent(account_of(state.store, state.contact), state.created_at, "subscribed")
            case Cart():
                self._cart(state)
            case Customer():
                account = self._meet(state.store, state.contact)
                if state.consent is not None and state.consent_at is not None:
                    self._consent(account, state.consent_at, state.consent)
            case Consent():
                contact = Contact(first="", last="", country="", customer_id=state.customer_id, email=state.email)
                self._consent(self._meet(state.store, contact, mail=False), state.at, state.state)
            case RefundTold():
                self.refunds[state.order.store, str(state.order.id)][state.refund.id] = state.refund
            case Deleted():
                key = (state.store, str(state.order_id))
                self.deleted[key] = max(state.at, self.deleted.get(key, state.at))
            case ProductState() | Aside():
                pass
            case _:
                assert_never(state)

    def _order(self, order: Order) -> None:
        key = (order.store, str(order.id))
        known = self.orders.get(key)
        if known is None or known.updated_at <= order.updated_at:
            self.orders[key] = order
        for refund in order.refunds:
            self.refunds[key][refund.id] = refund
        account = self._meet(order.store, order.contact, cart=order.cart, checkout=order.checkout)
        if order.ticked:
            self._consent(account, order.created_at, "subscribed")

    def _checkout(self, basket: Basket, contact: Contact) -> None:
        _keep(self.checkouts, basket)
        self._meet(basket.store, contact, cart=basket.cart, checkout=basket.token, own=basket.token)

    def _cart(self, cart: Cart) -> None:
        account = f"cart:{cart.store}:{cart.token}"
        pieces = sum(item.quantity for item in cart.items)
        basket = Basket(
            store=cart.store, token=cart.token, account=account, started_at=cart.created_at,
            changed_at=cart.updated_at, items=pieces, cart=cart.token, completed=False,
        )  # fmt: skip
        _keep(self.carts, basket)
        self._count(account)
        self._join(account, f"cart {cart.store} {cart.token}")

    def _consent(self, account: str | None, at: datetime, state: str) -> None:
        if account is not None and (account not in self.consents or self.consents[account][0] <= at):
            self.consents[account] = (at, state)

    # Who is who ------------------------------------------------------------------------------------------------------

    def _meet(
        self,
        store: StoreName,
        contact: Contact,
        *,
        cart: str | None = None,
        checkout: str | None = None,
        own: str | None = None,
        mail: bool = True,
    ) -> str | None:
        account = account_of(store, contact, token=cart or own)
        if account is None:
            return None
        self._count(account)
        if contact.email:
            self._join(account, f"email {contact.email.lower()}")
            if mail:
                self.emails[account] = contact.email.lower()
        if (phone := phone_of(contact)) and phone not in self.shared:
            self._join(account, f"phone {phone}")
        if cart:
            self._join(account, f"cart {store} {cart}")
        if checkout:
            self._join(account, f"checkout {store} {checkout}")
        return account

    def person(self, account: str) -> str:
        """Some fixed member of the account's person; changes when people turn out to be one."""
        parent = self._parent
        while (above := parent.setdefault(account, account)) != account:
            parent[account] = parent[above]
            account = above
        return account

    def _join(self, left: str, right: str) -> None:
        a, b = self.person(left), self.person(right)
        if a == b:
            return
        if len(self._members.get(a, ())) < len(self._members.get(b, ())):
            a, b = b, a
        self._parent[b] = a
        self._members.setdefault(a, set()).update(self._members.pop(b, ()))

    def _count(self, account: str) -> None:
        self._members.setdefault(self.person(account), set()).add(account)

    def accounts_of(self, account: str) -> set[str]:
        """All accounts of the account's person."""
        return self._members[self.person(account)]

    def accounts_with(self, email: str) -> set[str]:
        """The accounts whose own address this is."""
        return {each for each in self._members[self.person(f"email {email}")] if self.emails.get(each) == email}

    def people(self) -> list[frozenset[str]]:
        """The accounts of every person."""
        return [frozenset(accounts) for accounts in self._members.values() if accounts]


def _keep(baskets: dict[Key, Basket], basket: Basket) -> None:
    key = (basket.store, basket.token)
    known = baskets.get(key)
    if known is None or known.changed_at <= basket.changed_at:
        baskets[key] = basket


def _checkout(checkout: Checkout) -> Basket:
    return Basket(
        store=checkout.store,
        token=checkout.token,
        account=account_of(checkout.store, checkout.contact, token=checkout.cart),
        started_at=checkout.created_at,
        changed_at=checkout.updated_at,
        items=sum(item.quantity for item in checkout.items),
        cart=checkout.cart,
        completed=checkout.completed_at is not None,
    )


def _draft(order: Order) -> Basket:
    return Basket(
        store=order.store,
        token=str(order.id),
        account=account_of(order.store, order.contact, token=str(order.id)),
        started_at=order.created_at,
        changed_at=order.updated_at,
        items=sum(item.quantity for item in order.items),
        cart=None,
        completed=False,
    )

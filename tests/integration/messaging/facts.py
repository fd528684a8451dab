"""Facts as profiles publishes them, with everything that a test does not speak of filled in."""

from datetime import datetime
from typing import Any

from libs.common.contracts.commerce import Line
from libs.common.contracts.customers import (
    AccountMoved,
    ActivitySeen,
    CartChanged,
    CheckoutChanged,
    ConsentChanged,
    Fact,
    OrderPlaced,
    OrderView,
    ProfileChanged,
    StoreChanged,
)
from libs.common.contracts.types import ConsentState

STORE = "st_shop"
TYPES = {
    AccountMoved: "account.moved",
    ActivitySeen: "activity.seen",
    CartChanged: "cart.changed",
    CheckoutChanged: "checkout.changed",
    ConsentChanged: "consent.changed",
    OrderPlaced: "order.placed",
    ProfileChanged: "profile.changed",
    StoreChanged: "store.changed",
}


def event_type(fact: Fact) -> str:
    """The event that carries such a fact."""
    return TYPES[type(fact)]


def shop(policy: str = "explicit", **different: Any) -> StoreChanged:
    """A store."""
    known: dict[str, Any] = {
        "store": STORE,
        "platform": "shopify",
        "name": "Café Größe",
        "domain": "shop.example.com",
        "currency": "EUR",
        "timezone": "Europe/Berlin",
        "consent_policy": policy,
        "revision": 1,
    }
    return StoreChanged(**(known | different))


def moved(account: str, profile: str, *, before: str | None = None, revision: int = 1) -> AccountMoved:
    """An account of a profile."""
    return AccountMoved(store=STORE, account=account, previous=before, profile=profile, revision=revision)


def person(account: str, email: str | None, *, revision: int = 1, **different: Any) -> ProfileChanged:
    """What an account says of its person."""
    return ProfileChanged(store=STORE, platform="shopify", account=account, email=email, revision=revision, **different)


def consent(account: str, state: ConsentState, at: datetime, *, revision: int = 1) -> ConsentChanged:
    """An account's word on e-mail."""
    return ConsentChanged(
        store=STORE, account=account, channel="email", state=state, at=at, source="customer", revision=revision
    )


def known(account: str, profile: str, email: str, at: datetime, state: ConsentState = "subscribed") -> list[Fact]:
    """An account with an address that may be written to."""
    return [moved(account, profile), person(account, email, first_name="Ada"), consent(account, state, at)]


def checkout(token: str, account: str | None, at: datetime, *, revision: int = 1, **different: Any) -> CheckoutChanged:
    """A checkout with one item, last changed `at`."""
    given: dict[str, Any] = {
        "store": STORE,
        "account": account,
        "token": token,
        "started_at": at,
        "changed_at": at,
        "items": 1,
        "currency": "EUR",
        "total": 4990,
        "lines": [Line(title="Blue mug", quantity=1, price=4990, total=4990)],
        "recovery_url": f"https://shop.example.com/recover/{token}",
        "revision": revision,
    }
    return CheckoutChanged(**(given | different))


def cart(token: str, account: str, at: datetime, *, revision: int = 1, **different: Any) -> CartChanged:
    """A cart with one item, last changed `at`."""
    given: dict[str, Any] = {
        "store": STORE,
        "account": account,
        "token": token,
        "started_at": at,
        "changed_at": at,
        "items": 1,
        "currency": "EUR",
        "total": 4990,
        "lines": [Line(title="Blue mug", quantity=1, price=4990, total=4990)],
        "revision": revision,
    }
    return CartChanged(**(given | different))


def order(source_id: str, account: str | None, at: datetime, *, revision: int = 1, **different: Any) -> OrderPlaced:
    """A counted order."""
    of_fact = {name: different.pop(name) for name in ("origin",) if name in different}
    view: dict[str, Any] = {
        "store": STORE,
        "source_id": source_id,
        "account": account,
        "counted": True,
        "placed_at": at,
        "currency": "EUR",
        "gross": 4990,
        "discounts": 0,
        "returns": 0,
        "net": 4990,
        "shipping": 0,
        "taxes": 0,
        "total": 4990,
    }
    return OrderPlaced(store=STORE, order=OrderView(**(view | different)), revision=revision, **of_fact)


def activity(account: str, at: datetime, **different: Any) -> ActivitySeen:
    """A product was viewed."""
    return ActivitySeen(store=STORE, account=account, activity="product.viewed", at=at, **different)

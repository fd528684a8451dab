"""Whose an observation is: the account that it names, and what it says that account is known by.

Accounts: `customer:<store>:<id>` (registered), `guest:<store>:<email or +E164>`, `cart:<store>:<token>` (nobody yet).
All of it is a function of the one observation, so that no order of deliveries can change it.
"""

from typing import Literal, NamedTuple

from libs.common import identifiers
from libs.common.contracts.commerce import (
    ActivityObserved,
    CartObserved,
    CheckoutObserved,
    ConsentObserved,
    CustomerObserved,
    Observed,
    OrderObserved,
    Person,
    Removed,
)
from libs.common.junk import Junk

STRONG: Literal[0] = 0
"""What makes two accounts one person by itself: a registered customer's verified e-mail, a guest's own e-mail."""
WEAK: Literal[1] = 1
"""What is shared, lent, mistyped or merely claimed: phones, devices (tokens), an e-mail that nobody verified, and the
one on a registered customer's order."""


class Claim(NamedTuple):
    """An account, and the identifiers with their tier that one observation ties to it."""

    store: str
    account: str
    edges: tuple[tuple[str, int], ...] = ()


class Named(NamedTuple):
    """Everything in an observation that might name somebody."""

    store: str
    customer_id: str | None = None
    email: str | None = None
    phone: str | None = None
    country: str | None = None
    cart_token: str | None = None
    checkout_token: str | None = None


def registered(account: str) -> str | None:
    """The store in which this account is a registered customer; None for guests and carts."""
    kind, store, _ = account.split(":", 2)
    return store if kind == "customer" else None


def customer_id(account: str) -> str | None:
    """The platform's id of a registered customer; None for guests and carts."""
    kind, _, value = account.split(":", 2)
    return value if kind == "customer" else None


def is_nameless(account: str) -> bool:
    """Whether this account is known by tokens alone: whoever claims one is it.

    It never has an e-mail or a phone (`claim`), and walks over what accounts share rely on that.
    """
    return account.startswith("cart:")


def claim(observed: Observed, junk: Junk) -> Claim | None:
    """Whose `observed` is. None: nobody's (a product, a store, an order without a name)."""
    match observed:
        case OrderObserved():
            named = _named(observed.store, observed.customer_id, observed.person)
            tokens = named._replace(cart_token=observed.cart_token, checkout_token=observed.checkout_token)
            return _claim(tokens, junk)
        case CheckoutObserved():
            named = _named(observed.store, observed.customer_id, observed.person)
            tokens = named._replace(cart_token=observed.cart_token, checkout_token=observed.source_id)
            return _claim(tokens, junk, by_token=True)
        case CartObserved():
            cart = Named(observed.store, observed.customer_id, cart_token=observed.source_id)
            return _claim(cart, junk, by_token=True)
        case CustomerObserved():
            # Anybody may register under anybody's address.
            tier = STRONG if observed.email_verified else WEAK
            return _claim(_named(observed.store, observed.source_id, observed.person), junk, own_email=tier)
        case ConsentObserved() | ActivityObserved():
            who = observed.identifiers
            named = Named(
                observed.store,
                who.customer_id,
                who.email,
                who.phone,
                cart_token=who.cart_token,
                checkout_token=who.checkout_token,
            )
            return _claim(named, junk, by_token=True)
        case _:
            return None


def claim_of_known(account: str) -> Claim:
    """An account that a later service speaks of."""
    return Claim(account.split(":", 2)[1], account)


def claim_of_removed(removed: Removed) -> Claim:
    """The account of a removed customer: it may be the first that we hear of it."""
    return Claim(removed.store, f"customer:{removed.store}:{removed.source_id}")


def _named(store: str, customer: str | None, person: Person) -> Named:
    return Named(store, customer, person.email, person.phone, person.country)


def _claim(named: Named, junk: Junk, *, own_email: int = WEAK, by_token: bool = False) -> Claim | None:
    store = named.store
    address = identifiers.email(named.email, junk)
    number = identifiers.phone(named.phone, named.country, junk)
    token = named.cart_token or named.checkout_token
    if named.customer_id:
        account = f"customer:{store}:{named.customer_id}"
    elif address:
        account, own_email = f"guest:{store}:{address}", STRONG
    elif number:
        account = f"guest:{store}:{number}"
    elif by_token and token:
        account = f"cart:{store}:{token}"
    else:
        return None
    edges = [(f"email:{address}", own_email)] if address else []
    if number:
        edges.append((f"phone:{number}", WEAK))
    if named.cart_token:
        edges.append((f"cart:{store}:{named.cart_token}", WEAK))
    if named.checkout_token:
        edges.append((f"checkout:{store}:{named.checkout_token}", WEAK))
    return Claim(store, account, tuple(edges))

"""Carts: the latest snapshot and the latest tombstone of each, and a fact when what they show changes."""

from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from libs.common.contracts.commerce import CartObserved, Removed
from libs.common.contracts.customers import CartChanged
from services.profiles.facts import Told, Version, is_live, is_removed, latest, supersedes, version


class CartState(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that was observed of one cart."""

    snapshot: CartObserved | None = None
    account: str | None = None
    removed: Version | None = None
    live: bool = False
    """Some snapshot, perhaps not the latest, was told as it happened: somebody may be about to walk away from it."""
    revision: int = 0


def on_observed(state: CartState, cart: CartObserved, account: str) -> CartState:
    """The cart described whole."""
    heard = replace(state, live=is_live(state.live, state.snapshot, cart))
    return replace(heard, snapshot=cart, account=account) if supersedes(cart, state.snapshot) else heard


def on_removed(state: CartState, removed: Removed) -> CartState:
    """The cart was deleted."""
    return replace(state, removed=latest(version(removed), state.removed))


def view(state: CartState) -> CartChanged | None:
    """The cart as consumers get it; None while only a tombstone is known."""
    cart = state.snapshot
    if cart is None or state.account is None:
        return None
    deleted = is_removed(state.removed, cart)
    return CartChanged(
        store=cart.store,
        account=state.account,
        token=cart.source_id,
        started_at=cart.started_at,
        changed_at=state.removed[0] if deleted and state.removed else cart.updated_at,
        items=sum(line.quantity for line in cart.lines),
        currency=cart.currency,
        total=cart.total,
        lines=cart.lines,
        deleted=deleted,
        revision=state.revision,
    )


def decide(before: CartState, after: CartState, *, at: datetime) -> tuple[CartState, list[Told]]:
    """What to publish of the step, and `after` with that noted."""
    shown = view(after)
    if shown is None or after.snapshot is None or (shown == view(before) and after.live == before.live):
        return after, []
    noted = replace(after, revision=after.revision + 1)
    fact = replace(shown, revision=noted.revision, origin="live" if after.live else after.snapshot.origin)
    return noted, [Told("cart.changed", fact.account, at, fact)]

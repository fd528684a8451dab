"""Checkouts: the latest snapshot and the latest tombstone of each, and the facts when what they show changes."""

from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from libs.common.contracts.commerce import CheckoutObserved, Removed
from libs.common.contracts.customers import CheckoutChanged
from services.profiles.facts import Told, Version, is_live, is_removed, latest, supersedes, version
from services.profiles.ledger import OrderState


class CheckoutState(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that was observed of one checkout."""

    snapshot: CheckoutObserved | None = None
    account: str | None = None
    removed: Version | None = None
    stood_in: bool = False
    """Its token was its cart's, and only stood in for its own: it is told under that, as another checkout."""
    ordered_at: datetime | None = None
    """When it became an order that counted: whatever happens to that, nobody walked away from it."""
    live: bool = False
    """Some snapshot, perhaps not the latest, was told as it happened: somebody may be about to walk away from it."""
    revision: int = 0


def on_observed(state: CheckoutState, checkout: CheckoutObserved, account: str | None) -> CheckoutState:
    """The checkout described whole."""
    heard = replace(state, live=is_live(state.live, state.snapshot, checkout))
    return replace(heard, snapshot=checkout, account=account) if supersedes(checkout, state.snapshot) else heard


def on_removed(state: CheckoutState, removed: Removed) -> CheckoutState:
    """The checkout was deleted."""
    stood_in = state.stood_in or removed.told_as is not None
    return replace(state, removed=latest(version(removed), state.removed), stood_in=stood_in)


def on_order(state: CheckoutState, order: OrderState) -> CheckoutState:
    """What became of the order that has the checkout's id, where the two are one (WooCommerce's drafts)."""
    known = state.snapshot is not None or state.removed is not None
    bought_at = order.bought_at
    if bought_at is None and order.counted_ever and order.snapshot is not None:
        # A state of before that date was kept.
        bought_at = order.snapshot.placed_at
    return replace(state, ordered_at=bought_at) if known else state


def view(state: CheckoutState) -> CheckoutChanged | None:
    """The checkout as consumers get it; None while only a tombstone is known."""
    checkout = state.snapshot
    if checkout is None:
        return None
    gone = is_removed(state.removed, checkout) and state.ordered_at is None
    deleted = gone or state.stood_in
    return CheckoutChanged(
        store=checkout.store,
        account=state.account,
        token=checkout.source_id,
        started_at=checkout.started_at,
        changed_at=state.removed[0] if deleted and state.removed else checkout.updated_at,
        items=sum(line.quantity for line in checkout.lines),
        currency=checkout.currency,
        total=checkout.total,
        lines=checkout.lines,
        cart_token=checkout.cart_token,
        completed_at=checkout.completed_at or state.ordered_at,
        recovery_url=checkout.recovery_url,
        recovery_ends_at=checkout.recovery_ends_at,
        deleted=deleted,
        revision=state.revision,
    )


def decide(before: CheckoutState, after: CheckoutState, *, at: datetime) -> tuple[CheckoutState, list[Told]]:
    """What to publish of the step, and `after` with that noted."""
    shown = view(after)
    if shown is None or after.snapshot is None or (shown == view(before) and after.live == before.live):
        return after, []
    noted = replace(after, revision=after.revision + 1)
    fact = replace(shown, revision=noted.revision, origin="live" if after.live else after.snapshot.origin)
    name = "checkout.deleted" if fact.deleted else "checkout.started" if noted.revision == 1 else "checkout.changed"
    time = fact.started_at if name == "checkout.started" else at
    return noted, [Told(name, fact.account or f"checkout:{fact.store}:{fact.token}", time, fact)]

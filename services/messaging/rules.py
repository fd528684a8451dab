"""What a run does next, given what is known now. Timers only look: every answer comes from the state of that moment."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, assert_never

from msgspec import Struct

from services.messaging.flows import OF_ANY_FLOW, Exit, Flow
from services.messaging.person import Person

BOUGHT: frozenset[Exit] = frozenset({"ordered", "completed"})
NO_LONGER_TRUE: frozenset[Exit] = frozenset({"emptied", "superseded", "active"})


class Basket(Struct, frozen=True, kw_only=True):
    """A cart or a checkout, as its shop last described it."""

    kind: Literal["cart", "checkout"]
    store: str
    token: str
    account: str | None
    started_at: datetime
    changed_at: datetime
    items: int
    currency: str
    total: int
    lines: str
    """JSON list of `contracts.commerce.Line`."""
    cart_token: str | None = None
    completed_at: datetime | None = None
    recovery_url: str | None = None
    recovery_ends_at: datetime | None = None
    """When that leads nowhere any more; None: it does not end by itself."""
    deleted: bool = False
    live: bool = True
    """Any of its changes was told as it happened, not backfilled or replayed."""


class TokenOrder(Struct, frozen=True, kw_only=True):
    """A counted order that names the cart or checkout that it came from."""

    placed_at: datetime
    checkout_token: str | None = None
    cart_token: str | None = None


class Run(Struct, frozen=True, kw_only=True):
    """One profile's way through one version of a flow."""

    run_key: str
    version: int
    subject: str
    account: str
    began_at: datetime
    """The last change, order or activity at the moment that it began."""
    step: int
    """Steps planned so far."""
    ended: bool = False


class Look(Struct, frozen=True, kw_only=True):
    """What one timer sees. `subject`: the token of a cart or checkout, or an account."""

    tenant: str
    store: str
    subject: str
    person: Person | None = None
    baskets: tuple[Basket, ...] = ()
    """Those with this token, and checkouts of the cart with this token."""
    orders: tuple[TokenOrder, ...] = ()
    runs: tuple[Run, ...] = ()
    """Of this flow: the subject's own, those of the person, that of the checkout's cart."""
    deleted_stores: frozenset[str] = frozenset()
    """Of the tenant."""


class Situation(Struct, frozen=True, kw_only=True):
    """A look, understood. Depends on what is known alone, not on which timer looked."""

    run_key: str
    subject: str
    store: str
    account: str
    anchor: datetime
    """What delays count from: the last change, or the last order or activity."""
    known: bool
    """Somebody can be written to."""
    live: bool
    exits: frozenset[Exit]
    """What has happened that ends a run of this flow."""
    basket: Basket | None = None


class Act(Struct, frozen=True, kw_only=True):
    """Plan the message of `step` (from 1); look again at `again`, if there is more to say."""

    situation: Situation
    step: int
    due_at: datetime
    again: datetime | None


class Sleep(Struct, frozen=True, kw_only=True):
    """Too early: look again then."""

    until: datetime


class End(Struct, frozen=True, kw_only=True):
    """The run is over; look again at `again`, if another may begin."""

    run_key: str
    reason: Exit
    again: datetime | None


class Disarm(Struct, frozen=True, kw_only=True):
    """Nothing to wait for until something changes, which arms the timer again."""


Decision = Act | Sleep | End | Disarm


def basket_run_key(store: str, token: str) -> str:
    """Tokens are unique within a store only (WooCommerce counts from 1)."""
    return f"{store}:{token}"


def chosen_basket(subject: str, baskets: Sequence[Basket]) -> Basket | None:
    """A cart and its checkout are one: the checkout speaks for both once it exists."""
    own = next((b for b in baskets if b.kind == "checkout" and b.token == subject), None)
    checkouts = [b for b in baskets if b.kind == "checkout" and b.cart_token == subject and b is not own]
    # One that was fetched is told under its cart's token until its own is known, and is deleted then.
    if own is not None and not (own.deleted and checkouts):
        return own
    if checkouts:
        return max(checkouts, key=lambda b: (b.changed_at, b.token))
    return next((b for b in baskets if b.kind == "cart" and b.token == subject), None)


def situation(look: Look, flow: Flow, run: Run | None) -> Situation | None:
    """What the look means for `run`, or for a run that might begin; None when there is nothing to go by."""
    match flow.trigger:
        case "basket_abandoned":
            return _abandoned(look, flow, run)
        case "profile_lapsed":
            return _lapsed(look, flow, run)
        case _:
            assert_never(flow.trigger)


def own_run(look: Look, flow: Flow) -> Run | None:
    """The subject's run: the one under way, or the one that was had for the same cause."""
    match flow.trigger:
        case "basket_abandoned":
            run_key = basket_run_key(look.store, look.subject)
        case "profile_lapsed":
            # Whichever of the person's accounts the timer stands for: a person has one run.
            under_way = next((run for run in look.runs if not run.ended), None)
            fresh = situation(look, flow, None)
            if under_way is not None or fresh is None:
                return under_way
            run_key = fresh.run_key
        case _:
            assert_never(flow.trigger)
    return next((run for run in look.runs if run.run_key == run_key), None)


def decide(look: Look, flow: Flow, run: Run | None, now: datetime) -> Decision:
    """What to do at `now`. `flow` is the run's version, or the current one when there is no run."""
    if run is not None and run.ended:
        return Disarm()
    seen = situation(look, flow, run)
    if run is None:
        return Disarm() if seen is None else _begin(look, flow, seen, now)
    if seen is None:
        return End(run_key=run.run_key, reason="emptied", again=None)
    if ended := sorted(seen.exits):
        return End(run_key=run.run_key, reason=ended[0], again=_next_lapse(look, flow))
    return _speak(flow, seen, run.step + 1, now)


def _begin(look: Look, flow: Flow, seen: Situation, now: datetime) -> Decision:
    # Somebody who never let us write still gets a row in the ledger that says so; it is the gate's to say.
    if not seen.known or not seen.live or seen.exits - {"unsubscribed"}:
        return Disarm()
    if now >= seen.anchor + flow.steps[0].delay and not _may_begin(look, flow, seen):
        return Disarm()
    return _speak(flow, seen, 1, now)


def _may_begin(look: Look, flow: Flow, seen: Situation) -> bool:
    # By event time in both directions: a cart that is told late neither follows nor precedes another too closely.
    return all(abs(seen.anchor - run.began_at) >= flow.again_after for run in look.runs if run.run_key != seen.run_key)


def _speak(flow: Flow, seen: Situation, number: int, now: datetime) -> Decision:
    due_at = seen.anchor + flow.steps[number - 1].delay
    if now < due_at:
        return Sleep(until=due_at)
    again = seen.anchor + flow.steps[number].delay if number < len(flow.steps) else None
    return Act(situation=seen, step=number, due_at=due_at, again=again)


def _next_lapse(look: Look, flow: Flow) -> datetime | None:
    if flow.trigger != "profile_lapsed" or look.person is None or look.person.touched_at is None:
        return None
    return look.person.touched_at + flow.steps[0].delay


def _abandoned(look: Look, flow: Flow, run: Run | None) -> Situation | None:
    basket = chosen_basket(look.subject, look.baskets)
    if basket is None or look.person is None or basket.account is None:
        return None
    exits: set[Exit] = set()
    if basket.completed_at is not None or any(_completes(order, basket) for order in look.orders):
        exits.add("completed")
    if basket.deleted or basket.items < flow.filters.minimum_items:
        exits.add("emptied")
    if run is None and _superseded(look, basket):
        exits.add("superseded")
    ordered_at = look.person.ordered_at
    if ordered_at is not None and ordered_at >= (basket.changed_at if run is None else run.began_at):
        exits.add("ordered")
    exits |= _left(look.person, basket.account, flow) | _deleted(look, look.store)
    return Situation(
        run_key=basket_run_key(look.store, look.subject),
        subject=look.subject,
        store=look.store,
        account=basket.account,
        anchor=basket.changed_at,
        known=look.person.address(basket.account) is not None,
        live=basket.live,
        exits=frozenset(exits & (flow.exits | OF_ANY_FLOW)),
        basket=basket,
    )


def _completes(order: TokenOrder, basket: Basket) -> bool:
    if basket.kind == "checkout" and order.checkout_token == basket.token:
        return True
    # A cart's token may live on after the order: only what was in it by then is done.
    cart = basket.token if basket.kind == "cart" else basket.cart_token
    return cart is not None and order.cart_token == cart and order.placed_at >= basket.changed_at - _AFTERMATH


_AFTERMATH = timedelta(minutes=5)
"""Shops touch a cart once more while they turn it into an order."""


def _superseded(look: Look, basket: Basket) -> bool:
    """Whether the other half of the pair, cart or checkout, is the one to run."""
    if basket.token != look.subject:
        return True
    if basket.kind == "cart" or basket.cart_token in (None, basket.token):
        return False
    theirs = basket_run_key(look.store, str(basket.cart_token))
    return any(run.run_key == theirs and not run.ended for run in look.runs)


def _lapsed(look: Look, flow: Flow, run: Run | None) -> Situation | None:
    person = look.person
    buyer = person.last_buyer() if person else None
    if person is None or person.touched_at is None or person.ordered_at is None or buyer is None:
        return None
    exits: set[Exit] = set()
    if run is not None and person.ordered_at > run.began_at:
        exits.add("ordered")
    if run is not None and person.touched_at > run.began_at:
        exits.add("active")
    exits |= _left(person, buyer.account, flow) | _deleted(look, buyer.store)
    return Situation(
        run_key=f"{buyer.account}@{person.touched_at:%Y%m%dT%H%M%S.%fZ}",
        subject=buyer.account,
        store=buyer.store,
        account=buyer.account,
        anchor=person.touched_at,
        known=True,
        live=person.touched_live,
        exits=frozenset(exits & (flow.exits | OF_ANY_FLOW)),
    )


def _left(person: Person, account: str, flow: Flow) -> set[Exit]:
    left: set[Exit] = set()
    if person.erased(account):
        left.add("erased")
    address = person.address(account)
    if person.consent(flow.channel) == "unsubscribed" or (address is not None and person.suppressed(address)):
        left.add("unsubscribed")
    return left


def _deleted(look: Look, store: str) -> set[Exit]:
    return {"store_deleted"} if store in look.deleted_stores else set()

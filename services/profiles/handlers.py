"""From what was observed to what happened: topics `commerce` and `messages` in, topic `customers` out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar, assert_never

import msgspec
from msgspec.structs import replace

from libs.common.batch import Batch, Reject
from libs.common.contracts.commerce import (
    ActivityObserved,
    CartObserved,
    CheckoutObserved,
    Consent,
    OrderObserved,
    ProductObserved,
    RefundObserved,
    Removed,
    StoreObserved,
)
from libs.common.contracts.customers import AccountMoved, ActivitySeen
from libs.common.contracts.messages import MessageFact, MessageUnsubscribed
from libs.common.contracts.topics import CUSTOMERS
from libs.common.contracts.types import Account
from libs.common.junk import Junk
from services.profiles import carts, checkouts, consent, ledger, people, products, timeline
from services.profiles.carts import CartState
from services.profiles.checkouts import CheckoutState
from services.profiles.facts import Told
from services.profiles.identity.resolve import MOST_TOGETHER
from services.profiles.ledger import OrderState
from services.profiles.people import PersonState
from services.profiles.products import ProductState, StoreState
from services.profiles.seen import Seen, parsed
from services.profiles.store import identity, subjects
from services.profiles.store.subjects import Loaded
from services.profiles.timeline import Entry

S = TypeVar("S", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Rules:
    """What may be configured of identity."""

    junk: Junk
    fanout: Mapping[str, int]
    """Kind of identifier -> most accounts that one may name."""
    together: int = MOST_TOGETHER
    """Most accounts that may hang together."""


@dataclass(slots=True)
class Work:
    """All rows that a batch touches, and the facts that come of it."""

    batch: Batch
    rules: Rules
    people: Loaded[PersonState]
    orders: Loaded[OrderState]
    checkouts: Loaded[CheckoutState]
    carts: Loaded[CartState]
    products: Loaded[ProductState]
    stores: Loaded[StoreState]
    known: set[tuple[str, str]]
    """Activities told before."""
    entries: dict[tuple[str, str], Entry | None] = field(default_factory=dict)
    """What changes on the timeline, by (tenant, key). None: taken off."""

    def tell(self, told: list[Told], seen: Seen) -> None:
        """Publishes facts."""
        for type_, key, time, fact in told:
            self.batch.emit(CUSTOMERS, type_, fact, key=key, time=time, cause=seen.record)

    def note(self, seen: Seen, entries: Sequence[Entry], before: Sequence[Entry] = ()) -> None:
        """Puts what is new or other than `before` on the timeline."""
        after: dict[str, Entry | None] = {entry.key: entry for entry in entries}
        for entry in before:
            if after.setdefault(entry.key, None) == entry:
                del after[entry.key]
        for key, changed in after.items():
            self.entries[seen.record.tenant, key] = changed


async def handle(batch: Batch, rules: Rules) -> None:
    """One batch: who it was, then what happened, record by record, in memory; one statement a table."""
    observed = list(parsed(batch, rules.junk))
    admission = await identity.admit(
        batch.tx,
        [(seen.record.tenant, seen.claim) for seen in observed if seen.claim],
        rules.fanout,
        rules.together,
    )
    _tell_moves(batch, observed, admission)
    work = await _load(batch, rules, observed)
    for seen in observed:
        try:
            ON[seen.record.type](work, seen)
        except Reject as refused:
            batch.reject(seen.record, refused.reason)
    for key in admission.fresh:
        # Whoever made an account makes its person too: others lock that row, and must find it.
        work.people.rows.setdefault(key, PersonState())
        work.people.changed.add(key)
    touched: tuple[Loaded[Any], ...] = (
        work.people,
        work.orders,
        work.checkouts,
        work.carts,
        work.products,
        work.stores,
    )
    for loaded in touched:
        await subjects.save(batch.tx, loaded)
    await subjects.write_entries(batch.tx, work.entries)


def _tell_moves(batch: Batch, observed: list[Seen], admission: identity.Admission) -> None:
    """Before anything else is said of these accounts."""
    causes: dict[str, Seen] = {}
    for seen in observed:
        if seen.claim:
            home = admission.homes.get((seen.record.tenant, seen.claim.account))
            if home is not None:
                causes.setdefault(home, seen)
    for move in admission.moves:
        # A profile that a quarantine or a crowd split off holds no account of this batch.
        seen = causes.get(move.profile) or next(s for s in observed if s.claim and s.record.tenant == move.tenant)
        fact = AccountMoved(
            store=move.store,
            origin=seen.origin,
            account=move.account,
            previous=move.previous,
            profile=move.profile,
            revision=move.revision,
        )
        batch.emit(CUSTOMERS, "account.moved", fact, key=move.account, time=seen.record.time, cause=seen.record)


async def _load(batch: Batch, rules: Rules, observed: list[Seen]) -> Work:
    tx = batch.tx

    async def rows(subject: subjects.Subject[S], kind: str) -> Loaded[S]:
        return await subjects.load(tx, subject, (seen.key for seen in observed if kind in seen.kinds))

    activities = [
        (seen.record.tenant, timeline.of_activity(seen.claim.account, seen.data).key)
        for seen in observed
        if seen.claim and isinstance(seen.data, ActivityObserved)
    ]
    return Work(
        batch=batch,
        rules=rules,
        people=await subjects.load(
            tx, subjects.PEOPLE, ((seen.record.tenant, seen.claim.account) for seen in observed if seen.claim)
        ),
        orders=await rows(subjects.ORDERS, "order"),
        checkouts=await rows(subjects.CHECKOUTS, "checkout"),
        carts=await rows(subjects.CARTS, "cart"),
        products=await rows(subjects.PRODUCTS, "product"),
        stores=await subjects.load(
            tx,
            subjects.STORES,
            ((s.record.tenant, s.data.source_id) for s in observed if isinstance(s.data, StoreObserved)),
        ),
        known=await subjects.known_entries(tx, activities),
    )


def on_order(work: Work, seen: Seen) -> None:
    """`order.observed`, `refund.observed`, `order.removed`. Raises Reject, and has done nothing then."""
    before = work.orders[seen.key]
    data: OrderObserved | RefundObserved | Removed = seen.data
    try:
        match data:
            case OrderObserved():
                after = ledger.on_observed(before, data, seen.claim.account if seen.claim else None)
                _on_person(work, seen, active=data.placed_at if ledger.counts(data) else None)
            case RefundObserved():
                after = ledger.on_refund(before, data)
            case Removed():
                after = ledger.on_removed(before, data)
            case _:
                assert_never(data)
    except ledger.TooManyRefunds as error:
        raise Reject(str(error)) from error
    after, told = ledger.decide(before, after, at=data.updated_at, origin=data.origin)
    work.orders[seen.key] = after
    work.tell(told, seen)
    same = timeline.same_refunds(before, after)
    work.note(seen, timeline.of_order(after, but=same), timeline.of_order(before, but=same))
    if "checkout" in seen.kinds:
        draft = work.checkouts[seen.key]
        # WooCommerce throws each draft away after a day: that it is gone for good, as we find out, says nothing.
        if isinstance(data, Removed) and data.origin != "reconciled":
            _as_checkout(work, seen, draft, checkouts.on_removed(draft, data))
        else:
            _as_checkout(work, seen, draft, draft)


def on_checkout(work: Work, seen: Seen) -> None:
    """`checkout.observed`, `checkout.removed`."""
    before = work.checkouts[seen.key]
    data: CheckoutObserved | Removed = seen.data
    match data:
        case CheckoutObserved():
            _on_person(work, seen, active=data.updated_at)
            after = checkouts.on_observed(before, data, seen.claim.account if seen.claim else None)
        case Removed():
            after = checkouts.on_removed(before, data)
        case _:
            assert_never(data)
    _as_checkout(work, seen, before, after)


def _as_checkout(work: Work, seen: Seen, before: CheckoutState, after: CheckoutState) -> None:
    if "order" in seen.kinds:
        after = checkouts.on_order(after, work.orders[seen.key])
    if after == before:
        return
    after, told = checkouts.decide(before, after, at=seen.data.updated_at)
    work.checkouts[seen.key] = after
    work.tell(told, seen)
    work.note(seen, timeline.of_checkout(after), timeline.of_checkout(before))


def on_cart(work: Work, seen: Seen) -> None:
    """`cart.observed`, `cart.removed`."""
    before = work.carts[seen.key]
    data: CartObserved | Removed = seen.data
    match data:
        case CartObserved():
            _on_person(work, seen, active=data.updated_at)
            after = carts.on_observed(before, data, seen.account)
        case Removed():
            after = carts.on_removed(before, data)
        case _:
            assert_never(data)
    after, told = carts.decide(before, after, at=data.updated_at)
    work.carts[seen.key] = after
    work.tell(told, seen)
    work.note(seen, timeline.of_cart(after), timeline.of_cart(before))


def on_customer(work: Work, seen: Seen) -> None:
    """`customer.observed`, `customer.removed`."""
    before = work.people[seen.person].own
    _on_person(work, seen)
    registered = timeline.of_customer(seen.account, work.people[seen.person].own)
    work.note(seen, registered, timeline.of_customer(seen.account, before))


def on_consent(work: Work, seen: Seen) -> None:
    """`consent.observed`."""
    _on_person(work, seen)


def on_activity(work: Work, seen: Seen) -> None:
    """`activity.observed`: told once, whatever number of times it is sent."""
    activity: ActivityObserved = seen.data
    _on_person(work, seen, active=activity.updated_at)
    entry = timeline.of_activity(seen.account, activity)
    place = (seen.record.tenant, entry.key)
    if place not in work.known:
        work.known.add(place)
        fact = ActivitySeen(
            store=activity.store,
            origin=activity.origin,
            account=seen.account,
            activity=activity.activity,
            at=activity.updated_at,
        )
        work.tell([Told("activity.seen", seen.account, activity.updated_at, fact)], seen)
        work.note(seen, [entry])


def on_product(work: Work, seen: Seen) -> None:
    """`product.observed`, `product.removed`."""
    before = work.products[seen.key]
    data: ProductObserved | Removed = seen.data
    match data:
        case ProductObserved():
            after = products.on_observed(before, data)
        case Removed():
            after = products.on_removed(before, data)
        case _:
            assert_never(data)
    after, told = products.decide(before, after, at=data.updated_at, origin=data.origin)
    work.products[seen.key] = after
    work.tell(told, seen)


def on_store(work: Work, seen: Seen) -> None:
    """`store.observed`."""
    key = (seen.record.tenant, seen.data.source_id)
    work.stores[key], told = products.on_store(work.stores[key], seen.data)
    work.tell(told, seen)


def on_message(work: Work, seen: Seen) -> None:
    """`message.sent`, `message.unsubscribed`."""
    message: MessageFact = seen.data
    work.note(seen, [timeline.of_message(seen.record.type, message)])
    if isinstance(message, MessageUnsubscribed):
        withdrawn = Consent(channel=message.channel, state="unsubscribed", at=message.at, source="message")
        work.people[seen.person] = _hold(work, seen, work.people[seen.person], withdrawn)


ON: dict[str, Callable[[Work, Seen], None]] = {
    "order.observed": on_order,
    "order.removed": on_order,
    "refund.observed": on_order,
    "checkout.observed": on_checkout,
    "checkout.removed": on_checkout,
    "cart.observed": on_cart,
    "cart.removed": on_cart,
    "customer.observed": on_customer,
    "customer.removed": on_customer,
    "consent.observed": on_consent,
    "activity.observed": on_activity,
    "product.observed": on_product,
    "product.removed": on_product,
    "store.observed": on_store,
    "message.sent": on_message,
    "message.unsubscribed": on_message,
}


def _on_person(work: Work, seen: Seen, *, active: datetime | None = None) -> None:
    """What this observation says of its account's person: traits, activity, consent."""
    if seen.claim is None:
        return
    before = work.people[seen.person]
    after = people.on_observed(before, seen.data, work.rules.junk)
    if active is not None:
        after = people.on_activity(after, active)
    account = Account(seen.claim.account)
    after, told = people.decide(
        account, seen.claim.store, before, after, at=seen.data.updated_at, origin=seen.data.origin
    )
    work.tell(told, seen)
    for said in consent.stated(seen.data):
        after = _hold(work, seen, after, said)
    work.people[seen.person] = after


def _hold(work: Work, seen: Seen, person: PersonState, said: Consent) -> PersonState:
    held, told = consent.decide(
        Account(seen.account), seen.data.store, said, person.consents.get(said.channel), origin=seen.origin
    )
    work.tell(told, seen)
    work.note(seen, [timeline.of_consent(seen.account, seen.data.store, said)])
    return replace(person, consents={**person.consents, said.channel: held})

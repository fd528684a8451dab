"""The order ledger: each observed snapshot against what is known, and the facts that follow, each once.

An order's state is a join: the latest snapshot, the latest tombstone, the last token told of its cart and of its
checkout, every refund ever told, and the first time that each moment was told. So it does not depend on the order or
the number of deliveries.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from libs.common.contracts.commerce import MOST_REFUNDS, OrderObserved, Refund, RefundObserved, Removed
from libs.common.contracts.customers import OrderMoment, OrderPlaced, OrderRefunded, OrderRevised, OrderView
from libs.common.contracts.types import Origin
from services.profiles.facts import Told, Version, is_removed, latest, supersedes, version


class TooManyRefunds(Exception):
    """More than an order may have, all ever told together. Each change of an order costs by how many it has."""

    def __init__(self) -> None:
        super().__init__(f"refunds: more than {MOST_REFUNDS} of one order")


class SeenRefund(Struct, frozen=True, omit_defaults=True):
    """A refund as last told."""

    refund: Refund
    seen: Version
    first_seen: datetime | None = None
    """Earliest date of what told it; None in states of before that was kept."""

    @property
    def at(self) -> datetime:
        """When it was given. WooCommerce does not say: when the order changed that first showed it."""
        return self.refund.at or self.first_seen or self.seen[0]


class SeenToken(Struct, frozen=True):
    """A token as last told."""

    value: str
    seen: Version


class OrderState(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that was observed of one order, and what was told of it."""

    snapshot: OrderObserved | None = None
    account: str | None = None
    """Whom the snapshot names."""
    removed: Version | None = None
    cart: SeenToken | None = None
    checkout: SeenToken | None = None
    """Only webhooks name cart and checkout, which never change: who leaves them out takes nothing away."""
    refunds: dict[str, SeenRefund] = {}
    """Every refund ever told, by its id."""
    counted_ever: bool = False
    """Some snapshot, perhaps not the latest, counted: the order was placed."""
    bought_at: datetime | None = None
    """Earliest date of placing that such a snapshot tells."""
    cancelled_at: datetime | None = None
    """The earliest ever told. A cancellation that was taken back happened all the same."""
    fulfilled_at: datetime | None = None
    revision: int = 0
    told: tuple[str, ...] = ()
    """Moments already published."""


def on_observed(state: OrderState, order: OrderObserved, account: str | None) -> OrderState:
    """The order described whole. A snapshot older than the known one still adds what is only ever added.

    Raises TooManyRefunds.
    """
    refunds = _kept(state.refunds, order.refunds, version(order))
    merged = replace(
        state,
        cart=_token("cart_token", state.cart, state.snapshot, order),
        checkout=_token("checkout_token", state.checkout, state.snapshot, order),
        refunds=refunds,
        counted_ever=state.counted_ever or counts(order),
        bought_at=_earliest(state.bought_at, order.placed_at if counts(order) else None),
        cancelled_at=_earliest(state.cancelled_at, order.cancelled_at),
        fulfilled_at=_earliest(state.fulfilled_at, order.fulfilled_at),
    )
    return replace(merged, snapshot=order, account=account) if supersedes(order, state.snapshot) else merged


def on_refund(state: OrderState, observed: RefundObserved) -> OrderState:
    """A refund told by itself; it may come before its order. Raises TooManyRefunds."""
    return replace(state, refunds=_kept(state.refunds, [observed.refund], version(observed)))


def on_removed(state: OrderState, removed: Removed) -> OrderState:
    """The order was deleted."""
    return replace(state, removed=latest(version(removed), state.removed))


def counts(order: OrderObserved) -> bool:
    """Whether this snapshot, by itself, is an order that KPIs count."""
    return order.placed and not order.test and order.cancelled_at is None


def refunds(state: OrderState) -> list[Refund]:
    """The refunds that stand: the latest snapshot's where it lists them all, else all ever told in its currency."""
    if state.snapshot is not None and state.snapshot.refunds_complete:
        return list(state.snapshot.refunds)
    currency = state.snapshot.currency if state.snapshot is not None else None
    told = (state.refunds[key].refund for key in sorted(state.refunds))
    return [each for each in told if currency is None or each.currency in {None, currency}]


def view(state: OrderState) -> OrderView | None:
    """The order as consumers get it; None while only refunds or a tombstone are known."""
    order = state.snapshot
    if order is None:
        return None
    given_back = refunds(state)
    deleted = is_removed(state.removed, order)
    returns = sum(refund.returns for refund in given_back)
    net = order.gross - order.discounts - returns
    shipping = order.shipping - sum(refund.shipping for refund in given_back)
    taxes = order.taxes - sum(refund.taxes for refund in given_back)
    return OrderView(
        store=order.store,
        source_id=order.source_id,
        account=state.account,
        counted=counts(order) and not deleted,
        placed_at=order.placed_at,
        currency=order.currency,
        gross=order.gross,
        discounts=order.discounts,
        returns=returns,
        net=net,
        shipping=shipping,
        taxes=taxes,
        total=net + shipping + taxes,
        cancelled_at=order.cancelled_at,
        fulfilled_at=order.fulfilled_at,
        deleted=deleted,
        cart_token=state.cart.value if state.cart else order.cart_token,
        checkout_token=state.checkout.value if state.checkout else order.checkout_token,
    )


def decide(before: OrderState, after: OrderState, *, at: datetime, origin: Origin) -> tuple[OrderState, list[Told]]:
    """What to publish of the step from `before` to `after`, and `after` with that noted.

    An order that never counted is nobody's business: no facts. One that counted once is told from then on, whatever
    became of it; when the news of its cancellation came first, it is placed and not counted in one fact.
    """
    order = view(after)
    if order is None or not after.counted_ever:
        return after, []
    key = order.account or f"order:{order.store}:{order.source_id}"
    told: list[Told] = []
    revision = after.revision
    previous = view(before)
    if revision == 0 or previous is None:
        revision += 1
        placed = OrderPlaced(store=order.store, origin=origin, order=order, revision=revision)
        told.append(Told("order.placed", key, order.placed_at, placed))
    elif previous != order:
        revision += 1
        revised = OrderRevised(store=order.store, origin=origin, before=previous, order=order, revision=revision)
        told.append(Told("order.revised", key, at, revised))
    news = dict(_moments(after, order, origin, key))
    return replace(after, revision=revision, told=(*after.told, *news)), [*told, *news.values()]


def _moments(state: OrderState, order: OrderView, origin: Origin, key: str) -> Iterator[tuple[str, Told]]:
    """Those that were not told before, by the names that they are noted under."""
    noted = frozenset(state.told)
    happened = {
        "order.cancelled": state.cancelled_at,
        "order.fulfilled": state.fulfilled_at,
        "order.deleted": state.removed[0] if state.removed else None,
    }
    for name, at in happened.items():
        if at is not None and name not in noted:
            moment = OrderMoment(
                store=order.store, origin=origin, account=order.account, source_id=order.source_id, at=at
            )
            yield name, Told(name, key, at, moment)
    for refund_id in sorted(state.refunds):
        if (name := f"refund:{refund_id}") in noted:
            continue
        seen = state.refunds[refund_id]
        refunded = OrderRefunded(
            store=order.store,
            origin=origin,
            account=order.account,
            source_id=order.source_id,
            refund=seen.refund,
            currency=seen.refund.currency or order.currency,
        )
        yield name, Told("order.refunded", key, seen.at, refunded)


def _kept(known: dict[str, SeenRefund], told: Iterable[Refund], seen: Version) -> dict[str, SeenRefund]:
    refunds = dict(known)
    for refund in told:
        _keep(refunds, refund, seen)
    # Who had more before there was a limit keeps them.
    if len(refunds) > max(MOST_REFUNDS, len(known)):
        raise TooManyRefunds
    return refunds


def _keep(refunds: dict[str, SeenRefund], refund: Refund, seen: Version) -> None:
    known = refunds.get(refund.source_id)
    first = seen[0] if known is None else min(seen[0], known.first_seen or known.seen[0])
    if known is None or seen >= known.seen:
        refunds[refund.source_id] = SeenRefund(refund, seen, first)
    else:
        refunds[refund.source_id] = replace(known, first_seen=first)


def _token(
    name: Literal["cart_token", "checkout_token"], known: SeenToken | None, *told: OrderObserved | None
) -> SeenToken | None:
    """The latest. States of before tokens were kept have them in their snapshot alone."""
    for order in told:
        value = getattr(order, name) if order is not None else None
        if order is not None and value and (known is None or version(order) >= known.seen):
            known = SeenToken(value, version(order))
    return known


def _earliest(known: datetime | None, told: datetime | None) -> datetime | None:
    return min(known, told) if known and told else known or told

"""A person's timeline: what happened, as entries that any order of deliveries leaves the same.

An entry's key names the happening itself, so that its second telling overwrites the first with the same.
"""

from collections.abc import Container
from datetime import datetime
from typing import Any

from msgspec import Struct

from libs.common.contracts.commerce import ActivityObserved, Consent, CustomerObserved
from libs.common.contracts.messages import MessageFact
from libs.common.money import money
from services.profiles import carts, checkouts, ledger

Summary = dict[str, Any]


class Entry(Struct, frozen=True, kw_only=True):
    """One line of a timeline."""

    key: str
    """Unique in the tenant."""
    account: str
    at: datetime
    kind: str
    store: str
    subject: str
    """What it is about: `order:<store>:<id>`, `checkout:…`, `cart:…`, `customer:…`, `message:<id>`, …"""
    summary: Summary


def same_refunds(before: ledger.OrderState, after: ledger.OrderState) -> frozenset[str]:
    """Ids of the refunds whose entries a change of their order leaves as they are: most, of an order with many."""
    if not before.counted_ever or _shown_with_refunds(before) != _shown_with_refunds(after):
        return frozenset()
    return frozenset(each for each, seen in after.refunds.items() if before.refunds.get(each) == seen)


def _shown_with_refunds(state: ledger.OrderState) -> tuple[str | None, ...]:
    order = state.snapshot
    return (state.account, *((order.store, order.source_id, order.number, order.currency) if order else ()))


def of_order(state: ledger.OrderState, *, but: Container[str] = ()) -> list[Entry]:
    """Placed, cancelled, fulfilled, deleted, and each refund `but` some, for an order that was ever placed."""
    order = ledger.view(state)
    if order is None or order.account is None or not state.counted_ever or state.snapshot is None:
        return []
    number = state.snapshot.number
    subject = f"order:{order.store}:{order.source_id}"
    # What was bought, not what is left of it: refunds are entries of their own.
    bought = order.gross - order.discounts + state.snapshot.shipping + state.snapshot.taxes
    total: Summary = {"number": number, "total": money(bought, order.currency)}
    moments: list[tuple[str, str, datetime | None, Summary]] = [
        ("placed", "order.placed", order.placed_at, total),
        ("cancelled", "order.cancelled", state.cancelled_at, {"number": number}),
        ("fulfilled", "order.fulfilled", state.fulfilled_at, {"number": number}),
        ("deleted", "order.deleted", state.removed[0] if state.removed else None, {"number": number}),
    ]
    for refund_id, seen in state.refunds.items():
        if refund_id in but:
            continue
        refund = seen.refund
        amount = refund.returns + refund.shipping + refund.taxes
        summary: Summary = {"number": number, "amount": money(amount, refund.currency or order.currency)}
        moments.append((f"refund:{refund_id}", "order.refunded", seen.at, summary))
    return [
        Entry(
            key=f"{subject}:{what}",
            account=order.account,
            at=at,
            kind=kind,
            store=order.store,
            subject=subject,
            summary=summary,
        )
        for what, kind, at, summary in moments
        if at is not None
    ]


def of_checkout(state: checkouts.CheckoutState) -> list[Entry]:
    """When it was begun."""
    checkout = checkouts.view(state)
    if checkout is None or checkout.account is None or state.stood_in:
        return []
    subject = f"checkout:{checkout.store}:{checkout.token}"
    summary = {"items": checkout.items, "total": money(checkout.total, checkout.currency)}
    return [
        Entry(
            key=f"{subject}:started",
            account=checkout.account,
            at=checkout.started_at,
            kind="checkout.started",
            store=checkout.store,
            subject=subject,
            summary=summary,
        )
    ]


def of_cart(state: carts.CartState) -> list[Entry]:
    """When it was begun."""
    cart = carts.view(state)
    if cart is None:
        return []
    subject = f"cart:{cart.store}:{cart.token}"
    summary = {"items": cart.items, "total": money(cart.total, cart.currency)}
    return [
        Entry(
            key=f"{subject}:started",
            account=cart.account,
            at=cart.started_at,
            kind="cart.started",
            store=cart.store,
            subject=subject,
            summary=summary,
        )
    ]


def of_customer(account: str, own: CustomerObserved | None) -> list[Entry]:
    """When he registered."""
    if own is None or own.created_at is None:
        return []
    return [
        Entry(
            key=f"{account}:registered",
            account=account,
            at=own.created_at,
            kind="customer.registered",
            store=own.store,
            subject=account,
            summary={},
        )
    ]


def of_consent(account: str, store: str, consent: Consent) -> Entry:
    """Each statement, also one that a later statement had already overtaken."""
    return Entry(
        key=f"consent:{account}:{consent.channel}:{consent.at.isoformat()}:{consent.state}:{consent.source}",
        account=account,
        at=consent.at,
        kind=f"consent.{consent.state}",
        store=store,
        subject=account,
        summary={"channel": consent.channel, "source": consent.source},
    )


def of_activity(account: str, activity: ActivityObserved) -> Entry:
    """A first-party event."""
    subject = f"activity:{activity.store}:{activity.source_id}"
    return Entry(
        key=subject,
        account=account,
        at=activity.updated_at,
        kind=activity.activity,
        store=activity.store,
        subject=subject,
        summary=dict(activity.properties),
    )


def of_message(kind: str, message: MessageFact) -> Entry:
    """A message sent, or answered with a withdrawal."""
    subject = f"message:{message.message}"
    return Entry(
        key=f"{subject}:{kind}",
        account=message.account,
        at=message.at,
        kind=kind,
        store=message.store,
        subject=subject,
        summary={"flow": message.flow, "step": message.step, "channel": message.channel},
    )

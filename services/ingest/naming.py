"""Checkouts that were fetched under their cart's token, and the webhooks that tell their own: one checkout, one name.

Shopify's GraphQL names a checkout by its cart alone. Until a webhook tells the token of one, its cart's stands in for
it; from then on what was fetched is told under its own, and the stand-in is taken back for good. Whichever of the two
is read first, the same is told in the end.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from libs.common.contracts import codec
from libs.common.contracts.commerce import CheckoutObserved, Observed, Removed
from libs.common.contracts.journal import Delivery
from libs.common.contracts.topics import JOURNAL
from libs.common.db import Tx
from libs.common.log.base import Record
from services.ingest import seen
from services.ingest.normalise import Observation, Observations, Outcome, StoreFacts, Unreadable, normalise
from services.ingest.seen import Cart

Read = tuple[Record, Delivery, Outcome]
"""A delivery, and what it turned out to be."""


class _Told(NamedTuple):
    """A checkout of a cart."""

    cart: Cart
    checkout: CheckoutObserved
    stands_in: bool
    """For its own token stands its cart's."""


def cart_token(outcome: Outcome) -> str | None:
    """Of the cart that a checkout was made of, without the key that some print with it."""
    match outcome:
        case Observations([Observation(observed=CheckoutObserved(cart_token=str(token))), *_]):
            return token.partition("?")[0]
        case _:
            return None


async def under_own_names(
    tx: Tx, read: Sequence[Read], stores: Mapping[tuple[str, str], StoreFacts], *, dry_run: bool = False
) -> tuple[list[Read], list[Read]]:
    """These deliveries as they are to be told, and what was fetched earlier and is to be told once more.

    `stores`: by (tenant, key). `dry_run`: what was fetched earlier is left as it is.
    """
    told = {n: checkout for n, each in enumerate(read) if (checkout := _told(*each)) is not None}
    stand_ins = {n: one for n, one in told.items() if one.stands_in}
    naming = {one.cart: n for n, one in told.items() if one.checkout.source_id != one.cart.token}
    if not stand_ins and not naming:
        return [*read], []
    # Whoever tells a name and whoever tells a stand-in must not overlook one another.
    alone = {(one.cart.tenant, one.cart.store) for one in stand_ins.values()}
    await seen.hold(tx, alone=alone, together={(cart.tenant, cart.store) for cart in naming})
    names = {cart: told[n].checkout.source_id for cart, n in naming.items()}
    known = await seen.tokens(tx, [one.cart for one in stand_ins.values()]) | names
    as_told = [*read]
    for n, one in stand_ins.items():
        if one.cart in known:
            as_told[n] = _plus(_named(read[n], one, known[one.cart]), _taken_back(one, known[one.cart]))
    again: list[Read] = []
    for cart, record in ({} if dry_run else await seen.rename(tx, names)).items():
        n, token = naming[cart], names[cart]
        as_told[n] = _plus(read[n], _taken_back(told[n], token))
        fetched = None if record is None else _read(record, stores)
        if fetched is not None and (one_more := _told(*fetched)) is not None:
            again.append(_named(fetched, one_more, token))
    return as_told, again


def _told(record: Record, delivery: Delivery, outcome: Outcome) -> _Told | None:
    match outcome:
        case Observations([Observation(observed=CheckoutObserved() as checkout), *_]) if token := cart_token(outcome):
            # What we fetch is a delivery of our own: its record's id is its only one.
            stands_in = checkout.source_id == token and delivery.delivery_id == record.id
            return _Told(Cart(record.tenant, delivery.store, token), checkout, stands_in)
        case _:
            return None


def _named(read: Read, one: _Told, token: str) -> Read:
    record, delivery, _ = read
    named = Observation("checkout.observed", f"checkout:{token}", replace(one.checkout, source_id=token))
    return record, delivery, Observations([named])


def _plus(read: Read, more: Observation) -> Read:
    record, delivery, outcome = read
    told = outcome.observations if isinstance(outcome, Observations) else []
    return record, delivery, Observations([*told, more])


def _taken_back(one: _Told, token: str) -> Observation:
    """The stand-in's end, dated as what tells it."""
    envelope = {name: getattr(one.checkout, name) for name in Observed.__struct_fields__}
    removed = Removed(**envelope | {"source_id": one.cart.token, "told_as": token})
    return Observation("checkout.removed", f"checkout:{one.cart.token}", removed)


def _read(record: Record, stores: Mapping[tuple[str, str], StoreFacts]) -> Read | None:
    """One that was fetched, once more; None when it cannot be read any more."""
    try:
        delivery: Delivery = codec.decode(JOURNAL.name, record.type, record.data)
        outcome = normalise(
            delivery,
            store=stores[record.tenant, delivery.store],
            received_at=record.time,
            position=record.offset,
            delivery_ref=record.id,
        )
    except (codec.Undecodable, Unreadable):
        return None
    return record, delivery, outcome

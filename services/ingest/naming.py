"""Checkouts that were fetched under their cart's token, and the webhooks that tell their own: one checkout, one name.

Shopify's GraphQL names a checkout by its cart alone. Until a webhook tells the token of one, its cart's stands in for
it; from then on what was fetched is told under its own, and the stand-in is taken back for good. Of which checkout it
speaks where several were made of one cart nobody can say: it is told of each of them, whichever of all these is read
first, how often, and whether once more. So what is told in the end follows from the deliveries alone: what was told
under a name stays true, and the latest snapshot of each checkout wins.
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
    fetched: bool
    """By its cart. It names nothing, though a name that was known when it was fetched may stand there."""

    @property
    def own(self) -> set[str]:
        """The token that stands there, unless that is its cart's."""
        return {self.checkout.source_id} - {self.cart.token}


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
    fetched = {n: one for n, one in told.items() if one.fetched}
    naming: dict[Cart, dict[str, int]] = {}
    for n, one in told.items():
        if one.own and not one.fetched:
            naming.setdefault(one.cart, {})[one.checkout.source_id] = n
    if not fetched and not naming:
        return [*read], []
    # Whoever tells a name and whoever tells what was fetched must not overlook one another.
    alone = {(one.cart.tenant, one.cart.store) for one in fetched.values()}
    await seen.hold(tx, alone=alone, together={(cart.tenant, cart.store) for cart in naming})
    known = await seen.tokens(tx, [*(one.cart for one in fetched.values()), *naming])
    fresh = {cart: set(names) - known.get(cart, set()) for cart, names in naming.items()}
    names = {cart: sorted(known.get(cart, set()) | fresh.get(cart, set())) for cart in {*known, *naming}}
    as_told = [*read]
    for n, one in fetched.items():
        if tokens := sorted(one.own.union(names.get(one.cart, []))):
            as_told[n] = _named(read[n], one, tokens)
            if not one.own:
                as_told[n] = _plus(as_told[n], _taken_back(one, tokens[0]))
    again: list[Read] = []
    here = {read[n][0].id for n in fetched}
    wanted = {} if dry_run else {cart: (names[cart][0], bool(fresh[cart])) for cart in naming}
    for cart, (record, stood_in) in (await seen.rename(tx, wanted)).items():
        if stood_in:
            n = max(naming[cart].values())
            as_told[n] = _plus(as_told[n], _taken_back(told[n], names[cart][0]))
        if record is None or record.id in here:
            continue
        earlier = _read(record, stores)
        if earlier is not None and (one_more := _told(*earlier)) is not None:
            # Under a name that stands there it was told already.
            tokens = sorted(fresh[cart].union(names[cart] if stood_in else []) - one_more.own)
            again += [_named(earlier, one_more, tokens)] if tokens else []
    return as_told, again


def _told(record: Record, delivery: Delivery, outcome: Outcome) -> _Told | None:
    match outcome:
        case Observations([Observation(observed=CheckoutObserved() as checkout), *_]) if token := cart_token(outcome):
            # What we fetch is a delivery of our own: its record's id is its only one.
            return _Told(Cart(record.tenant, delivery.store, token), checkout, delivery.delivery_id == record.id)
        case _:
            return None


def _named(read: Read, one: _Told, tokens: Sequence[str]) -> Read:
    record, delivery, _ = read
    named = [
        Observation("checkout.observed", f"checkout:{token}", replace(one.checkout, source_id=token))
        for token in tokens
    ]
    return record, delivery, Observations(named)


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

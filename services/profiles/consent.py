"""Consent: the latest word per account and channel; over a person's accounts the strictest."""

from collections.abc import Iterable
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from libs.common.contracts.commerce import (
    CheckoutObserved,
    Consent,
    ConsentObserved,
    CustomerObserved,
    Observed,
    OrderObserved,
)
from libs.common.contracts.customers import ConsentChanged
from libs.common.contracts.types import Account, ConsentState, Origin
from services.profiles.facts import Told

_STRICTNESS: dict[ConsentState, int] = {"pending": 0, "subscribed": 1, "unsubscribed": 2}


class Held(Struct, frozen=True, kw_only=True):
    """What an account has said of a channel."""

    state: ConsentState
    at: datetime
    source: str
    revision: int = 0


def stated(observed: Observed) -> list[Consent]:
    """What `observed` says of consent.

    A box ticked at the checkout dates from when the order was placed or the checkout begun, whatever came later: the
    platforms repeat it in each update, and a refund after a withdrawal must not subscribe anybody again. A box left
    empty says nothing.
    """
    match observed:
        case CustomerObserved():
            return observed.consents
        case ConsentObserved():
            return [observed.consent]
        case OrderObserved(accepts_marketing=True):
            return [Consent(channel="email", state="subscribed", at=observed.placed_at, source="checkout")]
        case CheckoutObserved(accepts_marketing=True):
            return [Consent(channel="email", state="subscribed", at=observed.started_at, source="checkout")]
        case _:
            return []


def hold(held: Held | None, consent: Consent) -> Held:
    """The later of both; at the same instant a withdrawal wins."""
    said = Held(state=consent.state, at=consent.at, source=consent.source, revision=held.revision if held else 0)
    return said if held is None or _weight(said) > _weight(held) else held


def decide(
    account: Account, store: str, consent: Consent, before: Held | None, *, origin: Origin
) -> tuple[Held, list[Told]]:
    """What is held now, and what to publish."""
    after = hold(before, consent)
    if before == after:
        return after, []
    noted = replace(after, revision=after.revision + 1)
    fact = ConsentChanged(
        store=store,
        origin=origin,
        account=account,
        channel=consent.channel,
        state=noted.state,
        at=noted.at,
        source=noted.source,
        revision=noted.revision,
    )
    return noted, [Told("consent.changed", account, noted.at, fact)]


def strictest(held: Iterable[Held]) -> Held | None:
    """What holds for a person of several accounts: one withdrawal outweighs every consent. None: never asked."""
    return max(held, key=lambda h: (_STRICTNESS[h.state], h.at, h.source), default=None)


def _weight(held: Held) -> tuple[datetime, int, str]:
    return held.at, _STRICTNESS[held.state], held.source

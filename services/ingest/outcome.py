"""What a delivery turns out to be, and what is known while it is read."""

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from libs.common.contracts.commerce import Consent, Observed
from libs.common.contracts.types import Origin, Platform

AHEAD = timedelta(minutes=5)
"""How far a sender's clock may be ahead."""

PRIVACY_TERM = timedelta(days=30)
"""What the platforms, as the law, leave to act on a privacy request."""
PRIVACY_ROOT = "store:privacy"
"""Root of all privacy requests of a store: what is asked for first is heard first."""


class Unreadable(Exception):
    """The delivery claims to be something that we understand and is not: a dead letter with this reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class StoreFacts(Struct, frozen=True, kw_only=True):
    """What the normalisers must know of a registered store."""

    key: str
    domain: str
    """As it was registered."""
    currency: str
    """ISO 4217; for objects that print no currency (carts, products)."""
    timezone: str
    """IANA name; for dates that WooCommerce prints in local time only."""


class Observation(NamedTuple):
    """One event to be: its type, its root object (see `root_key`), its data."""

    type: str
    root: str
    """`order:1001`; the event's key is `<store key>:<root>`."""
    observed: Observed


class Observations(Struct, frozen=True):
    """Understood: these events."""

    observations: list[Observation]


class Parked(Struct, frozen=True):
    """Kept, countable and replayable: nothing reads this topic yet."""

    reason: str


class Ignored(Struct, frozen=True):
    """Understood, and there is nothing in it to observe, now or ever."""

    reason: str


class Uninstalled(Struct, frozen=True):
    """The shop has thrown the app out whose credentials open its API."""

    reason: str = "there is nothing in it to observe: the app was uninstalled"


Outcome = Observations | Parked | Ignored | Uninstalled


class Arrival(Struct, frozen=True):
    """One delivery on its way through a normaliser."""

    store: StoreFacts
    platform: Platform
    headers: dict[str, str]
    """Lower-case names."""
    body: bytes
    received_at: datetime
    position: int
    origin: Origin
    delivery: str
    not_before: datetime | None = None
    """As `Delivery` has it."""

    def said(self, consent: Consent) -> Consent | None:
        """The consent as of when it may be believed; None for a yes that nothing could withdraw for long.

        Nobody says yes after we have heard of it: a clock that is a little ahead would make a withdrawal, dated by
        ours, look older than the consent that it withdraws.
        """
        if consent.state == "unsubscribed" or consent.at <= self.received_at:
            return consent
        return replace(consent, at=self.received_at) if consent.at <= self.received_at + AHEAD else None

    def envelope(self, source_id: str, updated_at: datetime) -> dict[str, Any]:
        """What every `Observed` carries, as keyword arguments."""
        # A date that no clock could show by then would outlast whatever happens until it comes.
        dated = updated_at if updated_at <= self.received_at + AHEAD else self.received_at
        return {
            "store": self.store.key,
            "platform": self.platform,
            "source_id": source_id,
            "updated_at": dated if self.not_before is None else max(dated, self.not_before),
            "position": self.position,
            "origin": self.origin,
            "delivery": self.delivery,
        }

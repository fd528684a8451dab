"""What a delivery turns out to be, and what is known while it is read."""

from datetime import datetime
from typing import Any, NamedTuple

from msgspec import Struct

from libs.common.contracts.commerce import Observed
from libs.common.contracts.types import Origin, Platform


class Unreadable(Exception):
    """The delivery claims to be something that we understand and is not: a dead letter with this reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class StoreFacts(Struct, frozen=True, kw_only=True):
    """What the normalisers must know of a registered store."""

    key: str
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


Outcome = Observations | Parked | Ignored


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

    def envelope(self, source_id: str, updated_at: datetime) -> dict[str, Any]:
        """What every `Observed` carries, as keyword arguments."""
        return {
            "store": self.store.key,
            "platform": self.platform,
            "source_id": source_id,
            "updated_at": updated_at,
            "position": self.position,
            "origin": self.origin,
            "delivery": self.delivery,
        }

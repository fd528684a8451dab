"""Topic `journal`: raw deliveries, as they came. Ingest's own; stays in PostgreSQL. Key: store and root object."""

from datetime import datetime

from msgspec import Struct


class Delivery(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`delivery.received`: one verified request. `id` and `time` (received) are the event's own attributes.

    The record's data is this Struct as MessagePack (`body` stays bytes), compressed with snappy (`cramjam.snappy`).
    """

    store: str
    platform: str
    topic: str
    """As the sender named it; empty when it did not."""
    delivery_id: str
    headers: dict[str, str]
    """Lower-case names, signature left out."""
    body: bytes
    origin: str = "live"
    not_before: datetime | None = None
    """What it shows is not dated earlier: a platform's own API showed an object that a deletion, dated so, had told
    to be gone. None: as the body says."""


TYPES: dict[str, type[Delivery]] = {"delivery.received": Delivery}

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


def removed(column: str) -> str:
    """SQL: what takes the place of a record's data when nobody is to read the delivery any more: its digest.

    No delivery is kept so: compressed data that begins with a zero would be nothing at all.
    """
    return f"'\\x00'::bytea || sha256({column})"


def readable(column: str) -> str:
    """SQL: whether a record's data are a delivery still."""
    return f"substr({column}, 1, 1) <> '\\x00'::bytea"


def is_removed(data: bytes) -> bool:
    """Whether the digest of a delivery is all that is left of it."""
    return data[:1] == b"\x00"


TYPES: dict[str, type[Delivery]] = {"delivery.received": Delivery}

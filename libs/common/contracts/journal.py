"""Topic `journal`: raw deliveries, as they came. Ingest's own; stays in PostgreSQL. Key: store and root object."""

from datetime import datetime
from typing import Literal

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


Removal = Literal["redacted", "retention"]
"""Why nobody is to read a delivery any more: a privacy request made it so, or its tenant's retention has passed."""
# Compressed data that began so would be nothing, or a single byte: no delivery is kept so.
_MARKS: dict[bytes, Removal] = {b"\x00": "redacted", b"\x01": "retention"}
_IN_SQL = {why: rf"'\x{mark.hex()}'::bytea" for mark, why in _MARKS.items()}


def removed(column: str, why: Removal) -> str:
    """SQL: what takes the place of a record's data when nobody is to read the delivery any more: its digest."""
    return f"{_IN_SQL[why]} || sha256({column})"


def readable(column: str) -> str:
    """SQL: whether a record's data are a delivery still."""
    return f"substr({column}, 1, 1) NOT IN ({', '.join(_IN_SQL.values())})"


def removal_of(data: bytes) -> Removal | None:
    """Why the digest of a delivery is all that is left of it; None when the delivery is there."""
    return _MARKS.get(data[:1])


TYPES: dict[str, type[Delivery]] = {"delivery.received": Delivery}

"""Dead letters as their keeper sees them: list, show, replay, discard. The consumer loop writes and replays them."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from libs.common.contracts import codec
from libs.common.db import Tx

_COLUMNS = """id, consumer, topic, partition, record_offset AS "offset", event_id, event_type,
    event_key AS key, event_time, appended_at, failed_at, attempts, reason, state"""
_SELECTED = """
    tenant = $1
    AND ($2::uuid[] IS NULL OR id = ANY($2))
    AND ($3::text IS NULL OR consumer = $3)
    AND ($4::text IS NULL OR starts_with(reason, $4))
    AND ($5::timestamptz IS NULL OR failed_at >= $5)
    AND ($6::timestamptz IS NULL OR failed_at < $6)
    AND ($7::text IS NULL OR state = $7)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Those that satisfy all that is given."""

    ids: Sequence[UUID] | None = None
    consumer: str | None = None
    reason: str | None = None
    """Beginning of the reason."""
    since: datetime | None = None
    until: datetime | None = None
    state: str | None = None

    def arguments(self, tenant: str) -> list[object]:
        """$1 to $7 of the queries."""
        return [tenant, self.ids, self.consumer, self.reason, self.since, self.until, self.state]


async def listed(
    tx: Tx, tenant: str, selection: Selection, limit: int, after: tuple[datetime, UUID] | None
) -> list[dict[str, Any]]:
    """Newest failure first, from behind `after` (failed_at, id)."""
    failed_at, letter_id = after or (None, None)
    rows = await tx.pg.fetch(
        f"""
        SELECT {_COLUMNS} FROM dead_letters
        WHERE {_SELECTED} AND ($8::timestamptz IS NULL OR failed_at < $8 OR (failed_at = $8 AND id > $9))
        ORDER BY failed_at DESC, id LIMIT $10
        """,
        *selection.arguments(tenant),
        failed_at,
        letter_id,
        limit,
    )
    return [dict(row) for row in rows]


async def shown(tx: Tx, tenant: str, letter_id: UUID) -> dict[str, Any] | None:
    """One of them with its data decoded and its traceback."""
    row = await tx.pg.fetchrow(
        f"SELECT {_COLUMNS}, event_source AS source, traceparent, traceback, data"
        " FROM dead_letters WHERE tenant = $1 AND id = $2",
        tenant,
        letter_id,
    )
    if row is None:
        return None
    return dict(row) | {"data": _readable(row["topic"], row["event_type"], row["data"])}


async def replay(tx: Tx, tenant: str, selection: Selection) -> int:
    """Marks them for the consumer to try again; how many. Those done, or being tried already, do not count."""
    done = await tx.pg.execute(
        f"UPDATE dead_letters SET state = 'replay' WHERE {_SELECTED} AND state IN ('dead', 'discarded')",
        *selection.arguments(tenant),
    )
    return int(done.removeprefix("UPDATE "))


async def discard(tx: Tx, tenant: str, letter_id: UUID) -> bool:
    """Gives one up; False when there is none to give up."""
    done = await tx.pg.execute(
        "UPDATE dead_letters SET state = 'discarded' WHERE tenant = $1 AND id = $2 AND state IN ('dead', 'replay')",
        tenant,
        letter_id,
    )
    return done == "UPDATE 1"


def _readable(topic: str, event_type: str, data: bytes) -> object:
    try:
        return msgspec.to_builtins(codec.decode(topic, event_type, data))
    except codec.Undecodable:
        return {"base64": base64.b64encode(data).decode()}

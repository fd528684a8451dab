"""All SQL of the webhooks that platforms have for us, as they were last seen."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, cast

from libs.common.db import Tx
from services.ingest.credentials import Credentials
from services.ingest.wanted import State


class Kept(NamedTuple):
    """Of one topic."""

    topic: str
    state: State
    reason: str | None
    """Why it is not otherwise."""
    signed: bytes | None
    """By what it is known again which secret signs it."""
    since: datetime | None = None
    """Since when it is in this state; None: not noted yet."""


def context(tenant: str, store: str) -> bytes:
    """What the fingerprints of secrets are made for."""
    return f"store/{tenant}/{store}/signed".encode()


async def of_store(tx: Tx, tenant: str, store: str) -> dict[str, Kept]:
    """By topic."""
    rows = await tx.pg.fetch(
        "SELECT topic, state, reason, signed, since FROM subscriptions WHERE tenant = $1 AND store = $2 ORDER BY topic",
        tenant,
        store,
    )
    return {row["topic"]: Kept(**dict(row)) for row in rows}


async def keep(tx: Tx, used: Credentials, now: datetime, every: Sequence[Kept]) -> None:
    """In place of what was known. Nothing when other credentials were set meanwhile, or these forgotten."""
    if not await _looked(tx, used, now, None):
        return
    await tx.pg.execute(
        """
        INSERT INTO subscriptions (tenant, store, topic, state, reason, signed, since)
        SELECT $1, $2, *, $7::timestamptz FROM unnest($3::text[], $4::text[], $5::text[], $6::bytea[])
        ON CONFLICT (tenant, store, topic) DO UPDATE SET state = excluded.state, reason = excluded.reason,
            signed = excluded.signed,
            since = CASE WHEN subscriptions.state = excluded.state THEN subscriptions.since ELSE excluded.since END
        """,
        used.tenant,
        used.store,
        [each.topic for each in every],
        [each.state for each in every],
        [each.reason for each in every],
        [each.signed for each in every],
        now,
    )
    await tx.pg.execute(
        "DELETE FROM subscriptions WHERE tenant = $1 AND store = $2 AND topic <> ALL($3)",
        used.tenant,
        used.store,
        [each.topic for each in every],
    )


async def unseen(tx: Tx, used: Credentials, reason: str) -> None:
    """They could not be looked at: what was known stays, and how old it is."""
    await _looked(tx, used, None, reason)


async def _looked(tx: Tx, used: Credentials, at: datetime | None, reason: str | None) -> bool:
    # The credentials first, as whoever forgets them does.
    found = await tx.pg.fetchval(
        """
        UPDATE credentials SET looked_at = coalesce($4, looked_at), unseen = $5
        WHERE tenant = $1 AND store = $2 AND set_at = $3 RETURNING true
        """,
        used.tenant,
        used.store,
        used.set_at,
        at,
        reason,
    )
    return bool(found)


async def counts(tx: Tx) -> dict[tuple[str, State], int]:
    """Of all tenants: by platform and state."""
    rows = await tx.pg.fetch(
        """
        SELECT s.platform, u.state, count(*) AS n FROM subscriptions u
        JOIN stores s ON s.tenant = u.tenant AND s.key = u.store GROUP BY 1, 2
        """
    )
    return {(row["platform"], cast("State", row["state"])): row["n"] for row in rows}

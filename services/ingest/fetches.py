"""All SQL of what is asked of the platforms: credentials, what is to be fetched, and what was seen already."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from msgspec import Struct

from libs.common.db import Tx
from services.ingest.platforms.port import Fetched, Kind

Purpose = Literal["backfill", "reconcile", "sweep"]
State = Literal["waiting", "running", "paused", "done", "cancelled", "failed"]

LEASE = timedelta(seconds=180)
"""Longer than any step takes: whoever holds it alone writes what came of the step."""
KEPT = timedelta(days=30)
"""Reconciliations that are over stay to be looked at."""


class Credentials(Struct, frozen=True, kw_only=True):
    """What opens a store's own API."""

    tenant: str
    store: str
    platform: str
    url: str
    sealed: bytes
    set_at: datetime
    state: str
    reason: str | None


class Fetch(Struct, frozen=True, kw_only=True):
    """Objects of a store that are to be fetched, and what has come of it."""

    tenant: str
    id: str
    store: str
    purpose: Purpose
    kinds: list[Kind]
    since: datetime | None
    until: datetime
    state: State
    asked_at: datetime
    asked_by: str
    step: int = 0
    """Index of the kind that is being fetched."""
    following: str | None = None
    counts: dict[str, int] = {}
    reasons: dict[str, int] = {}
    """Why objects could not be taken -> how many."""
    failures: int = 0
    """Since it last got on."""
    reason: str | None = None
    """Why it does not get on."""


class Topic(NamedTuple):
    """What has come of one topic of a store."""

    topic: str
    last_at: datetime
    deliveries: int
    reconciled: int
    longest_delay_seconds: float | None


class Known(NamedTuple):
    """An object that we believe to exist."""

    root: str
    delivery: str
    """The last that told of it."""


_FETCH = """tenant, id::text, store, purpose, kinds, since, until, state, asked_at, asked_by, step, following, counts,
    reasons, failures, reason"""
_OPEN = "state IN ('waiting', 'running')"


def context(tenant: str, store: str) -> bytes:
    """What credentials are sealed for."""
    return f"store/{tenant}/{store}/credentials".encode()


# Credentials ---------------------------------------------------------------------------------------------------------


async def set_credentials(tx: Tx, tenant: str, store: str, *, url: str, sealed: bytes, at: datetime, by: str) -> None:
    """In place of those before."""
    await tx.pg.execute(
        """
        INSERT INTO credentials (tenant, store, url, sealed, set_at, set_by, state, next_call_at)
        VALUES ($1, $2, $3, $4, $5, $6, 'unchecked', '-infinity')
        ON CONFLICT (tenant, store) DO UPDATE SET url = excluded.url, sealed = excluded.sealed,
            set_at = excluded.set_at, set_by = excluded.set_by, state = 'unchecked', reason = NULL
        """,
        tenant,
        store,
        url,
        sealed,
        at,
        by,
    )
    # What could not go on for want of better ones need not wait any longer.
    await tx.pg.execute(
        f"""
        UPDATE fetches SET not_before = '-infinity', failures = 0 WHERE tenant = $1 AND store = $2 AND {_OPEN}
        """,
        tenant,
        store,
    )


async def forget_credentials(tx: Tx, tenant: str, store: str) -> bool:
    """Whether there were any. What is open is cancelled."""
    gone = await tx.pg.execute("DELETE FROM credentials WHERE tenant = $1 AND store = $2", tenant, store)
    await tx.pg.execute(
        f"UPDATE fetches SET state = 'cancelled', lease = NULL WHERE tenant = $1 AND store = $2 AND {_OPEN}",
        tenant,
        store,
    )
    return gone != "DELETE 0"


async def credentials(tx: Tx, tenant: str, store: str) -> Credentials | None:
    """Of a store."""
    row = await tx.pg.fetchrow(
        """
        SELECT c.tenant, c.store, s.platform, c.url, c.sealed, c.set_at, c.state, c.reason
        FROM credentials c JOIN stores s ON s.tenant = c.tenant AND s.key = c.store
        WHERE c.tenant = $1 AND c.store = $2
        """,
        tenant,
        store,
    )
    return Credentials(**dict(row)) if row else None


async def note_credentials(tx: Tx, used: Credentials, state: str, reason: str | None) -> None:
    """How the platform took them; nothing when others were set meanwhile."""
    await tx.pg.execute(
        "UPDATE credentials SET state = $4, reason = $5 WHERE tenant = $1 AND store = $2 AND set_at = $3",
        used.tenant,
        used.store,
        used.set_at,
        state,
        reason,
    )


# Fetches -------------------------------------------------------------------------------------------------------------


async def ask(tx: Tx, fetch: Fetch) -> bool:
    """Leaves it for a worker. False: there is one of this purpose already, where one is enough."""
    done = await tx.pg.execute(
        """
        INSERT INTO fetches (tenant, id, store, purpose, kinds, since, until, state, asked_at, asked_by, not_before)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, '-infinity') ON CONFLICT DO NOTHING
        """,
        fetch.tenant,
        fetch.id,
        fetch.store,
        fetch.purpose,
        fetch.kinds,
        fetch.since,
        fetch.until,
        fetch.state,
        fetch.asked_at,
        fetch.asked_by,
    )
    return str(done) == "INSERT 0 1"


async def due(tx: Tx, purpose: Purpose, *, before: datetime, limit: int) -> list[tuple[str, str, datetime, bool]]:
    """Stores for which nothing of this purpose has been asked for since `before`.

    Tenant, store, up to where it was reconciled (or, the first time, since when the store is known), and whether it
    was ever.
    """
    rows = await tx.pg.fetch(
        f"""
        SELECT c.tenant, c.store, coalesce(f.until, s.created_at) AS reached, f.until IS NOT NULL AS ever
        FROM credentials c JOIN stores s ON s.tenant = c.tenant AND s.key = c.store
        LEFT JOIN LATERAL (
            SELECT max(until) FILTER (WHERE state = 'done') AS until, max(asked_at) AS asked_at,
                   bool_or({_OPEN}) AS open
            FROM fetches WHERE tenant = c.tenant AND store = c.store AND purpose = $1
        ) f ON true
        WHERE f.open IS NOT TRUE AND (f.asked_at IS NULL OR f.asked_at <= $2)
        ORDER BY c.tenant, c.store LIMIT $3
        """,
        purpose,
        before,
        limit,
    )
    return [(row["tenant"], row["store"], row["reached"], row["ever"]) for row in rows]


async def claim(tx: Tx, lease: str, pause: timedelta) -> tuple[Fetch, Credentials] | None:
    """The one that has waited longest, for `LEASE`; its store is not asked again before `pause` has passed."""
    row = await tx.pg.fetchrow(
        f"""
        SELECT {", ".join(f"f.{name.strip()}" for name in _FETCH.split(","))}
        FROM fetches f JOIN credentials c ON c.tenant = f.tenant AND c.store = f.store
        WHERE f.{_OPEN} AND f.not_before <= clock_timestamp() AND c.next_call_at <= clock_timestamp()
        ORDER BY f.not_before, f.id LIMIT 1 FOR UPDATE SKIP LOCKED
        """
    )
    if row is None:
        return None
    fetch = Fetch(**dict(row))
    used = await credentials(tx, fetch.tenant, fetch.store)
    if used is None:
        return None
    await tx.pg.execute(
        "UPDATE fetches SET state = 'running', lease = $3, not_before = clock_timestamp() + $4"
        " WHERE tenant = $1 AND id = $2",
        fetch.tenant,
        fetch.id,
        lease,
        LEASE,
    )
    await tx.pg.execute(
        "UPDATE credentials SET next_call_at = clock_timestamp() + $3 WHERE tenant = $1 AND store = $2",
        fetch.tenant,
        fetch.store,
        pause,
    )
    return fetch, used


async def save(tx: Tx, fetch: Fetch, lease: str, *, pause: timedelta) -> bool:
    """How far it has come. False, and nothing is written: it is not ours any more."""
    done = await tx.pg.execute(
        """
        UPDATE fetches SET state = $4, step = $5, following = $6, counts = $7, reasons = $8,
            failures = $9, reason = $10, not_before = clock_timestamp() + $11, lease = NULL
        WHERE tenant = $1 AND id = $2 AND lease = $3 AND state = 'running'
        """,
        fetch.tenant,
        fetch.id,
        lease,
        fetch.state,
        fetch.step,
        fetch.following,
        json.dumps(fetch.counts),
        json.dumps(fetch.reasons),
        fetch.failures,
        fetch.reason,
        pause,
    )
    return str(done) == "UPDATE 1"


async def turn(tx: Tx, tenant: str, id_: str, *, to: State, among: Sequence[State]) -> Fetch | None:
    """Pauses, resumes or cancels a backfill, where it is in one of the states `among`; the backfill as it is then."""
    await tx.pg.execute(
        """
        UPDATE fetches SET state = $3, lease = NULL, not_before = '-infinity', failures = 0, reason = NULL
        WHERE tenant = $1 AND id = $2 AND state = ANY($4) AND purpose = 'backfill'
        """,
        tenant,
        id_,
        to,
        list(among),
    )
    return await one(tx, tenant, id_)


async def one(tx: Tx, tenant: str, id_: str) -> Fetch | None:
    """A backfill of the tenant."""
    row = await tx.pg.fetchrow(
        f"SELECT {_FETCH} FROM fetches WHERE tenant = $1 AND id = $2 AND purpose = 'backfill'", tenant, id_
    )
    return Fetch(**dict(row)) if row else None


async def newest(
    tx: Tx, tenant: str, *, purpose: Purpose, limit: int, store: str | None = None, before: str | None = None
) -> list[Fetch]:
    """Newest first; ids lower than `before`."""
    rows = await tx.pg.fetch(
        f"""
        SELECT {_FETCH} FROM fetches
        WHERE tenant = $1 AND purpose = $2 AND ($3::text IS NULL OR store = $3) AND ($4::uuid IS NULL OR id < $4)
        ORDER BY fetches.id DESC LIMIT $5
        """,
        tenant,
        purpose,
        store,
        before,
        limit,
    )
    return [Fetch(**dict(row)) for row in rows]


async def open_backfills(tx: Tx) -> int:
    """How many of all tenants are not at their end, nor paused."""
    return int(await tx.pg.fetchval(f"SELECT count(*) FROM fetches WHERE purpose = 'backfill' AND {_OPEN}"))


async def prune(tx: Tx, now: datetime) -> None:
    """Drops reconciliations that were over long ago; the last of each store stays."""
    await tx.pg.execute(
        f"""
        DELETE FROM fetches f WHERE purpose <> 'backfill' AND NOT {_OPEN} AND asked_at < $1 AND EXISTS (
            SELECT FROM fetches g WHERE g.tenant = f.tenant AND g.store = f.store AND g.purpose = f.purpose
            AND g.state = 'done' AND g.until > f.until
        )
        """,
        now - KEPT,
    )


# What was seen -------------------------------------------------------------------------------------------------------


async def unseen(tx: Tx, tenant: str, store: str, fetched: Sequence[Fetched]) -> set[str]:
    """Roots of which no delivery has told as they are now."""
    dated = [each for each in fetched if each.changed_at is not None]
    rows = await tx.pg.fetch(
        """
        SELECT u.root FROM unnest($3::text[], $4::timestamptz[]) AS u(root, at) WHERE NOT EXISTS (
            SELECT FROM deliveries d WHERE d.tenant = $1 AND d.store = $2 AND d.object = u.root
            AND d.outcome = 'observed' AND coalesce(d.dated, d.received_at) >= u.at
        )
        """,
        tenant,
        store,
        [each.root for each in dated],
        [each.changed_at for each in dated],
    )
    undated = [each.root for each in fetched if each.changed_at is None]
    known = await tx.pg.fetch(
        """
        SELECT DISTINCT d.object FROM deliveries d
        WHERE d.tenant = $1 AND d.store = $2 AND d.object = ANY($3) AND d.outcome = 'observed'
        """,
        tenant,
        store,
        undated,
    )
    return {row["root"] for row in rows} | (set(undated) - {row["object"] for row in known})


async def topics(tx: Tx, tenant: str, store: str, *, now: datetime, span: timedelta) -> list[Topic]:
    """What has come of each topic in so long a time."""
    rows = await tx.pg.fetch(
        """
        SELECT topic, max(received_at) AS last_at, count(*) AS deliveries,
               count(*) FILTER (WHERE origin = 'reconciled') AS reconciled,
               extract(epoch FROM max(received_at - dated) FILTER (WHERE origin = 'reconciled'))::float8
                   AS longest_delay_seconds
        FROM deliveries WHERE tenant = $1 AND store = $2 AND received_at >= $3 AND id >= (
            -- Ids begin with the milliseconds of their making, by the real clock: all before need not be looked at.
            lpad(to_hex((extract(epoch FROM least($3, clock_timestamp() - $4::interval)) * 1000)::bigint), 12, '0')
                || '70008000000000000000'
        )::uuid
        GROUP BY topic ORDER BY topic
        """,
        tenant,
        store,
        now - span,
        span,
    )
    return [Topic(**dict(row)) for row in rows]


async def oldest_unread(tx: Tx) -> datetime | None:
    """When the oldest delivery was appended that the normaliser has not come to; None when it is through."""
    at: datetime | None = await tx.pg.fetchval(
        """
        SELECT min(j.appended_at) FROM log_partitions l
        LEFT JOIN positions p ON p.consumer = 'normalise' AND p.topic = l.topic AND p.partition = l.partition
        JOIN log_journal j ON j.partition = l.partition AND j."offset" = coalesce(p.next_offset, 0)
        WHERE l.topic = 'journal' AND l.next_offset > coalesce(p.next_offset, 0)
        """
    )
    return at


async def known(tx: Tx, tenant: str, store: str, *, after: str | None, limit: int) -> list[Known]:
    """Objects that were not deleted when we last heard of them, by root."""
    rows = await tx.pg.fetch(
        """
        SELECT DISTINCT ON (object) object, id::text, topic FROM deliveries
        WHERE tenant = $1 AND store = $2 AND outcome = 'observed' AND object > $3
            AND split_part(object, ':', 1) IN ('order', 'customer', 'product')
        ORDER BY object, coalesce(dated, received_at) DESC, id DESC LIMIT $4
        """,
        tenant,
        store,
        after or "",
        limit,
    )
    return [Known(row["object"], "" if row["topic"].endswith(".deleted") else row["id"]) for row in rows]

"""All SQL of what is to be fetched of the platforms."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import Struct

from libs.common.db import Tx
from services.ingest import asking
from services.ingest.credentials import OPEN, OPENS, Credentials, held
from services.ingest.platforms.port import Bulk, Kind, Others

Purpose = Literal["backfill", "reconcile", "sweep"]
State = Literal["waiting", "running", "paused", "done", "cancelled", "failed"]

LEASE = timedelta(seconds=180)
"""Longer than a step may take: whoever holds it asks the store alone, and alone writes what came of it."""
KEPT = timedelta(days=30)
"""Reconciliations that are over stay to be looked at."""


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
    done_at: datetime | None = None
    bulk: dict[str, Bulk] = {}
    """By kind, where the platform prepares all of it."""
    rests_until: datetime | None = None
    """When its store may be asked again, where that is not soon."""

    @property
    def wanted(self) -> tuple[object, ...]:
        """What was asked for."""
        return self.store, frozenset(self.kinds), self.since

    @property
    def begun(self) -> bool:
        """Whether anything was fetched for it."""
        return self.step > 0 or self.following is not None

    @property
    def held_up(self) -> str | None:
        """Why it does not get on, and until when."""
        if self.rests_until is None:
            return self.reason
        rest = f"the shop wants to be left alone until {self.rests_until:%Y-%m-%d %H:%M} UTC"
        return rest if self.reason is None else f"{self.reason}; {rest}"


class Due(NamedTuple):
    """A store that is to be looked at."""

    tenant: str
    store: str
    platform: str
    reached: datetime
    """Up to where it was; the first time: since when it is known."""
    ever: bool
    """Whether it was before."""


_FETCH = """f.tenant, f.id::text, f.store, f.purpose, f.kinds, f.since, f.until, f.state, f.asked_at, f.asked_by,
    f.step, f.following, f.counts, f.reasons, f.failures, f.reason, f.done_at, f.bulk"""
_SHOWN = f"""
    SELECT {_FETCH}, CASE WHEN f.{OPEN} AND c.lease IS NULL
        AND c.next_call_at > clock_timestamp() + interval '1 minute' THEN c.next_call_at END AS rests_until
    FROM fetches f LEFT JOIN credentials c ON c.tenant = f.tenant AND c.store = f.store"""
_UNENDED = "state IN ('waiting', 'running', 'paused')"
_PAUSED = "(s.paused_at IS NOT NULL AND s.resumed_at IS NULL)"


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


async def ask_backfill(tx: Tx, fetch: Fetch) -> Fetch:
    """Leaves it for a worker; where one is not at its end that wants the same, it is that one.

    Problem 409 for too many.
    """
    those = await _unended(tx, fetch.tenant)
    for each in those:
        if each.wanted == fetch.wanted:
            return each
    asking.admit("backfills", [each.store for each in those], fetch.store)
    await ask(tx, fetch)
    return fetch


async def admit(tx: Tx, tenant: str, store: str) -> None:
    """Problem 409 unless there may be one more backfill of this store."""
    asking.admit("backfills", [each.store for each in await _unended(tx, tenant)], store)


async def _unended(tx: Tx, tenant: str) -> list[Fetch]:
    """The tenant's backfills that are not at their end; nobody asks for another one meanwhile."""
    await asking.alone(tx, "backfills", tenant)
    rows = await tx.pg.fetch(f"{_SHOWN} WHERE f.tenant = $1 AND f.purpose = 'backfill' AND f.{_UNENDED}", tenant)
    return [_fetch(row) for row in rows]


async def due(tx: Tx, purpose: Purpose, *, before: datetime, until: datetime, limit: int) -> list[Due]:
    """Stores for which nothing of this purpose has been asked for since `before`, those first that wait longest.

    None that is paused, and none that was known only after `until`: there is nothing yet to compare it up to.
    """
    rows = await tx.pg.fetch(
        f"""
        SELECT c.tenant, c.store, s.platform, coalesce(f.until, s.created_at) AS reached, f.until IS NOT NULL AS ever
        FROM credentials c JOIN stores s ON s.tenant = c.tenant AND s.key = c.store
        LEFT JOIN LATERAL (
            SELECT max(until) FILTER (WHERE state = 'done') AS until, max(asked_at) AS asked_at,
                   bool_or({OPEN}) AS open
            FROM fetches WHERE tenant = c.tenant AND store = c.store AND purpose = $1
        ) f ON true
        WHERE {OPENS} AND f.open IS NOT TRUE AND (f.asked_at IS NULL OR f.asked_at <= $2) AND s.created_at < $4
            AND NOT {_PAUSED}
        ORDER BY coalesce(f.asked_at, s.created_at), c.tenant, c.store LIMIT $3
        """,
        purpose,
        before,
        limit,
        until,
    )
    return [Due(**dict(row)) for row in rows]


async def claim(
    tx: Tx, lease: str, *, full: Sequence[str] = (), busy: Sequence[str] = ()
) -> tuple[Fetch, Credentials] | None:
    """The one that has waited longest, for `LEASE`; until `release`, nobody else asks its store.

    None of the tenants in `full`; those in `busy` come after all the others. Of a paused store what was asked for by
    somebody, and no comparison of ours.
    """
    row = await tx.pg.fetchrow(
        f"""
        SELECT {_FETCH}
        FROM fetches f JOIN credentials c ON c.tenant = f.tenant AND c.store = f.store
        WHERE f.{OPEN} AND {OPENS} AND f.not_before <= clock_timestamp() AND c.next_call_at <= clock_timestamp()
            AND f.tenant <> ALL($1::text[]) AND (f.purpose = 'backfill' OR NOT EXISTS (
                SELECT FROM stores s WHERE s.tenant = f.tenant AND s.key = f.store AND {_PAUSED}))
        ORDER BY f.tenant = ANY($2::text[]), f.not_before, f.id LIMIT 1 FOR UPDATE SKIP LOCKED
        """,
        full,
        busy,
    )
    if row is None:
        return None
    fetch = _fetch(row)
    used = await held(tx, fetch.tenant, fetch.store)
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
        "UPDATE credentials SET lease = $3, next_call_at = clock_timestamp() + $4 WHERE tenant = $1 AND store = $2",
        fetch.tenant,
        fetch.store,
        lease,
        LEASE,
    )
    return fetch, used


async def claim_store(tx: Tx, tenant: str, store: str, lease: str) -> Credentials | None:
    """A store to be asked for something else, for `LEASE`. None: it is being asked, or has no credentials."""
    claimed = await tx.pg.fetchval(
        """
        UPDATE credentials SET lease = $3, next_call_at = clock_timestamp() + $4
        WHERE tenant = $1 AND store = $2 AND next_call_at <= clock_timestamp() RETURNING true
        """,
        tenant,
        store,
        lease,
        LEASE,
    )
    return await held(tx, tenant, store) if claimed else None


async def release(tx: Tx, of: Fetch | Credentials, lease: str, *, pause: timedelta, rest: timedelta) -> None:
    """Its store may be asked again, `pause` after the claim and `rest` from now on.

    Nothing when somebody else asks it by now.
    """
    await tx.pg.execute(
        """
        UPDATE credentials SET lease = NULL,
            next_call_at = greatest(next_call_at - $4::interval + $5, clock_timestamp() + $6)
        WHERE tenant = $1 AND store = $2 AND lease = $3
        """,
        of.tenant,
        of.store,
        lease,
        LEASE,
        pause,
        rest,
    )


async def save(tx: Tx, fetch: Fetch, lease: str, *, pause: timedelta) -> bool:
    """How far it has come. False, and nothing is written: it is not ours any more."""
    done = await tx.pg.execute(
        """
        UPDATE fetches SET state = $4, step = $5, following = $6, counts = $7, reasons = $8,
            failures = $9, reason = $10, not_before = clock_timestamp() + $11, lease = NULL, done_at = $12, bulk = $13
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
        fetch.done_at,
        json.dumps(msgspec.to_builtins(fetch.bulk)),
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


async def others(tx: Tx, fetch: Fetch) -> Others:
    """Where the other backfills of its store are."""
    rows = await tx.pg.fetch(
        """
        SELECT state, following FROM fetches WHERE tenant = $1 AND store = $2 AND purpose = 'backfill' AND id <> $3
            AND state <> 'done' AND following IS NOT NULL
        """,
        fetch.tenant,
        fetch.store,
        fetch.id,
    )
    return Others(
        open=[row["following"] for row in rows if row["state"] != "cancelled"],
        over=[row["following"] for row in rows if row["state"] == "cancelled"],
    )


async def one(tx: Tx, tenant: str, id_: str) -> Fetch | None:
    """A backfill of the tenant."""
    row = await tx.pg.fetchrow(f"{_SHOWN} WHERE f.tenant = $1 AND f.id = $2 AND f.purpose = 'backfill'", tenant, id_)
    return _fetch(row) if row else None


def _fetch(row: Mapping[str, Any]) -> Fetch:
    return Fetch(**(dict(row) | {"bulk": msgspec.convert(row["bulk"], dict[str, Bulk])}))


async def newest(
    tx: Tx,
    tenant: str,
    *,
    purpose: Purpose,
    limit: int,
    store: str | None = None,
    state: State | None = None,
    before: str | None = None,
) -> list[Fetch]:
    """Newest first; ids lower than `before`."""
    rows = await tx.pg.fetch(
        f"""
        {_SHOWN}
        WHERE f.tenant = $1 AND f.purpose = $2 AND ($3::text IS NULL OR f.store = $3)
            AND ($4::uuid IS NULL OR f.id < $4) AND ($6::text IS NULL OR f.state = $6)
        ORDER BY f.id DESC LIMIT $5
        """,
        tenant,
        purpose,
        store,
        before,
        limit,
        state,
    )
    return [_fetch(row) for row in rows]


async def counts_of(tx: Tx, tenant: str, store: str) -> dict[Purpose, int]:
    """How many there are of a store by purpose, over or not."""
    rows = await tx.pg.fetch(
        "SELECT purpose, count(*) AS n FROM fetches WHERE tenant = $1 AND store = $2 GROUP BY purpose", tenant, store
    )
    return {row["purpose"]: row["n"] for row in rows}


async def forget_store(tx: Tx, tenant: str, store: str) -> None:
    """Takes a store's credentials and fetches away; a step that is under way finds its own gone, and ends."""
    # Credentials first, as whoever saves a step does, or the two deadlock.
    await tx.pg.execute("DELETE FROM credentials WHERE tenant = $1 AND store = $2", tenant, store)
    await tx.pg.execute("DELETE FROM fetches WHERE tenant = $1 AND store = $2", tenant, store)
    await tx.pg.execute("DELETE FROM subscriptions WHERE tenant = $1 AND store = $2", tenant, store)


async def open_backfills(tx: Tx) -> int:
    """How many of all tenants are not at their end, nor paused, nor kept from it by what their shop refuses.

    The latter are somebody's to unblock, by other credentials: no waiting of ours ends them.
    """
    return int(
        await tx.pg.fetchval(
            f"""
            SELECT count(*) FROM fetches f LEFT JOIN credentials c ON c.tenant = f.tenant AND c.store = f.store
            WHERE f.purpose = 'backfill' AND f.{OPEN} AND c.reason IS NULL
            """
        )
    )


async def prune(tx: Tx, now: datetime) -> None:
    """Drops reconciliations that were over long ago; the last of each store stays."""
    await tx.pg.execute(
        f"""
        DELETE FROM fetches f WHERE purpose <> 'backfill' AND NOT {OPEN} AND asked_at < $1 AND EXISTS (
            SELECT FROM fetches g WHERE g.tenant = f.tenant AND g.store = f.store AND g.purpose = f.purpose
            AND g.state = 'done' AND g.until > f.until
        )
        """,
        now - KEPT,
    )

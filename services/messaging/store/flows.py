"""Flows: every tenant's own copy, a row for each version."""

from collections.abc import Collection
from datetime import datetime

from libs.common.db import Tx
from services.messaging.flows import BUILT_IN, Flow, decode, encode


async def current(tx: Tx, tenants: Collection[str], now: datetime) -> dict[tuple[str, str], Flow]:
    """Each tenant's flows as they stand, by tenant and key; a tenant seen for the first time gets the built-in ones."""
    found = await _current(tx, tenants)
    unseen = sorted(set(tenants) - {tenant for tenant, _ in found})
    if not unseen:
        return found
    await _add_built_in(tx, unseen, now)
    return found | await _current(tx, unseen)


async def knows(tx: Tx, tenant: str, key: str) -> bool:
    """Whether the tenant has this flow; the built-in ones everybody has, before he is seen for the first time, too."""
    if any(flow.key == key for flow in BUILT_IN):
        return True
    return bool(await tx.pg.fetchval("SELECT EXISTS (SELECT FROM flows WHERE tenant = $1 AND key = $2)", tenant, key))


async def versions(tx: Tx, tenants: Collection[str]) -> dict[tuple[str, str, int], Flow]:
    """Every version that these tenants have had, by tenant, key and version."""
    rows = await tx.pg.fetch(
        "SELECT tenant, key, version, definition::text AS definition FROM flow_versions WHERE tenant = ANY($1::text[])",
        sorted(tenants),
    )
    return {(row["tenant"], row["key"], row["version"]): decode(row["definition"]) for row in rows}


async def paused(tx: Tx, tenants: Collection[str]) -> set[tuple[str, str]]:
    """Tenant and key of the flows that hold their messages."""
    rows = await tx.pg.fetch("SELECT tenant, key FROM flows WHERE tenant = ANY($1::text[]) AND paused", sorted(tenants))
    return {(row["tenant"], row["key"]) for row in rows}


async def set_paused(tx: Tx, tenant: str, key: str, *, to: bool, now: datetime) -> bool:
    """Pauses or resumes a flow; False when there is none. Resuming lets go of what was held, to be asked again."""
    done = await tx.pg.fetchval(
        "UPDATE flows SET paused = $3, updated_at = $4 WHERE tenant = $1 AND key = $2 RETURNING true",
        tenant,
        key,
        to,
        now,
    )
    if done and not to:
        await tx.pg.execute(
            "UPDATE messages SET state = 'planned', reason = NULL, reasons = '{}', next_at = $3"
            " WHERE tenant = $1 AND flow = $2 AND state = 'held' AND reason = 'flow_paused'",
            tenant,
            key,
            now,
        )
    return bool(done)


async def _current(tx: Tx, tenants: Collection[str]) -> dict[tuple[str, str], Flow]:
    rows = await tx.pg.fetch(
        """
        SELECT f.tenant, f.key, v.definition::text AS definition
        FROM flows f JOIN flow_versions v USING (tenant, key, version) WHERE f.tenant = ANY($1::text[])
        """,
        sorted(tenants),
    )
    return {(row["tenant"], row["key"]): decode(row["definition"]) for row in rows}


async def _add_built_in(tx: Tx, tenants: Collection[str], now: datetime) -> None:
    owned = [(tenant, flow) for tenant in tenants for flow in BUILT_IN]
    columns = [
        [tenant for tenant, _ in owned],
        [flow.key for _, flow in owned],
        [flow.version for _, flow in owned],
    ]
    await tx.pg.execute(
        """
        INSERT INTO flow_versions (tenant, key, version, definition, created_at)
        SELECT *, $5::timestamptz FROM unnest($1::text[], $2::text[], $3::int[], $4::jsonb[]) ON CONFLICT DO NOTHING
        """,
        *columns,
        [encode(flow) for _, flow in owned],
        now,
    )
    await tx.pg.execute(
        """
        INSERT INTO flows (tenant, key, version, updated_at)
        SELECT *, $4::timestamptz FROM unnest($1::text[], $2::text[], $3::int[]) ON CONFLICT DO NOTHING
        """,
        *columns,
        now,
    )

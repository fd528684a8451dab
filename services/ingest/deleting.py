"""Deleting a store: what opens it goes, in one transaction with the `store.observed` that tells the others.

Its row stays without secrets, since its history names it and its key must never be another store's.
"""

from datetime import datetime

from msgspec import Struct
from msgspec.structs import asdict, replace

from libs.common.contracts.topics import COMMERCE
from libs.common.db import Database, Tx
from libs.common.log.postgres import append
from services.ingest import credentials, fetches, replays, store
from services.ingest.registering import observed
from services.ingest.store import Store


class Deletion(Struct, frozen=True, kw_only=True):
    """What goes, or would, with a store: how many of each."""

    deleted_at: datetime | None
    """None: it is there."""
    secrets: int
    credentials: int
    public_keys: int
    backfills: int
    comparisons: int
    replays: int
    """That are not at their end."""


async def delete(
    database: Database,
    tenant: str,
    key: str,
    *,
    now: datetime,
    by: str,
    dry_run: bool = False,
    traceparent: str | None = None,
) -> Deletion | None:
    """What goes with a store; nothing is left to go of one that was deleted before. None: the tenant has none of it.

    `dry_run`: it only would. `by`: a key's id.
    """
    async with database.transaction() as tx:
        known = await store.lock_key(tx, tenant, key)
        if known is None:
            return None
        removal = await _counted(tx, known)
        if dry_run or known.state == "deleted":
            return removal
        at = max(now, known.updated_at)
        gone = replace(known, version=known.version + 1, updated_at=at, deleted_at=at)
        await store.remove_public_keys(tx, tenant, key)
        await fetches.forget_store(tx, tenant, key)
        await replays.cancel_of(tx, tenant, key)
        removal = replace(removal, deleted_at=at)
        told = {name: n for name, n in asdict(removal).items() if name != "deleted_at"}
        await store.save_store(tx, gone, [], by=by, changes={"state": gone.state, "removed": told})
        await append(tx, COMMERCE, [observed(gone, traceparent)])
    return removal


async def _counted(tx: Tx, known: Store) -> Deletion:
    [held] = await store.sealed_stores(tx, [known.key])
    fetched = await fetches.counts_of(tx, known.tenant, known.key)
    return Deletion(
        deleted_at=known.deleted_at,
        secrets=len(held.secrets),
        credentials=int(await credentials.held(tx, known.tenant, known.key) is not None),
        public_keys=len(held.public_keys),
        backfills=fetched.get("backfill", 0),
        comparisons=fetched.get("reconcile", 0) + fetched.get("sweep", 0),
        replays=await replays.open_of(tx, known.tenant, known.key),
    )

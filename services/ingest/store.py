"""All SQL of ingest's own tables: stores, what deliveries turned out to be, and how often."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

import asyncpg
import msgspec
from msgspec import Struct
from sqlalchemy import func, select

from libs.common.db import Tx
from services.ingest.outcome import StoreFacts
from services.ingest.tables import stores

CHANNEL = "regulars_stores"
"""NOTIFY channel; the payload is the key of a store that was registered or changed."""


StoreState = Literal["active", "paused", "deleted"]


class Store(Struct, frozen=True, kw_only=True):
    """A registered store, without its secrets."""

    tenant: str
    key: str
    platform: str
    domain: str
    name: str
    currency: str
    timezone: str
    consent: str
    version: int
    created_at: datetime
    updated_at: datetime
    email: str | None = None
    postal_address: str | None = None
    paused_at: datetime | None = None
    """Of the last pause, and when that ended; None while it lasts."""
    resumed_at: datetime | None = None
    deleted_at: datetime | None = None

    @property
    def state(self) -> StoreState:
        """What is to be expected of it."""
        if self.deleted_at is not None:
            return "deleted"
        return "paused" if self.paused_at is not None and self.resumed_at is None else "active"


class Sealed(Struct, frozen=True):
    """A secret of a store, and for how long it signs."""

    secret: bytes
    added_at: datetime
    ends_at: datetime | None = None

    def signs(self, now: datetime) -> bool:
        """Whether its time has not ended."""
        return self.ends_at is None or now < self.ends_at


class PublicKey(Struct, frozen=True, kw_only=True):
    """What a store's pages send events with. Everybody may know it."""

    key: str
    origins: list[str]
    """Of the pages that may use it, as browsers spell them."""
    created_at: datetime
    created_by: str
    """Id of the API key."""


class SealedStore(Struct, frozen=True, kw_only=True):
    """What the routes that take deliveries need of a store."""

    tenant: str
    key: str
    platform: str
    secrets: list[Sealed]
    version: int
    public_keys: list[PublicKey] = []
    deleted: bool = False


class StoreChange(Struct, frozen=True, kw_only=True):
    """An entry of a store's audit log."""

    version: int
    at: datetime
    by: str
    """Id of the API key."""
    changes: dict[str, Any]
    """Field -> what it is now. Of secrets: how many were added, and how many end; of public keys: which one."""


class DeliveryRow(NamedTuple):
    """One delivery that was looked at and is not dead. The order is that of `save_deliveries`."""

    tenant: str
    id: str
    store: str
    platform: str
    topic: str
    delivery_id: str
    received_at: datetime
    origin: str
    outcome: str
    reason: str | None
    object: str | None
    journal_partition: int
    journal_offset: int
    dated: datetime | None
    """When the source says that the object changed."""
    cart: str | None
    """Token of the cart that a checkout was made of."""


_STORE = (
    "tenant, key, platform, domain, name, currency, timezone, consent, version, created_at, updated_at, email, "
    "postal_address, paused_at, resumed_at, deleted_at"
)


def context(tenant: str, key: str) -> bytes:
    """What a store's secrets are sealed for."""
    return f"store/{tenant}/{key}/secret".encode()


# Stores --------------------------------------------------------------------------------------------------------------


async def lock_domain(tx: Tx, tenant: str, platform: str, domain: str) -> Store | None:
    """The tenant's store of this domain, locked to be changed; None when there is none, and nobody else can make it.

    One that was deleted is none: who registers its domain again gets another key.
    """
    await tx.pg.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"{tenant}\n{platform}\n{domain}")
    row = await tx.pg.fetchrow(
        f"SELECT {_STORE} FROM stores WHERE tenant = $1 AND platform = $2 AND domain = $3 AND deleted_at IS NULL"
        " FOR UPDATE",
        tenant,
        platform,
        domain,
    )
    return Store(**dict(row)) if row else None


async def lock_key(tx: Tx, tenant: str, key: str) -> Store | None:
    """A store of the tenant, deleted or not, locked to be changed."""
    row = await tx.pg.fetchrow(f"SELECT {_STORE} FROM stores WHERE tenant = $1 AND key = $2 FOR UPDATE", tenant, key)
    return Store(**dict(row)) if row else None


async def save_store(tx: Tx, saved: Store, secrets: Sequence[Sealed], *, by: str, changes: dict[str, Any]) -> None:
    """Writes a new store or a changed one, and who did it; tells every process once it has committed."""
    await tx.pg.execute(
        f"""
        INSERT INTO stores ({_STORE}, secrets, secrets_added, secrets_end)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
        ON CONFLICT (tenant, key) DO UPDATE SET name = excluded.name, currency = excluded.currency,
            timezone = excluded.timezone, consent = excluded.consent, email = excluded.email,
            postal_address = excluded.postal_address, paused_at = excluded.paused_at,
            resumed_at = excluded.resumed_at, deleted_at = excluded.deleted_at, secrets = excluded.secrets,
            secrets_added = excluded.secrets_added, secrets_end = excluded.secrets_end,
            version = excluded.version, updated_at = excluded.updated_at
        """,
        saved.tenant,
        saved.key,
        saved.platform,
        saved.domain,
        saved.name,
        saved.currency,
        saved.timezone,
        saved.consent,
        saved.version,
        saved.created_at,
        saved.updated_at,
        saved.email,
        saved.postal_address,
        saved.paused_at,
        saved.resumed_at,
        saved.deleted_at,
        [each.secret for each in secrets],
        [each.added_at for each in secrets],
        [each.ends_at for each in secrets],
    )
    await tx.pg.execute(
        "INSERT INTO store_changes (tenant, store, version, at, by, changes) VALUES ($1, $2, $3, $4, $5, $6)",
        saved.tenant,
        saved.key,
        saved.version,
        saved.updated_at,
        by,
        json.dumps(changes),
    )
    await tx.pg.execute("SELECT pg_notify($1, $2)", CHANNEL, saved.key)


async def list_changes(tx: Tx, tenant: str, key: str, *, limit: int, before: int | None) -> list[StoreChange]:
    """Newest first; versions lower than `before`."""
    rows = await tx.pg.fetch(
        """
        SELECT version, at, by, changes FROM store_changes
        WHERE tenant = $1 AND store = $2 AND ($3::int IS NULL OR version < $3) ORDER BY version DESC LIMIT $4
        """,
        tenant,
        key,
        before,
        limit,
    )
    return [StoreChange(**dict(row)) for row in rows]


async def one_store(tx: Tx, tenant: str, key: str) -> Store | None:
    """A store of the tenant, deleted or not."""
    row = await tx.pg.fetchrow(f"SELECT {_STORE} FROM stores WHERE tenant = $1 AND key = $2", tenant, key)
    return Store(**dict(row)) if row else None


async def public_keys(tx: Tx, tenant: str, store: str) -> list[PublicKey]:
    """Those of a store that are valid, oldest first."""
    rows = await tx.pg.fetch(
        """
        SELECT key, origins, created_at, created_by FROM public_keys WHERE tenant = $1 AND store = $2
        ORDER BY created_at, key
        """,
        tenant,
        store,
    )
    return [PublicKey(**dict(row)) for row in rows]


async def add_public_key(tx: Tx, tenant: str, store: str, added: PublicKey) -> None:
    """One more."""
    await tx.pg.execute(
        "INSERT INTO public_keys (tenant, store, key, origins, created_at, created_by) VALUES ($1, $2, $3, $4, $5, $6)",
        tenant,
        store,
        added.key,
        added.origins,
        added.created_at,
        added.created_by,
    )


async def remove_public_keys(tx: Tx, tenant: str, store: str) -> None:
    """All of a store."""
    await tx.pg.execute("DELETE FROM public_keys WHERE tenant = $1 AND store = $2", tenant, store)


async def remove_public_key(tx: Tx, tenant: str, store: str, key: str) -> bool:
    """Whether there was such a one."""
    done = await tx.pg.execute(
        "DELETE FROM public_keys WHERE tenant = $1 AND store = $2 AND key = $3", tenant, store, key
    )
    return done == "DELETE 1"


async def list_stores(tx: Tx, tenant: str, *, limit: int, after: tuple[datetime, str] | None) -> list[Store]:
    """Those that were not deleted, oldest first, from behind `(created_at, key)`."""
    columns = [stores.c[name.strip()] for name in _STORE.split(",")]
    kept = (stores.c.tenant == tenant, stores.c.deleted_at.is_(None))
    query = select(*columns).where(*kept).order_by(stores.c.created_at, stores.c.key).limit(limit)
    if after is not None:
        query = query.where(func.row(stores.c.created_at, stores.c.key) > func.row(*after))
    return [Store(**row) for row in (await tx.sql.execute(query)).mappings()]


async def sealed_stores(tx: Tx, keys: Iterable[str] | None) -> list[SealedStore]:
    """The stores of these keys, or all there are; deleted ones, too: whoever knows of one has to forget it."""
    rows = await tx.pg.fetch(
        """
        SELECT tenant, key, platform, version, created_at, secrets, secrets_added, secrets_end,
            deleted_at IS NOT NULL AS deleted,
            -- In the same statement: of another moment than the version they would stay as they were read.
            (SELECT json_agg(p ORDER BY p.created_at, p.key) FROM public_keys AS p
             WHERE p.tenant = stores.tenant AND p.store = stores.key) AS public_keys
        FROM stores WHERE $1::text[] IS NULL OR key = ANY($1)
        """,
        None if keys is None else list(keys),
    )
    return [
        SealedStore(
            tenant=row["tenant"],
            key=row["key"],
            platform=row["platform"],
            version=row["version"],
            secrets=_sealed(row),
            public_keys=msgspec.convert(row["public_keys"] or [], list[PublicKey]),
            deleted=row["deleted"],
        )
        for row in rows
    ]


def _sealed(row: Mapping[str, Any]) -> list[Sealed]:
    added, end, secrets = row["secrets_added"] or [], row["secrets_end"] or [], row["secrets"]
    if not len(added) == len(end) == len(secrets):
        # Written by the version before: all of them sign.
        added, end = [row["created_at"]] * len(secrets), [None] * len(secrets)
    return [Sealed(*each) for each in zip(secrets, added, end, strict=True)]


async def store_facts(tx: Tx, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], StoreFacts]:
    """By (tenant, key)."""
    pairs = sorted(set(wanted))
    rows = await tx.pg.fetch(
        """
        SELECT tenant, key, domain, currency, timezone FROM stores
        JOIN unnest($1::text[], $2::text[]) AS u(tenant, key) USING (tenant, key)
        """,
        [tenant for tenant, _ in pairs],
        [key for _, key in pairs],
    )
    told = [dict(row) for row in rows]
    return {(each.pop("tenant"), each["key"]): StoreFacts(**each) for each in told}


# Deliveries ----------------------------------------------------------------------------------------------------------


async def save_deliveries(tx: Tx, rows: Sequence[DeliveryRow]) -> None:
    """Writes what the deliveries turned out to be, and counts those that were not written before."""
    if not rows:
        return
    written = await tx.pg.fetch(
        """
        INSERT INTO deliveries AS d (tenant, id, store, platform, topic, delivery_id, received_at, origin, outcome,
                                     reason, object, journal_partition, journal_offset, dated, cart)
        SELECT * FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[],
            $7::timestamptz[], $8::text[], $9::text[], $10::text[], $11::text[], $12::int[], $13::bigint[],
            $14::timestamptz[], $15::text[])
        ON CONFLICT (tenant, id) DO NOTHING RETURNING store, tenant, outcome, journal_partition
        """,
        *(list(column) for column in zip(*rows, strict=True)),
    )
    counts = Counter((row["tenant"], row["store"], row["outcome"], row["journal_partition"]) for row in written)
    await add_outcome_counts(tx, counts)


async def add_outcome_counts(tx: Tx, counts: Mapping[tuple[str, str, str, int], int]) -> None:
    """Adds to the counts of (tenant, store, outcome, journal partition)."""
    await _add(tx.pg, "outcome_counts", ("outcome", "journal_partition"), counts)


async def outcome_counts(tx: Tx, tenant: str, store: str | None) -> dict[str, int]:
    """Deliveries by outcome; those dead and pending are counted where they lie."""
    rows = await tx.pg.fetch(
        """
        SELECT outcome, sum(n)::bigint AS n FROM outcome_counts WHERE tenant = $1 AND ($2::text IS NULL OR store = $2)
        GROUP BY outcome
        """,
        tenant,
        store,
    )
    return {row["outcome"]: row["n"] for row in rows}


async def request_counts(tx: Tx, tenant: str, store: str | None) -> dict[str, int]:
    """Requests that left no delivery, by result."""
    rows = await tx.pg.fetch(
        """
        SELECT result, sum(n)::bigint AS n FROM request_counts WHERE tenant = $1 AND ($2::text IS NULL OR store = $2)
        GROUP BY result
        """,
        tenant,
        store,
    )
    return {row["result"]: row["n"] for row in rows}


async def add_request_counts(tx: Tx, counts: Mapping[tuple[str, str, str], int]) -> None:
    """Adds to the counts of (tenant, store, result)."""
    await _add(tx.pg, "request_counts", ("result",), counts)


async def _add(
    pg: "asyncpg.Connection[Any]", table: str, names: Sequence[str], counts: Mapping[tuple[Any, ...], int]
) -> None:
    if not counts:
        return
    ordered = sorted(counts.items())  # or two processes deadlock
    key = ", ".join(("tenant", "store", *names))
    types = {"journal_partition": "int"}
    arrays = ", ".join(f"${n}::{types.get(name, 'text')}[]" for n, name in enumerate(("tenant", "store", *names), 1))
    columns = [list(column) for column in zip(*(place for place, _ in ordered), strict=True)]
    await pg.execute(
        f"""
        INSERT INTO {table} AS t ({key}, n) SELECT * FROM unnest({arrays}, ${len(columns) + 1}::bigint[])
        ON CONFLICT ({key}) DO UPDATE SET n = t.n + excluded.n
        """,
        *columns,
        [n for _, n in ordered],
    )

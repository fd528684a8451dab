"""All SQL of what opens the stores' own APIs."""

from datetime import datetime

from msgspec import Struct

from libs.common.db import Tx

NO_CREDENTIALS = "This store has no credentials."
NO_API = "Stores of {} have no API to ask: they tell of themselves by events."
"""Of a platform."""
OPENS = "c.state <> 'gone'"
"""SQL: of credentials `c`, that the shop did not take them back."""
OPEN = "state IN ('waiting', 'running')"
"""SQL: of a fetch, that it is not at its end."""


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
    looked_at: datetime | None = None
    """When it was last seen which webhooks the platform has for us."""
    unseen: str | None = None
    """Why that could not be seen the last time."""


def context(tenant: str, store: str) -> bytes:
    """What credentials are sealed for."""
    return f"store/{tenant}/{store}/credentials".encode()


async def put(tx: Tx, tenant: str, store: str, *, url: str, sealed: bytes, at: datetime, by: str) -> None:
    """In place of those before."""
    await tx.pg.execute(
        """
        INSERT INTO credentials (tenant, store, url, sealed, set_at, set_by, state, next_call_at)
        VALUES ($1, $2, $3, $4, $5, $6, 'unchecked', '-infinity')
        ON CONFLICT (tenant, store) DO UPDATE SET url = excluded.url, sealed = excluded.sealed,
            set_at = excluded.set_at, set_by = excluded.set_by, state = 'unchecked', reason = NULL, unseen = NULL
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
        UPDATE fetches SET not_before = '-infinity', failures = 0 WHERE tenant = $1 AND store = $2 AND {OPEN}
        """,
        tenant,
        store,
    )


async def forget(tx: Tx, tenant: str, store: str) -> bool:
    """Whether there were any. What is open fails: nothing can open the API for it any more."""
    gone = await tx.pg.execute("DELETE FROM credentials WHERE tenant = $1 AND store = $2", tenant, store)
    # Nobody sees any more what becomes of them.
    await tx.pg.execute("DELETE FROM subscriptions WHERE tenant = $1 AND store = $2", tenant, store)
    await give_up_unopened(tx)
    return gone != "DELETE 0"


async def held(tx: Tx, tenant: str, store: str) -> Credentials | None:
    """Of a store."""
    row = await tx.pg.fetchrow(
        """
        SELECT c.tenant, c.store, s.platform, c.url, c.sealed, c.set_at, c.state, c.reason, c.looked_at, c.unseen
        FROM credentials c JOIN stores s ON s.tenant = c.tenant AND s.key = c.store
        WHERE c.tenant = $1 AND c.store = $2
        """,
        tenant,
        store,
    )
    return Credentials(**dict(row)) if row else None


async def opened(tx: Tx, tenant: str, store: str) -> bool:
    """Whether there are credentials that the shop did not take back."""
    return bool(
        await tx.pg.fetchval(
            f"SELECT EXISTS (SELECT FROM credentials c WHERE tenant = $1 AND store = $2 AND {OPENS})", tenant, store
        )
    )


async def take_back(tx: Tx, tenant: str, store: str, *, at: datetime, reason: str) -> bool:
    """Whether the shop took any back at that time, and not those that were set later. What is open fails."""
    done = await tx.pg.execute(
        f"""
        UPDATE credentials c SET state = 'gone', reason = $4
        WHERE tenant = $1 AND store = $2 AND set_at <= $3 AND {OPENS}
        """,
        tenant,
        store,
        at,
        reason,
    )
    await give_up_unopened(tx)
    return str(done) == "UPDATE 1"


async def note(tx: Tx, used: Credentials, state: str, reason: str | None) -> None:
    """How the platform took them; nothing when others were set meanwhile, or the shop took them back."""
    await tx.pg.execute(
        f"""
        UPDATE credentials c SET state = $4, reason = $5
        WHERE tenant = $1 AND store = $2 AND set_at = $3 AND {OPENS}
        """,
        used.tenant,
        used.store,
        used.set_at,
        state,
        reason,
    )


async def give_up_unopened(tx: Tx) -> None:
    """Fails whatever waits for a store without credentials: it would wait for ever."""
    await tx.pg.execute(
        f"""
        UPDATE fetches f SET state = 'failed', lease = NULL, reason = $1
        WHERE {OPEN} AND NOT EXISTS (
            SELECT FROM credentials c WHERE c.tenant = f.tenant AND c.store = f.store AND {OPENS}
        )
        """,
        NO_CREDENTIALS,
    )

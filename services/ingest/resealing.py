"""Everything that is sealed, sealed again by the newest key."""

from libs.common.crypto import Keyring
from libs.common.db import Database
from services.ingest import credentials, store


async def reseal(database: Database, keyring: Keyring) -> tuple[int, int]:
    """How many stores' secrets and how many credentials another key had sealed. BadSeal when one cannot be opened.

    One store a transaction: nobody waits for more than his own, and whoever dies on the way begins where he was.
    """
    return await _secrets(database, keyring), await _credentials(database, keyring)


async def _secrets(database: Database, keyring: Keyring) -> int:
    async with database.reading() as tx:
        rows = await tx.pg.fetch("SELECT tenant, key, secrets FROM stores")
    resealed = 0
    for row in rows:
        if all(keyring.is_current(secret) for secret in row["secrets"]):
            continue
        async with database.transaction() as tx:
            # As they are now: they may have been changed since.
            secrets = await tx.pg.fetchval(
                "SELECT secrets FROM stores WHERE tenant = $1 AND key = $2 FOR UPDATE", row["tenant"], row["key"]
            )
            if secrets is None:
                continue
            context = store.context(row["tenant"], row["key"])
            await tx.pg.execute(
                "UPDATE stores SET secrets = $3 WHERE tenant = $1 AND key = $2",
                row["tenant"],
                row["key"],
                [keyring.seal(keyring.open(secret, context), context) for secret in secrets],
            )
            # Who holds keys of before learns of the new one by reading what it has sealed.
            await tx.pg.execute("SELECT pg_notify($1, $2)", store.CHANNEL, row["key"])
            resealed += 1
    return resealed


async def _credentials(database: Database, keyring: Keyring) -> int:
    async with database.reading() as tx:
        rows = await tx.pg.fetch("SELECT tenant, store, sealed FROM credentials")
    resealed = 0
    for row in rows:
        if keyring.is_current(row["sealed"]):
            continue
        context = credentials.context(row["tenant"], row["store"])
        async with database.transaction() as tx:
            done = await tx.pg.fetchval(
                "UPDATE credentials SET sealed = $3 WHERE tenant = $1 AND store = $2 AND sealed = $4 RETURNING true",
                row["tenant"],
                row["store"],
                keyring.seal(keyring.open(row["sealed"], context), context),
                row["sealed"],
            )
        resealed += bool(done)
    return resealed

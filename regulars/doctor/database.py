"""The database: there, new enough, safe, on time, migrated, and opened by our key."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from libs.common.clock import SystemClock
from libs.common.crypto import BadKeyFile, Keyring
from libs.common.db import OLDEST_POSTGRES
from libs.common.revisions import VERSION_TABLE, heads, known
from regulars.doctor.finding import Finding, Ground, Level
from regulars.schemas import trees

BUSY_SHARE = 0.85
SKEW_WARNING = timedelta(seconds=1)
SKEW_FAILED = timedelta(seconds=30)
CONNECT_SECONDS = 5.0


@asynccontextmanager
async def connected(url: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """A connection that only reads."""
    options = {"default_transaction_read_only": "on", "application_name": "regulars doctor"}
    connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS, command_timeout=10, server_settings=options)
    try:
        yield connection
    finally:
        await connection.close(timeout=2)


async def server(ground: Ground) -> list[Finding]:
    """Answers, is new enough, and keeps what it has committed."""
    async with connected(ground.url) as pg:
        setting = {row["name"]: row["setting"] for row in await pg.fetch("SELECT name, setting FROM pg_settings")}
        clients = await pg.fetchval("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
    version, allowed = setting["server_version"], int(setting["max_connections"])
    found = []
    if int(setting["server_version_num"]) // 10_000 < OLDEST_POSTGRES:
        found.append(Finding("database", "failed", f"PostgreSQL {version} is too old", "upgrade it to 17 or newer"))
    for name in ("fsync", "synchronous_commit", "full_page_writes"):
        if setting[name] == "off":
            step = f"set {name} = on: else what was answered 200 may be lost in a crash"
            found.append(Finding("database", "failed", f"{name} is off", step))
    if clients > BUSY_SHARE * allowed:
        step = "raise max_connections, or lower REGULARS_POOL_SIZE"
        found.append(Finding("database", "warning", f"{clients} of {allowed} connections are taken", step))
    return found or [Finding("database", "ok", f"PostgreSQL {version}, {clients} of {allowed} connections")]


async def clocks(ground: Ground) -> list[Finding]:
    """This machine against the database. Deliveries are dated here, the log and leases there."""
    wall = SystemClock()
    async with connected(ground.url) as pg:
        before = wall.now()
        theirs: datetime = await pg.fetchval("SELECT clock_timestamp()")
        after = wall.now()
    # As if their clock had been read in the middle; half the round trip cannot be told from skew.
    skew = abs(theirs - (before + (after - before) / 2))
    sure = max(skew - (after - before) / 2, timedelta())
    told = f"{skew.total_seconds():.3f} s between this machine and the database"
    if sure > SKEW_WARNING:
        level: Level = "failed" if sure > SKEW_FAILED else "warning"
        return [Finding("clocks", level, told, "let NTP keep both (chronyc tracking, timedatectl)")]
    return [Finding("clocks", "ok", told)]


async def schemas(ground: Ground) -> list[Finding]:
    """Each at the revision that this code was written for."""
    found = []
    async with connected(ground.url) as pg:
        for schema, tree in trees():
            table = f"{schema}.{VERSION_TABLE}"
            newest = {*heads(str(tree))}
            if await pg.fetchval("SELECT to_regclass($1)", table) is None:
                found.append(Finding("schemas", "failed", f"{schema} is not there", "`regulars migrate`"))
                continue
            here = {row["version_num"] for row in await pg.fetch(f"SELECT version_num FROM {table}")}
            if here == newest:
                continue
            told = f"{schema} is at {', '.join(sorted(here)) or 'no revision'}, not at {', '.join(sorted(newest))}"
            if here - known(str(tree)):
                step = "run the version of Regulars that migrated it: this one is older, or another"
            else:
                step = "`regulars migrate`"
            found.append(Finding("schemas", "failed", told, step))
    return found or [Finding("schemas", "ok", "all at the newest revision")]


async def sealed(ground: Ground) -> list[Finding]:
    """Whether the key at hand is the one that the stores' secrets were sealed with."""
    try:
        if ground.settings is None or not (ground.settings.secret_key or (ground.data_dir / "secret.key").exists()):
            return []
        keyring = Keyring.from_settings(ground.settings.model_copy(update={"data_dir": ground.data_dir}))
    except BadKeyFile:
        return []  # the secret key's own check says so
    async with connected(ground.url) as pg:
        stores = await pg.fetch("SELECT secrets FROM ingest.stores WHERE deleted_at IS NULL")
    closed = sum(not all(keyring.knows(secret) for secret in store["secrets"]) for store in stores)
    if closed:
        told = f"{closed} of {len(stores)} stores have a secret that this key does not open"
        return [Finding("stores", "failed", told, "add the key of before to REGULARS_SECRET_KEY, behind a comma")]
    return [Finding("stores", "ok", f"{len(stores)} registered, their secrets open with this key")]

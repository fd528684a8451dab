"""The schemas of the platform and their migration trees."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import asyncpg

from libs.common import access
from libs.common.db import OLDEST_POSTGRES
from libs.common.revisions import VERSION_TABLE, are_reached

SERVICES = ("ingest", "profiles", "metrics", "messaging")
"""In the order in which a webhook meets them."""


def trees(services: Sequence[str] = SERVICES) -> list[tuple[str, Path]]:
    """Each schema with its Alembic tree: first the one that all share."""
    return [(access.SCHEMA, access.MIGRATIONS), *((service, _folder(service) / "migrations") for service in services)]


class Unusable(Exception):
    """The database cannot be used, and why."""


async def connect(url: str) -> "asyncpg.Connection[Any]":
    """A connection to a database that this code can use. Unusable otherwise, before anything was written."""
    try:
        connection: asyncpg.Connection[Any] = await asyncpg.connect(url)
    except (OSError, ValueError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise Unusable(f"the database cannot be reached: {type(error).__name__}: {error}") from error
    version = connection.get_server_version()
    if version.major < OLDEST_POSTGRES:
        await connection.close()
        raise Unusable(f"needs PostgreSQL {OLDEST_POSTGRES} or newer, and this is {version.major}.{version.minor}")
    return connection


async def is_prepared(url: str, *, key_given: bool) -> bool:
    """Whether every schema is at its newest revision or a newer one, and there is a key, here or from outside."""
    connection = await connect(url)
    try:
        for schema, tree in trees():
            table = f"{schema}.{VERSION_TABLE}"
            if await connection.fetchval("SELECT to_regclass($1)", table) is None:
                return False
            found = await connection.fetch(f"SELECT version_num FROM {table}")
            if not are_reached(str(tree), {row["version_num"] for row in found}):
                return False
        return key_given or await connection.fetchval(
            "SELECT EXISTS (SELECT FROM common.api_keys WHERE revoked_at IS NULL AND id <> 'admin')"
        )
    finally:
        await connection.close()


def _folder(service: str) -> Path:
    spec = find_spec(f"services.{service}")
    if spec is None or not spec.submodule_search_locations:
        raise LookupError(f"there is no service {service}")
    return Path(spec.submodule_search_locations[0])

"""The schemas of the platform and their migration trees."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import asyncpg

from libs.common import access
from libs.common.revisions import VERSION_TABLE, heads

SERVICES = ("ingest", "profiles", "metrics", "messaging")
"""In the order in which a webhook meets them."""


def trees(services: Sequence[str] = SERVICES) -> list[tuple[str, Path]]:
    """Each schema with its Alembic tree: first the one that all share."""
    return [(access.SCHEMA, access.MIGRATIONS), *((service, _folder(service) / "migrations") for service in services)]


async def is_prepared(url: str, *, key_given: bool) -> bool:
    """Whether every schema is at its newest revision, and there is a key or one is given from outside."""
    connection: asyncpg.Connection[Any] = await asyncpg.connect(url)
    try:
        for schema, tree in trees():
            table = f"{schema}.{VERSION_TABLE}"
            if await connection.fetchval("SELECT to_regclass($1)", table) is None:
                return False
            found = await connection.fetch(f"SELECT version_num FROM {table}")
            if {row["version_num"] for row in found} != {*heads(str(tree))}:
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

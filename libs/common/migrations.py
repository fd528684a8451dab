"""Migrations: Alembic, one tree and one version table for each schema, run under one lock.

A tree's whole `env.py` is `from libs.common.migrations import migrate; migrate()`. Where the database user may make
roles and it is asked for, each schema belongs to a role of its own, `regulars_<schema>`, which may do anything in its
schema, read the event log of the others through the group `regulars_services`, use `common`, and see nothing else.
"""

import re
from pathlib import Path

from sqlalchemy import Connection, pool, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from libs.common.access import SCHEMA as COMMON
from libs.common.db import Database
from libs.common.revisions import VERSION_TABLE, are_reached
from libs.common.telemetry import get_logger

LOCK_TIMEOUT = "1500ms"
"""How long a migration may make others wait for it before it gives up, to be started again. A webhook waits for two
seconds before it is refused; and an autovacuum gives way after one."""
SERVICES = "regulars_services"

_LOCK = 7_305_468_881
"""Advisory lock: one migration at a time in a database."""
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,40}")

log = get_logger(__name__)


async def run_migrations(url: str, schema: str, script_location: str | Path, *, roles: bool = False) -> str | None:
    """Brings `schema` to the newest revision of the tree at `script_location`, making it if need be.

    With `roles`, returns the role that owns the schema, for `Database(role=…)`: None where none could be made.
    """
    if not _IDENTIFIER.fullmatch(schema):
        raise ValueError(f"not a schema name: {schema!r}")
    engine = create_async_engine(
        make_url(url).set(drivername="postgresql+asyncpg"),
        poolclass=pool.NullPool,
        connect_args={"server_settings": {"application_name": f"regulars migrations {schema}", "timezone": "UTC"}},
    )
    try:
        async with engine.connect() as connection:
            # Before lock_timeout is set: a second starter waits for the first, however long it takes.
            await connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _LOCK})
            await connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
            role = await _owner(connection, schema) if roles else None
            await _enter_schema(connection, schema, role)
            standing = await _standing(connection, schema)
            await connection.commit()
            # Alembic finds no way from a revision that it does not know.
            if not are_reached(str(script_location), standing):
                await connection.run_sync(_upgrade, schema, script_location)
            if role is not None:
                await _share(connection, schema)
            await connection.commit()
    finally:
        await engine.dispose()
    return role


async def _standing(connection: AsyncConnection, schema: str) -> set[str]:
    table = f"{schema}.{VERSION_TABLE}"
    if await connection.scalar(text("SELECT to_regclass(:table)"), {"table": table}) is None:
        return set()
    return {*await connection.scalars(text(f"SELECT version_num FROM {table}"))}


async def reached(database: Database, script_location: str | Path, schema: str | None = None) -> bool:
    """Whether this code can work on the schema (the database's own by default): see `are_reached`."""
    table = f"{schema or database.schema}.{VERSION_TABLE}"
    async with database.reading() as tx:
        if await tx.pg.fetchval("SELECT to_regclass($1)", table) is None:
            return False
        rows = await tx.pg.fetch(f"SELECT version_num FROM {table}")
    return are_reached(str(script_location), {row["version_num"] for row in rows})


def migrate() -> None:
    """What a tree's env.py does: upgrades on the connection that `run_migrations` opened, or prints the SQL."""
    from alembic import context

    attributes = context.config.attributes
    schema: str = attributes["schema"]
    connection: Connection | None = attributes.get("connection")
    # Each revision commits by itself: indexes are built CONCURRENTLY, which no surrounding transaction allows.
    context.configure(
        connection=connection,
        dialect_name=None if connection else "postgresql",
        version_table=VERSION_TABLE,
        version_table_schema=schema,
        transaction_per_migration=True,
        literal_binds=connection is None,
        dialect_opts={"paramstyle": "named"},
    )
    with context.begin_transaction():
        context.run_migrations()


def _upgrade(connection: Connection, schema: str, script_location: str | Path) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(script_location))
    config.attributes.update(connection=connection, schema=schema)
    command.upgrade(config, "head")


async def _enter_schema(connection: AsyncConnection, schema: str, role: str | None) -> None:
    owner = f" AUTHORIZATION {role}" if role else ""
    await connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {schema}{owner}"))
    if role:
        await connection.execute(text(f"SET ROLE {role}"))
    await connection.execute(text(f"SET search_path = {schema}"))


async def _owner(connection: AsyncConnection, schema: str) -> str | None:
    """The schema's role, made and granted to us; None if we may not make roles."""
    may = await connection.scalar(text("SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"))
    if not may:
        log.warning("no right to make roles: the services share one", schema=schema)
        return None
    role = f"regulars_{schema}"
    for name in (SERVICES, role):
        # Roles belong to the whole server: someone may be making the same one from another database.
        await connection.execute(
            text(
                f"DO $$ BEGIN CREATE ROLE {name} NOLOGIN; "
                "EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
            )
        )
    granted = await connection.scalar(
        text("SELECT pg_has_role(:role, :services, 'MEMBER') AND pg_has_role(current_user, :role, 'SET')"),
        {"role": role, "services": SERVICES},
    )
    if not granted:
        await connection.execute(text(f"GRANT {SERVICES} TO {role}"))
        await connection.execute(text(f"GRANT {role} TO CURRENT_USER"))
    return role


async def _share(connection: AsyncConnection, schema: str) -> None:
    """Lets the other services read this one's event log, and how far it has read theirs, and nothing else.

    `common` is for all of them.
    """
    await connection.execute(text(f"GRANT USAGE ON SCHEMA {schema} TO {SERVICES}"))
    if schema == COMMON:
        await connection.execute(
            text(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {SERVICES}")
        )
        return
    tables = await connection.scalars(
        text(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
            " WHERE schemaname = :schema AND (tablename LIKE 'log\\_%' OR tablename = 'positions')"
        ),
        {"schema": schema},
    )
    for table in tables.all():
        await connection.execute(text(f"GRANT SELECT ON {table} TO {SERVICES}"))

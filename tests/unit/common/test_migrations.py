import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from libs.common import access
from libs.common.auth import create_key
from libs.common.contracts.topics import COMMERCE, CUSTOMERS, JOURNAL, MESSAGES, Topic
from libs.common.db import Database
from libs.common.log.schema import create_log, keep_log
from libs.common.migrations import reached, run_migrations
from libs.common.revisions import VERSION_TABLE, heads
from regulars.schemas import trees

ENV = "from libs.common.migrations import migrate\n\nmigrate()\n"


def _tree(folder: Path, *revisions: str) -> Path:
    (folder / "versions").mkdir(parents=True, exist_ok=True)
    (folder / "env.py").write_text(ENV)
    for number, upgrade in enumerate(revisions, 1):
        before = f'"{number - 1:04}"' if number > 1 else None
        (folder / "versions" / f"{number:04}_step.py").write_text(
            "from alembic import op\n"
            f'revision = "{number:04}"\ndown_revision = {before}\n'
            "branch_labels = depends_on = None\n"
            f"def upgrade() -> None:\n    {upgrade}\n"
        )
    return folder


async def test_upgrades_to_head_and_again_from_there(empty_database_url: str, tmp_path: Path) -> None:
    database = Database(empty_database_url, schema="shop")
    tree = _tree(tmp_path / "one", 'op.execute("CREATE TABLE things (n int)")')
    assert not await reached(database, tree)
    await run_migrations(empty_database_url, "shop", tree)
    assert await reached(database, tree)
    later = _tree(
        tmp_path / "two", 'op.execute("CREATE TABLE things (n int)")', 'op.execute("ALTER TABLE things ADD m int")'
    )
    assert not await reached(database, later)
    await run_migrations(empty_database_url, "shop", later)
    await run_migrations(empty_database_url, "shop", later)
    assert await reached(database, later)
    # What ran before the migration goes on serving until it is replaced, and may start again, which changes nothing.
    assert await reached(database, tree)
    await run_migrations(empty_database_url, "shop", tree)
    assert await reached(database, later)
    async with database.reading() as tx:
        assert await tx.pg.fetch("SELECT n, m FROM shop.things") == []
        assert await tx.pg.fetchval("SELECT to_regclass('public.alembic_version')") is None
    await database.close()


@pytest.mark.parametrize("schema", [schema for schema, _ in trees()])
async def test_every_tree_leads_back_to_nothing(empty_database_url: str, schema: str) -> None:
    """And forth again, so that nothing of it was left."""
    tree = dict(trees())[schema]
    await run_migrations(empty_database_url, access.SCHEMA, access.MIGRATIONS)
    await run_migrations(empty_database_url, schema, tree)
    engine = create_async_engine(make_url(empty_database_url).set(drivername="postgresql+asyncpg"))
    async with engine.connect() as connection:
        await connection.execute(text(f"SET search_path = {schema}"))
        await connection.run_sync(_downgrade, schema, tree)
        await connection.commit()
        tables = await connection.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = :s"), {"s": schema})
        assert [*tables] == [VERSION_TABLE]
    await engine.dispose()
    await run_migrations(empty_database_url, schema, tree)


async def test_idempotency_keys_of_before_are_known_by_their_digests(empty_database_url: str) -> None:
    await run_migrations(empty_database_url, access.SCHEMA, access.MIGRATIONS)
    engine = create_async_engine(make_url(empty_database_url).set(drivername="postgresql+asyncpg"))
    async with engine.connect() as connection:
        await connection.execute(text(f"SET search_path = {access.SCHEMA}"))
        await connection.run_sync(partial(_downgrade, to="0001"), access.SCHEMA, access.MIGRATIONS)
        await connection.execute(
            text(
                "INSERT INTO idempotency_keys (tenant, key_id, key, route, body_sha256, status)"
                " VALUES ('t', 'k', 'ada@example.com', '/', '', 201), ('t', 'k', 'under way', '/', '', NULL)"
            )
        )
        await connection.commit()
        await run_migrations(empty_database_url, access.SCHEMA, access.MIGRATIONS)
        keys = await connection.scalars(text("SELECT key FROM idempotency_keys ORDER BY status"))
        assert [*keys] == [sha256(b"ada@example.com").hexdigest(), "under way"]
    await engine.dispose()


@pytest.mark.parametrize(
    ("schema", "before", "topics"),
    [("ingest", "0016", [JOURNAL, COMMERCE]), ("profiles", "0002", [CUSTOMERS]), ("messaging", "0005", [MESSAGES])],
)
async def test_a_log_of_before_is_vacuumed_slowly(
    empty_database_url: str, schema: str, before: str, topics: list[Topic]
) -> None:
    """And those tables of it that are made from now on."""
    tree = dict(trees())[schema]
    await run_migrations(empty_database_url, access.SCHEMA, access.MIGRATIONS)
    await run_migrations(empty_database_url, schema, tree)
    database = Database(empty_database_url, schema=schema)
    now = datetime(2026, 3, 1, tzinfo=UTC)
    for topic in topics:
        await keep_log(database, topic, now)
    engine = create_async_engine(make_url(empty_database_url).set(drivername="postgresql+asyncpg"))
    async with engine.connect() as connection:
        await connection.execute(text(f"SET search_path = {schema}"))
        await connection.run_sync(partial(_downgrade, to=before), schema, tree)
        await connection.commit()
    await engine.dispose()
    assert await _slow(database) == set()
    await run_migrations(empty_database_url, schema, tree)
    tables = await _slow(database)
    assert len(tables) == 3 * len(topics)
    assert {f"log_{topic.name}_rest" for topic in topics} < tables
    for topic in topics:
        await keep_log(database, topic, now + timedelta(days=28))
    assert len(await _slow(database)) > len(tables)
    await database.close()


async def _slow(database: Database) -> set[str]:
    async with database.reading() as tx:
        rows = await tx.pg.fetch(
            "SELECT relname FROM pg_class WHERE relname LIKE 'log\\_%' AND relispartition AND relkind = 'r'"
            " AND 'autovacuum_vacuum_cost_delay=20' = ANY (reloptions)"
        )
    return {row["relname"] for row in rows}


def _downgrade(connection: Connection, schema: str, tree: Path, to: str = "base") -> None:
    config = Config()
    config.set_main_option("script_location", str(tree))
    config.attributes.update(connection=connection, schema=schema)
    command.downgrade(config, to)


async def test_indexes_are_built_concurrently(empty_database_url: str, tmp_path: Path) -> None:
    tree = _tree(
        tmp_path / "tree",
        'op.execute("CREATE TABLE things (n int)")',
        'with op.get_context().autocommit_block(): op.execute("CREATE INDEX CONCURRENTLY things_n ON things (n)")',
    )
    await run_migrations(empty_database_url, "shop", tree)


async def test_a_failed_revision_leaves_those_before_it(empty_database_url: str, tmp_path: Path) -> None:
    database = Database(empty_database_url, schema="shop")
    good = 'op.execute("CREATE TABLE things (n int)")'
    tree = _tree(tmp_path / "tree", good, 'op.execute("CREATE TABLE others (n int)"); op.execute("SELECT 1/0")')
    with pytest.raises(Exception, match="division by zero"):
        await run_migrations(empty_database_url, "shop", tree)
    async with database.reading() as tx:
        assert await tx.pg.fetchval("SELECT version_num FROM alembic_version") == "0001"
        assert await tx.pg.fetchval("SELECT to_regclass('shop.others')") is None
    await database.close()


async def test_two_starters_do_not_collide(empty_database_url: str, tmp_path: Path) -> None:
    tree = _tree(
        tmp_path / "tree",
        'op.execute("CREATE TABLE things (n int); SELECT pg_sleep(0.2)")'.replace("; SELECT", '"); op.execute("SELECT'),
    )
    await asyncio.gather(*(run_migrations(empty_database_url, "shop", tree) for _ in range(3)))


async def test_a_migration_does_not_wait_for_ever(empty_database_url: str, tmp_path: Path) -> None:
    await run_migrations(
        empty_database_url, "shop", _tree(tmp_path / "one", 'op.execute("CREATE TABLE things (n int)")')
    )
    reader = await asyncpg.connect(empty_database_url)
    try:
        async with reader.transaction():
            await reader.execute("SELECT * FROM shop.things")
            step = 'op.execute("SET lock_timeout = 50"); op.execute("ALTER TABLE things ADD m int")'
            tree = _tree(tmp_path / "two", "pass", step)
            with pytest.raises(Exception, match="lock timeout"):
                await run_migrations(empty_database_url, "shop", tree)
    finally:
        await reader.close()


@pytest.mark.parametrize("schema", ["", "Shop", "a b", "shop;drop", "1shop"])
async def test_schema_names(empty_database_url: str, tmp_path: Path, schema: str) -> None:
    with pytest.raises(ValueError, match="schema name"):
        await run_migrations(empty_database_url, schema, tmp_path)


async def test_each_service_s_role_keeps_to_its_own(empty_database_url: str, tmp_path: Path) -> None:
    log = "; ".join(f'op.execute("""{statement}""")' for statement in create_log(JOURNAL))
    await run_migrations(empty_database_url, access.SCHEMA, access.MIGRATIONS, roles=True)
    tree = _tree(tmp_path / "ingest", log + '; op.execute("CREATE TABLE stores (n int)")')
    ingest_role = await run_migrations(empty_database_url, "ingest", tree, roles=True)
    shop_role = await run_migrations(empty_database_url, "shop", _tree(tmp_path / "shop", "pass"), roles=True)
    assert (ingest_role, shop_role) == ("regulars_ingest", "regulars_shop")
    shop = Database(empty_database_url, schema="shop", role=shop_role)
    async with shop.transaction() as tx:
        await tx.pg.execute("CREATE TABLE own (n int)")
        assert await tx.pg.fetch("SELECT * FROM ingest.log_journal") == []
        assert len(await tx.pg.fetch("SELECT * FROM ingest.log_partitions")) == JOURNAL.partitions
    for forbidden in [
        "SELECT * FROM ingest.stores",
        "DELETE FROM ingest.log_journal",
        "CREATE TABLE ingest.mine (n int)",
    ]:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with shop.transaction() as tx:
                await tx.pg.execute(forbidden)
    assert (await create_key(shop, "acme", ["*"], "made by a service")).startswith("rk_")
    await shop.close()


def test_heads_are_alembic_s() -> None:
    config = Config()
    config.set_main_option("script_location", str(access.MIGRATIONS))
    assert set(heads(str(access.MIGRATIONS))) == set(ScriptDirectory.from_config(config).get_heads())

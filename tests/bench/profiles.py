"""Orders a second through the profiles handler, beside writing the same rows blind.

    python -m tests.bench.profiles [postgresql://…]

Blind: the same INSERTs into orders, people and timeline from prepared columns, without reading, deciding or telling.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg
from sqlalchemy.engine import make_url

from libs.common.batch import Batch
from libs.common.clock import monotonic
from libs.common.contracts.commerce import Person
from libs.common.contracts.topics import CUSTOMERS
from libs.common.db import Database
from libs.common.embedded_postgres import EmbeddedPostgres
from libs.common.log import postgres
from libs.common.log.base import Record
from libs.common.migrations import run_migrations
from services.profiles.handlers import handle
from services.profiles.settings import ProfilesSettings
from services.profiles.work import rules_of
from tests.integration.profiles.driving import order, record

BATCH = 500
ORDERS = 10_000
ROOT = Path(__file__).parents[2]
BLIND = ("orders", "people", "timeline", "accounts", "identifiers", "edges", "log_customers")


def observed(first: int, *, known: int) -> list[Record]:
    """Orders, each with a token of its own; `known`: how many customers share them, 0 for a new one each."""
    records = []
    for n in range(first, first + ORDERS):
        person = n % known if known else n
        records.append(
            record(
                order(
                    n,
                    customer_id=str(person),
                    person=Person(
                        email=f"person{person}@example.com", phone=f"+49151{person:08d}", first_name="Ada", country="DE"
                    ),
                    cart_token=f"c{n}",
                    checkout_token=f"t{n}",
                )
            )
        )
    return records


async def through_handler(database: Database, records: Sequence[Record]) -> float:
    """Orders a second: handled and published, a transaction a batch."""
    rules = rules_of(ProfilesSettings())
    began = monotonic()
    for start in range(0, len(records), BATCH):
        async with database.transaction() as tx:
            batch = Batch(tx, records[start : start + BATCH], records[0].time, "profiles")
            await handle(batch, rules)
            await postgres.append(tx, CUSTOMERS, [event for _, event in batch.emitted])
    return len(records) / (monotonic() - began)


async def blind(database: Database) -> float:
    """Orders a second: every row that the handler left, copied into empty tables of the same form."""
    rows: dict[str, tuple[list[str], list[Any]]] = {}
    async with database.autocommit() as pg:
        for table in BLIND:
            found = await pg.fetch(f"SELECT * FROM {table}")
            rows[table] = (list(found[0].keys()), [tuple(row) for row in found])
            await pg.execute(f"TRUNCATE {table}")
    began = monotonic()
    batches = ORDERS // BATCH
    for n in range(batches):
        async with database.transaction() as tx:
            for table, (columns, values) in rows.items():
                share = values[len(values) * n // batches : len(values) * (n + 1) // batches]
                await tx.pg.copy_records_to_table(table, records=share, columns=columns)
    return ORDERS / (monotonic() - began)


async def measure(url: str) -> None:
    """Prints one line a case."""
    admin = await asyncpg.connect(url)
    for name, known, warm in (("new customers", 0, False), ("known customers", 1000, True)):
        await admin.execute("DROP DATABASE IF EXISTS regulars_bench_profiles WITH (FORCE)")
        await admin.execute("CREATE DATABASE regulars_bench_profiles")
        mine = make_url(url).set(database="regulars_bench_profiles").render_as_string(hide_password=False)
        await run_migrations(mine, "profiles", ROOT / "services/profiles/migrations")
        database = Database(mine, schema="profiles", pool_size=2)
        if warm:
            await through_handler(database, observed(1_000_000, known=known)[:known])
        handled = await through_handler(database, observed(0, known=known))
        raw = await blind(database)
        print(f"{name}: {handled:,.0f} orders/s; the same rows blind: {raw:,.0f} orders/s ({handled / raw:.2f})")
        await database.close()
    await admin.execute("DROP DATABASE regulars_bench_profiles WITH (FORCE)")
    await admin.close()


async def main() -> None:
    """On the server named, or on an embedded one."""
    if len(sys.argv) > 1:
        await measure(sys.argv[1])
        return
    with TemporaryDirectory() as folder:
        server = EmbeddedPostgres(Path(folder))
        try:
            await measure(await server.start())
        finally:
            await server.stop()


if __name__ == "__main__":
    asyncio.run(main())

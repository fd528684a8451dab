"""Facts folded a second, beside writing the same rows blind; and how long a reading takes as history grows.

    python -m tests.bench.metrics

Blind: the rows that the fold left, copied into empty tables of the same form, without reading or adding anything up.
"""

import asyncio
import random
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from libs.common.batch import Batch
from libs.common.clock import monotonic
from libs.common.db import Database
from libs.common.log.base import Record
from libs.common.migrations import run_migrations
from services.metrics.handlers import on_facts
from tests.bench.server import fresh_database
from tests.integration.metrics import driving

BATCH = 500
ORDERS = (1_000, 9_000, 40_000)
"""Added one after the other: histories of 1,000, 10,000 and 50,000 orders."""
YEARS = 2
READINGS = 50
MIGRATIONS = Path(__file__).parents[2] / "services/metrics/migrations"
TABLES = ("accounts", "orders", "checkouts", "carts", "recoveries", "totals", "long_intervals")


def facts(first: int, orders: int, start: datetime) -> Iterator[Record]:
    """A shop's facts in the order of time: checkouts, orders of old and new customers, messages, refunds."""
    chance = random.Random(first)
    for n in range(first, first + orders):
        at = start + timedelta(days=365 * YEARS) * ((n - first) / orders)
        token, returning = f"t{n}", chance.random() < 0.4 and n > first
        who = f"customer:{chance.randrange(max(1, n // 2)) if returning else n}"
        if not returning:
            yield driving.moved(who, f"profile-{n}")
        yield driving.checkout(token, at, account=who)
        if chance.random() < 0.5:
            yield driving.checkout(f"a{n}", at, account=who)
            yield driving.sent(f"a{n}", at + timedelta(minutes=45))
        placed = at + timedelta(minutes=5)
        yield driving.order(str(n), placed, account=who, checkout=token, gross=4999, taxes=950)
        if chance.random() < 0.1:
            yield driving.order(str(n), placed, account=who, checkout=token, gross=4999, returns=4999, revision=2)


async def fold(database: Database, records: Sequence[Record]) -> float:
    """Seconds for all of them, a transaction a batch."""
    began = monotonic()
    for start in range(0, len(records), BATCH):
        async with database.transaction() as tx:
            await on_facts(Batch(tx, records[start : start + BATCH], driving.NOON, "metrics"))
    return monotonic() - began


async def blind(database: Database, batches: int) -> float:
    """Seconds for the same rows, in as many transactions."""
    rows: dict[str, tuple[list[str], list[Any]]] = {}
    async with database.autocommit() as pg:
        for table in TABLES:
            found = await pg.fetch(f"SELECT * FROM {table}")
            rows[table] = (list(found[0].keys()) if found else [], [tuple(row) for row in found])
            await pg.execute(f"TRUNCATE {table}")
    began = monotonic()
    for n in range(batches):
        async with database.transaction() as tx:
            for table, (columns, values) in rows.items():
                share = values[len(values) * n // batches : len(values) * (n + 1) // batches]
                if share:
                    await tx.pg.copy_records_to_table(table, records=share, columns=columns)
    return monotonic() - began


async def reading(database: Database, as_of: datetime) -> float:
    """Milliseconds to read all KPIs of a window and of the one before."""
    began = monotonic()
    for _ in range(READINGS):
        await driving.read(database, as_of, "365d")
    return (monotonic() - began) / READINGS * 1000


async def main() -> None:
    """Prints one line a case."""
    async with fresh_database() as url:
        await run_migrations(url, "metrics", MIGRATIONS)
        database = Database(url, schema="metrics", pool_size=2)
        start, known = driving.NOON - timedelta(days=365 * YEARS), 0
        records, seconds = list[Record](), 0.0
        for orders in ORDERS:
            records = list(facts(known, orders, start))
            known += orders
            seconds = await fold(database, records)
            async with database.autocommit() as pg:
                await pg.execute("ANALYZE")
                points = await pg.fetchval(
                    "SELECT (SELECT count(*) FROM totals) + (SELECT count(*) FROM long_intervals)"
                )
            milliseconds = await reading(database, driving.NOON - timedelta(minutes=17))
            print(
                f"{known:,} orders: {len(records) / seconds:,.0f} facts/s ({orders / seconds:,.0f} orders/s), "
                f"{points:,} sums, KPIs read in {milliseconds:.1f} ms"
            )
        raw = await blind(database, len(records) // BATCH)
        print(f"the same rows blind: {len(records) / raw:,.0f} facts/s; the fold makes {raw / seconds:.2f} of it")
        await database.close()


if __name__ == "__main__":
    asyncio.run(main())

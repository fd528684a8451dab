"""Facts and timers a second through messaging, each beside writing the same rows blind.

    python -m tests.bench.messaging

Blind: COPY of the very rows that were left, into the emptied tables, without reading, folding or deciding.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from libs.common.batch import Batch
from libs.common.clock import monotonic
from libs.common.contracts.customers import Fact
from libs.common.db import Database
from libs.common.log.base import Record
from libs.common.migrations import run_migrations
from services.messaging.handlers import on_customers
from services.messaging.timers import Timers
from tests.bench.server import fresh_database
from tests.conftest import START
from tests.integration.messaging.facts import checkout, event_type, known, order, shop

ROOT = Path(__file__).parents[2]
PEOPLE = 10_000
BATCH = 500
KNOWN = ("accounts", "consents", "orders", "baskets", "timers")
SAID = ("runs", "messages")


def history() -> list[Record]:
    """Of each person three facts, a checkout that changes once, and from every fifth an order of last month."""
    facts: list[Fact] = [shop()]
    for n in range(PEOPLE):
        account = f"customer:st_shop:{n}"
        facts += known(account, f"profile-{n}", f"person{n}@example.com", START)
        facts.append(checkout(f"token-{n}", account, START))
        # Half of them go on a little later: their timers look, and sleep on.
        facts.append(checkout(f"token-{n}", account, START + timedelta(hours=n % 2), revision=2))
        if not n % 5:
            facts.append(order(str(n), account, START - timedelta(days=40)))
    return [
        Record(
            id=str(n),
            type=event_type(fact),
            source="/services/profiles",
            tenant="default",
            key="any",
            time=START,
            data=msgspec.json.encode(fact),
            topic="customers",
            partition=0,
            offset=n,
            appended_at=START,
        )
        for n, fact in enumerate(facts)
    ]


async def facts_a_second(database: Database, records: Sequence[Record]) -> float:
    """Handled and committed, a transaction a batch."""
    began = monotonic()
    for start in range(0, len(records), BATCH):
        async with database.transaction() as tx:
            await on_customers(Batch(tx, records[start : start + BATCH], START, "messaging"))
    return len(records) / (monotonic() - began)


async def timers_a_second(database: Database) -> tuple[int, float]:
    """How many fired, and so many a second."""
    now = START + timedelta(minutes=50)
    async with database.reading() as tx:
        due = await tx.pg.fetchval("SELECT count(*) FROM timers WHERE due_at <= $1", now)
    timers = Timers(database, batch=BATCH, planned=asyncio.Event())
    began = monotonic()
    while await timers.run(now):
        pass
    return due, due / (monotonic() - began)


async def blind(database: Database, tables: Sequence[str], units: int) -> float:
    """Units a second, when the rows that they left are only written."""
    rows: dict[str, tuple[list[str], list[Any]]] = {}
    async with database.autocommit() as pg:
        for table in tables:
            found = await pg.fetch(f"SELECT * FROM {table}")
            rows[table] = (list(found[0].keys()), [tuple(_as_json(value) for value in row) for row in found])
            await pg.execute(f"TRUNCATE {table}")
    batches = max(1, units // BATCH)
    began = monotonic()
    for n in range(batches):
        async with database.transaction() as tx:
            for table, (columns, values) in rows.items():
                share = values[len(values) * n // batches : len(values) * (n + 1) // batches]
                await tx.pg.copy_records_to_table(table, records=share, columns=columns)
    return units / (monotonic() - began)


def _as_json(value: Any) -> Any:
    """The lines of a basket come parsed and go as text; a list of words is an array."""
    parsed = isinstance(value, list) and value and isinstance(value[0], dict)
    return msgspec.json.encode(value).decode() if parsed else value


async def measure() -> None:
    """Prints a line for facts and one for timers."""
    async with fresh_database() as url:
        await run_migrations(url, "messaging", ROOT / "services/messaging/migrations")
        database = Database(url, schema="messaging", pool_size=2)
        records = history()
        handled = await facts_a_second(database, records)
        again = await facts_a_second(database, records)
        due, fired = await timers_a_second(database)
        raw_timers = await blind(database, SAID, due)
        raw_facts = await blind(database, KNOWN, len(records))
        await database.close()
    print(
        f"facts     {handled:>8,.0f}/s; blind {raw_facts:>8,.0f}/s ({handled / raw_facts:.2f}); repeated {again:,.0f}/s"
    )
    print(f"timers    {fired:>8,.0f}/s; blind {raw_timers:>8,.0f}/s ({fired / raw_timers:.2f}); {due:,} fired")


if __name__ == "__main__":
    asyncio.run(measure())

"""Bytes in the database for a million deliveries of the simulated shop, before and after retention.

    python -m tests.bench.bytes [DELIVERIES]

DELIVERIES (50,000) are journalled as the route does, 64 in a commit, and go through all services in this process.
"""

import asyncio
import os
import sys
import tempfile
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from libs.common.clock import DrivenClock, SystemClock, monotonic
from libs.common.contracts.topics import JOURNAL
from libs.common.db import Database
from libs.common.log.postgres import append_unique
from libs.common.log.retention import Retention
from libs.common.log.schema import make_children, span_of, upkeeping
from libs.common.migrations import run_migrations
from libs.common.telemetry import configure_logging
from regulars.schemas import SERVICES, trees
from regulars.shop import catalog
from services.ingest.retention import keep_journal
from services.ingest.settings import SCHEMA
from tests.bench.server import fresh_database
from tests.bench.shop import DAYS, START, sent
from tests.e2e.api import ADMIN_KEY, open_api
from tests.property.line import running_line
from tests.waiting import eventually

GROUP = 64
MILLION = 1_000_000
KEPT = Retention(90, {"default": 30})
SIZES = """
    SELECT n.nspname AS schema,
           regexp_replace(c.relname, '^(log_journal|log_commerce|log_customers|log_messages).*', '\\1') AS name,
           sum(pg_relation_size(c.oid)) AS heap, sum(pg_indexes_size(c.oid)) AS indexes,
           sum(pg_table_size(c.oid) - pg_relation_size(c.oid)) AS beside
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND n.nspname IN ('ingest', 'profiles', 'metrics', 'messaging') GROUP BY 1, 2
    """
"""`beside`: out-of-line storage, and the maps of free and visible pages."""


async def sizes(pg: "asyncpg.Connection[Any]") -> dict[str, int]:
    """Bytes, by line of the table."""
    found: dict[str, int] = {}
    for schema, name, heap, indexes, beside in await pg.fetch(SIZES):
        if name == "log_partitions":
            # Counters: as large as all that is changed in them between two vacuums, and no larger however much comes.
            continue
        if name == "log_journal":
            parts = {"journal: rows": heap, "journal: index": indexes, "journal: out of line": beside}
        elif name in {"deliveries", "log_seen"} or name.startswith("log_c") or name == "log_messages":
            called = "digests seen (30 days)" if name == "log_seen" else name.replace("log_", "topic ")
            parts = {called: heap + indexes + beside}
        else:
            parts = {f"{schema}: {'all else' if schema == SCHEMA else 'its tables'}": heap + indexes + beside}
        for line, size in parts.items():
            found[line] = found.get(line, 0) + int(size)
    return found | {"all": sum(found.values())}


async def journal(database: Database, many: int, keys: dict[str, str]) -> tuple[int, int, int]:
    """Appends; bytes of bodies, of records packed, and of records compressed."""
    bodies = packed = compressed = 0
    async with database.autocommit() as pg:
        coming = sent(many, keys)
        while group := list(islice(coming, GROUP)):
            appended = await append_unique(pg, JOURNAL, [each.event for each in group], [each.digest for each in group])
            if not all(appended):
                sys.exit("a delivery came twice")
            bodies += sum(len(each.delivery.body) for each in group)
            packed += sum(len(msgspec.msgpack.encode(each.delivery)) for each in group)
            compressed += sum(len(each.event.data) for each in group)
    return bodies, packed, compressed


async def drain(clock: DrivenClock) -> None:
    """Through all services."""
    async with running_line(clock, batch_size=500) as line:

        async def drained() -> bool:
            return all([(await line.get(f"/v1/pipeline/{service}"))["drained"] for service in SERVICES])

        await eventually(drained, timeout=3600, every=0.5)


async def bench(many: int) -> None:
    """Prints the table."""
    configure_logging("error")
    with tempfile.TemporaryDirectory() as folder:
        async with fresh_database() as url:
            os.environ |= {
                "REGULARS_DATABASE_URL": url,
                "REGULARS_DATA_DIR": folder,
                "REGULARS_ADMIN_KEY": ADMIN_KEY,
            }
            for schema, tree in trees():
                await run_migrations(url, schema, tree)
            clock = DrivenClock.create(Path(folder) / "clock", START + timedelta(days=DAYS))
            database = Database(url, schema=SCHEMA)
            pg = await asyncpg.connect(url)
            now = SystemClock().now()
            async with upkeeping(database) as upkeep:
                await make_children(upkeep, JOURNAL, now, span_of(KEPT.shortest))
            keys: dict[str, str] = {}
            async with open_api(clock) as api:
                for spec in catalog.STORES:
                    store = {
                        "platform": spec.name, "domain": spec.domain, "secrets": [spec.secret],
                        "currency": spec.currency, "timezone": spec.timezone, "consent": spec.policy,
                    }  # fmt: skip
                    answer = await api.admin.post("/v1/stores", json=store)
                    keys[spec.name] = answer.raise_for_status().json()["store_key"]
            wal = [await _written(pg)]
            bodies, packed, compressed = await journal(database, many, keys)
            wal.append(await _written(pg))
            began = monotonic()
            await drain(clock)
            took = monotonic() - began
            wal.append(await _written(pg))
            columns = [await _settled(pg)]
            for days in (KEPT.shortest, KEPT.longest):
                await keep_journal(database, KEPT, now + timedelta(days=days + 8), asyncio.Event())
                columns.append(await _settled(pg))
                wal.append(await _written(pg))
            await pg.close()
            await database.close()
    print(f"{many} deliveries, bodies of {bodies / many:,.0f} bytes on average, with headers {packed / many:,.0f}")
    print(f"compressed {compressed / many:,.0f}: {packed / compressed:.1f} times smaller; all services: {took:.0f} s\n")
    print("| MB for a million deliveries | all kept | bodies removed | tables dropped |\n|---|---|---|---|")
    for line in sorted(columns[0], key=_place):
        print(f"| {line} | {' | '.join(_told(column.get(line, 0), many) for column in columns)} |")
    print("\n| MB of write-ahead log for a million deliveries | |\n|---|---|")
    steps = ("the journal's commits", "all services", "bodies removed", "tables dropped")
    for step, before, after in zip(steps, wal, wal[1:], strict=False):
        print(f"| {step} | {_told(after - before, many)} |")


def _place(line: str) -> int:
    """In the order in which a webhook comes by; the sum at the end."""
    order = ("journal: rows", "journal", "digests", "deliveries", "ingest", "topic commerce", "profiles",
             "topic customers", "metrics", "messaging", "topic messages", "all")  # fmt: skip
    return next(n for n, beginning in enumerate(order) if line.startswith(beginning))


def _told(size: int, many: int) -> str:
    return f"{size / many * MILLION / 1e6:,.0f}"


async def _written(pg: "asyncpg.Connection[Any]") -> int:
    return int(await pg.fetchval("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"))


async def _settled(pg: "asyncpg.Connection[Any]") -> dict[str, int]:
    """As autovacuum leaves it: dead rows are free space, and free space at the end of a file is given back."""
    await pg.execute("VACUUM")
    return await sizes(pg)


if __name__ == "__main__":
    asyncio.run(bench(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000))

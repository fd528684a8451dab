"""Log append and read, beside writing the same rows blind: `python -m tests.bench.log`.

Blind: COPY of the same rows into a table without partitions, counters or keys. What the log's promises cost is the
ratio of the two in the same run.
"""

import asyncio
from collections.abc import Awaitable, Callable

from libs.common.clock import monotonic
from libs.common.contracts.topics import COMMERCE
from libs.common.db import Database
from libs.common.log.base import Event, Position
from libs.common.log.postgres import PostgresLog, append
from tests.bench.server import fresh_database
from tests.contract.logs import create, event

SECONDS = 4.0
BATCH = 500
BYTES = 500


async def _rate(once: Callable[[], Awaitable[int]]) -> float:
    """Things a second over SECONDS."""
    start, done = monotonic(), 0
    while monotonic() - start < SECONDS:
        done += await once()
    return done / (monotonic() - start)


def _events(n: int) -> list[Event]:
    return [event(f"st_bench:order:{n * BATCH + m}", data=b"x" * BYTES) for m in range(BATCH)]


async def _blind(database: Database) -> float:
    async with database.autocommit() as pg:
        await pg.execute("CREATE TABLE blind (key text, data bytea)")
        n = 0

        async def once() -> int:
            nonlocal n
            n += 1
            await pg.copy_records_to_table("blind", records=[(e.key, e.data) for e in _events(n)])
            return BATCH

        return await _rate(once)


async def _append(database: Database, writers: int) -> float:
    async def write() -> float:
        n = 0

        async def once() -> int:
            nonlocal n
            n += 1
            async with database.transaction() as tx:
                await append(tx, COMMERCE, _events(n))
            return BATCH

        return await _rate(once)

    return sum(await asyncio.gather(*(write() for _ in range(writers))))


async def _read(log: PostgresLog) -> float:
    positions: dict[Position, int] = {("commerce", partition): 0 for partition in range(COMMERCE.partitions)}
    start, done = monotonic(), 0
    while records := await log.read(positions, 4 * BATCH, 0):
        for record in records:
            positions[record.topic, record.partition] = record.offset + 1
        done += len(records)
    return done / (monotonic() - start)


async def measure() -> None:
    """Prints the table."""
    async with fresh_database() as url:
        await _measure(url)


async def _measure(url: str) -> None:
    setup = Database(url, schema="public")
    await create(setup)
    await setup.close()
    database = Database(url, schema="ingest", pool_size=4)
    log = PostgresLog(database)
    blind = await _blind(database)
    print(f"blind COPY of the same rows   {blind:>10,.0f} rows/s")
    for writers in (1, 4):
        rate = await _append(database, writers)
        print(f"append, {writers} writer(s)           {rate:>10,.0f} events/s   {rate / blind:.2f} of blind")
    rate = await _read(log)
    print(f"read through the port         {rate:>10,.0f} records/s  {rate / blind:.2f} of blind writing")
    await log.close()
    await database.close()


if __name__ == "__main__":
    asyncio.run(measure())

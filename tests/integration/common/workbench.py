"""A log with records, and a service beside it that notes what it handles."""

from collections import Counter
from collections.abc import Awaitable, Callable

import asyncpg

from libs.common.clock import Clock, SystemClock
from libs.common.contracts.topics import COMMERCE
from libs.common.db import Database
from libs.common.log.base import Record
from libs.common.log.postgres import PostgresLog, append
from libs.common.worker import Batch, Consumer, Limits, Reject, Worker
from tests.contract.logs import Written, event

Handle = Callable[[Batch], Awaitable[None]]


class Bench:
    """A log with records, and a service that notes the effect of each record in a table of its own."""

    def __init__(self, written: Written, database: Database) -> None:
        self.written = written
        self.database = database

    async def write(self, *datas: bytes) -> None:
        async with self.written.database.transaction() as tx:
            await append(tx, COMMERCE, [event(f"key {n}", data=data) for n, data in enumerate(datas)])

    def worker(
        self,
        handle: Handle | None = None,
        *,
        batch_size: int = 500,
        limits: Limits | None = None,
        clock: Clock | None = None,
    ) -> Worker:
        consumer = Consumer("profiles", (COMMERCE,), handle or self.note, batch_size)
        return Worker(self.database, self.written.reader(), clock or SystemClock(), consumers=[consumer], limits=limits)

    async def note(self, batch: Batch) -> None:
        for record in batch.records:
            if record.data == b"poison":
                raise ZeroDivisionError
            if record.data == b"refuse":
                raise Reject("refused")
            if record.data == b"leave out":
                batch.reject(record, "left out")
        kept = [r for r in batch.records if (r.topic, r.partition, r.offset) not in batch.rejected]
        await self.save(batch, kept)

    async def save(self, batch: Batch, records: list[Record]) -> None:
        await batch.tx.pg.executemany("INSERT INTO effects VALUES ($1)", [(r.id,) for r in records])

    async def effects(self) -> Counter[str]:
        async with self.database.autocommit() as pg:
            return Counter(row["id"] for row in await pg.fetch("SELECT id FROM effects"))

    async def dead(self) -> list[asyncpg.Record]:
        async with self.database.autocommit() as pg:
            return await pg.fetch("SELECT * FROM dead_letters ORDER BY topic, partition, record_offset")

    async def drained(self) -> bool:
        ends = await PostgresLog(self.written.database).end_offsets("commerce")
        async with self.database.autocommit() as pg:
            rows = await pg.fetch("SELECT partition, next_offset FROM positions WHERE consumer = 'profiles'")
        return {row["partition"]: row["next_offset"] for row in rows} == ends

    async def owners(self) -> Counter[str | None]:
        async with self.database.autocommit() as pg:
            return Counter(
                row["owner"] for row in await pg.fetch("SELECT owner FROM positions WHERE consumer = 'profiles'")
            )

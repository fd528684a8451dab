"""What a log must be given to stand the contract suite: a way to write to it, and a reader of what was written."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from libs.common.contracts.topics import COMMERCE, CUSTOMERS, JOURNAL, Topic
from libs.common.db import Database, Tx
from libs.common.ids import new_id
from libs.common.log import schema
from libs.common.log.base import Event, Log, Position
from libs.common.log.postgres import PostgresLog


class Written:
    """A log that the suite may write to. Each further kind of log brings one of these."""

    def __init__(self, database: Database, log: Log) -> None:
        self.database = database
        self.log = log

    async def drain(self, topic: Topic, positions: dict[Position, int] | None = None) -> list[Any]:
        """Everything in the topic from the positions on, read a little at a time."""
        at = positions or {(topic.name, partition): 0 for partition in range(topic.partitions)}
        records: list[Any] = []
        while True:
            some = await self.log.read(at, 64, 0)
            if not some:
                return records
            for record in some:
                at[record.topic, record.partition] = record.offset + 1
            records += some


async def create(database: Database) -> None:
    """The tables of two producers and a consumer, in the schema that owns them."""
    async with database.transaction() as tx:
        await _within(tx, "ingest", [*schema.create_log(JOURNAL, COMMERCE), *schema.create_seen()])
        await _within(tx, "profiles", [*schema.create_log(CUSTOMERS), *schema.create_consumer_tables()])


async def _within(tx: Tx, name: str, statements: list[str]) -> None:
    await tx.pg.execute(f"CREATE SCHEMA {name}; SET LOCAL search_path = {name}")
    for statement in statements:
        await tx.pg.execute(statement)


@asynccontextmanager
async def postgres_log(url: str) -> AsyncIterator[Written]:
    """The log in PostgreSQL, written as ingest."""
    setup = Database(url, schema="public")
    await create(setup)
    await setup.close()
    database = Database(url, schema="ingest", pool_size=10)
    log = PostgresLog(database)
    yield Written(database, log)
    await log.close()
    await database.close()


def event(key: str, data: bytes = b"{}", tenant: str = "default") -> Event:
    """An event with nothing in it."""
    return Event(
        id=new_id(),
        type="order.observed",
        source="/tests",
        tenant=tenant,
        key=key,
        time=datetime(2026, 3, 2, 12, tzinfo=UTC),
        data=data,
    )

"""The relay and the read through Kafka, beside PostgreSQL's own figures: `python -m tests.bench.kafka`.

On a Kafka of its own, of one node, from Maven. The events are those of `tests.bench.log`.
"""

import asyncio
import tempfile
from pathlib import Path

from libs.common.clock import SystemClock, monotonic
from libs.common.contracts.topics import COMMERCE
from libs.common.db import Database
from libs.common.log.base import Log, Position
from libs.common.log.kafka import KafkaLog
from libs.common.log.kafka_client import Kafka
from libs.common.log.kafka_topics import make_topics
from libs.common.log.postgres import PostgresLog, append
from libs.common.relay import Publisher, relay_worker
from regulars.local_kafka import LocalKafka, Unavailable
from tests.bench.log import BATCH, BYTES
from tests.bench.server import fresh_database
from tests.contract.logs import create, event
from tests.waiting import eventually

EVENTS = 200_000


async def _fill(database: Database) -> float:
    start = monotonic()
    for n in range(EVENTS // BATCH):
        async with database.transaction() as tx:
            events = [event(f"st_bench:order:{n * BATCH + m}", data=b"x" * BYTES) for m in range(BATCH)]
            await append(tx, COMMERCE, events)
    return EVENTS / (monotonic() - start)


async def _read(log: Log) -> float:
    at: dict[Position, int] = {("commerce", partition): 0 for partition in range(COMMERCE.partitions)}
    start, done = monotonic(), 0
    while done < EVENTS:
        for record in await log.read(at, 4 * BATCH, 1):
            at[record.topic, record.partition] = record.offset + 1
            done += 1
    return done / (monotonic() - start)


async def _relay(database: Database, log: Log, publisher: Publisher) -> float:
    stop = asyncio.Event()
    start = monotonic()
    running = asyncio.create_task(relay_worker(database, log, SystemClock(), publisher).run(stop))

    async def relayed() -> bool:
        async with database.autocommit() as pg:
            done: int = await pg.fetchval("SELECT sum(next_offset) FROM positions WHERE consumer = 'relay'") or 0
        return done == EVENTS

    await eventually(relayed, timeout=300)
    took = monotonic() - start
    stop.set()
    await running
    return EVENTS / took


async def measure(kafka: Kafka) -> None:
    """Prints a line for each figure."""
    async with fresh_database() as url:
        setup = Database(url, schema="public")
        await create(setup)
        await setup.close()
        database = Database(url, schema="ingest", pool_size=4)
        own, shared, publisher = PostgresLog(database), KafkaLog(kafka, "bench"), Publisher(kafka)
        await make_topics(kafka)
        print(f"append, 1 writer              {await _fill(database):>10,.0f} events/s")
        print(f"read through PostgreSQL       {await _read(own):>10,.0f} records/s")
        print(f"relay: read, send, ack, move  {await _relay(database, own, publisher):>10,.0f} events/s")
        print(f"read through Kafka            {await _read(shared):>10,.0f} records/s")
        for each in (shared, own):
            await each.close()
        await publisher.close()
        await database.close()


def main() -> None:
    """Starts Kafka, measures."""
    with tempfile.TemporaryDirectory(prefix="regulars-bench-") as folder:
        try:
            with LocalKafka(Path(folder)) as kafka:
                asyncio.run(measure(Kafka(servers=(kafka.servers(),))))
        except Unavailable as error:
            print(f"left out: {error}")


if __name__ == "__main__":
    main()

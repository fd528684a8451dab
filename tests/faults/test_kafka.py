"""Kafka frozen, killed and started again under load: nothing lost, nothing doubled, nothing buried."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP

import pytest
import pytest_asyncio

from libs.common.batch import Batch
from libs.common.clock import SystemClock, monotonic
from libs.common.contracts.topics import COMMERCE
from libs.common.db import Database
from libs.common.log.kafka import KafkaLog
from libs.common.log.kafka_client import Kafka
from libs.common.log.kafka_topics import make_topics
from libs.common.log.postgres import PostgresLog, append
from libs.common.relay import Publisher, relay_worker
from libs.common.worker import Consumer, Limits, Worker
from regulars.local_kafka import LocalKafka
from tests.contract.logs import create, event
from tests.local_kafka import no_kafka
from tests.waiting import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

BACK_SECONDS = 30
"""By then consumers go on by themselves, once Kafka answers. That is 0.2 s, and 5 s are promised, of which
`tests.faults.prove` keeps count; here other tests' load stands beside it, and what hangs does so for ever."""


class Line:
    """A relay and a consumer at work, over a Kafka that can be hurt."""

    def __init__(self, kafka: Kafka, ingest: Database, profiles: Database) -> None:
        self.ingest = ingest
        self.profiles = profiles
        self.log = KafkaLog(kafka, kafka.group("profiles", "profiles"))
        self.own = PostgresLog(ingest)
        self.publisher = Publisher(kafka)
        self.sent: list[str] = []
        self.got: list[str] = []
        relay = relay_worker(ingest, self.own, SystemClock(), self.publisher)
        reading = Consumer("profiles", (COMMERCE,), self._note)
        reader = Worker(profiles, self.log, SystemClock(), consumers=[reading], limits=Limits(patience=0.2))
        self.workers = [relay, reader]

    async def _note(self, batch: Batch) -> None:
        batch.tx.after_commit.append(lambda: self.got.extend(record.id for record in batch.records))

    async def write(self, count: int) -> None:
        events = [event(f"key {n}", data=b"x" * 500) for n in range(count)]
        async with self.ingest.transaction() as tx:
            await append(tx, COMMERCE, events)
        self.sent += [each.id for each in events]

    async def all_there(self) -> bool:
        return len(self.got) >= len(self.sent)

    async def dead_letters(self) -> int:
        count = 0
        for database in (self.ingest, self.profiles):
            async with database.autocommit() as pg:
                count += await pg.fetchval("SELECT count(*) FROM dead_letters")
        return count


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    if (reason := no_kafka()) is not None:
        pytest.skip(reason)
    with LocalKafka(tmp_path_factory.mktemp("kafka")) as kafka:
        yield kafka


@pytest_asyncio.fixture
async def line(empty_database_url: str, cluster: LocalKafka, tmp_path: Path) -> AsyncIterator[Line]:
    setup = Database(empty_database_url, schema="public")
    await create(setup)
    await setup.close()
    kafka = Kafka(servers=(cluster.servers(),), prefix=f"{tmp_path.name}.")
    await make_topics(kafka)
    ingest, profiles = (Database(empty_database_url, schema=name) for name in ("ingest", "profiles"))
    line = Line(kafka, ingest, profiles)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for worker in line.workers:
            group.create_task(worker.run(stop))
        yield line
        stop.set()
    for each in (line.publisher, line.log, line.own, ingest, profiles):
        await each.close()


async def _survives(line: Line, cluster: LocalKafka, kind: str) -> float:
    """Hurts the node while events are written, lets them pile up; seconds from its answer to the first event."""
    node = cluster.nodes[0]
    if kind == "frozen":
        node.send(SIGSTOP)
    else:
        await asyncio.to_thread(node.end, SIGKILL)
    try:
        for _ in range(20):
            await line.write(500)
        await eventually(lambda: _waiting(line), timeout=60)
    finally:
        if kind == "frozen":
            node.send(SIGCONT)
        else:
            node.start()
            await asyncio.to_thread(cluster.wait, node)
    before, back = len(line.got), monotonic()
    await eventually(lambda: _more(line, before), timeout=BACK_SECONDS)
    took = monotonic() - back
    await eventually(line.all_there, timeout=60)
    return took


async def _waiting(line: Line) -> bool:
    """Both say why they are not ready."""
    return all("retrying" in " ".join(worker.problems()) for worker in line.workers)


async def _more(line: Line, before: int) -> bool:
    return len(line.got) > before


@pytest.mark.parametrize("kind", ["frozen", "killed"])
async def test_kafka_goes_away_and_comes_back(line: Line, cluster: LocalKafka, kind: str) -> None:
    await line.write(1000)
    await eventually(line.all_there)
    took = await _survives(line, cluster, kind)
    print(f"{kind}: the first event {took:.1f} s after Kafka answers again, {len(line.sent)} in all")
    assert sorted(line.got) == sorted(line.sent)
    assert await line.dead_letters() == 0
    assert all(not worker.problems() for worker in line.workers)

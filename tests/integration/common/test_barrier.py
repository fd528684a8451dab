"""Up to when everything is known, whoever is behind."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

from libs.common.barrier import NEVER, Barrier, Stage
from libs.common.contracts.topics import COMMERCE, CUSTOMERS, JOURNAL
from libs.common.db import Database
from libs.common.ids import new_id
from libs.common.log.base import Event
from libs.common.log.postgres import append
from tests.conftest import START

STAGES = [Stage(JOURNAL, "ingest"), Stage(COMMERCE, "profiles"), Stage(CUSTOMERS, "messaging")]
CONSUMERS = {"journal": "normalise", "commerce": "profiles", "customers": "messaging"}
LATER = START + timedelta(minutes=1)


class Line:
    """Logs that are written and read by hand."""

    def __init__(self, url: str) -> None:
        self.databases = {name: Database(url, schema=name) for name in ("ingest", "profiles", "messaging")}

    async def write(self, stage: Stage) -> None:
        event = Event(id=new_id(), type="t", source="/t", tenant="t", key=new_id(), time=START, data=b"{}")
        async with self.databases[stage.topic.producer].transaction() as tx:
            await append(tx, stage.topic, [event])

    async def read(self, stage: Stage) -> None:
        ends = f"SELECT $1, topic, partition, next_offset FROM {stage.topic.producer}.log_partitions WHERE topic = $2"
        async with self.databases[stage.reader].transaction() as tx:
            await tx.pg.execute(
                f"INSERT INTO positions (consumer, topic, partition, next_offset) {ends}"
                " ON CONFLICT (consumer, topic, partition) DO UPDATE SET next_offset = excluded.next_offset",
                CONSUMERS[stage.topic.name],
                stage.topic.name,
            )


@pytest_asyncio.fixture
async def line(database_url: str) -> AsyncIterator[Line]:
    made = Line(database_url)
    yield made
    for database in made.databases.values():
        await database.close()


@pytest.mark.parametrize("behind", STAGES, ids=lambda stage: stage.reader)
async def test_one_stage_that_is_behind_holds_it(line: Line, behind: Stage) -> None:
    barrier = Barrier(line.databases["messaging"], STAGES)
    assert await barrier.cleared(START) == START
    await line.write(behind)
    assert [await barrier.cleared(LATER) for _ in range(3)] == [START] * 3
    await line.read(behind)
    assert await barrier.cleared(LATER) == LATER


async def test_what_comes_meanwhile_holds_nothing(line: Line) -> None:
    barrier = Barrier(line.databases["messaging"], STAGES)
    first, second, third = STAGES
    await line.write(first)
    assert await barrier.cleared(START) == NEVER
    # The normaliser reads it and has written what comes of it; then more comes in.
    await line.write(second)
    await line.read(first)
    await line.write(first)
    assert await barrier.cleared(LATER) == NEVER
    await line.write(third)
    await line.read(second)
    assert await barrier.cleared(LATER) == NEVER
    await line.read(third)
    assert await barrier.cleared(LATER) == START
    # The next round has begun, and waits for what came in.
    assert await barrier.cleared(LATER) == START
    await line.read(first)
    assert await barrier.cleared(LATER) == LATER


async def test_a_clock_that_was_set_back(line: Line) -> None:
    barrier = Barrier(line.databases["messaging"], STAGES)
    assert await barrier.cleared(LATER) == LATER
    assert await barrier.cleared(START) == START

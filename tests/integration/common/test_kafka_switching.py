"""From the log in PostgreSQL to the one in Kafka and back, also when retention has dropped some of it."""

from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from functools import partial

import pytest
import pytest_asyncio

from libs.common.clock import SystemClock
from libs.common.contracts.topics import COMMERCE
from libs.common.log.kafka_client import Kafka
from libs.common.log.schema import keep_log
from tests.contract.logs import working
from tests.integration.common.kafka_ground import PARTITION, Ground, delete, numbers, opened, problem
from tests.waiting import eventually

pytestmark = pytest.mark.kafka


@pytest_asyncio.fixture
async def ground(empty_database_url: str, kafka: Kafka) -> AsyncIterator[Ground]:
    async with opened(empty_database_url, kafka) as made:
        yield made


async def test_a_consumer_may_go_from_one_log_to_the_other(ground: Ground) -> None:
    """A position is the producer's number, in both."""
    at = 0
    async with working(ground.relay()):
        for log in (ground.own, ground.log, ground.own, ground.log):
            await ground.write(range(at, at + 5))
            await eventually(ground.relayed)
            reader = ground.consumer()
            reader._log = log
            at += 5
            async with working(reader):
                await eventually(partial(ground.reached, at))
    assert ground.got == numbers(20)


async def _retain(ground: Ground, kept: Iterable[int], gone: int) -> None:
    """Writes so much that is dropped by retention, and then what is kept."""
    await ground.write(range(gone))
    now = SystemClock().now()
    await keep_log(ground.ingest, COMMERCE, now)
    assert len(await keep_log(ground.ingest, COMMERCE, now + timedelta(days=COMMERCE.retention_days + 7))) == 1
    await ground.write(kept)


async def test_a_log_that_retention_has_cut_goes_to_kafka_from_where_it_begins(ground: Ground) -> None:
    """Of three consumers one has read all so far, one has read nothing, and one has missed something."""
    await _retain(ground, range(20, 25), 20)
    async with ground.profiles.autocommit() as pg:
        for name, at in (("read all", 22), ("missed some", 7)):
            await pg.execute(
                "INSERT INTO positions (consumer, topic, partition, next_offset) VALUES ($1, 'commerce', $2, $3)",
                name, PARTITION, at,
            )  # fmt: skip
    async with working(ground.relay()):
        await eventually(ground.relayed)
        for name, got in (("read all", [22, 23, 24]), ("profiles", [20, 21, 22, 23, 24])):
            ground.got.clear()
            async with working(ground.consumer(name)):
                await eventually(partial(ground.reached, 25, name))
            assert ground.got == [b"%d" % number for number in got]
        worker = ground.consumer("missed some")
        async with working(worker):
            assert "goes on at 20, not at 7: records are missing" in await problem(worker)
    # Who reads PostgreSQL begins there, too.
    ground.got.clear()
    reader = ground.consumer("in postgres")
    reader._log = ground.own
    async with working(reader):
        await eventually(partial(ground.reached, 25, "in postgres"))
    assert ground.got == [b"%d" % number for number in range(20, 25)]


async def test_a_relay_that_kafka_has_forgotten_begins_where_the_log_does(ground: Ground) -> None:
    """Kafka was in use for a while, long ago: both have dropped since what the relay had sent, and more."""
    await ground.write(range(5))
    async with working(ground.relay()):
        await eventually(ground.relayed)
    await _retain(ground, range(12, 15), 7)
    relay = ground.relay()
    async with working(relay):
        # As long as Kafka has some of it, there would be a gap.
        assert "goes on at 12, not at 5: records are missing" in await problem(relay)
    await delete(ground)
    async with working(ground.relay(), ground.consumer()):
        await eventually(ground.relayed)
        await eventually(partial(ground.reached, 15))
    assert ground.got == [b"12", b"13", b"14"]


async def test_a_gap_at_the_beginning_is_no_beginning(ground: Ground) -> None:
    """Neither in Kafka, when a first batch was lost, nor in PostgreSQL."""
    await ground.send([4, 5])
    worker = ground.consumer()
    async with working(worker):
        assert "goes on at 4, not at 0: records are missing" in await problem(worker)
    await ground.write(range(3))
    async with ground.ingest.autocommit() as pg:
        await pg.execute('DELETE FROM log_commerce WHERE "offset" = 0')
    await delete(ground)
    relay = ground.relay()
    async with working(relay):
        assert "goes on at 1, not at 0: records are missing" in await problem(relay)

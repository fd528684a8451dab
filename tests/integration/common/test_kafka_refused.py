"""A partition that Kafka refuses is tried again alone: the others go on, and each event is sent once."""

from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import TopicPartition

from libs.common.contracts.topics import COMMERCE, PARTITIONS
from libs.common.log.choice import RELAY
from libs.common.log.kafka_client import Kafka
from libs.common.log.postgres import append
from libs.common.worker import Worker
from tests.contract.logs import event, working
from tests.integration.common.kafka_ground import Ground, administrator, opened
from tests.waiting import eventually

pytestmark = pytest.mark.kafka

REFUSED = 3


@pytest_asyncio.fixture
async def ground(empty_database_url: str, kafka: Kafka) -> AsyncIterator[Ground]:
    async with opened(empty_database_url, kafka) as made:
        yield made


async def _write(ground: Ground, count: int) -> None:
    async with ground.ingest.transaction() as tx:
        await append(tx, COMMERCE, [event(f"key {n}") for n in range(count)])


async def _left(ground: Ground) -> dict[int, int]:
    """Of each partition that has some, how many events the relay has still to ship."""
    async with ground.ingest.autocommit() as pg:
        rows = await pg.fetch(
            "SELECT l.partition, l.next_offset - coalesce(p.next_offset, 0) AS n FROM log_partitions l"
            " LEFT JOIN positions p ON (p.consumer, p.topic, p.partition) = ($1, l.topic, l.partition)"
            " WHERE l.topic = 'commerce'",
            RELAY,
        )
    return {row["partition"]: row["n"] for row in rows if row["n"]}


async def _only_one_left(ground: Ground) -> bool:
    return (await _left(ground)).keys() == {REFUSED}


async def _all_shipped(ground: Ground) -> bool:
    return not await _left(ground)


async def _clock(ground: Ground, ahead: str) -> None:
    """PostgreSQL's, by which one partition's events were dated."""
    async with ground.ingest.autocommit() as pg:
        await pg.execute(
            f"UPDATE log_commerce SET appended_at = now() + interval '{ahead}' WHERE partition = {REFUSED}"
        )


async def _well(relay: Worker) -> bool:
    return not relay.problems()


async def test_a_partition_whose_times_kafka_refuses_holds_up_no_other(ground: Ground) -> None:
    name = ground.kafka.topic("commerce")
    async with administrator(ground.kafka) as admin:
        longest = {"message.timestamp.after.max.ms": "3600000"}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs=longest)])
    await _write(ground, 400)
    await _clock(ground, "2 hours")
    relay = ground.relay()
    async with working(relay):
        await eventually(partial(_only_one_left, ground))
        # More than one read brings of a partition.
        for _ in range(3):
            await _write(ground, 2000)
        await eventually(partial(_only_one_left, ground))
        [told] = relay.problems()
        assert "relay is retrying" in told
        assert f"{name}[{REFUSED}]: InvalidTimestampError" in told
        assert "put right the clock of PostgreSQL or of Kafka" in told
        await _clock(ground, "0 hours")
        await eventually(partial(_all_shipped, ground))
        await eventually(partial(_well, relay))
    places = {n: TopicPartition(name, n) for n in range(PARTITIONS)}
    bounds = await ground.log._places.bounds(list(places.values()))
    ends = await ground.own.end_offsets("commerce")
    assert {n: bounds[place][1] for n, place in places.items()} == ends, "each event lies there once"

"""What another database has sent, or this one before it was set back, is noticed, and nothing is sent after it."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from aiokafka.structs import TopicPartition

from libs.common import relay_check
from libs.common.log.choice import RELAY
from libs.common.log.kafka_client import Kafka
from libs.common.log.kafka_records import headers, timestamp
from libs.common.relay import Publisher
from tests.contract.logs import working
from tests.integration.common.kafka_ground import PARTITION, PLACE, Ground, numbers, opened, problem
from tests.waiting import eventually

pytestmark = pytest.mark.kafka


@pytest_asyncio.fixture
async def ground(empty_database_url: str, kafka: Kafka) -> AsyncIterator[Ground]:
    async with opened(empty_database_url, kafka) as made:
        yield made


async def _relay_all(ground: Ground) -> None:
    async with working(ground.relay()):
        await eventually(ground.relayed)


async def _restart(ground: Ground) -> None:
    await ground.publisher.close()
    ground.publisher = Publisher(ground.kafka)


async def _restore(ground: Ground, until: int) -> None:
    """As a dump that was made when the log ended there, and all of it had been shipped."""
    async with ground.ingest.transaction() as tx:
        await tx.pg.execute('DELETE FROM log_commerce WHERE partition = $1 AND "offset" >= $2', PARTITION, until)
        await tx.pg.execute("UPDATE log_partitions SET next_offset = $2 WHERE partition = $1", PARTITION, until)
        await tx.pg.execute("UPDATE positions SET next_offset = $2 WHERE partition = $1", PARTITION, until)


async def _end(ground: Ground) -> int:
    there = TopicPartition(ground.kafka.topic("commerce"), PARTITION)
    return (await ground.log._places.bounds([there]))[there][1]


@pytest.mark.parametrize("written", [3, 20], ids=["fewer than were lost", "more than were lost"])
@pytest.mark.parametrize("relay", ["a new one", "the one that sent"])
async def test_a_database_that_was_set_back_behind_kafka_sends_nothing(
    ground: Ground, written: int, relay: str
) -> None:
    await ground.write(range(12))
    await _relay_all(ground)
    await _restore(ground, 5)
    await ground.write(range(100, 100 + written))
    if relay == "a new one":
        await _restart(ground)
    worker = ground.relay()
    async with working(worker):
        told = await problem(worker)
        assert f"{ground.kafka.topic('commerce')}[{PARTITION}] holds events that are not of this database" in told
        assert "number 5, at Kafka's offset 5" in told
    assert await _end(ground) == 12
    assert await ground.position(ground.ingest, RELAY) == 5


@pytest.mark.parametrize("foreign", [[6], [6, 7, 8, 9], [3]], ids=["the next number", "some", "one of long ago"])
async def test_a_running_relay_sends_nothing_after_what_somebody_else_sent(ground: Ground, foreign: list[int]) -> None:
    await ground.write(range(6))
    relay = ground.relay()
    async with working(relay):
        await eventually(ground.relayed)
        ground.publisher._check._looked.clear()
        ground.publisher._check._looked[PLACE] = float("-inf")
        await ground.send(foreign)
        await ground.write(range(6, 8))
        assert f"not of this database (number {foreign[0]}, at Kafka's offset 6)" in await problem(relay)
    assert await _end(ground) == 6 + len(foreign)


async def test_what_somebody_else_sent_is_noticed_by_where_the_next_batch_comes_to_lie(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two looks at the end."""
    monkeypatch.setattr(relay_check, "LOOK_SECONDS", 600.0)
    await ground.write(range(6))
    relay = ground.relay()
    async with working(relay):
        await eventually(ground.relayed)
        await ground.send([6])
        await ground.write([6])
        assert "not of this database (number 6, at Kafka's offset 6)" in await problem(relay)
        await ground.write([7])
    assert await ground.position(ground.ingest, RELAY) == 6
    assert await _end(ground) == 8, "one batch was sent behind it, and no further one"


async def test_what_is_no_event_of_ours_at_all_stops_the_relay(ground: Ground) -> None:
    await ground.write(range(6))
    await _relay_all(ground)
    producer = AIOKafkaProducer(**ground.kafka.options)
    await producer.start()
    await producer.send_and_wait(ground.kafka.topic("commerce"), b"{}", partition=PARTITION)
    await producer.stop()
    await _restart(ground)
    await ground.write([6])
    relay = ground.relay()
    async with working(relay):
        assert "holds at 6 what the relay did not send" in await problem(relay)


@pytest.mark.parametrize("looks", [0.0, 600.0], ids=["looked at before", "noticed after"])
async def test_what_a_relay_of_ours_sends_late_is_no_reason_to_stop(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, looks: float
) -> None:
    monkeypatch.setattr(relay_check, "LOOK_SECONDS", looks)
    await ground.write(range(8))
    relay = ground.relay()
    async with working(relay, ground.consumer()):
        await eventually(ground.relayed)
        producer = AIOKafkaProducer(**ground.kafka.options)
        await producer.start()
        for record in await ground.own.read({PLACE: 3}, 10, 1):
            await producer.send_and_wait(
                ground.kafka.topic("commerce"), record.data, record.key.encode(),
                partition=PARTITION, timestamp_ms=timestamp(record), headers=headers(record),
            )  # fmt: skip
        await producer.stop()
        await ground.write(range(8, 12))
        await eventually(ground.relayed)
        await ground.write(range(12, 13))
        await eventually(lambda: ground.reached(13))
        assert relay.problems() == []
    assert ground.got == numbers(13)
    assert await _end(ground) == 18

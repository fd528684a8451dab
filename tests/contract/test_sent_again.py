"""What was sent to Kafka twice comes out once, for Kafka itself and for the one of the simulation."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import pytest
import pytest_asyncio
from aiokafka.structs import TopicPartition

from libs.common.contracts.topics import COMMERCE
from libs.common.log.base import Position
from libs.common.log.kafka import KafkaLog
from libs.common.log.kafka_client import Kafka
from libs.common.log.kafka_topics import make_topics
from tests.contract.logs import send, simulated_kafka
from tests.faults.simulation.kafka import SimulatedKafka
from tests.faults.simulation.positions import SimulatedPositions
from tests.faults.simulation.scenario import simulated

PLACE: Position = ("commerce", 3)
HISTORIES = {
    "once": [*range(12)],
    "a crash": [*range(6), 3, 4, 5, *range(6, 12)],
    "a relay that hung": [*range(6), 3, 4, 5, *range(6, 9), 0, 1, 2, *range(9, 12)],
    # Numbers go from 3 to 5 in one leap: 4 was there before.
    "relays that hung, one after another": [0, *[1, 2, 3] * 3, 4, 4, 1, 2, 3, *range(5, 12)],
    "the same again and again": [*range(6), *[4, 5] * 20, *range(6, 12)],
    "from the beginning": [*range(11), *range(12)],
    "and that last": [*range(12), 2, 3],
}


class Topic:
    """A partition of Kafka that anybody may write to, and a reader of it."""

    def __init__(self, kafka: Kafka) -> None:
        self.kafka = kafka
        self.log = KafkaLog(kafka)

    async def send(self, numbers: Sequence[int]) -> None:
        await send(self.kafka, PLACE, numbers)

    async def read(self, first: int, until: int) -> list[int]:
        """The numbers that the log gives from one on, each as its data says."""
        at = first
        while at < until and (records := await self.log.read({PLACE: at}, 7, 2)):
            for record in records:
                assert (record.offset, record.data) == (at, str(at).encode())
                at += 1
        return list(range(first, at))


@pytest.fixture(params=[pytest.param("kafka", marks=pytest.mark.kafka), "simulated kafka"])
def place(request: pytest.FixtureRequest) -> tuple[Kafka, AbstractContextManager[None]]:
    if request.param == "kafka":
        return request.getfixturevalue("kafka"), nullcontext()
    return simulated_kafka(), simulated(SimulatedPositions())


@pytest_asyncio.fixture
async def topic(place: tuple[Kafka, AbstractContextManager[None]]) -> AsyncIterator[Topic]:
    kafka, within = place
    with within:
        if not isinstance(kafka, SimulatedKafka):
            await make_topics(kafka, {COMMERCE.name: COMMERCE.partitions})
        topic = Topic(kafka)
        yield topic
        await topic.log.close()


@pytest.mark.parametrize("history", HISTORIES)
async def test_each_number_is_found_and_comes_once(topic: Topic, history: str) -> None:
    sent = HISTORIES[history]
    await topic.send(sent)
    there = TopicPartition(topic.kafka.topic("commerce"), PLACE[1])
    for number in range(13):
        place = (await topic.log._places.locate({there: number}))[there]
        assert place <= (sent.index(number) if number in sent else len(sent)), f"{number} is passed"
        if len(sent) == 12:
            assert place == number, "nothing was sent twice: it hits at once"
    if sent[-1] == 11:
        assert (await topic.log.end_offsets("commerce"))[PLACE[1]] == 12
    for start in (0, 7):
        assert await topic.read(start, 12) == list(range(start, 12)), f"from {start} on"


async def test_a_last_record_that_is_a_repeat_does_not_hide_what_came_before_it(topic: Topic) -> None:
    await topic.send([*range(6)])
    assert (await topic.log.end_offsets("commerce"))[PLACE[1]] == 6
    await topic.send([2, 3])
    assert (await topic.log.end_offsets("commerce"))[PLACE[1]] == 6


async def test_what_comes_after_a_gap_is_handed_on_as_it_is(topic: Topic) -> None:
    await topic.send([*range(6), 8, 9])
    assert await topic.read(0, 6) == list(range(6))
    assert [record.offset for record in await topic.log.read({PLACE: 6}, 7, 2)][:1] == [8]

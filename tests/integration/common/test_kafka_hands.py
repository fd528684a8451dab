"""Kafka in other hands: records that no relay sent, and topics that were emptied, or deleted and made anew."""

from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio
from aiokafka.structs import TopicPartition

from libs.common.contracts.topics import COMMERCE
from libs.common.log import growth, kafka
from libs.common.log.kafka_client import Kafka
from libs.common.log.kafka_records import Headers
from libs.common.log.kafka_topics import partition_counts
from tests.contract.logs import working
from tests.integration.common.kafka_ground import (
    PARTITION,
    PLACE,
    Ground,
    administrator,
    delete,
    numbers,
    opened,
    problem,
)
from tests.waiting import eventually

pytestmark = pytest.mark.kafka

OURS: dict[str, bytes | None] = {
    "ce_id": b"one",
    "ce_type": b"order.observed",
    "ce_source": b"/elsewhere",
    "ce_tenant": b"default",
    "ce_time": b"2026-03-02T12:00:00+00:00",
}
UNREADABLE: dict[str, dict[str, bytes | None]] = {
    "nothing": {},
    "a word": {**OURS, "seq": b"abc"},
    "null": {**OURS, "seq": None},
    "too long": {**OURS, "seq": b"1" * 5001},
    "signed": {**OURS, "seq": b"-3"},
    "no text": {**OURS, "ce_id": b"\xff", "seq": b"6"},
    "a null elsewhere": {**OURS, "ce_tenant": None, "seq": b"6"},
    "a zero byte": {**OURS, "ce_type": b"a\0b", "seq": b"6"},
    "a time without offset": {**OURS, "ce_time": b"2026-03-02T12:00:00", "seq": b"6"},
}


@pytest_asyncio.fixture
async def ground(empty_database_url: str, kafka: Kafka) -> AsyncIterator[Ground]:
    async with opened(empty_database_url, kafka) as made:
        yield made


def old(number: int) -> Headers:
    return list({**OURS, "seq": b"%d" % number}.items())


async def behind(ground: Ground) -> tuple[int, int]:
    """The reader's position and the end, as a process tells them that has just started."""
    standing = await ground.reading()
    [progress] = standing.consumers
    found = next(partition for partition in progress.partitions if partition.partition == PARTITION)
    assert standing.caught_up is (found.lag == 0)
    return found.position, found.end


@pytest.mark.parametrize("what", UNREADABLE)
async def test_what_nobody_can_read_stops_the_consumer_and_nothing_else(ground: Ground, what: str) -> None:
    await ground.send(range(6))
    named = rf"{ground.kafka.topic('commerce')}[{PARTITION}] holds at 6 what the relay did not send"
    async with working(ground.consumer()):
        await eventually(partial(ground.reached, 6))
    await ground.foreign(list(UNREADABLE[what].items()))
    for _ in range(2):
        worker = ground.consumer()
        async with working(worker):
            assert named in await problem(worker)
            # Figures go on, in this process and in others, while it lies last.
            assert (await ground.log.end_offsets("commerce"))[PARTITION] in {6, 7}
            assert (await behind(ground))[0] == 6
        await ground.restart()
    await ground.send([6])
    assert await ground.position(ground.profiles, "profiles") == 6
    assert ground.got == numbers(6)


@pytest.mark.parametrize("unread", [0, 4])
@pytest.mark.parametrize("sent", ["plainly", "in a transaction"])
@pytest.mark.parametrize("number", [2, 9])
async def test_an_old_number_by_foreign_hands_leads_nobody_astray(
    ground: Ground, number: int, sent: str, unread: int
) -> None:
    await ground.send(range(10))
    async with working(ground.consumer()):
        await eventually(partial(ground.reached, 10))
    await ground.send(range(10, 10 + unread))
    await ground.foreign(old(number), committed=sent != "plainly")
    assert await behind(ground) == (10, 10 + unread)
    await ground.restart()
    async with working(ground.consumer()):
        await eventually(partial(ground.reached, 10 + unread))
        await ground.send(range(10 + unread, 16))
        await eventually(partial(ground.reached, 16))
    assert ground.got == numbers(16)


async def test_what_lies_last_in_foreign_hands_is_no_place_to_wait_at(ground: Ground) -> None:
    """The number before the one that is wanted, and of a later time."""
    await ground.send([*range(4), 2, 3, *range(4, 40)])
    for number in [9] * 40:
        await ground.foreign(old(number))
    assert await ground.read(10, 40) == numbers(40)[10:]


async def test_ages_are_of_the_oldest_that_was_not_read(ground: Ground) -> None:
    await ground.send([*range(8), *[3] * 20, 8, 9])
    await ground.foreign(old(4))
    for _ in range(2):  # with a reader's knowledge of its place, too
        ages = [await ground.log.ages({PLACE: number}) for number in (8, 9)]
        assert all(0 < age[PLACE] < 600 for age in ages)
        assert await ground.read(8, 10) == [b"8", b"9"]
    assert await ground.log.ages({PLACE: 10}) == {}


async def test_a_partition_that_was_emptied_is_not_taken_for_read(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a process that has seen what was there, while no relay runs."""
    monkeypatch.setattr(kafka, "GONE_SECONDS", 1.0)
    await ground.send(range(10))
    assert (await ground.log.end_offsets("commerce"))[PARTITION] == 10
    await ground.empty()
    worker = ground.consumer()
    async with working(worker):
        assert "had come to 9, and 0 is not there any more: records are missing" in await problem(worker)
    assert ground.got == []


@pytest.mark.parametrize("how", ["emptied", "deleted"])
async def test_who_starts_later_learns_from_the_relay_that_records_are_missing(ground: Ground, how: str) -> None:
    await ground.write(range(10))
    async with working(ground.relay()):
        await eventually(ground.relayed)
    async with working(ground.consumer("another")):
        await eventually(partial(ground.reached, 10, "another"))
    await (ground.empty() if how == "emptied" else delete(ground))
    await ground.restart()
    ground.got.clear()
    first, another = ground.consumer(), ground.consumer("another")
    async with working(ground.relay(keeps=True), first):
        assert "goes on at 9, not at 0: records are missing" in await problem(first)
        assert await behind(ground) == (0, 10)
        await ground.restart()
        async with working(another):
            await ground.write(range(10, 12))
            await eventually(partial(ground.reached, 12, "another"))
    assert ground.got == [b"10", b"11"]


async def test_a_topic_made_anew_is_read_on_by_who_has_read_all(ground: Ground) -> None:
    """Its Kafka offsets are others': one of them is where the reader stood before."""
    await ground.write(range(10))
    async with working(ground.relay(), ground.consumer()):
        await eventually(partial(ground.reached, 10))
        await delete(ground)
        await ground.write(range(10, 40))
        await eventually(partial(ground.reached, 40))
    assert ground.got == numbers(40)


async def test_the_relay_makes_what_is_missing_before_anything_is_written(ground: Ground) -> None:
    await growth.grow(ground.ingest, COMMERCE, 16)

    async def whole() -> bool:
        return (await partition_counts(ground.kafka, [COMMERCE])).get("commerce") == 16

    async with working(ground.relay(keeps=True)):
        await eventually(whole)
        async with administrator(ground.kafka) as admin:
            await admin.delete_topics([ground.kafka.topic("commerce")])
        await eventually(whole)
        ends = await ground.own.end_offsets("commerce")
        assert len(ends) == 16


async def test_a_transaction_s_mark_is_no_record_that_should_have_come(ground: Ground) -> None:
    await ground.send(range(3))
    await ground.foreign(old(1), committed=True)
    assert await ground.read(0, 3) == numbers(3)
    place = TopicPartition(ground.kafka.topic("commerce"), PARTITION)
    _, end = (await ground.log._places.bounds([place]))[place]

    async def at_the_end() -> bool:
        assert await ground.log.read({PLACE: 3}, 10, 0.2) == []
        return ground.log._at()[place] == end

    await eventually(at_the_end)

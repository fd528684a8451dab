"""More partitions while everything runs: each key in order, whoever writes, reads, waits or is cut off meanwhile."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
from typer.testing import CliRunner

from libs.common import pipeline, positions
from libs.common.batch import Batch
from libs.common.clock import SystemClock
from libs.common.contracts.topics import COMMERCE, JOURNAL, Topic
from libs.common.db import Database
from libs.common.log import growth
from libs.common.log.choice import Logs
from libs.common.log.growth import grow
from libs.common.log.kafka_client import Kafka
from libs.common.log.kafka_topics import make_topics, partition_counts
from libs.common.log.postgres import append, append_unique, partition_of
from libs.common.worker import Consumer, Limits, Worker
from regulars.cli import app
from tests.contract.logs import Written, event, kafka_log, postgres_log, working
from tests.waiting import eventually

LIMITS = Limits(lease=3.0, patience=0.1)
MOVING = next(f"key {n}" for n in range(99) if partition_of("default", f"key {n}", 16) == 8)
"""A key that is in partition 0 of 8, and in partition 8 of 16."""


class Ground:
    """Ingest, which writes numbers under keys, and profiles, which notes them in the order of their effects."""

    def __init__(self, written: Written, profiles: Database) -> None:
        self.written = written
        self.profiles = profiles
        self.sent: dict[str, list[int]] = defaultdict(list)

    async def write(self, *keys: str) -> None:
        events = []
        for key in keys:
            number = len(self.sent[key])
            self.sent[key].append(number)
            events.append(event(key, data=str(number).encode()))
        async with self.written.database.transaction() as tx:
            await append(tx, COMMERCE, events)

    def worker(self) -> Worker:
        async def note(batch: Batch) -> None:
            rows = [(record.key, int(record.data)) for record in batch.records]
            await batch.tx.pg.executemany("INSERT INTO noted (key, number) VALUES ($1, $2)", rows)

        consumer = Consumer("profiles", (COMMERCE,), note, batch_size=40)
        return Worker(self.profiles, self.written.reader(), SystemClock(), consumers=[consumer], limits=LIMITS)

    async def noted(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = defaultdict(list)
        async with self.profiles.autocommit() as pg:
            for row in await pg.fetch("SELECT key, number FROM noted ORDER BY n"):
                found[row["key"]].append(row["number"])
        return found

    async def all_noted(self) -> bool:
        noted = await self.noted()
        return sum(map(len, noted.values())) >= sum(map(len, self.sent.values()))

    async def position(self, partition: int) -> int | None:
        async with self.profiles.autocommit() as pg:
            at: int | None = await pg.fetchval(
                "SELECT next_offset FROM positions WHERE consumer = 'profiles' AND partition = $1", partition
            )
        return at

    async def standing(self) -> pipeline.Standing:
        logs = Logs(self.written.log, self.written.log)
        return await pipeline.standing(self.profiles, logs, ["profiles"])

    async def is_drained(self) -> bool:
        return (await self.standing()).caught_up


@pytest_asyncio.fixture(params=["postgres", pytest.param("kafka", marks=pytest.mark.kafka)])
async def ground(request: pytest.FixtureRequest, empty_database_url: str) -> AsyncIterator[Ground]:
    opened = (
        postgres_log(empty_database_url)
        if request.param == "postgres"
        else kafka_log(empty_database_url, request.getfixturevalue("kafka"))
    )
    async with opened as written:
        profiles = Database(empty_database_url, schema="profiles", pool_size=8)
        async with profiles.autocommit() as pg:
            await pg.execute("CREATE TABLE noted (n bigserial, key text NOT NULL, number int NOT NULL)")
        yield Ground(written, profiles)
        await profiles.close()


@pytest_asyncio.fixture
async def in_postgres(empty_database_url: str) -> AsyncIterator[Written]:
    async with postgres_log(empty_database_url) as log:
        yield log


async def test_each_key_keeps_its_order_while_its_topic_grows_twice(ground: Ground) -> None:
    async def write(writer: int) -> None:
        for n in range(120):
            await ground.write(*(f"{writer} {(n + m) % 17}" for m in range(5)))

    async def grow_twice() -> None:
        for partitions, part in ((16, 0.25), (48, 0.6)):
            await eventually(partial(_share_is_written, ground, part))
            await grow(ground.written.database, COMMERCE, partitions)

    async with working(ground.worker(), ground.worker()):
        await asyncio.gather(*(write(writer) for writer in range(3)), grow_twice())
        await eventually(ground.all_noted, timeout=60)
        assert await ground.is_drained()
    assert await ground.noted() == ground.sent
    ends = await ground.written.log.end_offsets("commerce")
    assert len(ends) == 48
    assert sum(end > 1 for partition, end in ends.items() if partition >= 8) > 5, "new partitions are in use"


async def _share_is_written(ground: Ground, part: float) -> bool:
    return sum(map(len, ground.sent.values())) > part * 3 * 120 * 5


async def test_a_new_partition_waits_for_its_parent_whoever_has_that(ground: Ground) -> None:
    await ground.write(MOVING, MOVING)
    other = await ground.profiles.session()
    await positions.begin(other, "profiles", (COMMERCE,), "other")
    await other.execute(
        "UPDATE positions SET owner = 'other', lease_until = now() + interval '1 h'"
        " WHERE consumer = 'profiles' AND partition = 0"
    )
    await grow(ground.written.database, COMMERCE, 16)
    # No worker has noticed the new partitions yet, and they hold something.
    await eventually(partial(_is_behind, ground, 8))
    await ground.write(MOVING, "another", MOVING)
    async with working(ground.worker()):
        await eventually(lambda: _is_noted(ground, "another"))
        await eventually(lambda: _stands(ground, 9, 1))
        assert (await ground.position(0), await ground.position(8)) == (0, 0)
        await positions.release(other, "profiles", "other")
        await eventually(ground.all_noted)
        await eventually(ground.is_drained)
    await other.close()
    assert await ground.noted() == ground.sent


async def _is_behind(ground: Ground, partition: int) -> bool:
    [progress] = (await ground.standing()).consumers
    return any(each.partition == partition and each.lag for each in progress.partitions)


async def _is_noted(ground: Ground, key: str) -> bool:
    return key in await ground.noted()


async def _stands(ground: Ground, partition: int, at: int) -> bool:
    return await ground.position(partition) == at


async def test_growth_waits_for_who_appends_and_who_waits_for_it_counts_anew(
    in_postgres: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With both ways to append, and with statements that were prepared when there were fewer partitions."""
    monkeypatch.setattr(growth, "LOCK_TIMEOUT", "30s")
    database = in_postgres.database
    writer = await database.session()
    unique = await database.session()
    for n in range(8):  # the driver has prepared it, and the server has its generic plan
        await append_unique(unique, JOURNAL, [event("warm")], [bytes([n]) * 16])
    began, go_on = asyncio.Event(), asyncio.Event()

    async def append_slowly() -> None:
        async with database.transaction() as tx:
            await append(tx, COMMERCE, [event(MOVING, data=b"0")])
            began.set()
            await go_on.wait()

    slow = asyncio.create_task(append_slowly())
    await began.wait()
    growing = [asyncio.create_task(grow(database, COMMERCE, 16))]
    await eventually(lambda: _waiting(writer, 1))

    async def append_again() -> None:
        async with database.transaction() as tx:
            await append(tx, COMMERCE, [event(MOVING, data=b"1")])

    again = asyncio.create_task(append_again())
    await eventually(lambda: _waiting(writer, 2))
    # The journal's partitions are counted in the same table: its growth comes behind the other one.
    growing.append(asyncio.create_task(grow(database, JOURNAL, 16)))
    await eventually(lambda: _waiting(writer, 3))
    delivered = asyncio.create_task(append_unique(unique, JOURNAL, [event(MOVING)], [b"n" * 16]))
    await eventually(lambda: _waiting(writer, 4))
    go_on.set()
    await asyncio.gather(slow, again, *growing)
    assert await delivered == [True]
    places = [(r.partition, r.offset, r.data) for r in await in_postgres.drain(COMMERCE) if r.key == MOVING]
    assert sorted(places) == [(0, 0, b"0"), (8, 1, b"1")]
    assert [r.partition for r in await in_postgres.drain(JOURNAL) if r.key == MOVING] == [8]
    await writer.close()
    await unique.close()


async def _waiting(pg: "asyncpg.Connection[asyncpg.Record]", count: int) -> bool:
    waiting: int = await pg.fetchval("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted")
    return waiting == count


async def test_a_growth_that_is_cut_off_has_not_happened_and_is_made_again(in_postgres: Written) -> None:
    database = in_postgres.database
    admin = await database.session()
    async with database.transaction() as tx:
        await append(tx, COMMERCE, [event("key")])
        growing = asyncio.create_task(grow(database, COMMERCE, 16))
        await eventually(lambda: _waiting(admin, 1))
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted AND relation = 'log_partitions'::regclass"
        )
        with pytest.raises((asyncpg.PostgresError, ConnectionError, asyncpg.InterfaceError)):
            await growing
    assert len(await in_postgres.log.end_offsets("commerce")) == 8
    assert await grow(database, COMMERCE, 16) == 8
    assert len(await in_postgres.log.end_offsets("commerce")) == 16
    await admin.close()


@pytest.mark.kafka
async def test_a_growth_cut_off_between_kafka_and_the_log_harms_nobody_and_is_made_again(
    empty_database_url: str, kafka: Kafka
) -> None:
    async with kafka_log(empty_database_url, kafka) as written:
        assert await make_topics(kafka, {"commerce": 16}) == ["commerce"]
        await eventually(lambda: _has(kafka, COMMERCE, 16))
        async with written.database.transaction() as tx:
            await append(tx, COMMERCE, [event(MOVING, data=b"0")])
        assert len(await written.drain(COMMERCE)) == 1
        assert await make_topics(kafka, {"commerce": 16}) == []
        await grow(written.database, COMMERCE, 16)
        async with written.database.transaction() as tx:
            await append(tx, COMMERCE, [event(MOVING, data=b"1")])
        # A bare reader gets partitions in any order; it is the consumer that waits for a parent.
        moved = {(r.partition, r.data) for r in await written.drain(COMMERCE) if r.key == MOVING}
        assert moved == {(0, b"0"), (8, b"1")}


async def _has(kafka: Kafka, topic: Topic, partitions: int) -> bool:
    return (await partition_counts(kafka, [topic])).get(topic.name) == partitions


def _grow(url: str, folder: Path, *words: str) -> tuple[int, str]:
    told = CliRunner().invoke(app, ["partitions", "grow", *words, "--database-url", url, "--data-dir", str(folder)])
    return told.exit_code, told.output


def test_the_command_grows_and_says_what_cannot_be(database_url: str, empty_database_url: str, tmp_path: Path) -> None:
    code, told = _grow(database_url, tmp_path, "--topic", "commerce", "--to", "16")
    assert (code, told.splitlines()[-1][:36]) == (0, "commerce: 16 partitions, 8 before; w")
    for to, why in (("16", "has 16 partitions already"), ("8", "do not become fewer"), ("24", "a multiple of that")):
        code, told = _grow(database_url, tmp_path, "--topic", "commerce", "--to", to)
        assert code == 1
        assert why in told
    code, told = _grow(database_url, tmp_path, "--topic", "orders", "--to", "16")
    assert code == 2
    assert "'orders' is not one of" in told
    code, told = _grow(empty_database_url, tmp_path, "--topic", "journal", "--to", "16")
    assert code == 1
    assert "regulars migrate" in told
    code, told = _grow("postgresql://127.0.0.1:1/none", tmp_path, "--topic", "journal", "--to", "16")
    assert code == 1
    assert "cannot be reached" in told

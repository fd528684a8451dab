"""The rules of `libs.common.positions` and `libs.common.log.postgres`, on the simulated database."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec.structs import asdict, replace

from libs.common.contracts.topics import TOPICS, Topic
from libs.common.log.base import READ_BYTES, Event, Position, Record
from libs.common.log.growth import OPENED, Opened, check_growth
from libs.common.log.postgres import partition_of
from libs.common.positions import Fenced
from tests.faults.simulation.database import Cut, Row, Schema, Session, SimulatedDatabase, SimulatedTx, within

START = datetime(2026, 1, 1, tzinfo=UTC)


class SimulatedPositions:
    """Where a consumer stands, who may move it, and what it could not digest."""

    Fenced = Fenced

    async def begin(self, session: Session, consumer: str, topics: Iterable[Topic], worker: str) -> None:
        """As `positions.begin`."""
        await session.statement()
        session.names.add(worker)
        for topic in topics:
            _widen(session.database.state, consumer, topic.name, topic.partitions)

    async def widen(self, tx: SimulatedTx, consumer: str, topic: str, partitions: int) -> None:
        """As `positions.widen`."""
        await tx.statement()
        tx.writes.append(lambda: _widen(tx.database.state, consumer, topic, partitions))

    async def open_partitions(
        self, tx: SimulatedTx, consumer: str, worker: str, waiting: Mapping[Position, tuple[int, int]]
    ) -> list[Position]:
        """As `positions.open_partitions`."""
        await tx.statement()
        due = []
        for place, (parent, until) in sorted(waiting.items()):
            await tx.database.server.lock(tx, ("row", consumer, place))
            row = tx.database.state.positions[consumer, place]
            if (
                row.owner == worker
                and row.next_offset == 0
                and self.is_through(tx, consumer, (place[0], parent), until)
            ):
                tx.writes.append(moved(row, 1))
                due.append(place)
        return due

    def is_through(self, tx: SimulatedTx, consumer: str, parent: Position, until: int) -> bool:
        """Whether the consumer has read the parent so far."""
        return tx.database.state.positions[consumer, parent].next_offset >= until

    async def heartbeat(
        self,
        session: Session,
        consumer: str,
        worker: str,
        lease: float,
        *,
        state: str = "running",
        reason: str | None = None,
    ) -> tuple[dict[Position, int], list[Position]]:
        """As `positions.heartbeat`."""
        del state, reason
        await session.statement()
        server, schema = session.server, session.database.state
        await _settled(session, consumer, worker)
        now = server.now
        workers = schema.workers[consumer]
        workers[worker] = now + lease
        for other, seen_until in list(workers.items()):
            if other != worker and (seen_until < now or not server.alive(other)):
                del workers[other]
        rows = _rows(schema, consumer)
        owned: dict[Position, int] = {}
        surplus: list[Position] = []
        for mine in rows.values():
            share = math.ceil(len(mine) / len(workers))
            held = [place for place, row in mine.items() if row.owner == worker]
            for place, row in mine.items():
                free = row.owner is None or row.lease_until < now or not server.alive(row.owner)
                if row.owner != worker and free and len(held) < share and server.is_free(("row", consumer, place)):
                    row.owner = worker
                    held.append(place)
            for place in held:
                mine[place].lease_until = now + lease
            owned |= {place: mine[place].next_offset for place in held}
            surplus += sorted(held)[share:]
        return owned, surplus

    async def release(
        self, session: Session, consumer: str, worker: str, places: Sequence[Position] | None = None
    ) -> None:
        """As `positions.release`."""
        await session.statement()
        await _settled(session, consumer, worker)
        for mine in _rows(session.database.state, consumer).values():
            for place, row in mine.items():
                if row.owner == worker and (places is None or place in places):
                    row.owner = None
        if places is None:
            session.database.state.workers[consumer].pop(worker, None)

    async def advance(
        self, tx: SimulatedTx, consumer: str, worker: str, moves: Mapping[Position, tuple[int, int]]
    ) -> None:
        """As `positions.advance`: the compare-and-set."""
        await tx.statement()
        for place, (expected, following) in sorted(moves.items()):
            await tx.database.server.lock(tx, ("row", consumer, place))
            row = tx.database.state.positions[consumer, place]
            if row.owner != worker or row.next_offset != expected:
                tx.database.server.counts["fence"] += 1
                raise Fenced(f"{consumer}: {place}")
            tx.writes.append(moved(row, following))

    async def bury(
        self,
        tx: SimulatedTx,
        consumer: str,
        rejected: Sequence[tuple[Record, str]],
        now: datetime,
        traceback: str | None = None,
    ) -> None:
        """As `positions.bury`."""
        del now, traceback
        await tx.statement()
        letters = {(consumer, (r.topic, r.partition), r.offset): reason for r, reason in rejected}
        tx.writes.append(lambda: tx.database.state.dead.update(letters))

    async def to_replay(self, tx: SimulatedTx, consumer: str, worker: str, limit: int) -> list[Record]:
        """Nobody asks for a replay here."""
        del consumer, worker, limit
        await tx.statement()
        return []

    async def replayed(self, tx: SimulatedTx, consumer: str, records: Sequence[Record]) -> None:
        """As `positions.replayed`."""
        raise AssertionError(f"nobody asks for a replay here: {tx}, {consumer}, {records}")

    async def append(self, tx: SimulatedTx, topic: Topic, events: Sequence[Event]) -> None:
        """As `postgres.append`: offsets by a counter that stays locked to the end."""
        await tx.statement()
        await tx.database.server.share(tx, ("partitions", tx.database.schema))
        partitions = self.counted(tx, topic)
        groups: dict[int, list[Event]] = defaultdict(list)
        for event in events:
            groups[partition_of(event.tenant, event.key, partitions)].append(event)
        for partition in sorted(groups):
            place = (topic.name, partition)
            await tx.database.server.lock(tx, ("counter", tx.database.schema, place))
            tx.writes.append(_appended(tx.database.state.logs[place], place, groups[partition], tx.database.server.now))
        tx.appended.add(topic.name)

    def counted(self, tx: SimulatedTx, topic: Topic) -> int:
        """How many partitions the append finds."""
        return tx.database.state.partitions[topic.name]

    async def grow(self, tx: SimulatedTx, topic: Topic, partitions: int) -> None:
        """As `growth.grow`."""
        await tx.statement()
        await tx.database.server.lock(tx, ("partitions", tx.database.schema))
        state, now = tx.database.state, tx.database.server.now
        before = state.partitions[topic.name]
        check_growth(topic, before, partitions)
        for new in range(before, partitions):
            place, parent = (topic.name, new), new % before
            record = Event(
                id=f"opened {place}", type=OPENED, source="/simulation", tenant="", key="", time=START,
                data=msgspec.json.encode(Opened(parent, len(state.logs[topic.name, parent]))),
            )  # fmt: skip
            tx.writes.append(_appended(state.logs[place], place, [record], now))
        tx.writes.append(lambda: state.partitions.update({topic.name: partitions}))


class SimulatedLog:
    """The log as the producer's database holds it."""

    def __init__(self, database: SimulatedDatabase) -> None:
        self._database = database

    async def read(
        self, positions: Mapping[Position, int], max_records: int, wait: float, *, ahead: bool = False
    ) -> list[Record]:
        """See `Log.read`."""
        del ahead
        server = self._database.server
        await server.statement(self._database.actor)
        deadline = server.now + wait
        while not (records := self._there(positions, max_records)) and server.now < deadline:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await server.appended.wait()
        await self._database.actor.goes()
        return records

    async def end_offsets(self, topic: str) -> dict[int, int]:
        """See `Log.end_offsets`."""
        await self._database.server.statement(self._database.actor)
        partitions = self._database.server.schemas[TOPICS[topic].producer].partitions[topic]
        return {n: len(self._log((topic, n))) for n in range(partitions)}

    async def ages(self, positions: Mapping[Position, int]) -> dict[Position, float]:
        """See `Log.ages`."""
        server = self._database.server
        await server.statement(self._database.actor)
        now = START + timedelta(seconds=server.now)
        return {
            place: (now - records[0].appended_at).total_seconds()
            for place, offset in positions.items()
            if (records := self._log(place)[offset : offset + 1]) and offset >= self._first(place)
        }

    async def close(self) -> None:
        """Nothing to let go of."""

    def _log(self, place: Position) -> list[Record]:
        return self._database.server.schemas[TOPICS[place[0]].producer].logs[place]

    def _first(self, place: Position) -> int:
        return self._database.server.schemas[TOPICS[place[0]].producer].kept.get(place, 0)

    def _there(self, positions: Mapping[Position, int], max_records: int) -> list[Record]:
        each = max(1, max_records // max(1, len(positions)))
        found: list[Record] = []
        for place, asked in sorted(positions.items()):
            first = self._first(place)
            offset = max(asked, first)
            records = within(self._log(place)[offset : offset + each], READ_BYTES // len(positions), _size)
            found += [replace(record, first=True) if record.offset == first > 0 else record for record in records]
        return found


def _size(record: Record) -> int:
    return len(record.data)


async def _settled(session: Session, consumer: str, worker: str) -> None:
    """Waits, as an UPDATE would, for open transactions that have moved one of the worker's rows."""
    tx = SimulatedTx(session.database)
    try:
        for (name, place), row in sorted(session.database.state.positions.items()):
            if name == consumer and row.owner == worker:
                await session.server.lock(tx, ("row", consumer, place))
    finally:
        tx.end()
    if session.is_closed():
        raise Cut("session")


def _widen(schema: Schema, consumer: str, topic: str, partitions: int) -> None:
    for partition in range(partitions):
        schema.positions.setdefault((consumer, (topic, partition)), Row())


def _rows(schema: Schema, consumer: str) -> dict[str, dict[Position, Row]]:
    """The consumer's places, by topic."""
    found: dict[str, dict[Position, Row]] = defaultdict(dict)
    for (name, place), row in schema.positions.items():
        if name == consumer:
            found[place[0]][place] = row
    return found


def moved(row: Row, following: int) -> Callable[[], None]:
    """Writes a position."""

    def write() -> None:
        row.next_offset = following

    return write


def _appended(log: list[Record], place: Position, events: Sequence[Event], now: float) -> Callable[[], None]:
    def write() -> None:
        for event in events:
            log.append(
                Record(
                    **asdict(event),
                    topic=place[0],
                    partition=place[1],
                    offset=len(log),
                    appended_at=START + timedelta(seconds=now),
                )
            )

    return write

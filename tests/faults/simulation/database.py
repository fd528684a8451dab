"""A database for simulations: what PostgreSQL promises to the loop and the log, in memory and on virtual time.

Transactions are READ COMMITTED with row locks held to the end. A commit takes effect at one moment, and its answer may
be lost. Who is paused within a transaction is cut off after a while; who dies is rolled back.
"""

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from libs.common.contracts.topics import TOPICS
from libs.common.db import IDLE_IN_TRANSACTION
from libs.common.log.base import Position, Record
from libs.common.own_time import OwnTime
from tests.faults.simulation.clockwork import passes

T = TypeVar("T")


class Cut(ConnectionError):
    """The connection is gone; whether the last statement took effect, nobody knows."""


@dataclass(slots=True)
class Faults:
    """How often things go wrong: chances for each statement or commit."""

    lost_before: float = 0.0
    """The connection is cut before the statement or commit takes effect."""
    lost_after: float = 0.0
    """The commit takes effect and its answer is lost."""
    slow: float = 0.0
    """It takes a hundred times as long."""


def within(records: Sequence[T], limit: int, size: Callable[[T], int]) -> list[T]:
    """Those first ones that a read takes before it has had `limit` bytes."""
    taken: list[T] = []
    total = 0
    for record in records:
        if total >= limit:
            break
        taken.append(record)
        total += size(record)
    return taken


class Actor:
    """A process: may be paused, and may be dead."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sending: list[asyncio.Task[None]] = []
        """What it has put on the way to Kafka."""
        self._goes = asyncio.Event()
        self._goes.set()

    def pause(self) -> None:
        """SIGSTOP."""
        self._goes.clear()

    def resume(self) -> None:
        """SIGCONT."""
        self._goes.set()

    async def goes(self) -> None:
        """Waits while it is stopped."""
        while not self._goes.is_set():
            await self._goes.wait()


@dataclass(slots=True)
class Row:
    """A consumer's place in a partition."""

    next_offset: int = 0
    owner: str | None = None
    lease_until: float = 0.0


@dataclass(slots=True)
class Schema:
    """A service's committed state."""

    logs: dict[Position, list[Record]] = field(default_factory=lambda: defaultdict(list))
    partitions: dict[str, int] = field(
        default_factory=lambda: {name: topic.partitions for name, topic in TOPICS.items()}
    )
    kept: dict[Position, int] = field(default_factory=dict)
    """From which offset on retention has left a log as it was; 0 unless told otherwise."""
    positions: dict[tuple[str, Position], Row] = field(default_factory=dict)
    workers: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    dead: dict[tuple[str, Position, int], str] = field(default_factory=dict)
    effects: list[tuple[str, Any]] = field(default_factory=list)
    """What handlers left, in the order of the commits."""
    latest: int = 0
    """Of the transactions that have committed the one that began last."""


class Server:
    """One database server for all services of a simulation."""

    def __init__(self, dice: Random, faults: Faults, counts: Counter[str]) -> None:
        """`counts`: what befell whom, by kind."""
        self.dice = dice
        self.faults = faults
        self.counts = counts
        self.schemas: dict[str, Schema] = defaultdict(Schema)
        self.appended = asyncio.Event()
        """Rings when something was appended to a log."""
        self.sessions: dict[Session, None] = {}
        self.open: dict[SimulatedTx, None] = {}
        """Transactions that have neither committed nor rolled back."""
        self.begun = 0
        self._locks: dict[Hashable, SimulatedTx] = {}
        self._shares: dict[Hashable, set[SimulatedTx]] = defaultdict(set)
        self._unlocked = asyncio.Event()

    @property
    def now(self) -> float:
        """The server's clock."""
        return asyncio.get_running_loop().time()

    async def statement(self, actor: Actor) -> None:
        """The way there and back. Cut at times."""
        await actor.goes()
        seconds = self.dice.uniform(0.0002, 0.002)
        if self.dice.random() < self.faults.slow:
            self.counts["slow statement"] += 1
            seconds *= 100
        await passes(seconds)
        await actor.goes()
        if self.dice.random() < self.faults.lost_before:
            self.counts["cut connection"] += 1
            raise Cut("before")

    async def lock(self, tx: "SimulatedTx", key: Hashable) -> None:
        """Takes a row's or a table's lock, waiting for whoever has it."""
        while self._held_by_another(tx, key) or self._shares.get(key, set()) - {tx}:
            await self._unlocking(tx)
        if key not in self._locks:
            self._locks[key] = tx
            tx.locks.append(key)

    async def share(self, tx: "SimulatedTx", key: Hashable) -> None:
        """The same beside others who share it."""
        while self._held_by_another(tx, key):
            await self._unlocking(tx)
        if tx not in self._shares[key]:
            self._shares[key].add(tx)
            tx.shares.append(key)

    def _held_by_another(self, tx: "SimulatedTx", key: Hashable) -> bool:
        return self._locks.get(key, tx) is not tx

    async def _unlocking(self, tx: "SimulatedTx") -> None:
        self._unlocked.clear()
        await self._unlocked.wait()
        tx.check()

    def is_free(self, key: Hashable) -> bool:
        """Whether nobody holds the row's lock."""
        return key not in self._locks

    def unlock(self, tx: "SimulatedTx") -> None:
        """Lets go of all of a transaction's locks."""
        for key in tx.locks:
            del self._locks[key]
        for key in tx.shares:
            self._shares[key].discard(tx)
        if tx.locks or tx.shares:
            tx.locks.clear()
            tx.shares.clear()
            self._unlocked.set()

    def alive(self, worker: str) -> bool:
        """Whether a session holds the lock on the worker's name."""
        return any(worker in session.names for session in self.sessions)

    def forget(self, actor: Actor) -> None:
        """The process is gone: the server sees it, and lets go of what its sessions held."""
        for session in list(self.sessions):
            if session.database.actor is actor:
                session.terminate()

    def restart(self) -> None:
        """Every connection is cut; what was committed is there."""
        for session in list(self.sessions):
            session.terminate()
        for tx in list(self.open):
            tx.cut()


class Session:
    """A connection outside the pool."""

    def __init__(self, database: "SimulatedDatabase") -> None:
        self.database = database
        self.server = database.server
        self.names: set[str] = set()
        """Of workers: it holds the locks on them."""
        self.server.sessions[self] = None

    def is_closed(self) -> bool:
        """As asyncpg's."""
        return self not in self.server.sessions

    def terminate(self) -> None:
        """As asyncpg's."""
        self.server.sessions.pop(self, None)

    async def close(self, *, timeout: float) -> None:
        """As asyncpg's."""
        del timeout
        self.terminate()

    async def statement(self) -> None:
        """One round trip."""
        await self.server.statement(self.database.actor)
        if self.is_closed():
            raise Cut("session")


_COUNT = "SELECT count(*) FROM log_partitions WHERE topic = $1"
_END = "SELECT next_offset FROM log_partitions WHERE topic = $1 AND partition = $2"
_LOG = re.compile(r"SELECT \"offset\", id FROM log_(\w+) WHERE partition = \$1 AND \"offset\" = ANY\(\$2::bigint\[\]\)")


class _Raw:
    """The statements that the relay asks by itself."""

    def __init__(self, tx: "SimulatedTx") -> None:
        self._tx = tx

    async def fetchval(self, sql: str, *arguments: Any) -> Any:
        """How many partitions a topic has; or where a partition of the log ends."""
        await self._tx.statement()
        state = self._tx.database.state
        if sql == _COUNT:
            return state.partitions[arguments[0]]
        assert sql == _END, sql
        return len(state.logs[arguments[0], arguments[1]])

    async def fetch(self, sql: str, *arguments: Any) -> list[dict[str, Any]]:
        """The ids of the records at some places of the log."""
        await self._tx.statement()
        asked = _LOG.fullmatch(sql)
        assert asked is not None, sql
        partition, offsets = arguments
        log = self._tx.database.state.logs[asked[1], partition]
        return [{"offset": n, "id": log[n].id} for n in offsets if 0 <= n < len(log)]


class SimulatedTx:
    """An open transaction: what it writes is seen by nobody until it commits."""

    def __init__(self, database: "SimulatedDatabase") -> None:
        self.database = database
        self.pg = _Raw(self)
        self.after_commit: list[Callable[[], None]] = []
        self.appended: set[str] = set()
        self.own = OwnTime()
        self.writes: list[Callable[[], None]] = []
        self.locks: list[Hashable] = []
        self.shares: list[Hashable] = []
        server = database.server
        server.begun += 1
        server.open[self] = None
        self._number = server.begun
        self._cut = False
        self._idle_since: float | None = None

    def check(self) -> None:
        """Raises when the server has ended it."""
        if self._cut:
            raise Cut("transaction")

    def cut(self) -> None:
        """The server ends it: rolled back."""
        self._cut = True
        self.end()

    def end(self) -> None:
        """No lock is left."""
        self.database.server.open.pop(self, None)
        self.database.server.unlock(self)

    async def statement(self) -> None:
        """One round trip within it."""
        begins, self._idle_since = self._idle_since is None, self.database.server.now
        if begins:
            self._watch()
        await self.database.server.statement(self.database.actor)
        self.check()

    def _watch(self) -> None:
        """Cuts it when it has been idle for too long; else looks again when it could have been."""
        if self in self.database.server.open and self._idle_since is not None:
            until = self._idle_since + IDLE_IN_TRANSACTION
            if self.database.server.now >= until:
                self.cut()
            else:
                asyncio.get_running_loop().call_at(until, self._watch)

    def effect(self, name: str, value: Any) -> None:
        """What a handler does."""
        self.writes.append(lambda: self.database.state.effects.append((name, value)))

    async def commit(self) -> None:
        """All at one moment, or nothing."""
        server = self.database.server
        await self.statement()
        for write in self.writes:
            write()
        if self.writes:
            state = self.database.state
            server.counts["reordered commit"] += self._number < state.latest
            state.latest = max(state.latest, self._number)
        self.end()
        if self.appended:
            server.appended.set()
            server.appended.clear()
        if server.dice.random() < server.faults.lost_after:
            server.counts["lost answer"] += 1
            raise Cut("after the commit")


class SimulatedDatabase:
    """One process' way to one service's schema: what `Database` is to the loop."""

    def __init__(self, server: Server, schema: str, actor: Actor) -> None:
        self.server = server
        self.schema = schema
        self.actor = actor
        self.idle = IDLE_IN_TRANSACTION

    @property
    def state(self) -> Schema:
        """What is committed."""
        return self.server.schemas[self.schema]

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[SimulatedTx]:
        """As `Database.transaction`."""
        tx = SimulatedTx(self)
        try:
            await tx.statement()
            yield tx
            await tx.commit()
            for call in tx.after_commit:
                call()
        finally:
            tx.end()
            tx.after_commit.clear()

    async def session(self) -> Session:
        """As `Database.session`."""
        await self.server.statement(self.actor)
        return Session(self)

"""The journal's front: concurrent requests share one commit.

While one group is being committed the next one gathers, so groups grow with the load. Only behind a large group does
the next one wait for company, some milliseconds at most: see `Journal._gather`.
Whoever appends is told once the commit is there, or that it cannot be had in time; never both.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum, auto
from functools import partial
from hashlib import blake2b
from typing import Any, NamedTuple

import asyncpg
from prometheus_client import Counter, Histogram

from libs.common.clock import monotonic
from libs.common.contracts import codec
from libs.common.contracts.journal import Delivery
from libs.common.contracts.topics import JOURNAL
from libs.common.db import Database, is_transient
from libs.common.log.base import Event
from libs.common.log.bell import ring
from libs.common.log.postgres import append_unique
from libs.common.telemetry import get_logger

APPENDED = Counter("regulars_ingest_deliveries_total", "Deliveries committed to the journal.")
GROUP = Histogram("regulars_ingest_group_size", "Deliveries in one commit.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256))
COMMIT = Histogram("regulars_ingest_commit_seconds", "Time of one commit of the journal.")
FAILED = Counter("regulars_ingest_commit_failures_total", "Commits of the journal that failed or took too long.")

GROUP_LENGTH = 256
GROUP_BYTES = 8 * 1024 * 1024
GATHER_SECONDS = 0.005
"""For how long at the most a group waits for those who come without a pause."""
BUSY = 8
"""Length of a group behind which as many are expected again, and waited for by the clock: each commit costs about a
millisecond, here and in PostgreSQL, and fewer of them leave room for a bad second. Where less comes nobody waits."""
ENOUGH = 64
"""Of them. Were all in one group, this process and PostgreSQL would take turns, and not work at the same time."""
PAUSE_SECONDS = 0.001
"""In which nobody came, until none of them is expected any more."""
TURNS = 2
"""Of the loop in which nobody came, until none is expected: what does not go the short way takes two from its arrival
to here."""
DIGEST_BYTES = 16
"""No two deliveries ever share them, and the index stays small."""
_SECOND_DIGITS = 12
_SECOND_BYTES = 5
BELL_SECONDS = 0.02
"""Least time between two rings: NOTIFY is a commit of its own."""
RETRY_SECONDS = 0.05
SOURCE = "/webhooks"

log = get_logger(__name__)


class Unavailable(Exception):
    """Nothing was promised: come back later. `reason` is `overloaded` or `journal`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Kept(Enum):
    """What became of a delivery."""

    NEW = auto()
    """It is committed."""
    SEEN = auto()
    """Its digest was."""
    NOT = auto()
    """Nothing was promised: there was no commit in time."""


Tell = Callable[[Kept], None]


class _Waiting(NamedTuple):
    event: Event
    digest: bytes
    since: float
    tell: Tell


class _Session:
    """A connection of its own; another one once it is cut. The pool's way to one costs as much as what it is for."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: asyncpg.Connection[Any] | None = None

    async def get(self) -> "asyncpg.Connection[Any]":
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._database.session()
        return self._connection

    def cut(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def close(self) -> None:
        if self._connection is not None:
            with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await self._connection.close(timeout=1)


def digest_of(*identity: str, changed: bytes = b"") -> bytes:
    """What makes a delivery the same one again. No part may hold a NUL (headers cannot).

    `changed`, a time in ISO 8601 (anything else counts as none), must follow from the identity. It leads, to the
    second: what is new then goes to the same few pages of the index, however many digests there are. Spread over the
    whole of it, they had every page of it logged in full behind each checkpoint.
    """
    second = changed[2:19].translate(None, b"-:T ")
    dated = second.isdigit() and len(second) == _SECOND_DIGITS
    mark = blake2b("\0".join(identity).encode(), digest_size=DIGEST_BYTES).digest()
    return (int(second) if dated else 0).to_bytes(_SECOND_BYTES) + mark


def source_of(delivery: Delivery) -> str:
    """The event's CloudEvents source: who sent it, and what about. `origin_of` takes it apart."""
    return f"{SOURCE}/{delivery.platform}/{delivery.store}/{delivery.topic}"


def origin_of(source: str) -> tuple[str, str, str]:
    """Platform, store key and topic of a journal event's source."""
    platform, store, topic = source.removeprefix(f"{SOURCE}/").split("/", 2)
    return platform, store, topic


class Journal:
    """Appends deliveries for one API process."""

    def __init__(self, database: Database, *, wait: float, queue_length: int, queue_bytes: int) -> None:
        """`wait`: seconds that a delivery may take to be committed, all in all."""
        self._database = database
        self._wait = wait
        self._queue_length = queue_length
        self._queue_bytes = queue_bytes
        self._queue: deque[_Waiting] = deque()
        self._length = 0
        """Of the last group."""
        self._bytes = 0
        self._news = asyncio.Event()
        self._stop = asyncio.Event()
        self._unheard = asyncio.Event()
        self._session = _Session(database)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins to commit; on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._tasks = [asyncio.create_task(task) for task in (self._work(), self._expire(), self._ring())]

    async def stop(self) -> None:
        """Commits what is waiting, then ends."""
        self._stop.set()
        self._news.set()
        self._unheard.set()
        await asyncio.gather(*self._tasks)

    def append(self, event: Event, digest: bytes, *, room: float = 1.0) -> "asyncio.Future[bool]":
        """As `offer`, for who waits: the future has whether it is new, or raises Unavailable."""
        answer: asyncio.Future[bool] = self._loop.create_future()
        self.offer(event, digest, partial(_settle, answer), room=room)
        return answer

    def offer(self, event: Event, digest: bytes, tell: Tell, *, room: float = 1.0) -> None:
        """`tell` is called once it is committed, or when that cannot be had in time; it is to be quick.

        `room`: the part of the queue that is open to this sender; the rest is kept for those who matter more. Raises
        Unavailable, and tells nothing, when there is none.
        """
        if self._stop.is_set():
            raise Unavailable("journal")
        length, size = self._queue_length * room, self._queue_bytes * room
        if len(self._queue) >= length or self._bytes + len(event.data) > size:
            raise Unavailable("overloaded")
        self._queue.append(_Waiting(event, digest, monotonic(), tell))
        self._bytes += len(event.data)
        self._news.set()

    def _take(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        size = 0
        while self._queue and len(group) < GROUP_LENGTH and size < GROUP_BYTES:
            waiting = self._queue.popleft()
            size += len(waiting.event.data)
            group.append(waiting)
        self._bytes -= size
        if not self._queue and not self._stop.is_set():
            self._news.clear()
        return group

    async def _work(self) -> None:
        """One commit at a time: a second one beside it would only make both smaller, and each has its price."""
        while True:
            await self._news.wait()
            await self._gather()
            if group := self._take():
                self._length = len(group)
                await self._commit(group)
            elif self._stop.is_set():
                break
        await self._session.close()

    async def _gather(self) -> None:
        """Lets in whom the process is busy with anyhow, and behind a large group those who are expected again.

        A larger group costs less. Where little comes, nobody waits for anybody.
        """
        until = monotonic() + GATHER_SECONDS
        expected = min(self._length, ENOUGH) if self._length >= BUSY else 0
        left, length = TURNS, len(self._queue)
        while left and length < GROUP_LENGTH and monotonic() < until:
            missed = length < expected
            await asyncio.sleep(PAUSE_SECONDS if missed else 0)
            if len(self._queue) > length:
                left, length = TURNS, len(self._queue)
            else:
                left = 0 if missed else left - 1

    async def _commit(self, group: Sequence[_Waiting]) -> None:
        started = monotonic()
        try:
            async with asyncio.timeout(max(0.0, group[0].since + self._wait - started)):
                appended = await self._append(group)
        except Exception as error:
            # A commit that is late may still happen; nobody was told that it did, and a repeat is found by its digest.
            self._session.cut()
            _refuse(group)
            FAILED.inc()
            if is_transient(error):
                log.warning("journal unavailable", error=type(error).__name__, deliveries=len(group))
            else:
                log.exception("journal fault", deliveries=len(group))
            return
        COMMIT.observe(monotonic() - started)
        GROUP.observe(len(group))
        APPENDED.inc(sum(appended))
        self._unheard.set()
        for waiting, was_appended in zip(group, appended, strict=True):
            _tell(waiting, Kept.NEW if was_appended else Kept.SEEN)

    async def _append(self, group: Sequence[_Waiting]) -> list[bool]:
        """Tries again and again until time is up, so that a restart of the database goes unnoticed.

        Trying again is safe: what a lost connection did commit is found by its digest.
        """
        events, digests = [w.event for w in group], [w.digest for w in group]
        while True:
            try:
                return await append_unique(await self._session.get(), JOURNAL, events, digests)
            except Exception as error:
                if not is_transient(error) or self._stop.is_set():
                    raise
                FAILED.inc()
                self._session.cut()
                await self._pause(RETRY_SECONDS)

    async def _expire(self) -> None:
        """Answers those whose turn did not come in time."""
        while not self._stop.is_set():
            await self._pause(self._wait / 8)
            latest = monotonic() - self._wait
            while self._queue and self._queue[0].since < latest:
                waiting = self._queue.popleft()
                self._bytes -= len(waiting.event.data)
                _refuse([waiting])

    async def _ring(self) -> None:
        """Wakes the normaliser."""
        bell = _Session(self._database)
        while not self._stop.is_set():
            await self._unheard.wait()
            self._unheard.clear()
            try:
                async with asyncio.timeout(self._wait):
                    await ring(await bell.get(), {JOURNAL.name})
            except Exception as error:
                bell.cut()
                # Nothing is lost: a reader looks for himself each second.
                if not is_transient(error):
                    log.exception("bell fault")
            await self._pause(BELL_SECONDS)
        await bell.close()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()


def event_of(delivery: Delivery, *, id: str, tenant: str, root: str, time: Any, traceparent: str | None) -> Event:  # noqa: A002
    """The journal's event of a delivery; `root` as `services.ingest.normalise.root_key` has it."""
    return Event(
        id=id,
        type="delivery.received",
        source=source_of(delivery),
        tenant=tenant,
        key=f"{delivery.store}:{root}",
        time=time,
        data=codec.encode(JOURNAL.name, delivery),
        traceparent=traceparent,
    )


def _refuse(group: Sequence[_Waiting]) -> None:
    for waiting in group:
        _tell(waiting, Kept.NOT)


def _tell(waiting: _Waiting, kept: Kept) -> None:
    try:
        waiting.tell(kept)
    except Exception:
        # The others of the group are still to be told.
        log.exception("answer fault")


def _settle(answer: "asyncio.Future[bool]", kept: Kept) -> None:
    if answer.done():
        return
    if kept is Kept.NOT:
        answer.set_exception(Unavailable("journal"))
    else:
        answer.set_result(kept is Kept.NEW)

"""What is attacked, and what is seen meanwhile: memory, transactions, and how a good sender fares."""

import asyncio
import multiprocessing
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from math import ceil
from multiprocessing.connection import Connection
from time import monotonic
from typing import Any, NamedTuple, Self

import asyncpg

from regulars.shop import shopify
from tests.faults.attacking.wire import Answer, Headers, request
from tests.faults.running import Running
from tests.faults.traffic import SHOP, Sender, orders
from tests.waiting import pause

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
GOOD_RATE = 20
"""Webhooks a second of the good sender, each on a connection of its own."""
LOOK_SECONDS = 0.2
PROBLEMS = frozenset("45")
_FIRST_GOOD = 1_000_000


@dataclass(slots=True)
class Seen:
    """What came of an attack."""

    sent: str
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def expect(self, answer: Answer, right: str, what: str) -> None:
        """Counts an answer; `right` lists what it may be, by commas."""
        self.answers[answer.status] += 1
        if answer.status not in right.split(","):
            self.wrong.append(f"{what}: {answer.status} and not {right} {answer.body[:200]!r}")
        elif answer.status[0] in PROBLEMS and not answer.is_problem:
            self.wrong.append(f"{what}: {answer.status} is no problem document")

    def told(self) -> str:
        """The answers, in short."""
        return ", ".join(f"{status} x{n:,}" if n > 1 else status for status, n in sorted(self.answers.items()))


@dataclass(slots=True)
class Ground:
    """A running installation with a store that is attacked and one that goes on selling."""

    run: Running
    port: int
    key: str
    """Of the attacked store."""
    api_key: bytes
    database: "asyncpg.Connection[Any]"
    numbers: "count[int]" = field(default_factory=count)

    def webhook(self, body: bytes, *, store: str | None = None, headers: Headers = ()) -> bytes:
        """A signed one; `headers` come besides."""
        target = f"/webhooks/shopify/{store or self.key}".encode()
        return request(target, headers=[*self.signed(body), *headers], body=body)

    def signed(self, body: bytes, secret: str = SHOP.secret) -> list[tuple[bytes, bytes]]:
        """Headers of a delivery that was never before."""
        return [
            (b"X-Shopify-Topic", b"orders/create"),
            (b"X-Shopify-Webhook-Id", b"attack-%d" % next(self.numbers)),
            (b"X-Shopify-Hmac-Sha256", shopify.sign(secret, body).encode()),
        ]

    def order(self) -> bytes:
        """A good body."""
        return orders(1, NOW, first=next(self.numbers))[0].request()[1]

    def api(self, target: bytes, *, method: bytes = b"POST", headers: Headers = (), body: bytes = b"") -> bytes:
        """A request of the API with a key to everything; JSON unless the headers say otherwise."""
        given = list(headers)
        if not any(name.lower() == b"content-type" for name, _ in given):
            given.append((b"Content-Type", b"application/json"))
        authorised = (b"Authorization", b"Bearer " + self.api_key)
        return request(target, method=method, headers=[authorised, *given], body=body)

    async def asked(self, path: str) -> Any:
        """What the API says."""

        def get() -> Any:
            with self.run.client() as client:
                return client.get(path).raise_for_status().json()

        return await asyncio.to_thread(get)

    async def transactions(self) -> int:
        """Committed so far in the database, as far as its backends have told."""
        found = await self.database.fetchval(
            "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
        )
        return int(found)


class Attack(NamedTuple):
    """One kind of attack."""

    name: str
    make: Callable[[Ground], Awaitable[Seen]]
    alone: bool = False
    """The good sender rests: what is counted would be his too."""


async def at_once(work: "list[Coroutine[Any, Any, None]]", width: int) -> None:
    """All of it, so many at a time."""
    waiting = iter(work)

    async def lane() -> None:
        for each in waiting:
            await each

    async with asyncio.TaskGroup() as group:
        for _ in range(width):
            group.create_task(lane())


class Memory:
    """The most that all processes had, from `with` to its end."""

    def __init__(self, run: Running) -> None:
        self.peak = 0
        self._run = run
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            self.peak = max(self.peak, self._run.memory())
            if self._done.wait(LOOK_SECONDS):
                return


class Fared(NamedTuple):
    """How the good sender fared."""

    sent: int
    refused: int
    """503, a broken connection, or worse: tried again."""
    middle: float
    """Seconds, with whatever had to be tried again."""
    slowest: float
    p99: float
    unanswered: int
    """Of those on their way, older than a second."""

    def __str__(self) -> str:
        return f"{self.middle * 1000:.0f} / {self.p99 * 1000:.0f} / {self.slowest * 1000:.0f} ms of {self.sent}"


class GoodSender:
    """A shop that goes on selling, in a process of its own: it must not wait for the attacker's turn."""

    def __init__(self, address: str, key: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_sell, args=(theirs, address, key), daemon=True)
        self._process.start()
        theirs.close()

    def fared(self) -> Fared:
        """Since the last time; and begins anew."""
        self._pipe.send("fared")
        found = self._pipe.recv()
        assert isinstance(found, Fared)
        return found

    def rest(self) -> None:
        """Until asked how he fared."""
        self._pipe.send("rest")
        self._pipe.recv()

    def close(self) -> None:
        """No more."""
        self._pipe.send("end")
        self._process.join(20)


def _sell(pipe: Connection, address: str, key: str) -> None:
    asyncio.run(_selling(pipe, f"{address}/webhooks/shopify/{key}"))


async def _selling(pipe: Connection, url: str) -> None:
    numbers = count(_FIRST_GOOD)
    under_way: dict[asyncio.Task[None], float] = {}
    seconds: list[float] = []
    refused: list[str] = []
    resting = False

    async def one() -> None:
        sender = Sender(lambda: url)
        began = monotonic()
        await sender.send(orders(1, NOW, first=next(numbers)), at_once=1)
        seconds.append(monotonic() - began)
        refused.extend(["again"] * (sender.unavailable + sender.broken) + sender.other)

    due = monotonic()
    while True:
        due = max(due + 1 / GOOD_RATE, monotonic() - 1.0)
        await pause(max(0.0, due - monotonic()))
        if not resting:
            task = asyncio.create_task(one())
            under_way[task] = monotonic()
            task.add_done_callback(under_way.pop)
        if not pipe.poll():
            continue
        asked = pipe.recv()
        if asked == "end":
            return
        resting = asked == "rest"
        if resting and under_way:
            await asyncio.wait(under_way)
        told = sorted(seconds) or [0.0]
        late = sum(monotonic() - began > 1.0 for began in under_way.values())
        p99 = told[ceil(0.99 * len(told)) - 1]
        pipe.send(Fared(len(seconds), len(refused), told[len(told) // 2], told[-1], p99, late))
        seconds.clear()
        refused.clear()

"""Who waits for news of a topic is woken here: one LISTEN connection a process, one look at the ends a ring."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import asyncpg

from libs.common.log.base import Position

CHANNEL = "regulars_log"
"""NOTIFY channel; the payload is the topic's name."""

LOOK_EVERY = 1.0
"""Seconds between looks of our own: a bell is a hint, and one can be lost with its connection."""

LINGER = 0.004
"""Seconds from the bell to the look. What comes meanwhile shares the batch, and with it some thirty statements."""


class Bell:
    """Keeps the last known end of each topic that somebody waits for."""

    def __init__(
        self,
        connect: "Callable[[], Awaitable[asyncpg.Connection[Any]]]",
        end_offsets: Callable[[str], Awaitable[dict[int, int]]],
    ) -> None:
        self._connect = connect
        self._end_offsets = end_offsets
        self._ends: dict[Position, int] = {}
        self._waiting: dict[asyncio.Event, set[str]] = {}
        self._listener: asyncpg.Connection[Any] | None = None
        self._connecting = asyncio.Lock()

    def behind(self, positions: Mapping[Position, int]) -> dict[Position, int]:
        """Those positions at which the log is known to hold a record."""
        return {place: offset for place, offset in positions.items() if self._ends.get(place, 0) > offset}

    async def wait(self, positions: Mapping[Position, int], seconds: float) -> dict[Position, int]:
        """Waits up to `seconds` until one of the positions has a record."""
        await self._listen()
        topics = {topic for topic, _ in positions}
        deadline = asyncio.get_running_loop().time() + seconds
        rung = asyncio.Event()
        self._waiting[rung] = topics
        try:
            behind = await self._look(topics, positions)
            while not behind and (left := deadline - asyncio.get_running_loop().time()) > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left, LOOK_EVERY)):
                        await rung.wait()
                    await asyncio.sleep(LINGER)
                # Cleared before the look: what rings during the look is seen in the next turn.
                rung.clear()
                behind = await self._look(topics, positions)
        finally:
            del self._waiting[rung]
        return behind

    async def _look(self, topics: set[str], positions: Mapping[Position, int]) -> dict[Position, int]:
        for topic in topics:
            for partition, end in (await self._end_offsets(topic)).items():
                self._ends[topic, partition] = end
        return self.behind(positions)

    async def _listen(self) -> None:
        async with self._connecting:
            if self._listener is None or self._listener.is_closed():
                self._listener = await self._connect()
                await self._listener.add_listener(CHANNEL, self._on_notify)

    def _on_notify(self, _connection: object, _pid: int, _channel: str, topic: object) -> None:
        for rung, topics in self._waiting.items():
            if topic in topics:
                rung.set()

    async def close(self) -> None:
        """Stops listening."""
        if self._listener is not None:
            with suppress(OSError, asyncpg.InterfaceError, TimeoutError):  # the server may be gone already
                await self._listener.close(timeout=2)


async def ring(pg: "asyncpg.Connection[Any]", topics: set[str]) -> None:
    """Wakes the readers of the topics. Not inside a writing transaction: there, NOTIFY makes all commits queue up."""
    await pg.execute("SELECT pg_notify($1, topic) FROM unnest($2::text[]) AS t(topic)", CHANNEL, sorted(topics))

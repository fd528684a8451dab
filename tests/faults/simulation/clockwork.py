"""An event loop without a clock and without chance: time jumps to the next timer, and a seed decides who goes first.

Whatever runs on it and talks to nobody outside runs the same way again under the same seed.
"""

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")
LONGEST = 3600.0
"""Virtual seconds. Whoever has not come to an end by then hangs."""


class Hangs(Exception):
    """Nobody has anything to do any more, or they do it for ever."""


class _NoNetwork(selectors.BaseSelector):
    """Waits by moving the loop's time forward."""

    def __init__(self) -> None:
        self.now = 0.0
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Hangs("everybody waits for somebody")
        if timeout > 0:
            self.now += timeout
        if self.now > LONGEST:
            raise Hangs(f"not done after {LONGEST:.0f} virtual seconds")
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self._keys[fileobj] = selectors.SelectorKey(fileobj, 0, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys


class _Numbered(asyncio.Task[Any]):
    """asyncio keeps tasks in sets: hashed by their number, these always come out in the same order."""

    def __init__(self, coroutine: Any, *, number: int, **options: Any) -> None:
        self.number = number
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self.number


class Clockwork(asyncio.SelectorEventLoop):
    """asyncio's own loop on virtual time; what is ready at one moment runs in an order drawn by the dice."""

    def __init__(self, dice: Random) -> None:
        self._world = _NoNetwork()
        super().__init__(self._world)
        self._dice = dice
        self._tasks = 0
        self.set_task_factory(self._numbered)

    def _numbered(self, _: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> _Numbered:
        self._tasks += 1
        return _Numbered(coroutine, number=self._tasks, loop=self, **options)

    def time(self) -> float:
        """Virtual seconds since the start."""
        return self._world.now

    def _run_once(self) -> None:
        # What timers have made due joins the ready ones within; their order among themselves is that of time.
        ready = list(self._ready)  # type: ignore[attr-defined]
        self._dice.shuffle(ready)
        self._ready.clear()  # type: ignore[attr-defined]
        self._ready.extend(ready)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


async def passes(seconds: float) -> None:
    """Lets so much virtual time go by."""
    await asyncio.sleep(seconds)  # noqa: TID251 (nobody waits for it)


def run(main: Coroutine[Any, Any, T], dice: Random) -> T:
    """Runs `main` to its end on a loop of its own."""
    loop = Clockwork(dice)
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(main)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        asyncio.set_event_loop(None)
        loop.close()

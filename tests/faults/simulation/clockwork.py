"""An event loop without a clock and without chance: time jumps to the next timer, and a seed decides who goes first.

Whatever runs on it and talks to nobody outside runs the same way again under the same seed.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context, copy_context
from heapq import heappop, heappush
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")
LONGEST = 3600.0
"""Virtual seconds. Whoever has not come to an end by then hangs."""


class Hangs(Exception):
    """Nobody has anything to do any more, or they do it for ever."""


class _Turn(asyncio.TimerHandle):
    """What is to be called. asyncio's own handles look after debugging, which costs more than the call."""

    __slots__ = ()

    def __init__(self, when: float, callback: Callable[..., Any], args: Sequence[Any], context: Context | None) -> None:
        self._when = when
        self._callback = callback
        self._args = args
        self._context = copy_context() if context is None else context
        self._cancelled = False

    def cancel(self) -> None:
        """It will not be called; what it held is let go at once."""
        self._cancelled = True
        self._callback = self._args = None  # type: ignore[assignment]


class _Numbered(asyncio.Task[Any]):
    """asyncio keeps tasks in sets: hashed by their number, these always come out in the same order."""

    def __init__(self, coroutine: Any, *, number: int, **options: Any) -> None:
        self.number = number
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self.number


class Clockwork(asyncio.BaseEventLoop):
    """asyncio's own loop on virtual time; what is ready at one moment runs in an order drawn by the dice."""

    def __init__(self, dice: Random) -> None:
        super().__init__()
        self._dice = dice
        self._now = 0.0
        self._tasks = 0
        self._turns: list[_Turn] = []
        self._timers: list[tuple[float, int, _Turn]] = []
        self._armed = 0
        self.set_task_factory(self._numbered)

    def _numbered(self, _: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> _Numbered:
        self._tasks += 1
        return _Numbered(coroutine, number=self._tasks, loop=self, **options)

    def time(self) -> float:
        """Virtual seconds since the start."""
        return self._now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _Turn:
        """As asyncio's."""
        turn = _Turn(self._now, callback, args, context)
        self._turns.append(turn)
        return turn

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _Turn:
        """As asyncio's."""
        return self._at(_Turn(self._now + delay, callback, args, context))

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _Turn:
        """As asyncio's; of those that are due at one moment the first comes first."""
        return self._at(_Turn(when, callback, args, context))

    def _at(self, turn: _Turn) -> _Turn:
        self._armed += 1
        heappush(self._timers, (turn._when, self._armed, turn))
        return turn

    def _run_once(self) -> None:
        turns, self._turns = self._turns, []
        if len(turns) > 1:
            self._dice.shuffle(turns)
        timers = self._timers
        while timers and (timers[0][2]._cancelled or timers[0][0] <= self._now or not turns):
            when, _, turn = heappop(timers)
            if not turn._cancelled:
                # Nobody waits for anything: time jumps to it. They join the others in the order of time.
                self._now = max(self._now, when)
                turns.append(turn)
        if not turns:
            raise Hangs("everybody waits for somebody")
        if self._now > LONGEST:
            raise Hangs(f"not done after {LONGEST:.0f} virtual seconds")
        for turn in turns:
            if not turn._cancelled:
                turn._run()


async def passes(seconds: float) -> None:
    """Lets so much virtual time go by."""
    loop = asyncio.get_running_loop()
    passed = loop.create_future()
    loop.call_later(seconds, _set, passed)
    await passed


def _set(passed: "asyncio.Future[None]") -> None:
    if not passed.done():
        passed.set_result(None)


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

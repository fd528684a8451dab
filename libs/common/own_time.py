"""How long something itself has run."""

from collections.abc import Awaitable, Generator
from functools import partial
from types import coroutine
from typing import Any, TypeVar

from libs.common.clock import monotonic

T = TypeVar("T")


class OwnTime:
    """Of one transaction. What others ran in the same event loop meanwhile is not its own, nor what it waited for."""

    def __init__(self) -> None:
        self.seconds = 0.0

    async def of(self, work: Awaitable[T]) -> T:
        """Awaits it, and adds the time that it runs."""
        return await self._steps(work)

    @coroutine
    def _steps(self, work: Awaitable[T]) -> Generator[Any, Any, T]:
        running = work.__await__()
        step = partial(running.send, None)
        while True:
            began = monotonic()
            try:
                awaited = step()
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                self.seconds += monotonic() - began
            try:
                answer = yield awaited
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is for who waits
                step = partial(running.throw, error)
            else:
                step = partial(running.send, answer)

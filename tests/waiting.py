"""Waiting for what other processes do: bounded, and no longer than it takes."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


def until(what: str, ask: Callable[[], T | None], timeout: float = 30.0, every: float = 0.05) -> T:
    """Asks until the answer is truthy, and gives it. TimeoutError, naming `what`, after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (answer := ask()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout:g} s; last answer {answer!r}")
        time.sleep(every)  # noqa: TID251 - the one place that may: another process gives no signal to wait for
    return answer


async def eventually(ask: Callable[[], Awaitable[T]], timeout: float = 30.0, every: float = 0.02) -> T:
    """The same for what happens in this process' own event loop."""
    deadline = time.monotonic() + timeout
    while not (answer := await ask()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout:g} s; last answer {answer!r}")
        await asyncio.sleep(every)  # noqa: TID251 - as above
    return answer


async def pause(seconds: float) -> None:
    """What a caller does who was told to come back later."""
    await asyncio.sleep(seconds)  # noqa: TID251 - a sender's pause is the behaviour under test

"""What a coroutine has run itself, by a clock that only its own steps move."""

import asyncio

import pytest

from libs.common import own_time
from libs.common.own_time import OwnTime


async def test_only_its_own_steps_count_and_it_is_awaited_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(own_time, "monotonic", lambda: now)
    turn: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def work() -> str:
        nonlocal now
        now += 2
        answer = await turn
        now += 3
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        return answer

    async def other() -> None:
        nonlocal now
        now += 100
        turn.set_result("done")

    own = OwnTime()
    result, _ = await asyncio.gather(own.of(work()), other())
    assert (result, own.seconds) == ("done", 5)


async def test_a_failure_comes_through() -> None:
    async def fail() -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(OwnTime().of(fail()))
    task.get_loop().call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task

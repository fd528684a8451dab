"""Webhooks at a steady rate for as long as something is broken."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

from tests.faults.scene import PLACED
from tests.faults.traffic import Sender, Webhook, at_rate, orders


class Unbroken:
    """A shop that goes on selling."""

    def __init__(self, sender: Sender, rate: int) -> None:
        """`rate`: webhooks a second."""
        self._sender = sender
        self._rate = rate
        self._sent = 0

    async def during(self, fault: Callable[[], Awaitable[None]]) -> None:
        """Sends until `fault` has returned."""
        done = asyncio.Event()
        sending = asyncio.create_task(self._sender.send(self._until(done), pace=at_rate(self._rate)))
        try:
            await fault()
            done.set()
            await sending
        finally:
            # Who is never answered would go on for ever.
            sending.cancel()

    def _until(self, done: asyncio.Event) -> Iterator[Webhook]:
        while not done.is_set():
            self._sent += 1
            yield from orders(1, PLACED, first=self._sent - 1)

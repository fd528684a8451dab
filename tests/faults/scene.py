"""Where a row of the promises plays: roles apart on Kafka, a shop that sends, a clock, a mailbox."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from time import monotonic

import asyncpg
import httpx

from libs.common.clock import DrivenClock
from regulars.demo.mailbox import Mailbox
from tests.faults.apart import Apart
from tests.faults.kill import START
from tests.faults.ledger import FIRST_ORDER, Report, drain, judge, judge_timelines, register
from tests.faults.nursery import Nursery
from tests.faults.traffic import Sender, orders
from tests.waiting import eventually, until

PLACED = START - timedelta(days=3)
"""When the first order is placed; the others follow by the second."""
FLOW_SECONDS = 60.0
_TAKEN = "SELECT sum(next_offset) FROM profiles.positions WHERE consumer = 'profiles' AND topic = 'commerce'"
LATER = 100_000_000
"""Number of the first order that only asks whether orders flow."""


@dataclass(slots=True)
class Scene:
    """Everything stands and is ready."""

    line: Apart
    clock: DrivenClock
    mailbox: Mailbox
    key: str
    """Of the store that sends."""
    sender: Sender

    async def drained(self, limit: float = 300) -> None:
        """Everything is through."""
        await asyncio.to_thread(partial(drain, self.line, limit=limit))

    async def moving(self) -> float:
        """Waits until profiles takes up what has come through Kafka; seconds that this took."""
        began = monotonic()
        connection = await asyncpg.connect(self.line.database_url)
        try:
            before = await connection.fetchval(_TAKEN)

            async def more() -> bool:
                return bool(await connection.fetchval(_TAKEN) > before)

            await eventually(more, FLOW_SECONDS)
        finally:
            await connection.close()
        return monotonic() - began

    async def flowing(self, many: int = 1) -> float:
        """Sends so many more orders, and waits until all are known at the other end; seconds that this took."""
        first = LATER + len(self.sender.acknowledged)
        began = monotonic()
        await self.sender.send(orders(many, START - timedelta(hours=1, seconds=first + many), first=first), at_once=4)
        await asyncio.to_thread(self._counted, range(first, first + many))
        return monotonic() - began

    def _counted(self, numbers: Iterable[int]) -> None:
        """Waits until these orders have come through ingest, the relay and Kafka to profiles."""
        # One client for all of them: on a busy machine it takes longer to make one than to ask.
        with self.line.client() as client:
            for n in numbers:
                order = partial(client.get, f"/v1/orders/{self.key}:{FIRST_ORDER + n}")
                until("an order flows", partial(_found, order), FLOW_SECONDS)

    async def judged(self) -> Report:
        """Drains, and holds what is there against what was acknowledged."""
        await self.drained()
        report = Report(len(self.sender.acknowledged), 0)
        await asyncio.to_thread(judge, self.line, self.key, self.sender, report)
        await asyncio.to_thread(judge_timelines, self.line, self.key, self.sender, report)
        report.wrong += await asyncio.to_thread(self.line.died)
        return report


def _found(ask: Callable[[], httpx.Response]) -> bool:
    return ask().status_code == 200


@asynccontextmanager
async def scene(
    folder: Path, nursery: Nursery, *, nodes: int = 1, proxied: bool = False, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Scene]:
    """Begins with everything ready and one store registered. `settings`: of all roles, besides."""
    clock = DrivenClock.create(folder / "clock", START)
    async with Mailbox(clock) as mailbox:
        environment = {
            "REGULARS_CLOCK_PATH": str(folder / "clock"),
            "REGULARS_SMTP_PORT": str(mailbox.port),
            **(settings or {}),
        }
        apart = Apart(folder, nursery, nodes=nodes, proxied=proxied, environment=environment)
        async with apart as line:
            key = await asyncio.to_thread(register, line)
            yield Scene(line, clock, mailbox, key, Sender(lambda: f"{line.address}/webhooks/shopify/{key}"))

"""SIGKILL in a loop under load: is anything lost that was answered 200, does anything take effect twice?

`python -m tests.faults.kill --kills 100 --webhooks 20000` prints the figures of `regulars run`; `test_kill.py` runs a
short one. `tests.faults.prove` runs the same over roles apart, on Kafka.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from time import monotonic
from typing import Protocol

from libs.common.clock import DrivenClock
from regulars.demo.mailbox import Mailbox
from tests.faults.ledger import Reachable, Report, drain, judge, judge_mails, judge_timelines, reached, register
from tests.faults.running import Running
from tests.faults.traffic import Budget, Sender, abandoned, orders
from tests.waiting import eventually, until

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
"""When the last order is placed; what the clock shows meanwhile."""
VICTIMS: Mapping[str, int] = {"api": 4, "worker": 6, "postgres": 4, "supervisor": 2, "everything": 2}
"""Of `regulars run`: whom to kill, and how often in proportion."""
IN_ADVANCE = 3
"""So many kills' share of the webhooks may leave before a kill: the load lasts as long as the kills do."""
BACK_SECONDS = 60.0
OVER = timedelta(minutes=30)
"""Within this time the checkouts were left."""
FIRST_MAIL = timedelta(minutes=45)
"""After a checkout was left."""


class Breakable(Reachable, Protocol):
    """An installation that can be hurt."""

    @property
    def address(self) -> str:
        """Where webhooks are sent to."""

    def kill(self, victim: str) -> None:
        """SIGKILL; it is started again at once."""

    def ready(self, victim: str) -> bool:
        """Whether it is there again."""


class Killing:
    """Kills one of the victims at a time, never one that is not yet back, and at most so many of them are away."""

    def __init__(self, run: Breakable, victims: Mapping[str, int], away: int, dice: Random, report: Report) -> None:
        self._run = run
        self._victims = victims
        self._away = away
        self._dice = dice
        self._report = report
        self._coming: dict[str, asyncio.Task[None]] = {}

    async def kill(self) -> None:
        """One more."""
        while len(self._coming) >= self._away:
            await asyncio.wait(self._coming.values(), return_when=asyncio.FIRST_COMPLETED)
            await self._look()
        there = {name: weight for name, weight in self._victims.items() if name not in self._coming}
        victim = self._dice.choices(list(there), list(there.values()))[0]
        if victim == "everything":
            await self.all_back()
        began = monotonic()
        await asyncio.to_thread(self._run.kill, victim)
        self._report.kills[victim] += 1
        self._coming[victim] = asyncio.create_task(self._back(victim, began))
        if victim == "everything":
            await self.all_back()
        await self._look()

    async def all_back(self) -> None:
        """Nobody is away any more."""
        if self._coming:
            await asyncio.wait(self._coming.values())
        await self._look()

    async def _look(self) -> None:
        for victim in [name for name, task in self._coming.items() if task.done()]:
            await self._coming.pop(victim)

    async def _back(self, victim: str, began: float) -> None:
        ready = partial(self._run.ready, victim)
        await asyncio.to_thread(until, f"{victim} is back", ready, BACK_SECONDS, 0.02)
        self._report.back.setdefault(victim, []).append(monotonic() - began)


async def under_fire(
    run: Breakable,
    mailbox: Mailbox,
    clock: DrivenClock,
    victims: Mapping[str, int],
    *,
    kills: int,
    webhooks: int,
    seed: int,
    away: int = 1,
) -> Report:
    """Sends the webhooks and lets the mails go out while killing; then asks the API what became of them.

    One webhook in twenty belongs to an abandoned checkout, one kill in ten falls among the mails.
    """
    dice = Random(seed)
    subscribers = webhooks // 40
    among_mails = max(1, min(kills // 10, subscribers // 12))
    during = kills - among_mails
    deliveries = [
        *orders(webhooks - 2 * subscribers, START - timedelta(hours=webhooks // 3600 + 1)),
        *abandoned(subscribers, START - timedelta(minutes=2), OVER),
    ]
    dice.shuffle(deliveries)
    report = Report(webhooks, subscribers)
    killing = Killing(run, victims, away, dice, report)
    key = await asyncio.to_thread(register, run)
    sender = Sender(lambda: f"{run.address}/webhooks/shopify/{key}")
    marks = sorted(dice.sample(range(webhooks), during))
    budget = Budget(0)
    sending = asyncio.create_task(sender.send(deliveries, pace=budget))
    for n, mark in enumerate(marks):
        budget.allow(marks[min(n + IN_ADVANCE, during - 1)])
        await eventually(partial(reached, sender.acknowledged, mark), 600)
        await killing.kill()
    budget.allow(webhooks)
    await sending
    await killing.all_back()
    await asyncio.to_thread(drain, run)
    for n in range(among_mails):
        # Some more of them fall due, and the next kill comes while they are being sent.
        before = len(mailbox.letters)
        clock.set(START - timedelta(minutes=2) - OVER + FIRST_MAIL + OVER * ((n + 1) / among_mails))
        some = dice.randrange(1, max(2, subscribers // among_mails // 2))
        await eventually(partial(reached, mailbox.letters, before + some), 600)
        await killing.kill()
    await killing.all_back()
    clock.set(START + timedelta(minutes=50))
    await asyncio.to_thread(drain, run, but=("being sent",))
    await asyncio.to_thread(judge, run, key, sender, report)
    await asyncio.to_thread(judge_timelines, run, key, sender, report)
    await asyncio.to_thread(judge_mails, run, mailbox, report)
    return report


async def kill_run(
    folder: Path,
    *,
    kills: int,
    webhooks: int,
    seed: int,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Report:
    """`regulars run`, with these options and settings, under fire."""
    clock = DrivenClock.create(folder / "clock", START)
    async with Mailbox(clock) as mailbox:
        settings = {
            "REGULARS_CLOCK_PATH": str(folder / "clock"),
            "REGULARS_SMTP_PORT": str(mailbox.port),
            "REGULARS_SEND_BATCH_SIZE": "4",
            **(environment or {}),
        }
        run = Running(folder / "data", options=options, environment=settings)
        await asyncio.to_thread(run.start)
        try:
            report = await under_fire(run, mailbox, clock, VICTIMS, kills=kills, webhooks=webhooks, seed=seed)
            if code := await asyncio.to_thread(run.stop):
                report.wrong.append(f"ended with code {code}")
        except BaseException:
            await asyncio.to_thread(run.kill_everything)
            raise
    return report


def main() -> int:
    """The full run, printed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--webhooks", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="regulars-kill-") as folder:
        report = asyncio.run(kill_run(Path(folder), kills=asked.kills, webhooks=asked.webhooks, seed=asked.seed))
    print(report)
    return 0 if report.clean else 1


if __name__ == "__main__":
    raise SystemExit(main())

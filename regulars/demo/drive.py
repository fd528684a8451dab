"""Ninety days in ticks: what arrives in a tick is sent at its end, all of it is dealt with, then timers fall due.

Timers fall due at ends of ticks only. So the platform and the shop's own truth decide about every message from the same
knowledge, and a run is exact and repeatable.
"""

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from libs.common.clock import DrivenClock
from regulars.demo.mailbox import Letter, Mailbox
from regulars.demo.screen import Progress, Screen
from regulars.demo.stage import Stage
from regulars.shop.delivery import Delivery
from regulars.shop.messages import Mail, Postbox
from regulars.shop.model import World
from regulars.shop.rules import against

TICK = timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class Captured:
    """A mail that the SMTP server took, with what its headers say."""

    letter: Letter
    message: str
    """The send ledger's id."""
    flow: str
    step: int


@dataclass(slots=True)
class Drive:
    """One run."""

    world: World
    deliveries: list[Delivery]
    clock: DrivenClock
    stage: Stage
    mailbox: Mailbox
    postbox: Postbox
    screen: Screen
    captured: list[Captured] = field(default_factory=list)
    expected: list[Mail] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """Mails against one of the rules that no mail may break."""
    unsubscribed: list[int] = field(default_factory=list)
    """The status of each answer to a pressed button."""

    async def run(self, stops: Collection[datetime]) -> AsyncIterator[datetime]:
        """Drives to the end of the world. Yields at each of `stops` that ends a tick, with everything drained."""
        progress = Progress(self.world.start, self.world.end, self.world.start, total=len(self.deliveries))
        end = self.world.start
        while end < self.world.end:
            end += TICK
            arrived = self._until(progress.sent, end)
            # Nothing is dated later than it arrives; timers wait until all of it is known.
            self.clock.set_arrivals(end)
            if arrived:
                await self.stage.deliver(arrived)
                await self.stage.drain("ingest", "profiles", "messaging")
                for delivery in arrived:
                    if delivery.outcome == "observed" and delivery.state is not None:
                        self.postbox.hear(delivery.state)
            self.clock.set(end)
            await self.stage.drain("messaging")
            self.expected += self.postbox.end_tick(end)
            await self._read_mail()
            progress.now, progress.sent, progress.mails = end, progress.sent + len(arrived), len(self.captured)
            if end in stops or end >= self.world.end:
                await self.stage.drain("messaging", "profiles", "messaging", "metrics", "ingest")
                self.screen.show(progress, last=end >= self.world.end)
                yield end
            else:
                if end.hour == 0:
                    await self.stage.look("metrics")
                self.screen.show(progress)

    def _until(self, first: int, end: datetime) -> list[Delivery]:
        last = first
        while last < len(self.deliveries) and self.deliveries[last].at <= end:
            last += 1
        return self.deliveries[first:last]

    async def _read_mail(self) -> None:
        """What has come since the last tick: kept, held against the rules, and some of it answered."""
        new = [_captured(letter) for letter in self.mailbox.letters[len(self.captured) :]]
        self.captured += new
        for mail in new:
            address = mail.letter.recipient
            found = against(self.postbox, mail.flow, address, mail.letter.at)
            self.broken += [f"{rule}: {mail.flow} {mail.step} at {mail.letter.at}" for rule in found]
        leaving = [mail for mail in new if mail.letter.recipient in self.world.leavers]
        for mail in leaving:
            self.unsubscribed.append(await self.stage.unsubscribe(mail.letter.headers))
        for expected in self.expected[-len(new) - 1 :]:
            if expected.at == self.clock.now() and expected.recipient in self.world.leavers:
                self.postbox.unsubscribe(expected)
        if leaving:
            await self.stage.drain("messaging", "profiles", "messaging")


def _captured(letter: Letter) -> Captured:
    mail = letter.headers
    step, flow, _ = str(mail["Feedback-ID"]).split(":", 2)
    return Captured(letter, str(mail["Message-ID"]).strip("<>").partition("@")[0], flow, int(step))

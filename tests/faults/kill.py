"""SIGKILL in a loop under load: is anything lost that was answered 200, does anything take effect twice?

`python -m tests.faults.kill --kills 100 --webhooks 20000` prints the figures; `test_kill.py` runs a short one.
"""

import argparse
import asyncio
import signal
import tempfile
from collections import Counter
from collections.abc import Sequence, Sized
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Literal, Protocol

import httpx

from libs.common.clock import DrivenClock
from regulars.demo.mailbox import Mailbox
from tests.faults.running import Running
from tests.faults.traffic import Sender, abandoned, orders, price, store
from tests.waiting import eventually, until

Victim = Literal["api", "worker", "postgres", "supervisor", "everything"]

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
"""When the last order is placed; what the clock shows meanwhile."""
VICTIMS: dict[Victim, int] = {"api": 4, "worker": 6, "postgres": 4, "supervisor": 2, "everything": 2}
"""Whom to kill, and how often in proportion."""
DRAIN_SECONDS = 300.0
SERVICES = ("ingest", "profiles", "metrics", "messaging")


class Reachable(Protocol):
    """An installation whose API can be asked: in processes, or in containers."""

    def client(self) -> httpx.Client:
        """With a key to everything."""


@dataclass(slots=True)
class Report:
    """What came of it."""

    webhooks: int
    subscribers: int
    kills: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    unavailable: int = 0
    broken: int = 0
    mails: int = 0
    in_doubt: int = 0
    missing: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kills = ", ".join(f"{number} of {victim}" for victim, number in sorted(self.kills.items()))
        return (
            f"webhooks {self.webhooks}, acknowledged {self.acknowledged},"
            f" answered 503 {self.unavailable}, connections broken {self.broken}\n"
            f"SIGKILLs {self.kills.total()} ({kills})\n"
            f"abandoned checkouts {self.subscribers}, mails {self.mails},"
            f" claimed by a worker that died and not sent again {self.in_doubt}\n"
            f"acknowledged and missing: {len(self.missing)}\neffects twice: {len(self.doubled)}\n"
            + "".join(f"{line}\n" for line in [*self.missing[:10], *self.doubled[:10], *self.wrong[:10]])
        )

    @property
    def clean(self) -> bool:
        """Nothing lost, nothing twice, nothing else wrong."""
        return not (self.missing or self.doubled or self.wrong)


async def kill_run(folder: Path, *, kills: int, webhooks: int, seed: int) -> Report:
    """Sends the webhooks and lets the mails go out while killing; then asks the API what became of them.

    One webhook in twenty belongs to an abandoned checkout, one kill in ten falls among the mails.
    """
    dice = Random(seed)
    clock = DrivenClock.create(folder / "clock", START)
    among_mails = max(1, kills // 10)
    subscribers = webhooks // 40
    bought = orders(webhooks - 2 * subscribers, START - timedelta(hours=12))
    left = abandoned(subscribers, START - timedelta(minutes=2))
    report = Report(webhooks, subscribers)
    async with Mailbox(clock) as mailbox:
        environment = {
            "REGULARS_CLOCK_PATH": str(folder / "clock"),
            "REGULARS_SMTP_PORT": str(mailbox.port),
            "REGULARS_SEND_BATCH_SIZE": "4",
        }
        run = Running(folder / "data", environment=environment)
        await asyncio.to_thread(run.start)
        try:
            key = await asyncio.to_thread(register, run)
            sender = Sender(lambda: f"{run.address}/webhooks/shopify/{key}")
            deliveries = [*bought, *left]
            dice.shuffle(deliveries)
            sending = asyncio.create_task(sender.send(deliveries))
            for mark in sorted(dice.sample(range(webhooks), kills - among_mails)):
                await eventually(partial(reached, sender.acknowledged, mark), 600)
                await asyncio.to_thread(_kill, run, _victim(dice), report)
            await sending
            await asyncio.to_thread(drain, run)
            clock.set(START + timedelta(minutes=50))
            for mark in sorted(dice.sample(range(subscribers * 3 // 4), among_mails)):
                await eventually(partial(reached, mailbox.letters, mark), 600)
                await asyncio.to_thread(_kill, run, _victim(dice), report)
            await asyncio.to_thread(drain, run, but=("being sent",))
            await asyncio.to_thread(judge, run, key, sender, report)
            await asyncio.to_thread(judge_mails, run, mailbox, report)
            if code := await asyncio.to_thread(run.stop):
                report.wrong.append(f"ended with code {code}")
        except BaseException:
            await asyncio.to_thread(run.kill_everything)
            raise
    return report


def register(run: Reachable) -> str:
    """Registers the store that signs; its key."""
    with run.client() as client:
        key: str = client.post("/v1/stores", json=store()).raise_for_status().json()["store_key"]
        return key


async def reached(collected: Sized, mark: int) -> bool:
    """Whether so many are there."""
    return len(collected) >= mark


def _victim(dice: Random) -> Victim:
    return dice.choices(list(VICTIMS), list(VICTIMS.values()))[0]


def _kill(run: Running, victim: Victim, report: Report) -> None:
    report.kills[victim] += 1
    if victim == "everything":
        run.kill_everything()
        run.start()
    elif victim == "supervisor":
        run.kill_supervisor()
        run.start()
    else:
        run.signal(victim, signal.SIGKILL)


def drain(run: Reachable, but: Sequence[str] = (), limit: float = DRAIN_SECONDS) -> None:
    """Waits until every service says that it is through. `but`: endings of what may be pending all the same."""

    def drained() -> bool:
        with run.client() as client:
            answers = [client.get(f"/v1/pipeline/{name}") for name in SERVICES]
        return all(answer.is_success and _through(answer.json(), but) for answer in answers)

    # Twice: what one service finishes may be the next one's work.
    for _ in range(2):
        until("drained", drained, limit, 0.25)


def _through(standing: dict[str, Any], but: Sequence[str]) -> bool:
    if standing["drained"]:
        return True
    level = all(
        partition["position"] == partition["end"]
        for consumer in standing["consumers"]
        for partition in consumer["partitions"]
    )
    return level and all(any(words.endswith(ending) for ending in but) for words in standing["pending"])


def pages(run: Reachable, path: str, **parameters: str) -> list[dict[str, Any]]:
    """Every entry of a list."""
    found: list[dict[str, Any]] = []
    with run.client() as client:
        cursor: dict[str, str] = {}
        while True:
            page = client.get(path, params={"limit": "250", **parameters, **cursor}).raise_for_status().json()
            found += page["data"]
            if page["next"] is None:
                return found
            cursor = {"cursor": page["next"]}


def judge(run: Reachable, key: str, sender: Sender, report: Report) -> None:
    """What was acknowledged against what is there."""
    report.acknowledged, report.unavailable, report.broken = len(sender.acknowledged), sender.unavailable, sender.broken
    report.wrong += sender.other
    ledger = pages(run, "/v1/orders", store=key)
    seen = Counter(int(entry["source_id"]) - 5_800_000_000_000 for entry in ledger)
    sent = sorted(name for name in sender.acknowledged if name.startswith("order-"))
    report.missing += [name for name in sent if int(name.removeprefix("order-")) not in seen]
    report.doubled += [f"order {n} is there {times} times" for n, times in seen.items() if times > 1]
    with run.client() as client:
        counts = client.get("/v1/deliveries/counts", params={"store": key}).raise_for_status().json()
        kpis = client.get("/v1/kpis", params={"store": key, "window": "365d"}).raise_for_status().json()["kpis"]
        verified = client.get("/v1/kpis/verify").raise_for_status().json()
        dead = [
            letter
            for service in SERVICES
            for letter in client.get(f"/v1/dead-letters/{service}").raise_for_status().json()["data"]
        ]
    expected = sum(price(n) for n in seen)
    told = round(float(kpis["total_sales"]["value"]["amount"]) * 100)
    if kpis["orders"]["value"] > len(seen) or told > expected:
        report.doubled.append(
            f"KPIs: {kpis['orders']['value']} orders for {told} cents, not {len(seen)} for {expected}"
        )
    elif kpis["orders"]["value"] < len(seen) or told < expected:
        report.missing.append(
            f"KPIs: {kpis['orders']['value']} orders for {told} cents, not {len(seen)} for {expected}"
        )
    report.wrong += [f"KPI differs from the facts: {difference}" for difference in verified["differences"]]
    report.wrong += [f"dead letter: {letter['reason']}" for letter in dead]
    if not verified["checked"]:
        report.wrong.append("nothing was verified")
    if counts["observed"] != len(sender.acknowledged):
        report.wrong.append(f"deliveries: {counts}, though {len(sender.acknowledged)} were acknowledged")


def judge_mails(run: Reachable, mailbox: Mailbox, report: Report) -> None:
    """What should have been sent against what came."""
    received = Counter(letter.recipient for letter in mailbox.letters)
    report.mails = received.total()
    report.doubled += [f"{times} mails to one recipient" for times in received.values() if times > 1]
    messages = pages(run, "/v1/messages", flow="cart_abandonment")
    states = Counter(message["state"] for message in messages if message["step"] == 1)
    report.in_doubt = states["claimed"] + states["unknown"]
    if states["sent"] > len(received):
        report.missing.append(f"{states['sent']} messages are sent, {len(received)} came")
    if states["sent"] + report.in_doubt != report.subscribers:
        report.missing.append(f"{report.subscribers} checkouts were abandoned, messages are {dict(states)}")


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

"""What was acknowledged against what is there: orders, timelines, KPIs, messages, mails, deliveries, dead letters."""

from collections import Counter
from collections.abc import Iterable, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

from regulars.demo.mailbox import Mailbox
from tests.faults.traffic import BUYERS, SHOP, Sender, order_and_revision, price, store
from tests.waiting import until

DRAIN_SECONDS = 300.0
SERVICES = ("ingest", "profiles", "metrics", "messaging")
FIRST_ORDER = 5_800_000_000_000
"""Shopify's id of order 0."""


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
    back: dict[str, list[float]] = field(default_factory=dict)
    """Of each victim, seconds from each of its kills until it was ready again."""
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
            + "".join(f"{line}\n" for line in self.differences()[:30])
        )

    @property
    def clean(self) -> bool:
        """Nothing lost, nothing twice, nothing else wrong."""
        return not self.differences()

    def differences(self) -> list[str]:
        """What is not as it should be: of each kind a few."""
        return [*self.missing[:10], *self.doubled[:10], *self.wrong[:10]]


def register(run: Reachable, domain: str = SHOP.domain) -> str:
    """Registers the store that signs; its key."""
    with run.client() as client:
        key: str = client.post("/v1/stores", json=store(domain)).raise_for_status().json()["store_key"]
        return key


async def reached(collected: Sized, mark: int) -> bool:
    """Whether so many are there."""
    return len(collected) >= mark


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
    with run.client() as client:
        return _pages(client, path, **parameters)


def _pages(client: httpx.Client, path: str, **parameters: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = client.get(path, params={"limit": "250", **parameters, **cursor}).raise_for_status().json()
        found += page["data"]
        if page["next"] is None:
            return found
        cursor = {"cursor": page["next"]}


def latest(acknowledged: Iterable[str]) -> dict[int, int]:
    """Order -> its highest revision among these webhooks."""
    last: dict[int, int] = {}
    for name in acknowledged:
        if (told := order_and_revision(name)) is not None:
            last[told[0]] = max(told[1], last.get(told[0], 0))
    return last


def judge(run: Reachable, key: str, sender: Sender, report: Report) -> None:
    """What was acknowledged against what is there."""
    report.acknowledged, report.unavailable, report.broken = len(sender.acknowledged), sender.unavailable, sender.broken
    report.wrong += sender.other
    last = latest(sender.acknowledged)
    ledger = pages(run, "/v1/orders", store=key)
    seen = Counter(int(entry["source_id"]) - FIRST_ORDER for entry in ledger)
    report.missing += [f"order-{n}" for n in sorted(last) if n not in seen]
    report.doubled += [f"order {n} is there {times} times" for n, times in seen.items() if times > 1]
    for entry in ledger:
        n = int(entry["source_id"]) - FIRST_ORDER
        if n in last and _cents(entry["total"]) != price(n, last[n]):
            report.missing.append(f"order {n} is not as revision {last[n]} left it")
    with run.client() as client:
        counts = client.get("/v1/deliveries/counts", params={"store": key}).raise_for_status().json()
        kpis = client.get("/v1/kpis", params={"store": key, "window": "365d"}).raise_for_status().json()["kpis"]
        verified = client.get("/v1/kpis/verify").raise_for_status().json()
    expected = sum(price(n, last.get(n, 0)) for n in seen)
    told = _cents(kpis["total_sales"]["value"])
    figures = f"KPIs: {kpis['orders']['value']} orders for {told} cents, not {len(seen)} for {expected}"
    if kpis["orders"]["value"] > len(seen) or told > expected:
        report.doubled.append(figures)
    elif kpis["orders"]["value"] < len(seen) or told < expected:
        report.missing.append(figures)
    report.wrong += [f"KPI differs from the facts: {difference}" for difference in verified["differences"]]
    if not verified["checked"]:
        report.wrong.append("nothing was verified")
    report.wrong += [f"dead letter: {letter['reason']}" for letter in dead_letters(run)]
    if counts["observed"] != len(sender.acknowledged):
        report.wrong.append(f"deliveries: {counts}, though {len(sender.acknowledged)} were acknowledged")


def dead_letters(run: Reachable) -> list[dict[str, Any]]:
    """Of all services."""
    return [letter for service in SERVICES for letter in pages(run, f"/v1/dead-letters/{service}")]


def judge_timelines(run: Reachable, key: str, sender: Sender, report: Report) -> None:
    """Each buyer's timeline: every acknowledged order placed in it, once."""
    expected: dict[int, set[str]] = {}
    for n in latest(sender.acknowledged):
        expected.setdefault(n % BUYERS, set()).add(f"order:{key}:{FIRST_ORDER + n}")
    with run.client() as client:
        for buyer, subjects in expected.items():
            entries = _pages(client, f"/v1/profiles/email:buyer{buyer}@example.com/timeline")
            placed = Counter(entry["subject"] for entry in entries if entry["kind"] == "order.placed")
            report.missing += [f"{subject} is not in the timeline" for subject in subjects - placed.keys()]
            report.doubled += [f"{subject} is in the timeline {n} times" for subject, n in placed.items() if n > 1]


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


def _cents(amount: dict[str, str]) -> int:
    return round(float(amount["amount"]) * 100)

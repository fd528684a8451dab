"""Kafka frozen, cut off, killed, without one of its three nodes, and away for a minute under load."""

import asyncio
from functools import partial
from signal import SIGCONT, SIGKILL, SIGSTOP
from time import monotonic

from regulars.local_kafka import Node
from tests.faults.promises import Shown, spread
from tests.faults.rows.asked import Asked
from tests.faults.rows.unbroken import Unbroken
from tests.faults.scene import PLACED, Scene, scene
from tests.faults.traffic import at_rate, orders
from tests.waiting import pause

AWAY_SECONDS = 6.0
BACK_SECONDS = 5.0
"""By then events flow again."""
NODE_SECONDS = 10.0
"""By then they flow again without the third node: Kafka has to miss it and to elect anew."""
ORDERS = 40
"""Enough for each partition to get one."""
THROUGH_SECONDS = 60.0
KINDS = ("frozen", "cut off", "killed")


async def _hurt(s: Scene, kind: str) -> None:
    assert s.line.proxy is not None
    (node,) = s.line.kafka.nodes
    if kind == "frozen":
        node.send(SIGSTOP)
    elif kind == "cut off":
        s.line.proxy.cut()
    else:
        await asyncio.to_thread(node.end, SIGKILL)


async def _heal(s: Scene, kind: str) -> None:
    assert s.line.proxy is not None
    (node,) = s.line.kafka.nodes
    if kind == "frozen":
        node.send(SIGCONT)
    elif kind == "cut off":
        await s.line.proxy.open()
    else:
        node.start()
        await asyncio.to_thread(s.line.kafka.wait, node)


async def away(asked: Asked) -> Shown:
    """Frozen, cut off, killed: by turns, a few seconds each."""
    took: dict[str, list[float]] = {kind: [] for kind in KINDS}
    through: list[float] = []
    async with scene(asked.folder, asked.nursery, proxied=True) as s:
        load = Unbroken(s.sender, asked.rate)

        async def once(kind: str) -> None:
            await _hurt(s, kind)
            await pause(AWAY_SECONDS)
            await _heal(s, kind)
            took[kind].append(await s.moving())
            through.append(await s.flowing())

        for _ in range(asked.rounds):
            for kind in KINDS:
                await load.during(partial(once, kind))
        report = await s.judged()
    shown = Shown(
        f"{asked.rounds} times each {', '.join(KINDS)}, {len(s.sender.acknowledged)} webhooks",
        back=spread(seconds for each in took.values() for seconds in each),
        seen=[
            "back after: from Kafka's first answer until a consumer took up the next events",
            f"an order sent then was through, behind all that had piled up, after {spread(through)}",
            *(f"{kind}: {spread(seconds)}" for kind, seconds in took.items()),
            f"meanwhile {asked.rate} webhooks/s: {_answers(s)}",
        ],
    )
    shown.judged(report)
    _all_answered(s, shown)
    _in_time(took, BACK_SECONDS, shown)
    return shown


async def one_of_three(asked: Asked) -> Shown:
    """Each of three nodes is killed in turn, with every topic on all of them."""
    took: list[float] = []
    async with scene(asked.folder, asked.nursery, nodes=3) as s:
        load = Unbroken(s.sender, asked.rate)

        async def once(node: Node) -> None:
            await asyncio.to_thread(node.end, SIGKILL)
            took.append(await s.flowing(ORDERS))

        for n in range(asked.rounds):
            node = s.line.kafka.nodes[n % 3]
            await load.during(partial(once, node))
            node.start()
            await asyncio.to_thread(s.line.kafka.wait, node)
            # The next one may go when this one has caught up: two copies of three are needed to write.
            await s.drained()
            await pause(AWAY_SECONDS)
        report = await s.judged()
    shown = Shown(
        f"{asked.rounds} times one of three, {len(s.sender.acknowledged)} webhooks",
        back=spread(took),
        seen=[
            f"back after: from the SIGKILL until {ORDERS} orders sent then, to all partitions, were through",
            f"meanwhile {asked.rate} webhooks/s: {_answers(s)}",
        ],
    )
    shown.judged(report)
    _all_answered(s, shown)
    _in_time({"one of three": took}, NODE_SECONDS, shown)
    return shown


async def long_away(asked: Asked) -> Shown:
    """Killed, and started again only after a while, under as many webhooks as the machine can take."""
    async with scene(asked.folder, asked.nursery, proxied=True) as s:
        node = s.line.kafka.nodes[0]
        many = int(asked.burst * asked.outage)
        # Made before: signing takes a third of a core that the installation should have.
        prepared = [each.prepared() for each in orders(many, PLACED)]
        await asyncio.to_thread(node.end, SIGKILL)
        began = monotonic()
        await s.sender.send(prepared, at_once=64, pace=at_rate(asked.burst))
        answered = monotonic() - began
        await pause(max(0.0, asked.outage - answered))
        node.start()
        await asyncio.to_thread(s.line.kafka.wait, node)
        back = monotonic()
        await s.drained(limit=600)
        through = monotonic() - back
        report = await s.judged()
    seconds = sorted(s.sender.seconds)
    p50, p99 = (seconds[len(seconds) * part // 100] * 1000 for part in (50, 99))
    shown = Shown(
        f"Kafka away for {max(asked.outage, answered):.0f} s, {len(s.sender.acknowledged)} webhooks",
        back=f"everything through after {through:.1f} s",
        seen=[
            (
                f"{many / answered:.0f} webhooks/s answered, of {asked.burst} that were wanted: {_answers(s)};"
                f" p50 {p50:.0f} ms, p99 {p99:.0f} ms"
            ),
        ],
    )
    shown.judged(report)
    _all_answered(s, shown)
    if through > THROUGH_SECONDS:
        shown.differences.append(f"everything was through only after {through:.1f} s, not {THROUGH_SECONDS:.0f}")
    return shown


def _answers(s: Scene) -> str:
    return f"{len(s.sender.acknowledged)} answered 200, {s.sender.unavailable} answered 503, {s.sender.broken} broken"


def _all_answered(s: Scene, shown: Shown) -> None:
    if s.sender.unavailable or s.sender.broken:
        shown.differences.append(f"not all were answered 200 at once: {_answers(s)}")


def _in_time(took: dict[str, list[float]], limit: float, shown: Shown) -> None:
    for kind, seconds in took.items():
        if max(seconds, default=0.0) > limit:
            shown.differences.append(f"{kind}: back only after {max(seconds):.1f} s, not {limit:.0f}")

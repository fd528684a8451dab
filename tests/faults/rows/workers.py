"""Workers that hang past their lease, and workers that come and go."""

import asyncio
from functools import partial
from signal import SIGCONT, SIGSTOP, SIGTERM
from time import monotonic

import asyncpg

from tests.faults.ledger import SERVICES, reached
from tests.faults.promises import Shown, spread
from tests.faults.rows.asked import Asked
from tests.faults.scene import PLACED, Scene, scene
from tests.faults.traffic import at_rate, orders
from tests.waiting import eventually, pause, until

TAKEN_OVER_SECONDS = 30.0
EVERY = 2.0
"""Seconds between a worker's coming or going and the next."""
REVISIONS = 4


def owners(s: Scene, service: str) -> set[str | None]:
    """Whose the partitions are that the service's worker reads."""
    with s.line.client() as client:
        consumers = client.get(f"/v1/pipeline/{service}").raise_for_status().json()["consumers"]
    return {
        partition["owner"]
        for consumer in consumers
        if consumer["consumer"] != "relay"
        for partition in consumer["partitions"]
    }


def shared_by(s: Scene, workers: int) -> bool:
    """Whether so many have all partitions of each service among them."""
    found = [owners(s, service) for service in SERVICES]
    return all(len(each) == workers and None not in each for each in found)


async def hanging(asked: Asked) -> Shown:
    """One of two workers of every service is stopped for longer than its lease, and then goes on."""
    firsts, seconds = ([f"{service}-worker{n}" for service in SERVICES] for n in ("", "-2"))
    async with scene(asked.folder, asked.nursery) as s:
        for name, service in zip(seconds, SERVICES, strict=True):
            s.line.add(name, "work", service)
        took: list[float] = []
        many = max(asked.rate * 4, 400)
        for n in range(asked.rounds):
            await asyncio.to_thread(until, "two workers share", partial(shared_by, s, 2), 60)
            zombies = (firsts, seconds)[n % 2]
            sending = asyncio.create_task(s.sender.send(orders(many, PLACED, first=n * many), pace=at_rate(asked.rate)))
            await eventually(partial(reached, s.sender.acknowledged, n * many + many // 4), 60)
            for name in zombies:
                s.line.send(name, SIGSTOP)
            began = monotonic()
            await asyncio.to_thread(until, "the others took over", partial(shared_by, s, 1), TAKEN_OVER_SECONDS)
            took.append(monotonic() - began)
            await sending
            # What is left of the backlog is there when they wake up.
            for name in zombies:
                s.line.send(name, SIGCONT)
        await asyncio.to_thread(until, "two workers share", partial(shared_by, s, 2), 60)
        report = await s.judged()
        fenced = {
            name: number
            for name in [*firsts, *seconds]
            if (number := await asyncio.to_thread(s.line.metric, name, "regulars_consumer_fenced_total"))
        }
    who = ", ".join(f"{name} {number:.0f}" for name, number in fenced.items())
    shown = Shown(
        f"{asked.rounds} times the workers of {len(SERVICES)} services, {len(s.sender.acknowledged)} webhooks",
        back=spread(took),
        seen=[
            "back after: until the other worker had all partitions",
            (
                f"writes refused to who had lost his partitions: {sum(fenced.values()):.0f}"
                f" ({who or 'all noticed before they wrote'})"
            ),
        ],
    )
    shown.judged(report)
    return shown


async def coming_and_going(asked: Asked) -> Shown:
    """Each two seconds one worker of a service comes or goes, while orders are placed and changed."""
    changes = asked.rounds * 4
    many = max(50, min(asked.webhooks, int(asked.rate * EVERY * changes)) // (REVISIONS + 1))
    async with scene(asked.folder, asked.nursery) as s:
        sending = asyncio.create_task(_revise(s, many, asked.rate))
        there: set[str] = set()
        done = 0
        while done < changes or not sending.done():
            # A second and a third of each service by turns; who is there goes.
            service = SERVICES[done % len(SERVICES)]
            name = f"{service}-worker-{2 + done // len(SERVICES) % 2}"
            if name in there:
                await asyncio.to_thread(s.line.end, name, SIGTERM)
                del s.line.roles[name]
                there.remove(name)
            else:
                await asyncio.to_thread(s.line.add, name, "work", service)
                there.add(name)
            done += 1
            await pause(EVERY)
        await sending
        report = await s.judged()
        wrong = await disorder(s.line.database_url, many)
    shown = Shown(
        f"{done} comings and goings, {many} orders with {REVISIONS} changes each",
        seen=[f"each order's facts: revisions 1 to {REVISIONS + 1}, in this order and each once"],
        differences=wrong[:10],
    )
    shown.judged(report)
    return shown


async def _revise(s: Scene, many: int, rate: int) -> None:
    """Each order, then each again, and so on: a change leaves when the one before it was answered."""
    for revision in range(REVISIONS + 1):
        await s.sender.send(orders(many, PLACED, revision), pace=at_rate(rate))


async def disorder(database_url: str, many: int) -> list[str]:
    """Orders whose facts do not count their revisions from 1 on, in the log's order.

    A key stays in its partition, or moves to one that a growth made behind it.
    """
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch(
            """SELECT event -> 'order' ->> 'source_id' AS subject,
                   array_agg((event ->> 'revision')::int ORDER BY partition, place) AS revisions
            FROM (SELECT convert_from(data, 'UTF8')::json AS event, partition, "offset" AS place
                  FROM profiles.log_customers WHERE type IN ('order.placed', 'order.revised')) facts
            GROUP BY 1"""
        )
    finally:
        await connection.close()
    expected = [*range(1, REVISIONS + 2)]
    found = [f"order {row['subject']}: {row['revisions']}" for row in rows if row["revisions"] != expected]
    return found if len(rows) == many else [*found, f"{len(rows)} orders of {many} have facts"]

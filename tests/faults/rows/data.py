"""What is sent may be poison, may come twice and in any order, and may be read from the start again."""

import asyncio
from datetime import timedelta
from random import Random

import asyncpg

from libs.common.contracts.topics import COMMERCE, CUSTOMERS, Topic
from libs.common.db import Database
from libs.common.ids import new_id
from libs.common.log.base import Event
from libs.common.log.postgres import append
from tests.faults.kill import OVER, START
from tests.faults.ledger import SERVICES, dead_letters, judge_mails, register
from tests.faults.promises import Shown
from tests.faults.rows.asked import Asked
from tests.faults.rows.poison import broken_events, poisoned
from tests.faults.rows.slow import Slow
from tests.faults.scene import PLACED, Scene, scene
from tests.faults.traffic import Sender, Webhook, abandoned, orders

REVISIONS = 2
OTHER_SHOP = "other.myshopify.com"
POISON_PART = 100
"""One webhook in so many is poison."""


async def poison(asked: Asked) -> Shown:
    """One webhook in a hundred is poison, signed like the others; in the logs, events that no contract describes.

    And an order that takes longer than a transaction may, whenever it is tried.
    """
    dice = Random(asked.seed)
    many = asked.webhooks
    async with scene(asked.folder, asked.nursery) as s:
        # In a shop of its own: what of it can be understood after all must not blur the figures of the other.
        key = await asyncio.to_thread(register, s.line, OTHER_SHOP)
        bad = Sender(lambda: f"{s.line.address}/webhooks/shopify/{key}")
        webhooks = [*poisoned(max(many // POISON_PART, 1))]
        dice.shuffle(webhooks)
        in_logs, slow = 0, Slow(s)
        async with asyncio.TaskGroup() as group:
            group.create_task(s.sender.send(orders(many, PLACED)))
            group.create_task(bad.send(webhooks, at_once=2))
            group.create_task(slow.sent())
        for schema, topic, readers in (("ingest", COMMERCE, 1), ("profiles", CUSTOMERS, 2)):
            in_logs += readers * await _append(s.line.database_url, schema, topic)
        flowed = await s.flowing()
        report = await s.judged()
        report.wrong = [line for line in report.wrong if not line.startswith("dead letter")]
        letters = await asyncio.to_thread(dead_letters, s.line)
        counts = await asyncio.to_thread(_counts, s, key)
        shown = Shown(
            f"{many} webhooks, {len(webhooks)} poisonous ones, {in_logs} broken events, 1 that takes too long"
        )
        letters = await slow.judged(shown, letters)
    of_webhooks = len([letter for letter in letters if letter["topic"] == "journal"])
    shown.seen += [
        (
            f"poisonous webhooks: {counts['observed']} could be understood, {counts['parked']} are parked,"
            f" {counts['ignored']} had nothing to observe, {counts['dead']} are dead letters"
        ),
        (
            f"broken events: {len(letters) - of_webhooks} dead letters; an order sent after them was through in"
            f" {flowed:.1f} s"
        ),
        f"reasons: {len({letter['reason'] for letter in letters})} different ones",
    ]
    shown.judged(report)
    shown.differences += [f"answered otherwise: {answer}" for answer in bad.other[:5]]
    if sum(counts[name] for name in ("observed", "parked", "ignored", "dead")) != len(webhooks):
        shown.differences.append(f"of {len(webhooks)} poisonous webhooks: {counts}")
    if of_webhooks != counts["dead"] or len(letters) - of_webhooks != in_logs:
        shown.differences.append(f"{len(letters)} dead letters, not {counts['dead']} and {in_logs}")
    shown.differences += [f"no reason: {letter['id']}" for letter in letters if not letter["reason"]]
    return shown


def _counts(s: Scene, key: str) -> dict[str, int]:
    with s.line.client() as client:
        counts = client.get("/v1/deliveries/counts", params={"store": key}).raise_for_status().json()
    return {name: int(counts[name]) for name in ("observed", "parked", "ignored", "dead", "pending")}


async def _append(database_url: str, schema: str, topic: Topic) -> int:
    """As no producer of ours ever would; how many."""
    database = Database(database_url, schema=schema, pool_size=1)
    events = [
        Event(id=new_id(), type=type_, source="/tests", tenant="default", key=f"poison {n}", time=START, data=data)
        for n, (type_, data) in enumerate(broken_events(topic))
    ]
    try:
        async with database.transaction() as tx:
            await append(tx, topic, events)
    finally:
        await database.close()
    return len(events)


async def duplicates(asked: Asked) -> Shown:
    """Every delivery comes three times, twice with the same id, and all of them in any order."""
    dice = Random(asked.seed)
    async with scene(asked.folder, asked.nursery) as s:
        once, subscribers = _history(asked.webhooks)
        again = [Webhook(each.topic, each.state, each.at, f"again-{each.id}") for each in once]
        webhooks = [*once, *once, *again]
        dice.shuffle(webhooks)
        await s.sender.send(webhooks)
        await s.drained()
        s.clock.set(START + timedelta(minutes=50))
        report = await s.judged()
        report.subscribers = subscribers
        await asyncio.to_thread(judge_mails, s.line, s.mailbox, report)
    shown = Shown(
        f"{len(webhooks)} deliveries of {len(once)} webhooks, in any order",
        seen=[f"orders with {REVISIONS} changes each; {subscribers} abandoned checkouts, {report.mails} mails"],
    )
    shown.judged(report)
    return shown


async def replay(asked: Asked) -> Shown:
    """The journal is read from its beginning again, through all services."""
    async with scene(asked.folder, asked.nursery) as s:
        once, subscribers = _history(asked.webhooks)
        await s.sender.send(once)
        await s.drained()
        s.clock.set(START + timedelta(minutes=50))
        await s.drained()
        mails = len(s.mailbox.letters)
        before, observed = await _digests(s.line.database_url), await _observations(s.line.database_url)
        differing: set[str] = set()
        for _ in range(asked.rounds):
            await asyncio.to_thread(s.line.end, "ingest-worker")
            await _from_the_beginning(s.line.database_url)
            await asyncio.to_thread(s.line.start, "ingest-worker")
            await s.drained()
            after = await _digests(s.line.database_url)
            differing |= {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        observed_again = await _observations(s.line.database_url) - observed
        sent_again = len(s.mailbox.letters) - mails
        report = await s.judged()
        report.subscribers = subscribers
        await asyncio.to_thread(judge_mails, s.line, s.mailbox, report)
    shown = Shown(
        f"{asked.rounds} times {len(once)} deliveries",
        seen=[
            (
                f"{observed_again} observations of {observed} were made again;"
                f" {len(before)} tables of {len(SERVICES)} services compared, row by row; {mails} mails before,"
                f" {sent_again} because of it"
            )
        ],
        differences=[f"{name} is another after it" for name in sorted(differing)],
    )
    shown.judged(report)
    if observed_again != asked.rounds * observed:
        shown.differences.append(f"{observed_again} observations were made again, not {asked.rounds} times {observed}")
    if sent_again:
        shown.differences.append(f"{sent_again} mails were sent because of it")
    return shown


def _history(webhooks: int) -> tuple[list[Webhook], int]:
    """Orders, each with its changes, and abandoned checkouts; and how many of these."""
    subscribers = max(5, webhooks // 40)
    many = max(20, (webhooks - 2 * subscribers) // (REVISIONS + 1))
    changes = [each for revision in range(REVISIONS + 1) for each in orders(many, PLACED, revision)]
    return [*changes, *abandoned(subscribers, START - timedelta(minutes=2), OVER)], subscribers


async def _observations(database_url: str) -> int:
    connection = await asyncpg.connect(database_url)
    try:
        made: int = await connection.fetchval("SELECT count(*) FROM ingest.log_commerce WHERE type <> 'store.observed'")
        return made
    finally:
        await connection.close()


async def _from_the_beginning(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "UPDATE ingest.positions SET next_offset = 0, owner = NULL, lease_until = NULL WHERE topic = 'journal'"
        )
    finally:
        await connection.close()


async def _digests(database_url: str) -> dict[str, str]:
    """Of each table that holds what is known, and not how it came to be known."""
    connection = await asyncpg.connect(database_url)
    try:
        tables = await connection.fetch(
            """SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables
            WHERE schemaname = ANY($1) AND tablename !~ '^(log_|positions$|workers$|alembic)'""",
            [*SERVICES],
        )
        return {
            row["name"]: await connection.fetchval(
                f"SELECT md5(coalesce(string_agg(md5(t::text), '' ORDER BY md5(t::text)), '')) FROM {row['name']} t"
            )
            for row in tables
        }
    finally:
        await connection.close()

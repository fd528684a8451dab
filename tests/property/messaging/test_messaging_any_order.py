"""Whatever the order, repetition and batches of the same facts: the same messages, and none that must not be."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.clock import DrivenClock
from libs.common.contracts.customers import AccountMoved, ConsentChanged, Fact, OrderPlaced, StoreChanged
from libs.common.contracts.types import ConsentState
from libs.common.db import Database
from tests.conftest import START
from tests.integration.messaging.driving import World
from tests.integration.messaging.driving import world as open_world
from tests.integration.messaging.facts import (
    activity,
    cart,
    checkout,
    consent,
    moved,
    order,
    person,
    shop,
)

DAY = timedelta(days=1)
ACCOUNTS = [f"customer:st_shop:{n}" for n in range(4)]
PROFILES = ["p0", "p1"]
TABLES = "accounts, consents, orders, baskets, stores, flows, flow_versions, timers, runs, messages, log_messages"


@dataclass(frozen=True)
class History:
    """Facts, each with the time at which it becomes known; whose account is whose is known from the first."""

    facts: tuple[tuple[int, Fact], ...]


def at(minutes: int) -> datetime:
    return START + timedelta(minutes=minutes)


def subject(chance: Random, name: int) -> list[tuple[int, Fact]]:
    """Revisions of one thing, in the order in which profiles published them."""
    account = chance.choice(ACCOUNTS)
    origin = chance.choice(["live"] * 5 + ["backfill"])
    told: list[tuple[int, Fact]] = []
    kind = chance.choice(["checkout"] * 4 + ["cart", "order", "order", "activity"])
    for revision, minute in enumerate(sorted(chance.sample(range(90), chance.randint(1, 3))), 1):
        different: dict[str, Any] = {"origin": origin}
        if kind in {"checkout", "cart"}:
            different |= {"revision": revision, "items": chance.choice([0, 1, 1, 1, 2])}
        match kind:
            case "checkout":
                different["cart_token"] = chance.choice([None, None, f"c{name - 1}"])
                fact: Fact = checkout(f"t{name}", account, at(minute), **different)
            case "cart":
                fact = cart(f"c{name}", account, at(minute), **different)
            case "order":
                # Just now, or so long ago that a lapse falls due.
                placed = at(minute) - chance.choice([0, 30, 30, 37]) * DAY
                different["checkout_token"] = chance.choice([None, None, f"t{name - 1}"])
                counted = chance.random() < 0.7
                fact = order(str(name), account, placed, revision=revision, counted=counted, **different)
            case _:
                fact = activity(account, at(minute) - chance.choice([0, 29, 31]) * DAY, **different)
        told.append((minute, fact))
    return told


def of_the_store(chance: Random) -> list[tuple[int, Fact]]:
    """Registered; now and then paused for a while, and now and then deleted."""
    policy = chance.choice(["explicit", "soft_opt_in"])
    told: list[tuple[int, Fact]] = [(0, shop(policy))]
    moments: dict[str, datetime] = {}
    for revision, name in enumerate(["paused_at", "resumed_at", "deleted_at"], 2):
        if chance.random() < 0.3 and (name != "resumed_at" or moments):
            minute = chance.randrange(max((minute for minute, _ in told), default=0), 90)
            moments[name] = at(minute)
            told.append((minute, shop(policy, revision=revision, **moments)))
    return told


def history_of(seed: int) -> History:
    """One store, four accounts of two people who may turn out to be one, and what they do in an hour and a half."""
    chance = Random(seed)
    told = of_the_store(chance)
    for n, account in enumerate(ACCOUNTS):
        profile = chance.choice(PROFILES)
        told.append((0, moved(account, profile)))
        told.append((0, person(account, chance.choice([None, f"{n}@example.com", f"{n}@example.com"]))))
        if chance.random() < 0.2:
            told.append((chance.randrange(90), moved(account, PROFILES[0], before=profile, revision=2)))
        words: list[ConsentState | None] = ["subscribed", "subscribed", "subscribed", "pending", None]
        said = chance.choice(words)
        if said is not None:
            told.append((0, consent(account, said, START)))
        if chance.random() < 0.1:
            told.append((chance.randrange(90), consent(account, "unsubscribed", at(1), revision=2)))
    for name in range(1, chance.randint(3, 8)):
        told += subject(chance, name)
    return History(tuple(told))


def arrivals(history: History, seed: int | None) -> list[list[Fact]]:
    """What becomes known in each quarter of an hour; with a seed shuffled, repeated and cut into batches anew.

    Between two looks of the timers, any order: only within a subject does the log keep it, and even that is not asked.
    """
    slots: list[list[Fact]] = [[] for _ in range(8)]
    for minute, fact in history.facts:
        slots[minute // 15].append(fact)
    if seed is None:
        return slots
    chance = Random(seed)
    shuffled = []
    for slot in slots:
        again = [fact for fact in slot if chance.random() < 0.3]
        mixed = [*slot, *again]
        chance.shuffle(mixed)
        shuffled.append(mixed)
    return shuffled


async def through(world: World, moment: datetime) -> None:
    await world.until(moment)
    # A run whose next step is due already takes it at its next look, and not a quarter of an hour later.
    while await due(world):
        await world.settle()


async def due(world: World) -> bool:
    async with world.database.reading() as tx:
        return bool(await tx.pg.fetchval("SELECT EXISTS (SELECT FROM timers WHERE due_at <= $1)", world.clock.now()))


async def play(world: World, history: History, seed: int | None) -> list[tuple[Any, ...]]:
    async with world.database.transaction() as tx:
        await tx.pg.execute(f"TRUNCATE {TABLES}")
    world.inbox.mails.clear()
    world.clock.set(START)
    chance = Random(seed or 0)
    for n, facts in enumerate(arrivals(history, seed)):
        while facts:
            size = len(facts) if seed is None else chance.randint(1, len(facts))
            await world.hear(*facts[:size])
            facts = facts[size:]  # noqa: PLW2901
        await through(world, at(15 * (n + 1)))
    for hours in (6, 24, 25, 26, 48, 49, 50, 24 * 8):
        await through(world, START + timedelta(hours=hours))
    rows = await world.messages()
    columns = ("flow", "step", "run_key", "account", "recipient", "state", "reason", "due_at", "sent_at", "id")
    return sorted(tuple(str(row[name]) for name in columns) for row in rows)


def newest(history: History, kind: type) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for _, fact in history.facts:
        if isinstance(fact, kind):
            state: Any = fact
            key = state.order.source_id if isinstance(fact, OrderPlaced) else state.account
            if key not in found or found[key].revision < state.revision:
                found[key] = state
    return found


def check(history: History, messages: list[tuple[Any, ...]], inbox: int) -> None:
    """Never twice; never to somebody who withdrew, never consented, or bought."""
    sent = [m for m in messages if m[5] == "sent"]
    store = max((fact for _, fact in history.facts if isinstance(fact, StoreChanged)), key=lambda fact: fact.revision)
    for message in sent:
        due, sent_at = (datetime.fromisoformat(message[n]) for n in (7, 8))
        # Due at the very moment of the pause, which is told of after the look of that moment: either is right.
        assert not (store.paused_at and store.paused_at < due and (not store.resumed_at or due < store.resumed_at))
        assert store.deleted_at is None or sent_at <= store.deleted_at
    assert len(sent) == inbox
    assert len({(m[0], m[1], m[2]) for m in messages}) == len(messages)
    owners = {account: fact.profile for account, fact in newest(history, AccountMoved).items()}
    consents = newest(history, ConsentChanged)
    orders = [fact.order for fact in newest(history, OrderPlaced).values() if fact.order.counted]
    policy = next(fact.consent_policy for _, fact in history.facts if hasattr(fact, "consent_policy"))
    known_by_then = at(90).isoformat(" ")
    for message in sent:
        if message[8] < known_by_then:
            continue  # judged by less than the whole history
        mine = {account for account, owner in owners.items() if owner == owners[message[3]]}
        states = {consents[account].state for account in mine if account in consents}
        assert "unsubscribed" not in states
        buyer = any(o.account in mine for o in orders)
        assert "subscribed" in states or (policy == "soft_opt_in" and buyer)
        if message[0] == "cart_abandonment" and message[1] != "1":
            began = datetime.fromisoformat(message[7])
            assert not any(o.account in mine and o.placed_at >= began for o in orders)


def test_any_order_gives_the_same_messages(database_url: str, tmp_path: Path) -> None:
    with asyncio.Runner() as loop:
        database = Database(database_url, schema="messaging")
        manager = open_world(database, DrivenClock.create(tmp_path / "clock", START))
        world = loop.run(manager.__aenter__())

        @settings(max_examples=30)
        @given(st.integers(1, 10**9), st.integers(1, 10**9), st.sampled_from([1, 3, 500]))
        def holds(told: int, seed: int, batch: int) -> None:
            history = history_of(told)
            world.batch = 500
            plain = loop.run(play(world, history, None))
            check(history, plain, len(world.inbox.mails))
            world.batch = batch
            assert loop.run(play(world, history, seed)) == plain

        try:
            holds()
        finally:
            loop.run(manager.__aexit__(None, None, None))
            loop.run(database.close())

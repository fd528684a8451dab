"""A store paused and resumed, or deleted: what falls due then, and what is under way."""

from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace

from libs.common.contracts.customers import StoreChanged
from tests.conftest import START
from tests.integration.messaging.driving import World
from tests.integration.messaging.facts import checkout, known, moved, order, shop

ADA, PROFILE, MAIL = "customer:st_shop:1", "p1", "ada@example.com"
MINUTES, HOURS = timedelta(minutes=1), timedelta(hours=1)


def paused(begin: datetime, end: datetime | None = None) -> StoreChanged:
    return shop(revision=2 if end is None else 3, paused_at=begin, resumed_at=end)


def deleted(at: datetime) -> StoreChanged:
    return shop(revision=9, deleted_at=at)


async def begun(world: World) -> None:
    """A checkout is left at START."""
    await world.hear(shop(), *known(ADA, PROFILE, MAIL, START), checkout("t1", ADA, START))


async def test_what_falls_due_in_a_pause_is_never_sent_and_what_does_later_is(world: World) -> None:
    await begun(world)
    await world.hear(paused(START + 30 * MINUTES))
    await world.until(START + 46 * MINUTES)
    assert await world.states() == [("cart_abandonment", 1, "skipped", "store_paused")]
    await world.hear(paused(START + 30 * MINUTES, START + 50 * MINUTES))
    await world.later(hours=5)
    assert world.inbox.to == []
    await world.until(START + 24 * HOURS)
    assert world.inbox.to == [MAIL]
    assert [(m["step"], m["state"]) for m in await world.messages()] == [(1, "skipped"), (2, "sent")]


async def test_nobody_looked_until_the_pause_was_over(world: World) -> None:
    await begun(world)
    await world.hear(paused(START + 30 * MINUTES), paused(START + 30 * MINUTES, START + 50 * MINUTES))
    await world.until(START + 60 * MINUTES)
    assert await world.states() == [("cart_abandonment", 1, "skipped", "store_paused")]


@pytest.mark.parametrize("end", [START + 45 * MINUTES, START + 44 * MINUTES])
async def test_a_pause_that_has_ended_by_then_holds_nothing_back(world: World, end: datetime) -> None:
    await begun(world)
    await world.hear(paused(START + 30 * MINUTES, end))
    await world.until(START + 45 * MINUTES)
    assert world.inbox.to == [MAIL]


async def test_what_was_due_before_the_pause_does_not_leave_in_it(world: World) -> None:
    await begun(world)
    world.inbox.at_hello = "421 come back later"
    await world.until(START + 45 * MINUTES)
    await world.hear(paused(START + 46 * MINUTES))
    world.inbox.at_hello = None
    await world.later(minutes=10)
    assert world.inbox.to == []
    assert await world.states() == [("cart_abandonment", 1, "skipped", "store_paused")]


async def test_another_store_and_another_tenant_go_on(world: World) -> None:
    await begun(world)
    await world.hear(shop(store="st_other", revision=2, paused_at=START, deleted_at=START))
    await world.hear(shop(revision=2, paused_at=START, deleted_at=START), tenant="other")
    await world.until(START + 45 * MINUTES)
    assert world.inbox.to == [MAIL]


@pytest.mark.parametrize("after", [10 * MINUTES, 2 * HOURS], ids=["before a mail", "after the first mail"])
async def test_a_deleted_store_ends_what_is_under_way_at_once(world: World, after: timedelta) -> None:
    await begun(world)
    await world.until(START + after)
    sent = list(world.inbox.to)
    await world.hear(deleted(START + after))
    await world.settle()
    async with world.database.reading() as tx:
        assert await tx.pg.fetchval("SELECT count(*) FROM timers") == 0
        runs = await tx.pg.fetch("SELECT reason FROM runs")
    assert [run["reason"] for run in runs] == ["store_deleted"] * len(sent)
    # Told late: of the time before.
    await world.hear(checkout("t2", ADA, START + 5 * MINUTES))
    await world.later(days=4)
    assert world.inbox.to == sent


async def test_a_message_that_waits_does_not_leave_for_a_deleted_store(world: World) -> None:
    await begun(world)
    world.inbox.at_hello = "421 come back later"
    await world.until(START + 45 * MINUTES)
    await world.hear(deleted(START + 46 * MINUTES))
    world.inbox.at_hello = None
    await world.later(minutes=10)
    assert world.inbox.to == []
    assert await world.states() == [("cart_abandonment", 1, "skipped", "store_deleted")]


async def test_a_buyer_of_a_deleted_store_is_not_called_back(world: World) -> None:
    await world.hear(shop(), *known(ADA, PROFILE, MAIL, START), order("o1", ADA, START))
    await world.until(START + timedelta(days=30))
    assert world.inbox.to == [MAIL]
    await world.hear(deleted(world.clock.now()))
    await world.settle()
    async with world.database.reading() as tx:
        assert await tx.pg.fetchval("SELECT reason FROM runs") == "store_deleted"
    await world.later(days=10)
    assert world.inbox.to == [MAIL]


async def test_who_bought_elsewhere_since_is(world: World) -> None:
    other = "customer:st_other:1"
    elsewhere = replace(moved(other, PROFILE), store="st_other")
    await world.hear(shop(), shop(store="st_other"), *known(ADA, PROFILE, MAIL, START), elsewhere)
    await world.hear(order("o1", ADA, START), order("o2", other, START + HOURS, store="st_other"))
    await world.hear(deleted(START + 2 * HOURS))
    await world.until(START + HOURS + timedelta(days=30))
    assert world.inbox.to == [MAIL]

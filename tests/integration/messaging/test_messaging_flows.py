"""FLOWS.md's two built-in flows, from fact to mail."""

from datetime import timedelta

import pytest

from libs.common.contracts.customers import Fact
from services.messaging.store import suppressions
from services.messaging.store import timers as timer_store
from services.messaging.timers import look
from tests.conftest import START
from tests.integration.messaging.driving import TENANT, World
from tests.integration.messaging.facts import activity, cart, checkout, consent, known, moved, order, person, shop

ADA, PROFILE, MAIL = "customer:st_shop:1", "p1", "ada@example.com"
DAY = timedelta(days=1)


async def test_three_mails_after_the_last_change(world: World) -> None:
    await world.hear(shop(), *known(ADA, PROFILE, MAIL, START), checkout("t1", ADA, START))
    await world.until(START + timedelta(minutes=44))
    assert world.inbox.mails == []
    await world.until(START + timedelta(minutes=45))
    assert world.inbox.to == [MAIL]
    await world.until(START + timedelta(hours=24))
    await world.until(START + timedelta(hours=48))
    assert world.inbox.to == [MAIL] * 3
    await world.later(days=20)
    assert world.inbox.to == [MAIL] * 3
    assert [(m["step"], m["state"], m["checkout_token"]) for m in await world.messages()] == [
        (1, "sent", "t1"),
        (2, "sent", "t1"),
        (3, "sent", "t1"),
    ]
    kinds = [(kind, data["step"], data["profile"]) for kind, data in await world.events()]
    assert kinds == [("message.sent", step, PROFILE) for step in (1, 2, 3)]


async def test_activity_does_not_move_the_timer_but_the_mail(world: World) -> None:
    await world.hear(shop(), *known(ADA, PROFILE, MAIL, START), checkout("t1", ADA, START))
    changed = START + timedelta(minutes=30)
    await world.hear(checkout("t1", ADA, changed, revision=2))
    await world.until(START + timedelta(minutes=45))
    assert world.inbox.mails == []
    await world.until(changed + timedelta(minutes=45))
    assert world.inbox.to == [MAIL]


async def test_an_order_of_the_profile_ends_it_whenever_it_arrives(world: World) -> None:
    other = "guest:st_shop:ada@example.com"
    await world.hear(shop(), *known(ADA, PROFILE, MAIL, START), moved(other, PROFILE), checkout("t1", ADA, START))
    await world.until(START + timedelta(minutes=45))
    # Placed an hour after, told a day later: by another account of the same person.
    await world.until(START + timedelta(hours=23))
    await world.hear(order("o1", other, START + timedelta(hours=1)))
    await world.until(START + timedelta(hours=30))
    assert world.inbox.to == [MAIL]
    async with world.database.reading() as tx:
        assert await tx.pg.fetchval("SELECT reason FROM runs") == "ordered"


@pytest.mark.parametrize(
    ("over", "undone", "reason"),
    [
        (
            order("o1", ADA, START + timedelta(hours=1)),
            order("o1", ADA, START + timedelta(hours=1), revision=2, counted=False),
            "ordered",
        ),
        (
            consent(ADA, "unsubscribed", START + timedelta(hours=1), revision=2),
            consent(ADA, "subscribed", START + timedelta(hours=2), revision=3),
            "unsubscribed",
        ),
    ],
    ids=["ordered, and cancelled then", "unsubscribed, and subscribed anew"],
)
async def test_a_run_ends_at_once_whatever_comes_then(world: World, over: Fact, undone: Fact, reason: str) -> None:
    await world.hear(shop(), *known(ADA, PROFILE, MAIL, START), checkout("t1", ADA, START))
    await world.until(START + timedelta(hours=2))
    await world.hear(over)
    await world.settle()
    async with world.database.reading() as tx:
        assert await tx.pg.fetchval("SELECT reason FROM runs WHERE ended_at IS NOT NULL") == reason
    await world.hear(undone)
    await world.later(days=4)
    assert world.inbox.to == [MAIL]


async def test_a_suppression_that_is_lifted_has_ended_what_was_under_way(world: World) -> None:
    await world.hear(shop(), *known(ADA, PROFILE, MAIL, START), checkout("t1", ADA, START))
    await world.until(START + timedelta(hours=2))
    async with world.database.transaction() as tx:
        assert await suppressions.suppress(tx, TENANT, "email", MAIL, "manual", START + timedelta(hours=2))
    await world.settle()
    async with world.database.transaction() as tx:
        assert await suppressions.lift(tx, TENANT, "email", MAIL)
    await world.later(days=4)
    assert world.inbox.to == [MAIL]


async def test_completed_by_its_token_though_nobody_can_be_named(world: World) -> None:
    await world.hear(shop(), *known(ADA, PROFILE, MAIL, START), checkout("t1", ADA, START))
    await world.hear(order("o1", None, START - timedelta(minutes=1), checkout_token="t1"))
    await world.later(hours=1)
    assert await world.messages() == []


async def test_emptied_and_refilled_before_anybody_looked(world: World) -> None:
    await world.hear(shop(), *known(ADA, PROFILE, MAIL, START), checkout("t1", ADA, START))
    await world.hear(checkout("t1", ADA, START + timedelta(minutes=5), revision=2, items=0, lines=[]))
    await world.until(START + timedelta(minutes=50))
    assert await world.messages() == []
    back = START + timedelta(minutes=55)
    await world.hear(checkout("t1", ADA, back, revision=3))
    await world.until(back + timedelta(minutes=45))
    assert world.inbox.to == [MAIL]
    await world.hear(checkout("t1", ADA, back + timedelta(hours=2), revision=4, items=0, lines=[]))
    await world.until(back + timedelta(hours=30))
    assert world.inbox.to == [MAIL]


async def test_a_cart_becomes_somebodys(world: World) -> None:
    anonymous = "cart:st_shop:c1"
    await world.hear(shop(), moved(anonymous, "p0"), cart("c1", anonymous, START))
    await world.until(START + timedelta(hours=1))
    assert await world.messages() == []
    await world.hear(*known(ADA, "p0", MAIL, START))
    await world.settle()
    assert world.inbox.to == [MAIL]


async def test_a_cart_and_its_checkout_are_one_run(world: World) -> None:
    await world.hear(shop(), *known(ADA, PROFILE, MAIL, START), cart("c1", ADA, START))
    await world.until(START + timedelta(minutes=45))
    assert world.inbox.to == [MAIL]
    later = START + timedelta(hours=2)
    await world.hear(checkout("t1", ADA, later, cart_token="c1"))
    await world.until(later + timedelta(hours=23))
    assert world.inbox.to == [MAIL]
    await world.until(later + timedelta(hours=24))
    await world.until(later + timedelta(hours=48))
    assert world.inbox.to == [MAIL] * 3
    assert [(m["step"], m["checkout_token"]) for m in await world.messages()] == [(1, None), (2, "t1"), (3, "t1")]


async def test_one_new_run_in_a_day(world: World) -> None:
    await world.hear(shop(), *known(ADA, PROFILE, MAIL, START), checkout("t1", ADA, START))
    await world.until(START + timedelta(hours=1))
    await world.hear(checkout("t2", ADA, START + timedelta(hours=20)))
    await world.until(START + timedelta(hours=21))
    assert len(await world.messages()) == 1
    # Changed again when a day has passed: now it may begin; the first cart's second mail went an hour before.
    await world.hear(checkout("t2", ADA, START + timedelta(hours=41), revision=2))
    await world.until(START + timedelta(hours=42))
    assert [s[1:] for s in await world.states()] == [(1, "sent", None), (2, "skipped", "too_late"), (1, "sent", None)]


async def test_a_late_webhook_sends_no_stale_mail(world: World) -> None:
    await world.hear(shop(), *known(ADA, PROFILE, MAIL, START), checkout("t1", ADA, START - timedelta(hours=7)))
    await world.settle()
    assert await world.states() == [("cart_abandonment", 1, "skipped", "too_late")]
    assert world.inbox.mails == []


async def test_backfilled_facts_start_nothing(world: World) -> None:
    await world.hear(shop(), *known(ADA, PROFILE, MAIL, START), checkout("t1", ADA, START, origin="backfill"))
    await world.hear(order("o1", ADA, START - 40 * DAY, origin="backfill"))
    await world.later(hours=1)
    await world.later(days=40)
    assert await world.messages() == []


async def test_withdrawn_wins_over_every_consent(world: World) -> None:
    other = "guest:st_shop:ada@example.com"
    await world.hear(shop("soft_opt_in"), *known(ADA, PROFILE, MAIL, START), moved(other, PROFILE))
    await world.hear(consent(other, "unsubscribed", START - 30 * DAY), order("o1", ADA, START - 5 * DAY))
    await world.hear(checkout("t1", ADA, START))
    await world.later(hours=1)
    assert await world.states() == [("cart_abandonment", 1, "skipped", "no_consent")]


async def test_who_shares_an_address_shares_its_withdrawal(world: World) -> None:
    """Two customers of one address are nobody's guest: his word is about the address."""
    guest = "guest:st_shop:ada@example.com"
    await world.hear(shop("soft_opt_in"), *known(ADA, PROFILE, MAIL, START), order("o1", ADA, START - 5 * DAY))
    await world.hear(moved(guest, "p2"), person(guest, MAIL), consent(guest, "unsubscribed", START - DAY))
    await world.hear(checkout("t1", ADA, START))
    await world.later(hours=1)
    assert await world.states() == [("cart_abandonment", 1, "skipped", "no_consent")]


async def test_soft_opt_in_lets_us_write_to_buyers(world: World) -> None:
    await world.hear(shop("soft_opt_in"), moved(ADA, PROFILE), person(ADA, MAIL), checkout("t1", ADA, START))
    await world.later(hours=1)
    assert (await world.states())[0][2:] == ("skipped", "no_consent")
    await world.hear(order("o1", ADA, START + timedelta(hours=2)))
    await world.hear(checkout("t2", ADA, START + 2 * DAY))
    await world.until(START + 2 * DAY + timedelta(hours=1))
    assert (await world.states())[-1][2:] == ("sent", None)


async def test_a_message_waits_for_its_store(world: World) -> None:
    await world.hear(*known(ADA, PROFILE, MAIL, START), checkout("t1", ADA, START))
    await world.later(minutes=45)
    assert await world.states() == [("cart_abandonment", 1, "planned", "store_unknown")]
    await world.hear(shop())
    await world.later(minutes=1)
    assert world.inbox.to == [MAIL]


async def test_two_mails_to_a_lapsed_buyer(world: World) -> None:
    await world.hear(shop(), *known(ADA, PROFILE, MAIL, START), order("o1", ADA, START))
    await world.until(START + 29 * DAY)
    await world.hear(activity(ADA, START + 5 * DAY))
    await world.until(START + 34 * DAY)
    assert world.inbox.mails == []
    await world.until(START + 35 * DAY)
    await world.until(START + 42 * DAY)
    await world.until(START + 300 * DAY)
    assert world.inbox.to == [MAIL] * 2
    assert [m["due_at"] for m in await world.messages()] == [START + 35 * DAY, START + 42 * DAY]


async def test_a_lapse_ends_with_activity_and_begins_anew_after_90_days(world: World) -> None:
    await world.hear(shop(), *known(ADA, PROFILE, MAIL, START), order("o1", ADA, START))
    await world.until(START + 30 * DAY)
    await world.hear(activity(ADA, START + 31 * DAY))
    await world.until(START + 61 * DAY)
    # 31 days after the first lapse began: not again yet.
    assert len(world.inbox.mails) == 1
    await world.hear(activity(ADA, START + 95 * DAY))
    await world.until(START + 125 * DAY)
    assert len(world.inbox.mails) == 2


async def test_merged_accounts_lapse_once(world: World) -> None:
    other = "guest:st_shop:ada@example.com"
    await world.hear(shop(), *known(ADA, PROFILE, MAIL, START), order("o1", ADA, START))
    await world.hear(*known(other, "p2", MAIL, START), order("o2", other, START))
    await world.hear(moved(other, PROFILE, before="p2", revision=2))
    await world.until(START + 30 * DAY)
    await world.until(START + 37 * DAY)
    assert [m["step"] for m in await world.messages()] == [1, 2]


async def test_the_timers_of_merged_accounts_may_take_their_run_two_steps_at_once(world: World) -> None:
    other = "guest:st_shop:ada@example.com"
    await world.hear(shop(), *known(ADA, PROFILE, MAIL, START), order("o1", ADA, START))
    await world.hear(*known(other, PROFILE, MAIL, START), order("o2", other, START))
    now = START + 40 * DAY
    async with world.database.transaction() as tx:
        made = await look(tx, await timer_store.claim(tx, now, 100), now)
    assert [message.step for message in made.messages] == [1, 2]
    assert [run.step for _, run in made.runs.values()] == [2]
    await world.until(now)
    assert [m["step"] for m in await world.messages()] == [1, 2]


async def test_two_tenants_do_not_see_each_other(world: World) -> None:
    await world.hear(shop(), *known(ADA, PROFILE, MAIL, START), checkout("t1", ADA, START))
    await world.hear(
        shop(), *known(ADA, PROFILE, "other@example.com", START), checkout("t1", ADA, START), tenant="other"
    )
    await world.hear(order("o1", ADA, START + timedelta(minutes=10)), tenant="other")
    await world.later(hours=1)
    assert world.inbox.to == [MAIL]

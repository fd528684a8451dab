"""What becomes of a message when servers and workers fail: at most one mail, whatever happens."""

import asyncio
from datetime import timedelta

import pytest
from asyncpg import UndefinedTableError
from prometheus_client import REGISTRY

from libs.common.contracts.customers import Fact
from services.messaging.backlog import Backlog
from services.messaging.smtp import Mailer
from tests.conftest import START
from tests.integration.messaging.driving import World, relay
from tests.integration.messaging.facts import checkout, consent, known, order, shop

ADA, PROFILE, MAIL = "customer:st_shop:1", "p1", "ada@example.com"
DUE = START + timedelta(minutes=45)


async def abandon(world: World, people: int = 1) -> None:
    """Checkouts that are due, planned and not yet sent."""
    facts: list[Fact] = [shop()]
    for n in range(people):
        account = f"customer:st_shop:{n}"
        facts += known(account, f"p{n}", f"person{n}@example.com", START)
        facts.append(checkout(f"t{n}", account, START))
    await world.hear(*facts)
    world.clock.set(DUE)
    while await world.timers().run(DUE):
        pass


async def waiting(world: World) -> float | None:
    """What Prometheus is told."""
    await Backlog(world.database).run(world.clock.now())
    return REGISTRY.get_sample_value("regulars_messaging_put_off")


async def test_a_mail_has_all_that_its_reader_needs(world: World) -> None:
    await abandon(world)
    await world.settle()
    (mail,) = world.inbox.mails
    (message,) = await world.messages()
    assert mail["To"] == "person0@example.com"
    assert mail["From"] == "Café Größe <hello@mail.example.com>"
    assert mail["Message-ID"] == f"<{message['id']}@mail.example.com>"
    assert mail["Date"].datetime == DUE
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert str(mail["List-Unsubscribe"]).startswith("<https://regulars.example.com/u/")
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None
    assert html is not None
    for part in (text.get_content(), html.get_content()):
        assert "Blue mug" in part
        assert "€49.90" in part
        assert "https://shop.example.com/recover/t0" in part
        assert "because you left items in your cart at Café Größe" in part
        assert "Café Größe, shop.example.com" in part
        assert "/u/" in part


async def test_connections_are_few_and_kept(world: World) -> None:
    await abandon(world, people=12)
    await world.settle()
    assert len(world.inbox.mails) == 12
    assert world.inbox.connections == 2


async def test_a_dead_worker_leaves_unknown_and_no_second_mail(world: World) -> None:
    await abandon(world)
    # Claimed and committed; then the worker died, before or after the mail had left: nobody can tell.
    asked, letters = await world.sender(lease=0).claim(DUE, 10)
    assert (asked, len(letters)) == (1, 1)
    assert [m["state"] for m in await world.messages()] == ["claimed"]
    await world.settle()
    await world.later(hours=1)
    assert await world.states() == [("cart_abandonment", 1, "unknown", "lease_lapsed")]
    assert world.inbox.mails == []
    assert [kind for kind, _ in await world.events()] == ["message.unknown"]


async def test_an_answer_after_the_lease_still_counts(world: World) -> None:
    await abandon(world)
    sender = world.sender(lease=0)
    _, letters = await sender.claim(DUE, 10)
    await world.sender().run(DUE)
    assert [m["state"] for m in await world.messages()] == ["unknown"]
    answers = await world.mailer.send([letter for _, letter in letters])
    await sender.settle([(message, answer) for (message, _), answer in zip(letters, answers, strict=True)])
    assert [m["state"] for m in await world.messages()] == ["sent"]
    assert len(world.inbox.mails) == 1


async def test_answers_outlast_a_database_that_is_away(world: World) -> None:
    await abandon(world)
    sender = world.sender()
    async with world.database.transaction() as tx:
        await tx.pg.execute("ALTER TABLE log_partitions RENAME TO moved_away")
    with pytest.raises(UndefinedTableError):
        await sender.run(DUE)
    assert len(world.inbox.mails) == 1
    async with world.database.transaction() as tx:
        await tx.pg.execute("ALTER TABLE moved_away RENAME TO log_partitions")
    await sender.run(DUE)
    assert [m["state"] for m in await world.messages()] == ["sent"]
    assert len(world.inbox.mails) == 1


async def test_a_server_that_hangs_up_after_the_mail(world: World) -> None:
    await abandon(world)
    world.inbox.hang_up = True
    await world.settle()
    world.inbox.hang_up = False
    await world.later(hours=2)
    assert await world.states() == [("cart_abandonment", 1, "unknown", "no_answer")]
    assert len(world.inbox.mails) == 1


async def test_a_relay_that_is_down_and_comes_back(world: World) -> None:
    await abandon(world, people=3)
    down = Mailer(relay(world.inbox, port=1))
    assert await world.sender(down).run(DUE) is False
    assert {s[2:] for s in await world.states()} == {("planned", "provider_away")}
    assert await waiting(world) == 3
    await world.later(minutes=1)
    assert len(world.inbox.mails) == 3
    assert {s[2:] for s in await world.states()} == {("sent", None)}
    assert await waiting(world) == 0


async def test_a_message_that_is_being_tried_again_still_waits_for_the_relay(world: World) -> None:
    await abandon(world)
    assert await waiting(world) == 0
    await world.sender(Mailer(relay(world.inbox, port=1))).run(DUE)
    await world.sender().claim(DUE + timedelta(minutes=1), 1)
    assert [s[2] for s in await world.states()] == ["claimed"]
    assert await waiting(world) == 1


async def test_a_relay_that_is_down_too_long(world: World) -> None:
    await abandon(world)
    await world.sender(Mailer(relay(world.inbox, port=1))).run(DUE)
    await world.later(hours=7)
    assert await world.states() == [("cart_abandonment", 1, "skipped", "too_late")]
    assert world.inbox.mails == []


async def test_an_idle_connection_that_was_closed(world: World) -> None:
    await abandon(world)
    await world.settle()
    for transport in world.inbox.open_connections:
        transport.close()
    await world.hear(*known("a2", "p2", "grace@example.com", START), checkout("t2", "a2", DUE))
    await world.until(DUE + timedelta(minutes=45))
    assert world.inbox.to == ["person0@example.com", "grace@example.com"]


async def test_a_relay_that_wants_none_of_us_loses_no_mail(world: World) -> None:
    """It took mail a minute ago; now it is in maintenance, or our password has changed."""
    await abandon(world)
    await world.settle()
    for transport in world.inbox.open_connections:
        transport.close()
    world.inbox.at_hello = "554 no service today"
    await world.hear(*known("a2", "p2", "grace@example.com", START), checkout("t2", "a2", DUE))
    await world.until(DUE + timedelta(minutes=45))
    assert ("cart_abandonment", 1, "planned", "provider_away") in await world.states()
    world.inbox.at_hello = None
    await world.later(minutes=5)
    assert world.inbox.to == ["person0@example.com", "grace@example.com"]


@pytest.mark.parametrize(
    ("where", "answer", "state", "reason"),
    [
        ("at_recipient", "550 no such user", "failed", "provider_rejected"),
        ("at_recipient", "451 try later", "planned", "provider_away"),
        ("at_recipient", "421 too busy", "planned", "provider_away"),
        ("at_data", "554 spam", "failed", "provider_rejected"),
        ("at_data", "452 full", "planned", "provider_away"),
    ],
)
async def test_what_the_server_answers(world: World, where: str, answer: str, state: str, reason: str) -> None:
    await abandon(world)
    setattr(world.inbox, where, answer)
    await world.settle()
    assert await world.states() == [("cart_abandonment", 1, state, reason)]
    setattr(world.inbox, where, None)
    await world.later(minutes=5)
    assert len(world.inbox.mails) == (1 if state == "planned" else 0)


async def test_two_workers_share_the_work_and_the_cap(world: World) -> None:
    facts: list[Fact] = [shop()]
    for n in range(30):
        account = f"customer:st_shop:{n}"
        facts += known(account, f"p{n}", f"person{n}@example.com", START)
        # A lapse and a checkout fall due at one instant: the cap lets one of them through.
        facts.append(order(f"o{n}", account, DUE - timedelta(days=30)))
    await world.hear(*facts)
    world.clock.set(DUE)
    async with world.database.transaction() as tx:
        # As if the baskets were no activity: both flows plan a message for each person.
        await tx.pg.execute("UPDATE timers SET due_at = $1", DUE)
    while await world.timers().run(DUE):
        pass
    await world.hear(*[checkout(f"t{n}", f"customer:st_shop:{n}", START) for n in range(30)])
    timers = [world.timers() for _ in range(2)]
    await asyncio.gather(*[each.run(DUE) for each in timers])
    mailers = [Mailer(relay(world.inbox)) for _ in range(2)]

    async def work(mailer: Mailer) -> None:
        sender = world.sender(mailer, batch=4)
        while await sender.run(DUE):
            pass

    await asyncio.gather(*[work(mailer) for mailer in mailers])
    await world.settle()
    assert sorted(world.inbox.to) == sorted(f"person{n}@example.com" for n in range(30))
    states = await world.states()
    assert len(states) == 60
    assert sum(state == "sent" for _, _, state, _ in states) == 30
    for mailer in mailers:
        await mailer.close()


async def test_a_template_that_lacks_what_it_needs(world: World) -> None:
    await world.hear(shop(domain="not a domain"), *known(ADA, PROFILE, MAIL, START))
    await world.hear(checkout("t1", ADA, START, recovery_url="javascript:alert(1)"))
    await world.later(hours=1)
    assert await world.states() == [("cart_abandonment", 1, "skipped", "template_error")]


async def test_withdrawn_while_the_relay_was_down(world: World) -> None:
    await abandon(world)
    await world.sender(Mailer(relay(world.inbox, port=1))).run(DUE)
    await world.hear(consent("customer:st_shop:0", "unsubscribed", DUE, revision=2))
    await world.later(minutes=5)
    assert await world.states() == [("cart_abandonment", 1, "skipped", "no_consent")]


async def test_bought_while_the_relay_was_down(world: World) -> None:
    await abandon(world)
    await world.sender(Mailer(relay(world.inbox, port=1))).run(DUE)
    await world.hear(order("o1", "customer:st_shop:0", DUE))
    await world.later(days=3)
    assert await world.states() == [("cart_abandonment", 1, "skipped", "bought")]
    (_, skipped), *_ = await world.events()
    assert skipped["reason"] == "bought"

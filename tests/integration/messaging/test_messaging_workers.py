"""Workers at work: the consumer loop from the log, races between them, and what is broken kept out of the way."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from libs.common.clock import DrivenClock
from libs.common.contracts.customers import Fact
from libs.common.contracts.topics import CUSTOMERS
from libs.common.db import Database
from libs.common.log import postgres
from libs.common.log.base import Event
from services.messaging.main import pending
from services.messaging.settings import MessagingSettings
from services.messaging.store import facts as known_facts
from services.messaging.store import timers as timer_store
from services.messaging.work import worker
from tests.conftest import START
from tests.integration.messaging.driving import TENANT, World
from tests.integration.messaging.facts import cart, checkout, known, shop
from tests.waiting import eventually

ADA, PROFILE, MAIL = "customer:st_shop:1", "p1", "ada@example.com"
SECRET = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
DUE = START + timedelta(minutes=45)


async def publish(profiles: Database, world: World, facts: Sequence[Fact]) -> None:
    """As profiles does."""
    events = [
        Event(**{name: getattr(record, name) for name in Event.__struct_fields__}) for record in world.records(facts)
    ]
    async with profiles.transaction() as tx:
        await postgres.append(tx, CUSTOMERS, events)


async def test_from_the_log_to_the_inbox(
    world: World, profiles_db: Database, messaging_db: Database, clock: DrivenClock
) -> None:
    await publish(profiles_db, world, [shop(), *known(ADA, PROFILE, MAIL, START), checkout("t1", ADA, START)])
    settings = MessagingSettings(
        smtp_port=world.inbox.port, secret_key=SECRET, timers_seconds=0.02, mail_from="hello@mail.example.com"
    )
    stop = asyncio.Event()
    log = postgres.PostgresLog(messaging_db)
    working = asyncio.create_task(worker(settings, messaging_db, clock, log).run(stop))

    async def armed() -> bool:
        return (await pending(messaging_db, START)).next_due_at == DUE

    async def arrived() -> bool:
        return bool(world.inbox.to)

    await eventually(armed)
    clock.set(DUE)
    await eventually(arrived)
    stop.set()
    await working
    await log.close()
    assert world.inbox.to == [MAIL]
    assert (await pending(messaging_db, DUE))[:3] == (0, 0, 0)


async def test_a_timer_that_is_being_taken_away_is_put_back(world: World) -> None:
    await world.hear(shop(), *known(ADA, PROFILE, MAIL, START), cart("c1", ADA, START))
    world.clock.set(DUE)
    async with world.database.transaction() as tx:
        # A worker looked before the change below was known, and takes the timer away.
        due = await timer_store.claim(tx, DUE, 10)
        await timer_store.disarm(tx, due)
        hearing = asyncio.create_task(world.hear(cart("c1", ADA, DUE, revision=2)))
        done, _ = await asyncio.wait([hearing], timeout=0.3)
        assert not done
    await hearing
    await world.later(minutes=45)
    assert world.inbox.to == [MAIL]


async def test_two_workers_fire_each_timer_once(world: World) -> None:
    facts: list[Fact] = [shop()]
    for n in range(40):
        facts += known(f"a{n}", f"p{n % 20}", f"p{n % 20}@example.com", START)
        facts.append(checkout(f"t{n}", f"a{n}", START))
    await world.hear(*facts)
    world.clock.set(DUE)
    world.batch = 3

    async def work() -> None:
        timers = world.timers()
        while await timers.run(DUE):
            pass

    await asyncio.gather(work(), work(), work())
    # Two checkouts of each person: one run in a day.
    messages = await world.messages()
    assert len({m["profile"] for m in messages}) == len(messages) == 20


async def test_a_batch_about_one_profile_looks_at_its_accounts_once(world: World) -> None:
    accounts = [f"a{n}" for n in range(40)]
    facts: list[Fact] = [shop()]
    for n, account in enumerate(accounts):
        facts += [*known(account, PROFILE, MAIL, START), cart(f"c{n}", account, START)]
    await world.hear(*facts)
    keys = [(TENANT, account) for account in accounts]
    async with world.database.transaction() as tx:

        async def read(table: str) -> int:
            return int(
                await tx.pg.fetchval(
                    "SELECT seq_scan + idx_scan FROM pg_stat_xact_user_tables WHERE relid = $1::text::regclass", table
                )
            )

        before = await read("baskets"), await read("orders"), await read("runs")
        await known_facts.arm_reached(tx, "cart_abandonment", keys, {TENANT: timedelta()}, {TENANT: START})
        await known_facts.arm_lapses(tx, "win_back", dict.fromkeys(keys, START))
        await known_facts.look_again(tx, keys, START)
        after = await read("baskets"), await read("orders"), await read("runs")
    assert [b - a for a, b in zip(before, after, strict=True)] == [len(accounts)] * 3


async def test_what_is_broken_does_not_stop_the_rest(world: World) -> None:
    for tenant in ("broken", "default"):
        await world.hear(shop(), *known(ADA, PROFILE, f"{tenant}@example.com", START), tenant=tenant)
        await world.hear(checkout("t1", ADA, START), tenant=tenant)

    async def break_it(definition: str) -> None:
        async with world.database.transaction() as tx:
            await tx.pg.execute("UPDATE flow_versions SET definition = $1 WHERE tenant = 'broken'", definition)

    await break_it("{}")
    await world.until(DUE)
    assert world.inbox.to == ["default@example.com"]
    assert (await pending(world.database, DUE)).timers == 0
    # Mended within the hour: nothing was lost.
    async with world.database.transaction() as tx:
        await tx.pg.execute(
            "UPDATE flow_versions b SET definition = d.definition FROM flow_versions d"
            " WHERE b.tenant = 'broken' AND d.tenant = 'default' AND b.key = d.key"
        )
    await world.until(DUE + timedelta(hours=1))
    assert world.inbox.to == ["default@example.com", "broken@example.com"]


async def test_a_broken_message_does_not_stop_the_rest(world: World) -> None:
    for tenant in ("broken", "default"):
        await world.hear(shop(), *known(ADA, PROFILE, f"{tenant}@example.com", START), tenant=tenant)
        await world.hear(checkout("t1", ADA, START), tenant=tenant)
    world.clock.set(DUE)
    while await world.timers().run(DUE):
        pass
    async with world.database.transaction() as tx:
        await tx.pg.execute("UPDATE flow_versions SET definition = '{}' WHERE tenant = 'broken'")
    world.batch = 4
    await world.settle()
    assert world.inbox.to == ["default@example.com"]
    states = {(m["tenant"], m["state"], m["reason"]) for m in await world.messages()}
    assert states == {("broken", "planned", "internal_error"), ("default", "sent", None)}

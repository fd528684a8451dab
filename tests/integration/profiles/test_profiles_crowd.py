"""A chain of accounts that nobody could have: it is told, shown, and costs no more the longer it is."""

from collections.abc import Callable
from dataclasses import replace

import httpx
import pytest

from libs.common.contracts.commerce import Person
from libs.common.db import Database, Tx
from libs.common.log.base import Record
from services.profiles.identity.accounts import STRONG, WEAK, Claim
from services.profiles.identity.resolve import TIES
from services.profiles.store import identity
from tests.integration.profiles.driving import RULES, order, record, run
from tests.integration.profiles.test_profiles_api import get

TOGETHER = 9
CROWDING = replace(RULES, together=TOGETHER)


def told(n: int, phone: int) -> Record:
    return record(order(n, person=Person(email=f"p{n}@example.com", phone=f"+4915112345{phone:03}")))


def chain(length: int) -> list[Record]:
    """Each phone is that of two, and so is each e-mail's account that of two phones."""
    return [told(n, phone) for n in range(length) for phone in (n, n + 1)]


async def test_it_is_told_and_shown_who_stands_alone(profiles_db: Database, api: httpx.AsyncClient) -> None:
    await run(profiles_db, chain(TOGETHER), rules=CROWDING)
    one = await get(api, "/v1/profiles/email:p0@example.com")
    assert [account["crowded"] for account in one["accounts"]] == [False] * TOGETHER
    facts = await run(profiles_db, [told(TOGETHER, TOGETHER)], rules=CROWDING)
    # All leave but the one whose id it was; the new one comes.
    assert len([each for each in facts if each.type == "account.moved"]) == TOGETHER
    for n in range(TOGETHER + 1):
        found = await get(api, f"/v1/profiles/email:p{n}@example.com")
        assert [account["crowded"] for account in found["accounts"]] == [True]


async def test_one_more_looks_at_its_neighbours_alone(profiles_db: Database) -> None:
    await run(profiles_db, chain(60), rules=CROWDING, size=7)
    async with profiles_db.transaction() as tx:
        claim = Claim("st_one", "guest:st_one:new", (("phone:+4915112345030", WEAK),))
        admission = await identity.admit(tx, [("default", claim)], CROWDING.fanout, CROWDING.together)
    assert len(admission.homes) == 3
    assert len(set(admission.homes.values())) == 3


async def test_a_tie_within_a_profile_is_no_reason_to_look_at_all_of_it(profiles_db: Database) -> None:
    await run(profiles_db, chain(20), size=7)
    for account, phone in ((3, 8), (4, 8), (9, 2), (9, 1)):
        async with profiles_db.transaction() as tx:
            claim = Claim("st_one", f"guest:st_one:p{account}@example.com", ((f"phone:+4915112345{phone:03}", WEAK),))
            assert await identity.admit(tx, [("default", claim)], RULES.fanout) == (set(), [], {})
            # One of them is locked, which is enough: whoever brings others together with them needs all.
            assert await free(profiles_db) == 19
    # Whoever brings the phone into quarantine looks at everybody whom it may have held together.
    async with profiles_db.transaction() as tx:
        claim = Claim("st_one", "guest:st_one:p12@example.com", (("phone:+4915112345008", WEAK),))
        admission = await identity.admit(tx, [("default", claim)], RULES.fanout)
        assert len(admission.homes) == 20
        assert await free(profiles_db) == 0


async def free(database: Database) -> int:
    """Accounts that nobody has locked."""
    async with database.transaction() as tx:
        return len(await tx.pg.fetch("SELECT FROM accounts FOR UPDATE SKIP LOCKED"))


async def test_what_ties_nobody_is_no_reason_to_look_at_anybody(profiles_db: Database) -> None:
    await run(profiles_db, chain(3))
    async with profiles_db.transaction() as tx:
        claim = Claim(
            "st_one", "guest:st_one:p1@example.com", (("cart:st_one:new", WEAK), ("phone:+4915112345777", WEAK))
        )
        assert await identity.admit(tx, [("default", claim)], RULES.fanout) == (set(), [], {})
        assert await free(profiles_db) == 3


async def test_a_quarantine_looks_no_further_than_it_has_to(profiles_db: Database) -> None:
    office = "+4915112345999"
    await run(profiles_db, chain(100), rules=CROWDING, size=7)
    most = RULES.fanout["phone"]
    calls = [record(order(n, person=Person(email=f"p{n}@example.com", phone=office))) for n in range(0, 100, 25)]
    await run(profiles_db, calls[:most], rules=CROWDING)
    async with profiles_db.transaction() as tx:
        claim = Claim("st_one", "guest:st_one:new", ((f"phone:{office}", WEAK),))
        admission = await identity.admit(tx, [("default", claim)], CROWDING.fanout, CROWDING.together)
    # For each that the phone named, as many as show that it hangs together with too many still.
    assert len(admission.homes) == most * (TOGETHER + 1) + 1


MOST = TOGETHER * TIES


def shared(phones: int, *guests: int) -> list[Record]:
    """Guests who are known by all of these phones."""
    return [told(n, phone) for phone in range(phones) for n in guests]


def visit(n: int, checkout: int) -> Claim:
    """A visitor without a name, and a checkout."""
    return Claim("st_one", f"cart:st_one:{n}", ((f"checkout:st_one:{checkout}", WEAK),))


def order_of(n: int, phone: int) -> Claim:
    return Claim("st_one", f"guest:st_one:{n}", ((f"phone:{phone}", WEAK),))


EVERYBODY = [order_of(n, -n) for n in range(100, 300)]
"""So that what the planner expects of an account is little."""


async def test_few_whom_too_much_holds_together_stand_alone_too(profiles_db: Database, api: httpx.AsyncClient) -> None:
    await run(profiles_db, shared(MOST // 2, 0, 1), rules=CROWDING)
    one = await get(api, "/v1/profiles/email:p0@example.com")
    assert [account["crowded"] for account in one["accounts"]] == [False, False]
    facts = await run(profiles_db, [told(n, MOST // 2) for n in (0, 1)], rules=CROWDING)
    assert len([each for each in facts if each.type == "account.moved"]) == 1
    for n in range(2):
        found = await get(api, f"/v1/profiles/email:p{n}@example.com")
        assert [account["crowded"] for account in found["accounts"]] == [True]


async def test_a_quarantine_does_not_untie_what_holds_without_it(profiles_db: Database) -> None:
    office = "+4915112345999"
    many = MOST * 10
    first = (order_of(n, phone) for n in range(2) for phone in range(many))
    called = [Claim("st_one", f"guest:st_one:{n}", ((f"phone:{office}", WEAK),)) for n in (0, 10, 11, 12, 13)]
    async with profiles_db.transaction() as tx:
        claims = [("default", claim) for claim in (*EVERYBODY, *first, *called[:-1])]
        await identity.admit(tx, claims, CROWDING.fanout, CROWDING.together)
        await tx.pg.execute("ANALYZE accounts, identifiers, edges")
    assert await crowd(profiles_db) == {f"guest:st_one:{n}" for n in (0, 1, 10, 11, 12)}
    async with profiles_db.transaction() as tx:
        await tx.pg.execute("SET LOCAL enable_seqscan = off")
        before = await read(tx)
        await identity.admit(tx, [("default", called[-1])], CROWDING.fanout, CROWDING.together)
        # Of the two who share much no more than shows it; those whom the phone alone tied to them are free.
        assert await read(tx) - before < many
    assert await crowd(profiles_db) == {f"guest:st_one:{n}" for n in (0, 1)}


@pytest.mark.parametrize(("claim", "quarantined"), [(order_of, False), (visit, True)], ids=["guests", "visitors"])
async def test_of_two_who_share_without_end_no_more_is_read_than_what_is_new(
    profiles_db: Database, claim: Callable[[int, int], Claim], *, quarantined: bool
) -> None:
    many = MOST * 10
    async with profiles_db.transaction() as tx:
        endless = (claim(n, shared) for n in range(2) for shared in range(many))
        claims = [("default", each) for each in (*EVERYBODY, *endless)]
        await identity.admit(tx, claims, CROWDING.fanout, CROWDING.together)
        assert await tx.pg.fetchval("SELECT count(*) FROM identifiers WHERE quarantined") == many * quarantined
        # Else the planner knows nothing of these tables, and reads whole ones that are so small.
        await tx.pg.execute("ANALYZE accounts, identifiers, edges")
    for n in range(2):
        async with profiles_db.transaction() as tx:
            await tx.pg.execute("SET LOCAL enable_seqscan = off")
            before = await read(tx)
            admission = await identity.admit(tx, [("default", claim(n, many))], CROWDING.fanout, CROWDING.together)
            assert await read(tx) - before < many
            # It ties nobody before the second of them shares it with the first.
            assert len(admission.homes) == 2 * n
            assert (
                await tx.pg.fetchval("SELECT count(*) FROM identifiers WHERE quarantined") == (many + n) * quarantined
            )


async def read(tx: Tx) -> int:
    """Rows that this transaction has read."""
    rows: int = await tx.pg.fetchval("SELECT sum(seq_tup_read + idx_tup_fetch) FROM pg_stat_xact_user_tables")
    return rows


async def test_what_names_one_account_is_not_looked_at_though_it_is_told_again(profiles_db: Database) -> None:
    for tier in (WEAK, STRONG):
        async with profiles_db.transaction() as tx:
            claim = Claim("st_one", "customer:st_one:1", (("email:ada@example.com", tier),))
            await identity.admit(tx, [("default", claim)], CROWDING.fanout, CROWDING.together)
            assert await tx.pg.fetch("SELECT tier, shared FROM edges") == [(tier, False)]


async def crowd(database: Database) -> set[str]:
    async with database.reading() as tx:
        return {row["account"] for row in await tx.pg.fetch("SELECT account FROM accounts WHERE crowded")}

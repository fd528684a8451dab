"""A chain of accounts that nobody could have: it is told, shown, and costs no more the longer it is."""

from dataclasses import replace

import httpx

from libs.common.contracts.commerce import Person
from libs.common.db import Database
from libs.common.log.base import Record
from services.profiles.identity.accounts import WEAK, Claim
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

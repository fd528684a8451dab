"""Two workers meet in one person: real transactions, both orders of commit, the same profiles as one worker makes."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from libs.common.batch import Batch
from libs.common.contracts.commerce import Person
from libs.common.db import Database, is_transient
from libs.common.log.base import Record
from services.profiles.handlers import handle
from tests.integration.profiles.driving import RULES, T0, order, record, run
from tests.property.profiles.histories import clear, left
from tests.waiting import eventually

PEOPLE = 12


async def handle_and_hold(
    database: Database, records: Sequence[Record], handled: asyncio.Event, commit: asyncio.Event
) -> None:
    async with database.transaction() as tx:
        await handle(Batch(tx, records, T0, "profiles"), RULES)
        handled.set()
        await commit.wait()


async def profiles_of(database: Database) -> dict[str, str]:
    async with database.reading() as tx:
        return {row["account"]: str(row["profile"]) for row in await tx.pg.fetch("SELECT * FROM accounts")}


async def waits_for_lock(database: Database) -> bool:
    async with database.autocommit() as pg:
        return bool(
            await pg.fetchval(
                "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
                " WHERE NOT l.granted AND a.datname = current_database()"
            )
        )


@pytest.mark.parametrize(
    ("before", "first", "second", "profiles"),
    [
        pytest.param(
            [],
            order(1, person=Person(email="ada@example.com", phone="+4915112345601")),
            order(2, person=Person(email="bob@example.com", phone="+4915112345601")),
            1,
            id="both bring one new phone",
        ),
        pytest.param(
            [],
            order(1),
            order(2),
            1,
            id="both bring one new account",
        ),
        pytest.param(
            [order(9, person=Person(email="eve@example.com", phone="+4915112345609"), cart_token="t9")],
            order(1, person=Person(email="ada@example.com", phone="+4915112345609")),
            order(2, person=Person(email="bob@example.com"), cart_token="t9"),
            1,
            id="both join a known person, at different ends",
        ),
        pytest.param(
            [
                order(n, customer_id=str(n), person=Person(email=f"c{n}@example.com", phone="+4915112345601"))
                for n in range(3)
            ],
            order(11, customer_id="11", person=Person(phone="+4915112345601")),
            order(12, customer_id="12", person=Person(phone="+4915112345601")),
            5,
            id="together they bring a phone into quarantine",
        ),
    ],
)
async def test_whoever_comes_second_sees_what_the_first_did(
    profiles_db: Database, before: list[object], first: object, second: object, profiles: int
) -> None:
    await run(profiles_db, [record(o) for o in before])  # type: ignore[arg-type]
    handled, commit, go = asyncio.Event(), asyncio.Event(), asyncio.Event()
    go.set()
    one = asyncio.create_task(handle_and_hold(profiles_db, [record(first)], handled, commit))  # type: ignore[arg-type]
    await handled.wait()
    two = asyncio.create_task(handle_and_hold(profiles_db, [record(second)], asyncio.Event(), go))  # type: ignore[arg-type]
    await eventually(lambda: waits_for_lock(profiles_db))
    commit.set()
    await asyncio.gather(one, two)
    assert len(set((await profiles_of(profiles_db)).values())) == profiles


@pytest.mark.parametrize("seed", range(6))
async def test_two_workers_end_where_one_does(profiles_db: Database, seed: int) -> None:
    chance = random.Random(seed)
    records = [
        record(
            order(
                n,
                store=chance.choice(["st_a", "st_b"]),
                customer_id=chance.choice([None, str(chance.randrange(PEOPLE))]),
                person=Person(
                    email=chance.choice([None, f"p{chance.randrange(PEOPLE)}@example.com"]),
                    phone=chance.choice([None, f"+491511234560{chance.randrange(9)}"]),
                ),
                cart_token=chance.choice([None, f"t{chance.randrange(PEOPLE)}"]),
            )
        )
        for n in range(60)
    ]
    await run(profiles_db, records)
    expected = await left(profiles_db)
    await clear(profiles_db)

    async def worker(mine: Sequence[Record]) -> None:
        for start in range(0, len(mine), 5):
            while True:
                try:
                    await run(profiles_db, mine[start : start + 5])
                    break
                except Exception as error:
                    # A deadlock: one of the two is sent back, as the loop would.
                    if not is_transient(error):
                        raise

    await asyncio.gather(worker(records[::2]), worker(records[1::2]))
    found = await left(profiles_db)
    for table, rows in expected.items():
        assert found[table] == rows, table

"""Who hang together with too many stand alone, whatever came first: the crowd, or the quarantine that tears it."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.db import Database, is_transient
from libs.common.junk import Junk
from services.profiles.handlers import Rules
from services.profiles.identity.accounts import STRONG, WEAK, Claim
from services.profiles.store import identity
from tests.integration.profiles.test_profiles_concurrency import waits_for_lock
from tests.property.profiles.histories import clear, is_a_function_of_its_edges
from tests.waiting import eventually

RULES = Rules(junk=Junk(), fanout={"email": 3, "phone": 3, "cart": 3, "checkout": 3}, together=4)
KNOTTING = replace(RULES, together=3)
GUESTS, PHONES, TOKENS = 14, 9, 5
SEEDS = 30


def guest(n: int, *phones: int, token: int | None = None) -> Claim:
    """A guest, of one e-mail, who is known by phones and a cart."""
    edges = [(f"email:{n}@example.com", STRONG), *((f"phone:{phone}", WEAK) for phone in phones)]
    if token is not None:
        edges.append((f"cart:s:{token}", WEAK))
    return Claim("s", f"guest:s:{n}@example.com", tuple(edges))


def visitor(n: int, checkout: int) -> Claim:
    """A cart that is nobody's, and a checkout."""
    return Claim("s", f"cart:s:{n}", ((f"cart:s:{n}", WEAK), (f"checkout:s:{checkout}", WEAK)))


def buyer(n: int, checkout: int) -> Claim:
    """A guest who is known by a checkout."""
    return Claim("s", f"guest:s:{n}@example.com", ((f"checkout:s:{checkout}", WEAK),))


def test_tokens_that_a_crowded_visitor_ties_count_as_one(database_url: str, runner: asyncio.Runner) -> None:
    # A crowd by phones; in it a nameless visitor, with a buyer on either token. One more on one of them is too many.
    told = [guest(0, 0, token=0), guest(1, 0, 1), guest(2, 1), visitor(0, 0), buyer(3, 0), buyer(4, 0)]

    async def check() -> None:
        database = Database(database_url, schema="profiles", pool_size=1)
        await clear(database)
        await admit(database, told[:-1])
        assert len(await is_a_function_of_its_edges(database, RULES)) == 5
        await admit(database, told[-1:])
        assert not await is_a_function_of_its_edges(database, RULES)
        await database.close()

    with runner:
        runner.run(check())


def test_a_crowded_visitor_whose_tokens_are_quarantined_is_no_crowd(database_url: str, runner: asyncio.Runner) -> None:
    # A crowd by phones and a visitor's token; then all at once he shares more checkouts than may be tied.
    told = [guest(0, 0, token=0), guest(1, 0, 1), guest(2, 1), visitor(0, 0), buyer(3, 0)]
    tied = [visitor(n, checkout) for n in range(2) for checkout in range(20)]

    async def check() -> None:
        database = Database(database_url, schema="profiles", pool_size=1)
        await clear(database)
        await admit(database, told)
        assert len(await is_a_function_of_its_edges(database, RULES)) == 5
        await admit(database, tied, len(tied))
        assert not await is_a_function_of_its_edges(database, RULES)
        await database.close()

    with runner:
        runner.run(check())


async def admit(database: Database, claims: Sequence[Claim], size: int = 1, rules: Rules = RULES) -> None:
    for start in range(0, len(claims), size):
        async with database.transaction() as tx:
            # Workers who meet are many here.
            await tx.pg.execute("SET LOCAL deadlock_timeout = '10ms'")
            batch = [("default", claim) for claim in claims[start : start + size]]
            await identity.admit(tx, batch, rules.fanout, rules.together)


tokens, phones, guests = st.integers(0, TOKENS - 1), st.integers(0, PHONES - 1), st.integers(0, GUESTS - 1)
claims = st.one_of(
    st.builds(guest, guests, phones),
    st.builds(guest, guests, phones, phones),
    st.builds(guest, guests, phones, token=tokens),
    st.builds(buyer, guests, tokens),
    st.builds(visitor, tokens, tokens),
)
few = st.integers(0, 2)
knotted = st.one_of(
    st.builds(guest, few, phones, phones),
    st.builds(guest, few, phones, phones, token=tokens),
    st.builds(guest, guests, phones),
    st.builds(visitor, few, phones),
    st.builds(visitor, few, phones),
    st.builds(buyer, guests, phones),
)
"""Few who share much: more than their number it is their ties that make a crowd, and quarantine what visitors tie."""


@pytest.fixture
def runner() -> asyncio.Runner:
    return asyncio.Runner()


@pytest.mark.parametrize(("told_of", "rules"), [(claims, RULES), (knotted, KNOTTING)], ids=["chains", "knots"])
def test_crowds_end_as_one_look_at_all_edges_would_have_it(
    database_url: str, runner: asyncio.Runner, told_of: st.SearchStrategy[Claim], rules: Rules
) -> None:
    async def end(database: Database, told: Sequence[Claim], size: int) -> None:
        await clear(database)
        for start in range(0, len(told), size):
            await admit(database, told[start : start + size], size, rules)
            # After each batch, so that each is a history by itself.
            await is_a_function_of_its_edges(database, rules)

    @settings(max_examples=50)
    @given(st.lists(told_of, min_size=6, max_size=40), st.integers(1, 7))
    def check(told: list[Claim], size: int) -> None:
        runner.run(end(database, told, size))

    with runner:
        database = Database(database_url, schema="profiles", pool_size=1)
        check()
        runner.run(database.close())


def test_a_crowd_and_its_quarantine_may_come_in_any_order(database_url: str, runner: asyncio.Runner) -> None:
    # Two pairs, whom one phone makes a crowd; and who brings that phone into quarantine, so that they are pairs again.
    told = [guest(0, 0, 8), guest(1, 0), guest(2, 1, 8), guest(3, 1), guest(4, 8), guest(5, 8)]

    async def every_order(database: Database) -> None:
        for order in permutations(told):
            await clear(database)
            await admit(database, order[:5])
            before = await is_a_function_of_its_edges(database, RULES)
            await admit(database, order[5:])
            assert not await is_a_function_of_its_edges(database, RULES)
            assert bool(before) == (order[5] in (told[4], told[5]))

    async def check() -> None:
        database = Database(database_url, schema="profiles", pool_size=1)
        await every_order(database)
        await database.close()

    with runner:
        runner.run(check())


PAIRS = [guest(0, 0), guest(1, 0, 8), guest(2, 1, 8), guest(3, 1)]


@pytest.mark.parametrize(
    ("before", "first", "second", "crowd"),
    [
        pytest.param(
            [guest(0, 0), guest(1, 0, 1), guest(2, 1)], guest(3, 1), guest(4, 0), 5, id="together they make a crowd"
        ),
        pytest.param(
            [*PAIRS, guest(4, 8)], guest(5, 8), guest(6, 0), 0, id="one tears the crowd that the other comes to"
        ),
        pytest.param(
            [*PAIRS, guest(4, 8), guest(3, 7), guest(10, 7, 2), guest(11, 2), guest(12, 7)],
            guest(5, 8),
            guest(13, 7),
            0,
            id="they tear one crowd in two places",
        ),
        pytest.param(
            [guest(0, 0, 6), guest(1, 0), guest(2, 1), guest(3, 1)],
            guest(4, 0, 1),
            guest(5, 6),
            6,
            id="one comes to whom the other makes a crowd",
        ),
        pytest.param(
            [guest(0, 0), guest(1, 0, 1), guest(2, 1)], guest(0, 1), guest(3, 0), 0, id="one ties whom another comes to"
        ),
        pytest.param(
            [guest(0, 0), guest(1, 0, 1), guest(2, 1, 2), guest(3, 2)],
            guest(2, 0),
            guest(3, 0),
            0,
            id="together their ties of one profile bring a phone into quarantine",
        ),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_whoever_comes_second_sees_the_crowd_as_the_first_left_it(
    database_url: str,
    runner: asyncio.Runner,
    before: Sequence[Claim],
    first: Claim,
    second: Claim,
    crowd: int,
    *,
    turned: bool,
) -> None:
    async def hold(database: Database, claim: Claim, done: asyncio.Event, commit: asyncio.Event) -> None:
        async with database.transaction() as tx:
            await identity.admit(tx, [("default", claim)], RULES.fanout, RULES.together)
            done.set()
            await commit.wait()

    async def check() -> None:
        database = Database(database_url, schema="profiles", pool_size=3)
        await clear(database)
        await admit(database, before)
        admitted, commit = asyncio.Event(), asyncio.Event()
        one, two = (second, first) if turned else (first, second)
        holding = asyncio.create_task(hold(database, one, admitted, commit))
        await admitted.wait()
        waiting = asyncio.create_task(admit(database, [two]))
        await eventually(lambda: waits_for_lock(database))
        commit.set()
        await asyncio.gather(holding, waiting)
        assert len(await is_a_function_of_its_edges(database, RULES)) == crowd
        await database.close()

    with runner:
        runner.run(check())


def test_few_who_share_much_are_a_crowd_in_any_order(database_url: str, runner: asyncio.Runner) -> None:
    # Two guests and seven phones, of which the last tie is one too many; and two visitors and as many checkouts.
    told = [guest(n, *range(a, a + 3)) for n in range(2) for a in (0, 2, 4)]
    told += [visitor(n, token) for n in range(2) for token in range(7)]
    seen: Counter[tuple[int, int]] = Counter()

    async def every_order(database: Database) -> None:
        for seed in range(SEEDS):
            chance = random.Random(seed)
            again = chance.choices(told, k=5)
            history = chance.sample([*told, *again], len(told) + len(again))
            size = chance.randint(1, 5)
            await clear(database)
            for start in range(0, len(history), size):
                await admit(database, history[start : start + size], size, KNOTTING)
                await is_a_function_of_its_edges(database, KNOTTING)
            crowd = await is_a_function_of_its_edges(database, KNOTTING)
            async with database.reading() as tx:
                seen[len(crowd), await tx.pg.fetchval("SELECT count(*) FROM identifiers WHERE quarantined")] += 1

    async def check() -> None:
        database = Database(database_url, schema="profiles", pool_size=1)
        await every_order(database)
        await database.close()

    with runner:
        runner.run(check())
    # The guests; and all checkouts.
    assert seen == {(2, 7): SEEDS}


def knot(chance: random.Random) -> Claim:
    a, b, n = chance.randrange(PHONES), chance.randrange(PHONES), chance.randrange(3)
    return chance.choice([guest(n, a, b), guest(n, a, token=n), guest(chance.randrange(GUESTS), a), visitor(n, a)])


def drawn(chance: random.Random) -> Claim:
    a, b, n = chance.randrange(PHONES), chance.randrange(PHONES), chance.randrange(GUESTS)
    t, u = chance.randrange(TOKENS), chance.randrange(TOKENS)
    return chance.choice([guest(n, a), guest(n, a, b), guest(n, a, b), guest(n, a, token=t), visitor(t, u)])


@pytest.mark.parametrize(
    ("draw", "rules", "claims"), [(drawn, RULES, 30), (knot, KNOTTING, 15)], ids=["chains", "knots"]
)
def test_workers_at_once_end_there_too(
    database_url: str, runner: asyncio.Runner, draw: Callable[[random.Random], Claim], rules: Rules, claims: int
) -> None:
    seen: Counter[str] = Counter()

    async def worker(database: Database, mine: Sequence[Claim]) -> None:
        for start in range(0, len(mine), 2):
            while True:
                try:
                    await admit(database, mine[start : start + 2], 2, rules)
                    break
                except Exception as error:
                    # A deadlock: one of them is sent back, as the loop would.
                    if not is_transient(error):
                        raise
                    seen["sent back"] += 1

    async def check() -> None:
        database = Database(database_url, schema="profiles", pool_size=4)
        for seed in range(SEEDS):
            chance = random.Random(seed)
            told = [draw(chance) for _ in range(claims)]
            await clear(database)
            await asyncio.gather(*(worker(database, told[n::3]) for n in range(3)))
            seen["crowds" if await is_a_function_of_its_edges(database, rules) else "none"] += 1
        await database.close()

    with runner:
        runner.run(check())
    assert min(seen["crowds"], seen["none"]) > SEEDS / 12, seen

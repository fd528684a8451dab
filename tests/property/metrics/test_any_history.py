"""Whatever happens, in whatever order and however often it is told: the fold is what a recount of the facts gives."""

import asyncio
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import count, product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.db import Database
from libs.common.log.base import Record
from services.metrics import steps, verify
from services.metrics.algebra import INTERVALS, TOTALS, WINDOWS
from tests.integration.metrics import driving
from tests.property.metrics.recount import Begun, History, Sale, recount

BEGINNING = datetime(2025, 1, 1, tzinfo=UTC)
ACCOUNTS = ("customer:a", "customer:b", "guest:c")
PROFILES = ("p1", "p2")
TOKENS = ("t1", "t2", "t3")

# Few distances, which meet at the edges of windows, and a microsecond beside them.
_nudges = st.sampled_from([timedelta(0)] * 4 + [timedelta(microseconds=1), timedelta(microseconds=-1)])
_distances = st.sampled_from(
    [timedelta(0), timedelta(minutes=30), timedelta(hours=1), timedelta(hours=12), timedelta(hours=25)]
    + [timedelta(days=days) for days in (3, 7, 8, 14, 30, 45, 60, 90, 365)]
)
_instants = st.builds(lambda distance, nudge: BEGINNING + distance + nudge, _distances, _nudges)
_later = st.builds(
    lambda windows, nudge: windows + nudge,
    st.sampled_from(
        [timedelta(0), timedelta(minutes=30), timedelta(hours=2)]
        + [timedelta(days=days) for days in (1, 2, 7, 14, 30, 60, 90, 365)]
    ),
    _nudges,
)
_amounts = st.integers(-50, 1000)

_sales = st.builds(
    Sale,
    store=st.sampled_from(["st_1", "st_1", "st_2"]),
    source_id=st.sampled_from(["o1", "o2", "o3", "o4", "o5", "o6", "o7", "t1"]),
    account=st.sampled_from([*ACCOUNTS * 2, None]),
    checkout=st.sampled_from([*TOKENS, "other", "other"]),
    counted=st.sampled_from([True] * 5 + [False]),
    placed_at=_instants,
    currency=st.sampled_from(["EUR"] * 5 + ["JPY"]),
    gross=_amounts,
    discounts=_amounts,
    returns=_amounts,
    shipping=_amounts,
    taxes=_amounts,
)
_begun = st.builds(
    Begun,
    store=st.sampled_from(["st_1", "st_1", "st_2"]),
    token=st.sampled_from(TOKENS),
    account=st.sampled_from([*ACCOUNTS, None]),
    started_at=_instants,
    changed_at=_instants,
    currency=st.sampled_from(["EUR"] * 5 + ["JPY"]),
    held=st.sampled_from([True, True, True, False]),
)
_moves = st.tuples(st.sampled_from(ACCOUNTS), st.sampled_from(PROFILES))
_messages = st.tuples(st.sampled_from(["st_1", "st_1", "st_2"]), st.sampled_from(TOKENS), _instants)


@st.composite
def histories(draw: st.DrawFn) -> tuple[History, list[tuple[str, Any, int]]]:
    """What is finally so, and every fact that tells of it: (kind, fact, revision)."""
    facts: list[tuple[str, Any, int]] = []
    history = History(messages=draw(st.lists(_messages, min_size=1, max_size=4)))
    facts += [("message", message, 0) for message in history.messages]
    told: tuple[tuple[str, st.SearchStrategy[Any], int], ...] = (
        ("move", _moves, 2),
        ("sale", _sales, 6),
        ("checkout", _begun, 3),
        ("cart", _begun, 0),
    )
    for kind, strategy, least in told:
        latest: dict[Any, Any] = {}
        revisions: defaultdict[Any, int] = defaultdict(int)
        for fact in draw(st.lists(strategy, min_size=least, max_size=2 * least + 2)):
            key = fact[0] if kind == "move" else (fact.store, fact.source_id if kind == "sale" else fact.token)
            revisions[key] += 1
            latest[key] = fact
            facts.append((kind, fact, revisions[key]))
        match kind:
            case "move":
                history.profiles = dict(latest.values())
            case "sale":
                history.sales = list(latest.values())
            case "checkout":
                history.checkouts = list(latest.values())
            case _:
                history.carts = list(latest.values())
    return history, facts


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[History, list[list[tuple[str, Any, int]]], list[datetime]]:
    """A history in any order, with repetitions, in batches of any size; and when to look."""
    history, facts = draw(histories())
    told = draw(st.permutations(facts + draw(st.lists(st.sampled_from(facts), max_size=4))))
    batches: list[list[tuple[str, Any, int]]] = [[]]
    for fact in told:
        if draw(st.booleans()):
            batches.append([])
        batches[-1].append(fact)
    sold = [sale.placed_at for sale in history.sales if sale.counted] or [BEGINNING]
    begun = [at for c in history.checkouts if c.held for at in (c.started_at, c.changed_at)] or [BEGINNING]
    asked = [draw(st.sampled_from(sold)) + draw(_later), draw(st.sampled_from(begun)) + draw(_later), draw(_instants)]
    return history, batches, asked


def _record(kind: str, fact: Any, revision: int, tenant: str) -> Record:
    match kind:
        case "move":
            return driving.moved(*fact, revision=revision, tenant=tenant)
        case "sale":
            amounts = {name: getattr(fact, name) for name in ("gross", "discounts", "returns", "shipping", "taxes")}
            return driving.order(
                fact.source_id,
                fact.placed_at,
                account=fact.account,
                store=fact.store,
                revision=revision,
                counted=fact.counted,
                currency=fact.currency,
                checkout=fact.checkout,
                tenant=tenant,
                **amounts,
            )
        case "checkout":
            return driving.checkout(
                fact.token,
                fact.started_at,
                changed_at=fact.changed_at,
                account=fact.account,
                store=fact.store,
                revision=revision,
                items=int(fact.held),
                currency=fact.currency,
                tenant=tenant,
            )
        case "cart":
            return driving.cart(
                fact.token,
                fact.started_at,
                store=fact.store,
                revision=revision,
                deleted=not fact.held,
                currency=fact.currency,
                tenant=tenant,
            )
        case _:
            store, token, at = fact
            return driving.sent(token, at, store=store, tenant=tenant)


def test_fold_equals_recount(database_url: str) -> None:
    tenants = (f"tenant-{n}" for n in count())

    @settings(max_examples=50)
    @given(deliveries())
    def check(delivered: tuple[History, list[list[tuple[str, Any, int]]], list[datetime]]) -> None:
        runner.run(_check(database, next(tenants), *delivered))

    with asyncio.Runner() as runner:
        database = Database(database_url, schema="metrics")
        try:
            check()
        finally:
            runner.run(database.close())


def test_any_order_leaves_the_same_sums(database_url: str) -> None:
    tenants = (f"tenant-{n}" for n in count())

    @settings(max_examples=25)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        _, facts = data.draw(histories())
        shuffled = data.draw(st.permutations(facts))
        runner.run(_check_sums(database, next(tenants), next(tenants), facts, shuffled))

    with asyncio.Runner() as runner:
        database = Database(database_url, schema="metrics")
        try:
            check()
        finally:
            runner.run(database.close())


async def _check(
    database: Database,
    tenant: str,
    history: History,
    batches: list[list[tuple[str, Any, int]]],
    asked: list[datetime],
) -> None:
    for batch in batches:
        await driving.deliver(database, [_record(*fact, tenant=tenant) for fact in batch])
    async with database.reading() as tx:
        for as_of in asked:
            for store, window in product((None, "st_1"), WINDOWS):
                expected = recount(history, store, "EUR", as_of, window)
                found = await driving.read_in(tx, as_of, window, store=store, tenant=tenant)
                exact = {name: Fraction(*kpi[1:]) if kpi.denominator else None for name, kpi in found.items()}
                wrong = {name: (exact[name], right) for name, right in expected.items() if exact[name] != right}
                assert wrong == {}, (as_of, store, window, wrong)
        for scope in await steps.scopes(tx, tenant):
            windows = [verify.Asked(scope, as_of, window) for as_of, window in product(asked, WINDOWS)]
            assert await verify.compare(tx, tenant, windows) == []
        assert await steps.uneven(tx, tenant) == []


async def _check_sums(
    database: Database, first: str, second: str, facts: list[tuple[str, Any, int]], shuffled: list[tuple[str, Any, int]]
) -> None:
    await driving.deliver(database, [_record(*fact, tenant=first) for fact in facts])
    for fact in shuffled:
        await driving.deliver(database, [_record(*fact, tenant=second)])
    assert await _sums(database, first) == await _sums(database, second)


async def _sums(database: Database, tenant: str) -> list[Any]:
    found: list[Any] = []
    async with database.reading() as tx:
        for table, measures in (("totals", TOTALS), ("long_intervals", INTERVALS)):
            something = " OR ".join(f"{name} <> 0" for name in measures)
            rows = await tx.pg.fetch(f"SELECT * FROM {table} WHERE tenant = $1 AND ({something})", tenant)
            found += sorted(tuple(row)[1:] for row in rows)
        found.append([scope[1:] for scope in await steps.scopes(tx, tenant)])
    return found

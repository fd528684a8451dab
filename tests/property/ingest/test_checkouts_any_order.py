"""Checkouts told by their carts and by their own tokens, in any order, with repeats and replays: one end."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.batch import Batch
from libs.common.contracts import codec
from libs.common.contracts.commerce import CheckoutObserved
from libs.common.contracts.journal import Delivery
from libs.common.contracts.topics import COMMERCE, JOURNAL
from libs.common.db import Database
from libs.common.ids import new_id
from libs.common.log.base import Event
from libs.common.log.postgres import append
from services.ingest import replays
from services.ingest.handlers import emit, on_deliveries_received, outcome_of, row_of
from services.ingest.journal import event_of
from services.ingest.replaying import Replays
from services.ingest.replays import Replay
from services.ingest.seen import RECORD, record_of
from services.ingest.settings import SCHEMA
from services.ingest.store import save_deliveries, store_facts
from services.profiles import checkouts
from services.profiles.checkouts import CheckoutState

T0 = datetime(2026, 3, 1, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
NOW = T0 + timedelta(days=30)
AGED: dict[str, dict[str, Any]] = {
    "parked": {"outcome": "parked", "reason": "no normaliser", "object": None, "cart": None},
    "before carts were noted": {"cart": None},
}
"""Webhooks that older versions read, and what they noted of them."""
CARTS, TOKENS = ("C1", "C2"), ("T1", "T2", "T3")


class Told(NamedTuple):
    """What is told of a checkout."""

    kind: str
    """`webhook`, or one of AGED; `fetched`; `deleted`."""
    token: str
    cart: str | None

    @property
    def fetched(self) -> bool:
        return self.kind == "fetched"


class Case(NamedTuple):
    """Deliveries by the hour that they are dated, and how they come: batches of them; a number is a replay's batch."""

    told: list[Told]
    steps: list[list[int] | int]


WEBHOOKS = st.builds(
    Told, st.sampled_from(["webhook", "webhook", "webhook", *AGED]), st.sampled_from(TOKENS), st.sampled_from(CARTS)
)
# By some there stands a token that was known when they were fetched.
FETCHED = st.sampled_from(CARTS).flatmap(
    lambda cart: st.builds(Told, st.just("fetched"), st.sampled_from([cart, cart, *TOKENS]), st.just(cart))
)
DELETED = st.builds(Told, st.just("deleted"), st.sampled_from(TOKENS), st.none())


@st.composite
def cases(draw: st.DrawFn) -> Case:
    told = draw(st.lists(st.one_of(WEBHOOKS, WEBHOOKS, FETCHED, FETCHED, DELETED), min_size=2, max_size=6))
    numbers = st.sampled_from(range(len(told)))
    order = draw(st.permutations([*range(len(told)), *draw(st.lists(numbers, max_size=3))]))
    steps: list[list[int] | int] = []
    for n in order:
        how = draw(st.sampled_from(["apart", "apart", "together", "replay"]))
        if how == "replay":
            steps.append(draw(st.integers(1, 4)))
        if how == "together" and steps and isinstance(steps[-1], list):
            steps[-1].append(n)
        else:
            steps.append([n])
    return Case(told, [*steps, draw(st.integers(1, 4))])


@settings(max_examples=60)
@given(case=cases())
def test_what_is_told_in_the_end_follows_from_the_deliveries_alone(database_url: str, case: Case) -> None:
    async def play() -> None:
        database = Database(database_url, schema=SCHEMA)
        try:
            await _play(database, case)
        finally:
            await database.close()

    asyncio.run(play())


async def _play(database: Database, case: Case) -> None:
    store = f"s-{new_id()}"
    async with database.autocommit() as pg:
        await pg.execute(
            """
            INSERT INTO stores (tenant, key, platform, domain, name, currency, timezone, consent, secrets, created_at,
                                updated_at)
            VALUES ('default', $1, 'shopify', $1, 'A shop', 'EUR', 'UTC', 'explicit', ARRAY['x'::bytea], $2, $2)
            """,
            store,
            T0,
        )
    sound, heard = not any(each.kind in AGED for each in case.told), set[int]()
    for step in case.steps:
        if isinstance(step, int):
            changed = await _replay(database, store, batch=step)
            assert changed == 0 or not sound
        else:
            await _read(database, store, [(n, case.told[n]) for n in step])
            heard.update(step)
        if sound:
            assert await _shown(database, store) == _expected(case.told, heard)
    end = _expected(case.told, heard)
    assert await _shown(database, store) == end
    assert await _replay(database, store, batch=2) == 0
    assert await _shown(database, store) == end
    async with database.autocommit() as pg:
        query = """
            SELECT id, array_agg(type || ' ' || split_part(key, ':', 3) || ' ' || convert_from(data, 'utf8')) AS told
            FROM log_commerce WHERE starts_with(key, $1) GROUP BY id HAVING count(*) > 1
            """
        assert [tuple(row) for row in await pg.fetch(query, f"{store}:")] == []


def _names(told: Iterable[Told], cart: str) -> set[str]:
    return {each.token for each in told if each.cart == cart and not each.fetched}


def _expected(told: Sequence[Told], heard: AbstractSet[int]) -> dict[str, str]:
    """Of each checkout that is there, which delivery shows it."""
    those = {n: told[n] for n in heard}
    last: dict[str, int] = {}
    for n, each in those.items():
        names = {each.token}
        if each.fetched and each.cart is not None:
            names = (names | _names(those.values(), each.cart)) - {each.cart} or names
        if each.kind != "deleted":
            last |= {token: max(n, last.get(token, n)) for token in names}
    gone = {each.token: n for n, each in sorted(those.items()) if each.kind == "deleted"}
    return {token: f"no. {n}" for token, n in last.items() if n > gone.get(token, -1)}


async def _read(database: Database, store: str, told: Sequence[tuple[int, Told]]) -> None:
    """They come, and the normaliser reads them in one batch."""
    events = [_event(store, *each) for each in told]
    async with database.transaction() as tx:
        await append(tx, JOURNAL, events)
    ids = [event.id for event in events]
    async with database.transaction() as tx:
        rows = await tx.pg.fetch(
            f"""
            SELECT {", ".join(f'"{name}"' for name in RECORD)} FROM log_journal WHERE id = ANY($1)
            ORDER BY partition, "offset"
            """,
            ids,
        )
        records = [record for row in rows if (record := record_of(row)) is not None]
        aged = {event.id: AGED[each.kind] for event, (_, each) in zip(events, told, strict=True) if each.kind in AGED}
        batch = Batch(tx, [record for record in records if record.id not in aged], NOW, SCHEMA)
        await on_deliveries_received(batch)
        assert not batch.rejected
        [facts] = (await store_facts(tx, [("default", store)])).values()
        for record in (record for record in records if record.id in aged):
            delivery = batch.data(record)
            read = record, delivery, outcome_of(record, delivery, facts)
            if "outcome" not in aged[record.id]:
                emit(batch, *read)
            await save_deliveries(tx, [row_of(*read)._replace(**aged[record.id])])
        await append(tx, COMMERCE, [event for _, event in batch.emitted])


def _event(store: str, n: int, told: Told) -> Event:
    id_, at = new_id(), (T0 + n * HOUR).isoformat()
    body: dict[str, Any] = {"token": told.token}
    if told.kind != "deleted":
        line = {"id": 1, "title": f"no. {n}", "quantity": 1, "price": "1.00"}
        body |= {"cart_token": told.cart, "currency": "EUR", "created_at": T0.isoformat(), "updated_at": at}
        body |= {"line_items": [line]}
    delivery = Delivery(
        store=store,
        platform="shopify",
        topic="checkouts/delete" if told.kind == "deleted" else "checkouts/update",
        delivery_id=id_ if told.fetched else f"w-{id_}",
        headers={"x-shopify-triggered-at": at} if told.kind == "deleted" else {},
        body=json.dumps(body).encode(),
        origin="backfill" if told.fetched else "live",
    )
    return event_of(delivery, id=id_, tenant="default", root=f"checkout:{told.token}", time=NOW, traceparent=None)


async def _replay(database: Database, store: str, *, batch: int) -> int:
    """All of the store, read again: how many have changed."""
    asked = Replay(
        tenant="default",
        id=new_id(),
        store=store,
        topic=None,
        outcome=None,
        since=None,
        until=NOW + HOUR,
        dry_run=False,
        state="waiting",
        asked_at=NOW,
        asked_by="somebody",
        reached=None,
        total=None,
        counts={},
        reasons={},
    )
    async with database.transaction() as tx:
        await replays.ask(tx, asked)
    working = Replays(database, batch=batch)
    while True:
        await working.run(NOW)
        async with database.reading() as tx:
            found = await replays.one(tx, "default", asked.id)
        assert found is not None
        if found.state == "done":
            return found.counts.get("changed", 0)


async def _shown(database: Database, store: str) -> dict[str, str]:
    """As `_expected`, of what was told of them."""
    async with database.autocommit() as pg:
        rows = await pg.fetch(
            'SELECT type, key, data FROM log_commerce WHERE starts_with(key, $1) ORDER BY partition, "offset"',
            f"{store}:checkout:",
        )
    states: dict[str, CheckoutState] = {}
    for row in rows:
        token, observed = row["key"].rpartition(":")[2], codec.decode(COMMERCE.name, row["type"], row["data"])
        state = states.get(token, CheckoutState())
        if isinstance(observed, CheckoutObserved):
            states[token] = checkouts.on_observed(state, observed, None)
        else:
            states[token] = checkouts.on_removed(state, observed)
    views = {token: checkouts.view(state) for token, state in states.items()}
    return {token: view.lines[0].title for token, view in views.items() if view is not None and not view.deleted}

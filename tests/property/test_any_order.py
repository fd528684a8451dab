"""One history of the simulated shop, in any order, with repeats, read again from the journal, in any batches and
partitions: one final state.

The whole line runs: normaliser, identity, ledger, fold, timers, sender, and a real SMTP server at the end. What the API
answers afterwards must be equal to the last word, and equal to the recount in SQL.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import msgspec
import pytest
import pytest_asyncio
from aiosmtpd.smtp import SMTP
from msgspec.structs import replace
from sqlalchemy.engine import make_url

from libs.common.clock import DrivenClock
from libs.common.contracts.commerce import Identifiers
from libs.common.contracts.journal import Delivery
from libs.common.contracts.topics import PARTITIONS, TOPICS
from libs.common.db import Database
from libs.common.log.growth import grow, partitions_of
from libs.common.log.kafka_client import Kafka
from regulars.schemas import SERVICES
from regulars.shop import catalog
from regulars.shop.delivery import EVENTS, deliveries, request
from regulars.shop.model import Consent
from regulars.shop.world import make_world
from services.ingest import headers
from services.ingest.events import SENDERS, FirstPartyEvent, delivery_of
from services.ingest.normalise import Observations, normalise
from services.ingest.outcome import StoreFacts, Unreadable
from tests.e2e.api import ADMIN_KEY
from tests.property.line import Line, root_of, running_line

START = datetime(2026, 3, 2, tzinfo=UTC)
DAYS = 2
PEOPLE = 14
TRIALS = {"postgres": 2, "kafka": 1}
"""After the one in order, which the others are held against."""
BEGINNINGS = {"postgres": [1, 3, PARTITIONS], "kafka": [1, 2, PARTITIONS]}
"""Partitions that topics have at first. In Kafka a topic that outgrows PARTITIONS has to have a multiple of that."""
ASKED = [START + timedelta(days=DAYS, hours=n) for n in (1, 26, 50)]
"""When the line is looked at."""
HOURS = 3
"""Steps of the clock; a cart's message is too late after six."""

Arrival = tuple[Delivery, datetime, str]


class Mailbox:
    """Takes every mail."""

    async def handle_DATA(self, _server: Any, _session: Any, _envelope: Any) -> str:  # noqa: N802 (aiosmtpd's name)
        return "250 OK"


def history(keys: dict[str, str]) -> list[Arrival]:
    """What both stores send in DAYS days, and what their own sites tell. `keys`: the stores' keys by platform."""
    world = make_world(seed=11, start=START, days=DAYS, how_many=PEOPLE)
    specs = {store.name: store for store in catalog.STORES}
    made = []
    for n, each in enumerate(deliveries(world)):
        if each.outcome in {"refused", "pinged", "duplicate"}:
            continue
        if isinstance(each.state, Consent) and each.topic == EVENTS:
            told = first_party(n, each.state)
            made += [(delivery_of(event, keys[each.store], event.time), each.at, event.id) for event in told]
            continue
        body, sent = request(each, specs[each.store])
        raw = [(name.lower().encode(), value.encode()) for name, value in sent.items()]
        kept = headers.kept(raw)
        delivery = Delivery(
            store=keys[each.store], platform=each.store, topic=each.topic, delivery_id=str(n), headers=kept, body=body
        )
        made.append((delivery, each.at, str(n)))
    return made


def first_party(n: int, consent: Consent) -> list[FirstPartyEvent]:
    """Of somebody who gives or withdraws consent: that, the number that he left, and the cart that he did."""
    who = Identifiers(
        email=consent.email, customer_id=None if consent.customer_id is None else str(consent.customer_id)
    )
    cup = {"title": "Cup", "quantity": 1, "price": {"amount": "9.50", "currency": "EUR"}}
    cart = replace(who, customer_id=None, cart_token=f"cart of {n}")
    told: list[tuple[str, Identifiers, dict[str, Any]]] = [
        ("consent.changed", who, {"channel": "email", "state": consent.state}),
        ("lead.created", replace(who, phone=f"+49 30 1234{n:04}"), {"source": "a form"}),
        ("cart.changed", cart, {"lines": [cup]}),
        # Whose it is he says in another event.
        ("cart.changed", Identifiers(cart_token=f"other cart of {n}"), {"lines": [cup]}),
        ("survey.answered", replace(who, cart_token=f"other cart of {n}"), {"survey": "nps", "score": 9}),
    ]
    return [
        FirstPartyEvent(
            id=f"{type_} {n} {place}",
            type=type_,
            time=consent.at + timedelta(minutes=place),
            profile=whose,
            properties=properties,
        )
        for place, (type_, whose, properties) in enumerate(told)
    ]


def disordered(arrivals: list[Arrival], dice: Random) -> list[Arrival]:
    """Shuffled, some repeated; only what ties in its object's `updated_at` keeps its order."""
    repeats = [(d, at, f"{name} again") for d, at, name in arrivals if dice.random() < 0.15]
    mixed = [*arrivals, *repeats]
    dice.shuffle(mixed)
    ties: dict[tuple[str, str, datetime | None], list[int]] = {}
    for place, (delivery, at, _) in enumerate(mixed):
        ties.setdefault((delivery.store, root_of(delivery), _updated_at(delivery, at)), []).append(place)
    for places in ties.values():
        in_order = sorted((mixed[place] for place in places), key=lambda arrival: (arrival[1], arrival[2]))
        for place, arrival in zip(places, in_order, strict=True):
            mixed[place] = arrival
    return mixed


def _updated_at(delivery: Delivery, at: datetime) -> datetime | None:
    if delivery.platform in SENDERS:
        return msgspec.json.decode(delivery.body, type=FirstPartyEvent).time
    facts = StoreFacts(key=delivery.store, domain="demo.myshopify.com", currency="EUR", timezone="Europe/Berlin")
    try:
        outcome = normalise(delivery, store=facts, received_at=at, position=0, delivery_ref="")
    except Unreadable:
        return None
    return outcome.observations[0].observed.updated_at if isinstance(outcome, Observations) else None


async def open_stores(line: Line) -> dict[str, str]:
    """Registers both stores; their keys by platform."""
    keys: dict[str, str] = {}
    for store in catalog.STORES:
        body = {
            "platform": store.name,
            "domain": store.domain,
            "secrets": [store.secret],
            "currency": store.currency,
            "timezone": store.timezone,
            "consent": store.policy,
        }
        keys[store.name] = (await line.api.admin.post("/v1/stores", json=body)).raise_for_status().json()["store_key"]
    await line.drained()
    return keys


async def tell(
    line: Line,
    keys: dict[str, str],
    arrivals: list[Arrival],
    *,
    pieces: int,
    before_last: Callable[[], Awaitable[None]] | None,
    replayed: bool,
) -> dict[str, Any]:
    """Delivers the history and gives everything that the API knows at the end.

    `replayed`: the journal is read again once all has arrived, and once more when messages have gone out.
    """
    size = -(-len(arrivals) // pieces)
    for n in range(pieces):
        if n == pieces - 1 and before_last is not None:
            await before_last()
        await line.deliver(arrivals[n * size : (n + 1) * size])
    if replayed:
        await read_again(line, keys, len(arrivals))
    # Time passes after everything has arrived: what is due sees the same facts whatever their order was.
    for hour in range(0, 24 * DAYS, HOURS):
        await line.advance(START + timedelta(hours=hour))
    if replayed:
        await read_again(line, keys, len(arrivals))
    state: dict[str, Any] = {"kpis": [], "timelines": {}}
    for moment in ASKED:
        await line.advance(moment)
        for window in ("24h", "7d", "30d"):
            for store in ("", *(f"&store={key}" for key in keys.values())):
                answer = await line.get(f"/v1/kpis?window={window}&currency=EUR{store}")
                state["kpis"].append((moment.isoformat(), window, answer["kpis"]))
        verified = await line.get("/v1/kpis/verify")
        assert verified["checked"] > 0
        assert verified["differences"] == []
    state["orders"] = _by(await line.all("/v1/orders"), "store", "source_id")
    state["profiles"] = _by(await line.all("/v1/profiles"), "id")
    for profile in state["profiles"]:
        state["timelines"][profile] = await line.all(f"/v1/profiles/{profile}/timeline")
    kept = ("flow", "version", "step", "run_key", "profile_id", "state", "reason", "checkout_token")
    messages = await line.all("/v1/messages")
    state["messages"] = sorted(tuple(str(message[name]) for name in kept) for message in messages)
    return state


async def read_again(line: Line, keys: dict[str, str], arrived: int) -> None:
    """Replays both stores' journals, whole. Nothing in them turns out to be something else."""
    for key in keys.values():
        asked = {"store": key, "until": (START + timedelta(days=365)).isoformat()}
        (await line.api.admin.post("/v1/deliveries/replays", json=asked)).raise_for_status()
    await line.drained()
    replays = (await line.all("/v1/deliveries/replays"))[: len(keys)]
    assert sum(replay["looked_at"] for replay in replays) == arrived
    assert [(replay["state"], replay["changed"], replay["gone"]) for replay in replays] == [("done", 0, 0)] * len(keys)


def _by(rows: list[dict[str, Any]], *names: str) -> dict[str, dict[str, Any]]:
    return {" ".join(str(row[name]) for name in names): row for row in rows}


@pytest_asyncio.fixture
async def mailbox() -> AsyncIterator[int]:
    """A mail server; its port."""
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(Mailbox()), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def begin_with(url: str, dice: Random, log: str) -> None:
    """As if topics had begun with some other number of partitions: what the rest hold has been read."""
    pg = await asyncpg.connect(url)
    for topic in TOPICS.values():
        count = dice.choice(BEGINNINGS[log])
        schema = topic.producer
        await pg.execute(f"DELETE FROM {schema}.log_partitions WHERE topic = $1 AND partition >= $2", topic.name, count)
        await pg.execute(f"DELETE FROM {schema}.log_{topic.name} WHERE partition >= $1", count)
        for service in SERVICES:
            await pg.execute(f"DELETE FROM {service}.positions WHERE topic = $1 AND partition >= $2", topic.name, count)
    await pg.close()


async def grow_some(url: str, dice: Random) -> None:
    """Some topics get two or three times as many partitions."""
    for topic in TOPICS.values():
        own = Database(url, schema=topic.producer, pool_size=1)
        async with own.autocommit() as pg:
            before = await partitions_of(pg, topic)
        if (factor := dice.choice([1, 2, 3])) > 1:
            await grow(own, topic, before * factor)
        await own.close()


@asynccontextmanager
async def cloned(url: str, name: str) -> AsyncIterator[str]:
    """A copy of a database that nobody is connected to."""
    source = make_url(url).database
    server = await asyncpg.connect(make_url(url).set(database="postgres").render_as_string(hide_password=False))
    await server.execute(f"CREATE DATABASE {name} TEMPLATE {source} STRATEGY FILE_COPY")
    try:
        yield make_url(url).set(database=name).render_as_string(hide_password=False)
    finally:
        await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await server.close()


@pytest.fixture(params=["postgres", pytest.param("kafka", marks=pytest.mark.kafka)])
def kafka_or_none(request: pytest.FixtureRequest) -> Kafka | None:
    """Through which log the history goes out of order."""
    kafka: Kafka | None = request.getfixturevalue("kafka") if request.param == "kafka" else None
    return kafka


def _through(kafka: Kafka | None, trial: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets the log of a trial: topics of its own."""
    monkeypatch.setenv("REGULARS_LOG", "kafka" if kafka and trial else "postgres")
    monkeypatch.setenv("REGULARS_KAFKA_SERVERS", ",".join(kafka.servers) if kafka else "")
    monkeypatch.setenv("REGULARS_KAFKA_PREFIX", f"{kafka.prefix}{trial}." if kafka else "")


@pytest.mark.timeout(300)
async def test_any_order_repetition_batching_and_partitioning_ends_in_the_same_state(
    database_url: str,
    clock: DrivenClock,
    mailbox: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kafka_or_none: Kafka | None,
) -> None:
    monkeypatch.setenv("REGULARS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("REGULARS_ADMIN_KEY", ADMIN_KEY)
    monkeypatch.setenv("REGULARS_SMTP_PORT", str(mailbox))
    monkeypatch.setenv("REGULARS_TIMERS_SECONDS", "0.02")
    monkeypatch.setenv("REGULARS_DATABASE_URL", database_url)
    clock.set(START)
    async with running_line(clock, batch_size=500) as line:
        keys = await open_stores(line)
    told = history(keys)
    states = []
    log = "kafka" if kafka_or_none else "postgres"
    for trial in range(1 + TRIALS[log]):
        _through(kafka_or_none, trial, monkeypatch)
        dice = Random(trial)
        name = f"{make_url(database_url).database}_{trial}"
        async with cloned(database_url, name) as url:
            monkeypatch.setenv("REGULARS_DATABASE_URL", url)
            clock.set(START)
            if trial:
                await begin_with(url, dice, log)
            async with running_line(clock, batch_size=dice.choice([7, 40, 500])) as line:
                arrivals = disordered(told, dice) if trial else told
                growth = partial(grow_some, url, dice) if trial else None
                pieces, again = dice.randint(1, 4), trial == 1
                states.append(await tell(line, keys, arrivals, pieces=pieces, before_last=growth, replayed=again))
    first = states[0]
    assert len(first["orders"]) > 5
    sent = [message[3] for message in first["messages"] if message[5] == "sent"]
    assert any("cart of" in run_key for run_key in sent), first["messages"]
    assert any("cart of" not in run_key for run_key in sent), first["messages"]
    for trial, state in enumerate(states[1:], 1):
        for part, value in first.items():
            assert state[part] == value, f"trial {trial} ends in other {part}"

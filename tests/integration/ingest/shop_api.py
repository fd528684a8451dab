"""A simulated shop behind a real socket, its store here, and what is fetched of it, step by step."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import uvicorn
from starlette.applications import Starlette

from libs.common.crypto import Keyring
from regulars.shop import woocommerce
from regulars.shop.model import Customer, Deleted, Order, ProductState, State, World
from regulars.shop.shopify_api import TOKEN, ShopifyApi
from regulars.shop.woocommerce_api import KEY, SECRET, WooCommerceApi
from regulars.shop.world import make_world
from services.ingest.fetching import Fetching, Rhythm
from services.ingest.opening import opener
from tests.conftest import START
from tests.integration.ingest.ground import Ground
from tests.waiting import eventually

CREDENTIALS = {"consumer_key": KEY, "consumer_secret": SECRET}
TOKEN_OF_SHOPIFY = {"access_token": TOKEN}


@asynccontextmanager
async def serving(shop: WooCommerceApi | ShopifyApi) -> AsyncIterator[str]:
    """Its host and port."""
    async with at_port(shop.app) as domain:
        yield domain


@asynccontextmanager
async def at_port(app: Starlette) -> AsyncIterator[str]:
    """Its host and port."""
    config = uvicorn.Config(app, port=0, lifespan="off", log_config=None, ws="none")
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())

    async def started() -> bool:
        return server.started

    await eventually(started)
    try:
        yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await running


def small_world(*, seed: int = 5, days: int = 40, how_many: int = 60) -> World:
    """What happens in some days from the tests' beginning on."""
    return make_world(seed=seed, start=START, days=days, how_many=how_many)


def store_at(domain: str) -> dict[str, Any]:
    """As it is registered."""
    return {"platform": "woocommerce", "domain": domain}


RHYTHM = Rhythm(
    every=timedelta(minutes=15), overlap=timedelta(minutes=10), grace=timedelta(minutes=5), pause=timedelta(0)
)
STATES = [change.state for change in small_world().changes if change.store == "woocommerce"]
STATES_OF_SHOPIFY = [change.state for change in small_world().changes if change.store == "shopify"]


def fetching(ground: Ground, *, bulk_above: int = 10_000) -> Fetching:
    return Fetching(
        ground.database, RHYTHM, opener(Keyring.from_settings(ground.settings), bulk_above=bulk_above, inside=True)
    )


async def stepped(ground: Ground, *, bulk_above: int = 10_000) -> int:
    """Does all that is due; how many steps that took."""
    working, steps = fetching(ground, bulk_above=bulk_above), 0
    while await working.run(ground.clock.now()):
        steps += 1
    return steps


async def told(ground: Ground) -> dict[str, Any]:
    """What was observed of each object in the end, without what says how we came to know."""
    async with ground.working():
        pass
    last: dict[str, Any] = {}
    for _, key, data in await ground.commerce():
        known = last.get(key)
        if known is None or (data["updated_at"], data["position"]) >= (known["updated_at"], known["position"]):
            last[key] = data
    left_out = {"position", "delivery", "origin", "store"}
    return {
        key.partition(":")[2]: {name: value for name, value in data.items() if name not in left_out}
        for key, data in last.items()
    }


async def sent(ground: Ground, key: str, states: Sequence[State], but: frozenset[int] = frozenset()) -> None:
    """Webhooks of these states, but for those at some places."""
    topics: dict[type, str] = {Order: "order.updated", Customer: "customer.updated", ProductState: "product.updated"}
    for n, state in enumerate(states):
        topic = "order.deleted" if isinstance(state, Deleted) else topics.get(type(state))
        if topic is not None and n not in but:
            body = woocommerce.body(state)
            assert (await ground.woocommerce(key, body, topic=topic, id_=f"d-{n}")).status_code == 200


async def backfilled(ground: Ground, store: str, **asked: Any) -> dict[str, Any]:
    answer = await ground.http.post("/v1/backfills", json={"store": store, **asked})
    assert answer.status_code == 202, answer.text
    await stepped(ground)
    found: dict[str, Any] = await ground.get(f"/v1/backfills/{answer.json()['id']}")
    return found


async def reconciled(ground: Ground) -> None:
    ground.clock.set(ground.clock.now() + timedelta(hours=1))
    await fetching(ground).plan(ground.clock.now())
    assert await stepped(ground) > 0

"""A simulated WooCommerce shop behind a real socket, and its store here."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from regulars.shop.model import World
from regulars.shop.woocommerce_api import KEY, SECRET, WooCommerceApi
from regulars.shop.world import make_world
from tests.conftest import START
from tests.waiting import eventually

CREDENTIALS = {"consumer_key": KEY, "consumer_secret": SECRET}


@asynccontextmanager
async def serving(shop: WooCommerceApi) -> AsyncIterator[str]:
    """Its host and port."""
    config = uvicorn.Config(shop.app, port=0, lifespan="off", log_config=None, ws="none")
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

"""`regulars shop`: the simulated shop as a server, to connect and fetch from where no real one is at hand."""

import asyncio
import signal
import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from regulars.integrating import Platform

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from regulars.shop.model import State


def shop(
    platform: Platform,
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of 127.0.0.1; 0: any free one.")] = 9000,
    days: Annotated[int, typer.Option(min=1, max=400, help="Of its past, up to now.")] = 40,
    customers: Annotated[int, typer.Option(min=1, max=10_000, help="About so many.")] = 60,
    seed: Annotated[int, typer.Option(help="The same seed gives the same shop.")] = 1,
) -> None:
    """Serves the API of a simulated shop with a past, and says how to connect it. It sends no webhooks. Ends on Ctrl-C.

    Regulars reaches it only when it was started with REGULARS_FETCH_PRIVATE_ADDRESSES=true.
    """
    from regulars.shop.world import make_world

    start = datetime.now(UTC).replace(microsecond=0) - timedelta(days=days)  # noqa: TID251 - its past is a real one
    world = make_world(seed=seed, start=start, days=days, how_many=customers)
    states = [change.state for change in world.changes if change.store == platform.value]
    with socket.create_server(("127.0.0.1", port)) as listener:
        domain = f"127.0.0.1:{listener.getsockname()[1]}"
        app, environment, backfilled = _opened(platform, states, f"http://{domain}")
        print(_steps(platform, domain, environment, backfilled), flush=True)
        asyncio.run(_serve(app, listener))


def _opened(platform: Platform, states: Sequence["State"], address: str) -> tuple["Starlette", dict[str, str], str]:
    """The application, the credentials that it takes, and what there is to be had of it."""
    from starlette.applications import Starlette

    from regulars.shop import shopify_api, woocommerce_api

    if platform is Platform.woocommerce:
        woocommerce = woocommerce_api.WooCommerceApi()
        woocommerce.tell(states)
        keys = {"REGULARS_CONSUMER_KEY": woocommerce_api.KEY, "REGULARS_CONSUMER_SECRET": woocommerce_api.SECRET}
        return woocommerce.app, keys, _told(woocommerce.counts())
    shopify = shopify_api.ShopifyApi()
    shopify.tell(states)
    shopify.bulk.files_at = address
    both = Starlette(routes=[*shopify.app.routes, *shopify.bulk.files.routes])
    return both, {"REGULARS_ACCESS_TOKEN": shopify_api.TOKEN}, _told(shopify.counts())


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


def _steps(platform: Platform, domain: str, environment: dict[str, str], there: str) -> str:
    exports = " ".join(f"{name}={value}" for name, value in environment.items())
    store = (
        f'{{"platform": "{platform.value}", "domain": "{domain}", "secrets": ["a secret of yours"], "currency": "EUR",'
        ' "timezone": "Europe/Berlin"}'
    )
    return "\n".join(
        [
            f"A simulated {platform.value} shop at http://{domain}, until Ctrl-C: {there}. In another terminal:",
            "",
            f"STORE=$(api POST /v1/stores -d '{store}' | key_of)",
            f"export {exports}",
            f'.venv/bin/regulars connect {platform.value} --store "$STORE" --shop-url http://{domain}',
            'api POST /v1/backfills -d "{\\"store\\": \\"$STORE\\"}"',
            "api GET /v1/backfills",
        ]
    )


async def _serve(app: "Starlette", listener: socket.socket) -> None:
    import uvicorn

    from regulars.serving import Server, serve_until

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, ws="none")
    await serve_until(stop, Server(config, lambda: None), [listener])

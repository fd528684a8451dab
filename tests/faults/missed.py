"""One webhook in twenty never comes, and what asks the shops dies: `python -m tests.faults.missed`.

Real processes, and the simulated shops' own APIs. Of each shop one store hears everything; for a second one a backfill
makes up for what was lost, while roles are killed (SIGKILL); for a third one the comparison that runs by itself does.
Wrong is an order or a figure of the second or third that is not the first one's, and a count of gaps that is not the
number of those made.
"""

import argparse
import asyncio
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from libs.common.clock import DrivenClock
from libs.common.telemetry import configure_logging
from regulars.shop.world import make_world
from tests.conftest import START
from tests.e2e.cases.ground import SECRET, signature
from tests.e2e.cases.test_missed import Shop, alike, shops
from tests.faults.ledger import drain, pages
from tests.faults.running import ADMIN_KEY, Running
from tests.integration.ingest.shop_api import serving
from tests.waiting import pause, until

VICTIMS = ("worker", "api", "worker", "postgres", "worker", "everything")
BETWEEN_KILLS = 1.0
RATE = "3"
"""Requests to a shop in a second: so a backfill takes long enough to be killed several times."""
_OF_DRAFTS = ("checkouts", "abandonment_rate", "conversion_rate")
"""WooCommerce's drafts become orders in their place: of one whose webhook was lost nothing is left to be fetched."""
DONE_SECONDS = 900.0
"""Whoever dies while he asks a shop leaves it alone until his lease is over, three minutes."""


@dataclass(frozen=True)
class Stores:
    """Of one shop."""

    shop: Shop
    whole: str
    backfilled: str
    compared: str

    @property
    def holed(self) -> tuple[str, str]:
        """Those that did not hear everything."""
        return self.backfilled, self.compared


async def run_all(folder: Path, days: int, customers: int) -> bool:
    """Whether everything is as it should be."""
    world = make_world(seed=5, start=START, days=days, how_many=customers)
    # Shops are compared from when their stores were registered on: before all that happens in them.
    clock = DrivenClock.create(folder / "clock", START)
    environment = {
        "REGULARS_CLOCK_PATH": str(folder / "clock"),
        "REGULARS_LOG_LEVEL": "error",
        "REGULARS_FETCH_PRIVATE_ADDRESSES": "true",
        "REGULARS_FETCH_RATE": RATE,
        "REGULARS_RECONCILE_GRACE_MINUTES": "0",
    }
    run = Running(folder / "data", environment=environment)
    await asyncio.to_thread(run.start)
    try:
        async with AsyncExitStack() as stack:
            every = []
            for shop in shops(world):
                shop.api.tell(change.state for change in shop.changes)
                domains = [await stack.enter_async_context(serving(shop.api)) for _ in range(2)]
                every.append((await _registered(run, shop, domains), domains))
            clock.set(world.end)
            for each, _ in every:
                await _told(run, each)
            await asyncio.to_thread(drain, run)
            stores = [each for each, _ in every]
            if any(
                _state(run, one, each.shop) == _state(run, each.whole, each.shop)
                for each in stores
                for one in each.holed
            ):
                print("nothing was lost")
                return False
            clock.set(world.end + timedelta(hours=1))
            backfills = [await _opened(run, each, domains) for each, domains in every]
            killed = await _kill(run, backfills)
            await asyncio.to_thread(until, "fetched", partial(_are_done, run, backfills), DONE_SECONDS, 0.5)
            for key in [key for each in stores for key in each.holed]:
                await asyncio.to_thread(until, "compared", partial(_is_compared, run, key), DONE_SECONDS, 0.5)
            await asyncio.to_thread(drain, run)
        print(f"killed while backfills were under way: {', '.join(killed)}")
        # Of both, whatever the first one is like.
        judged = [_judged(run, each, n) for each, n in zip(stores, backfills, strict=True)]
        return all(judged)
    finally:
        await asyncio.to_thread(run.stop)


async def _registered(run: Running, shop: Shop, domains: list[str]) -> Stores:
    async with _client(run) as http:
        keys = []
        for domain in (f"all-{shop.platform}.example", *domains):
            body = {"platform": shop.platform, "domain": domain, "secrets": [SECRET], "currency": "EUR"}
            body |= {"timezone": "Europe/Berlin", "consent": "soft_opt_in"}
            keys.append((await http.post("/v1/stores", json=body)).raise_for_status().json()["store_key"])
    return Stores(shop, *keys)


async def _told(run: Running, stores: Stores) -> None:
    """All webhooks to one of them, all but one in twenty to the others."""
    shop = stores.shop
    async with _client(run) as http:
        for n, change in enumerate(shop.changes):
            for key in (stores.whole, *stores.holed) if n not in shop.lost else (stores.whole,):
                await _send(http, shop, key, change.topics[-1], shop.body(change.state), f"w-{n}")


def _client(run: Running) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=run.address, headers={"authorization": f"Bearer {ADMIN_KEY}"}, timeout=30)


async def _send(http: httpx.AsyncClient, shop: Shop, key: str, topic: str, body: bytes, id_: str) -> None:
    if shop.platform == "shopify":
        told = {"X-Shopify-Topic": topic, "X-Shopify-Hmac-Sha256": signature(body), "X-Shopify-Webhook-Id": id_}
    else:
        told = {"X-WC-Webhook-Topic": topic, "X-WC-Webhook-Signature": signature(body)}
        told |= {"X-WC-Webhook-Delivery-ID": id_}
    answer = await http.post(f"/webhooks/{shop.platform}/{key}", content=body, headers=told)
    answer.raise_for_status()


async def _opened(run: Running, stores: Stores, domains: list[str]) -> str:
    """Hands over what opens the shop's API; the id of the backfill that is asked for at once."""
    async with _client(run) as http:
        for key, domain in zip(stores.holed, domains, strict=True):
            opened = {**stores.shop.opened_by, "url": f"http://{domain}"}
            (await http.put(f"/v1/stores/{key}/credentials", json=opened)).raise_for_status()
        asked = await http.post("/v1/backfills", json={"store": stores.backfilled})
    return str(asked.raise_for_status().json()["id"])


async def _kill(run: Running, backfills: list[str]) -> list[str]:
    """Kills one role after the other while any is under way; who was killed."""
    killed: list[str] = []
    for victim in VICTIMS:
        await pause(BETWEEN_KILLS)
        if await asyncio.to_thread(_are_done, run, backfills):
            break
        await asyncio.to_thread(run.kill, victim)
        killed.append(victim)
        await asyncio.to_thread(until, "it is back", partial(_is_back, run, victim), DONE_SECONDS, 0.1)
    return killed


def _are_done(run: Running, backfills: list[str]) -> bool:
    return all(_backfill(run, each)["state"] == "done" for each in backfills)


def _is_back(run: Running, victim: str) -> bool:
    if not run.ready(victim):
        return False
    try:
        with run.client() as client:
            return client.get("/readyz").is_success
    except httpx.TransportError:
        return False


def _backfill(run: Running, id_: str) -> Any:
    with run.client() as client:
        return client.get(f"/v1/backfills/{id_}").raise_for_status().json()


def _health(run: Running, key: str) -> Any:
    with run.client() as client:
        return client.get(f"/v1/stores/{key}/health").raise_for_status().json()


def _is_compared(run: Running, key: str) -> bool:
    health = _health(run, key)
    return bool(health["reconciled"] and health["swept"])


def _state(run: Running, key: str, shop: Shop) -> Any:
    """Orders and figures."""
    with run.client() as client:
        asked = {"window": "30d", "store": key, "currency": "EUR"}
        kpis = client.get("/v1/kpis", params=asked).raise_for_status().json()["kpis"]
    orders = alike(pages(run, "/v1/orders", store=key), shop)
    left_out = _OF_DRAFTS if shop.platform == "woocommerce" else ()
    return orders, {name: kpi["value"] for name, kpi in kpis.items() if name not in left_out}


def _judged(run: Running, stores: Stores, backfill: str) -> bool:
    """Prints what is there; whether it is as it should be."""
    shop, health, done = stores.shop, _health(run, stores.compared), _backfill(run, backfill)
    orders, kpis = _state(run, stores.whole, shop)
    equal = [_state(run, key, shop) == (orders, kpis) for key in stores.holed]
    gaps = health["reconciled"]["missing"] + health["swept"]["missing"]
    print(
        f"{shop.platform}: {len(shop.changes)} webhooks, {len(shop.lost)} lost, the last of {len(shop.missed)} objects;"
        f" backfill fetched {done['fetched']}, published {done['published']}, equal: {equal[0]};"
        f" comparison found {gaps} gaps, equal: {equal[1]} ({len(orders)} orders, {len(kpis)} figures)"
    )
    return all(equal) and gaps == len(shop.missed)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--days", type=int, default=40)
    parser.add_argument("--customers", type=int, default=150)
    asked = parser.parse_args()
    configure_logging("error")
    with tempfile.TemporaryDirectory(prefix="regulars-missed-") as folder:
        good = asyncio.run(run_all(Path(folder), asked.days, asked.customers))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()

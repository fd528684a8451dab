"""A WooCommerce shop of which some webhooks never arrive: in the end everything is as the shop has it."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from libs.common.clock import DrivenClock
from regulars.shop import woocommerce
from regulars.shop.model import Change, Customer, Deleted, Order, ProductState
from regulars.shop.woocommerce_api import WooCommerceApi
from tests.e2e.cases.conftest import at_work
from tests.e2e.cases.ground import Ground, Store
from tests.integration.ingest.shop_api import CREDENTIALS, serving, small_world
from tests.waiting import eventually

DROPPED = 20
"""One in so many webhooks never arrives."""


@pytest_asyncio.fixture
async def ground(
    database_url: str, clock: DrivenClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Ground]:
    """Shops may be on this machine, and are asked as fast as they answer."""
    monkeypatch.setenv("REGULARS_FETCH_PRIVATE_ADDRESSES", "true")
    monkeypatch.setenv("REGULARS_FETCH_RATE", "1000")
    async with at_work(database_url, clock, tmp_path, monkeypatch) as running:
        yield running


async def test_five_in_a_hundred_webhooks_are_lost_for_good(ground: Ground, clock: DrivenClock) -> None:
    world = small_world()
    changes = [change for change in world.changes if change.store == "woocommerce" and _root(change)]
    places = range(3, len(changes), DROPPED)
    last = {_root(change): n for n, change in enumerate(changes)}
    missed = {root for root, n in last.items() if n in places}
    assert len(missed) > 3
    shop = WooCommerceApi()
    shop.tell(change.state for change in changes)
    async with serving(shop) as domain:
        policy = {"consent": "soft_opt_in"}
        holed = await ground.store("woocommerce", domain=domain, **policy)
        whole = await ground.store("woocommerce", domain="all.example", **policy)
        clock.set(world.end)
        for n, change in enumerate(changes):
            for store in (whole,) if n in places else (whole, holed):
                assert await store.send(change.topics[-1], woocommerce.body(change.state)) == 200
        await ground.line.drained()
        assert await _everything(holed) != await _everything(whole)
        answer = await ground.http.put(
            f"/v1/stores/{holed.key}/credentials", json=CREDENTIALS | {"url": f"http://{domain}"}
        )
        assert answer.status_code == 200
        clock.set(world.end + timedelta(hours=1))

        async def compared() -> bool:
            health = await ground.get(f"/v1/stores/{holed.key}/health")
            return bool(health["reconciled"] and health["swept"])

        await eventually(compared)
    health = await ground.get(f"/v1/stores/{holed.key}/health")
    assert health["reconciled"]["missing"] + health["swept"]["missing"] == len(missed)
    assert await _everything(holed) == await _everything(whole)
    verified = await ground.get("/v1/kpis/verify")
    assert verified["checked"] > 0
    assert verified["differences"] == []
    # What is found late is no news to anybody: it starts no message.
    started = await ground.line.all("/v1/messages")
    assert not [message for message in started if message["store"] == holed.key and message["state"] == "sent"]


async def _everything(store: Store) -> dict[str, Any]:
    """Orders and products as the API shows them, and what they add up to."""
    orders = await store.ground.line.all(f"/v1/orders?store={store.key}")
    shown = [
        {
            name: value
            for name, value in order.items()
            if name not in {"store", "profile_id", "updated_at"} or _dated(order, name)
        }
        for order in orders
    ]
    return {
        "orders": sorted(shown, key=lambda order: str(order["source_id"])),
        "kpis": await store.kpis(),
    }


def _dated(order: dict[str, Any], name: str) -> bool:
    # A deletion has no date of its own: it is dated when we heard of it.
    return name == "updated_at" and not order["deleted"]


def _root(change: Change) -> str | None:
    match change.state:
        case Order(id=id_) | Deleted(order_id=id_) if change.topics[-1].startswith("order."):
            return f"order:{id_}"
        case Customer(id=id_):
            return f"customer:{id_}"
        case ProductState(product=product):
            return f"product:{product.id}"
    return None

"""Shops of which some webhooks never arrive: in the end everything is as the shops have it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from libs.common.clock import DrivenClock
from regulars.shop import shopify, woocommerce
from regulars.shop.model import Change, Consent, Customer, Deleted, Order, ProductState, RefundTold, State, World
from regulars.shop.shopify_api import ShopifyApi
from regulars.shop.woocommerce_api import WooCommerceApi
from tests.e2e.cases.ground import Ground, Store
from tests.integration.ingest.shop_api import CREDENTIALS, TOKEN_OF_SHOPIFY, serving, small_world
from tests.waiting import eventually

DROPPED = 20
"""One in so many webhooks never arrives."""
WORLD = small_world()


@dataclass(frozen=True)
class Shop:
    """One of the world's two, its API, and which of its webhooks get lost."""

    platform: str
    api: WooCommerceApi | ShopifyApi
    opened_by: Mapping[str, str]
    body: Callable[[State], bytes]
    changes: list[Change]

    @property
    def lost(self) -> range:
        """Places of the changes that no webhook of the one store tells."""
        return range(3, len(self.changes), DROPPED)

    @property
    def missed(self) -> set[str]:
        """Objects of which the last state was lost."""
        last = {root: n for n, change in enumerate(self.changes) if (root := _root(change)) is not None}
        return {root for root, n in last.items() if n in self.lost}

    @property
    def unheard(self) -> set[str]:
        """Orders of which no webhook arrived at all."""
        told = {_root(change) for n, change in enumerate(self.changes) if n not in self.lost}
        return {root.partition(":")[2] for root in self.missed - told}


def shops(world: World = WORLD) -> list[Shop]:
    """Both of a world."""
    woo = [each for each in world.changes if each.store == "woocommerce" and _root(each)]
    # Refunds and consents, too: they tell of a part, and the whole may be what was lost.
    shopify_ = [
        each
        for each in world.changes
        if each.store == "shopify"
        and each.topics[-1] != "events"
        and (_root(each) or isinstance(each.state, RefundTold | Consent))
    ]
    return [
        Shop("woocommerce", WooCommerceApi(), CREDENTIALS, woocommerce.body, woo),
        Shop("shopify", ShopifyApi(), TOKEN_OF_SHOPIFY, shopify.body, shopify_),
    ]


async def test_five_in_a_hundred_webhooks_are_lost_for_good(ground_beside_shops: Ground, clock: DrivenClock) -> None:
    ground = ground_beside_shops
    pairs: list[tuple[Shop, Store, Store]] = []
    erased = next(each.state for each in reversed(WORLD.changes) if _is_last_order(each))
    assert isinstance(erased, Order)
    async with AsyncExitStack() as stack:
        domains = {}
        for shop in shops():
            assert len(shop.missed) > 3
            shop.api.tell(change.state for change in shop.changes)
            domain = domains[shop.platform] = await stack.enter_async_context(serving(shop.api))
            policy = {"consent": "soft_opt_in"}
            holed = await ground.store(shop.platform, domain=domain, **policy)
            whole = await ground.store(shop.platform, domain=f"all-{shop.platform}.example", **policy)
            pairs.append((shop, holed, whole))
        clock.set(WORLD.end)
        await asyncio.gather(
            *(_tell(shop, holed, shop.lost) for shop, holed, _ in pairs),
            *(_tell(shop, whole, range(0)) for shop, _, whole in pairs),
        )
        # And one is deleted for good, of which one store alone hears.
        [shopify_] = [each for each in pairs if each[0].platform == "shopify"]
        shopify_[0].api.erase("orders", erased.id)
        assert await shopify_[2].send("orders/delete", {"id": erased.id}) == 200
        await ground.line.drained()
        # Before there are credentials: one comparison finds all, as the next would come a quarter of an hour later.
        clock.set(WORLD.end + timedelta(hours=1))
        for shop, holed, whole in pairs:
            assert await _everything(holed, shop) != await _everything(whole, shop)
            answer = await ground.http.put(
                f"/v1/stores/{holed.key}/credentials",
                json={**shop.opened_by, "url": f"http://{domains[shop.platform]}"},
            )
            assert answer.status_code == 200

        async def compared() -> bool:
            found = [await ground.get(f"/v1/stores/{holed.key}/health") for _, holed, _ in pairs]
            return all(health["reconciled"] and health["swept"] for health in found)

        await eventually(compared)
    for shop, holed, whole in pairs:
        health = await ground.get(f"/v1/stores/{holed.key}/health")
        missed = len(shop.missed | {f"order:{erased.id}"}) if shop.platform == "shopify" else len(shop.missed)
        assert health["reconciled"]["missing"] + health["swept"]["missing"] == missed
        assert await _everything(holed, shop) == await _everything(whole, shop)
    verified = await ground.get("/v1/kpis/verify")
    assert verified["checked"] > 0
    assert verified["differences"] == []
    # What is found late is no news to anybody: it starts no message.
    holes = {holed.key for _, holed, _ in pairs}
    started = await ground.line.all("/v1/messages")
    assert not [message for message in started if message["store"] in holes and message["state"] == "sent"]


async def _tell(shop: Shop, store: Store, but: range) -> None:
    for n, change in enumerate(shop.changes):
        if n not in but:
            assert await store.send(change.topics[-1], shop.body(change.state)) == 200


async def _everything(store: Store, shop: Shop) -> dict[str, Any]:
    """Orders as the API shows them, and what they add up to."""
    orders = await store.ground.line.all(f"/v1/orders?store={store.key}")
    return {"orders": alike(orders, shop), "kpis": await store.kpis()}


def alike(orders: Sequence[dict[str, Any]], shop: Shop) -> list[dict[str, Any]]:
    """Orders as the API shows them, without what depends on which webhooks told of them."""
    shown = [
        {
            name: value
            for name, value in order.items()
            if name not in {"store", "profile_id", "updated_at"} or _dated(order, name)
        }
        for order in orders
    ]
    for order in shown:
        if order["source_id"] in shop.unheard:
            # Only webhooks name it.
            order["checkout_token"] = None
    return sorted(shown, key=lambda order: str(order["source_id"]))


def _dated(order: dict[str, Any], name: str) -> bool:
    # A deletion has no date of its own: it is dated when we heard of it.
    return name == "updated_at" and not order["deleted"]


def _is_last_order(change: Change) -> bool:
    return change.store == "shopify" and isinstance(change.state, Order) and not change.state.test


def _root(change: Change) -> str | None:
    match change.state:
        case Order(id=id_) | Deleted(order_id=id_) if change.topics[-1].startswith("order"):
            return f"order:{id_}"
        case Customer(id=id_):
            return f"customer:{id_}"
        case ProductState(product=product):
            return f"product:{product.id}"
    return None

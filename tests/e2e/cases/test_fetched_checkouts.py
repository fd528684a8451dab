"""A checkout that was fetched under its cart's token, since nobody had told its own, and its webhooks: it is one."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from libs.common.clock import DrivenClock
from regulars.shop import shopify
from regulars.shop.model import Checkout
from regulars.shop.shopify_api import ShopifyApi
from tests.e2e.cases.ground import Ground, Store
from tests.integration.ingest.shop_api import TOKEN_OF_SHOPIFY, serving, small_world
from tests.waiting import eventually

_EVERY = [change.state for change in small_world().changes if isinstance(change.state, Checkout)]
_LEFT = next(
    each for each in _EVERY if each.contact.email and not any(e.completed_at for e in _EVERY if e.token == each.token)
)
FIRST = replace(_LEFT, ticked=True)
LAST = replace(
    FIRST,
    updated_at=FIRST.updated_at + timedelta(minutes=7),
    items=tuple(replace(item, quantity=item.quantity + 1) for item in FIRST.items),
)
"""What the shop shows. Its webhook got lost, or has yet to come."""


@dataclass(frozen=True)
class Scene:
    """A shop with one checkout, and its store here."""

    ground: Ground
    store: Store
    clock: DrivenClock

    async def told(self, state: Checkout) -> None:
        """By a webhook, and read."""
        assert await self.store.send("checkouts/update", shopify.body(state)) == 200
        await self.ground.line.drained()

    async def fetched(self) -> None:
        """By a backfill, and read."""
        asked = {"store": self.store.key, "kinds": ["checkouts"]}
        answer = await self.ground.http.post("/v1/backfills", json=asked)
        path = f"/v1/backfills/{answer.raise_for_status().json()['id']}"

        async def done() -> bool:
            return bool((await self.ground.get(path))["state"] == "done")

        await eventually(done)
        await self.ground.line.drained()

    async def replayed(self) -> Any:
        """Everything, by today's rules; what it counts."""
        answer = await self.ground.http.post("/v1/deliveries/replays", json={"store": self.store.key})
        path = f"/v1/deliveries/replays/{answer.raise_for_status().json()['id']}"

        async def done() -> bool:
            return bool((await self.ground.get(path))["state"] == "done")

        await eventually(done)
        await self.ground.line.drained()
        return await self.ground.get(path)

    async def shown(self) -> dict[str, Any]:
        """The checkout as it shows anywhere, but for how often it changed."""
        checkout = await self.ground.get(f"/v1/checkouts/{self.store.key}:{LAST.token}")
        entries = await self.ground.line.all(f"/v1/profiles/{checkout['profile_id']}/timeline")
        messages = await self.ground.line.all("/v1/messages")
        deliveries = await self.ground.line.all(f"/v1/deliveries?store={self.store.key}")
        kpis = await self.store.kpis()
        verified = await self.ground.get("/v1/kpis/verify")
        return {
            "items": sum(line["quantity"] for line in checkout["lines"]),
            "deleted": checkout["deleted"],
            "timeline": [(entry["kind"], entry["at"]) for entry in entries if entry["kind"] == "checkout.started"],
            "messages": [(each["flow"], each["step"], each["state"]) for each in messages],
            "objects": {each["object"] for each in deliveries},
            "checkouts": kpis["checkouts"],
            "abandonment_rate": kpis["abandonment_rate"],
            "verified": verified["differences"],
        }


ONE = {
    "items": sum(item.quantity for item in LAST.items),
    "deleted": False,
    "timeline": [("checkout.started", f"{LAST.created_at:%Y-%m-%dT%H:%M:%SZ}")],
    "messages": [("cart_abandonment", 1, "planned")],
    "objects": {f"checkout:{LAST.token}"},
    "checkouts": 1,
    "abandonment_rate": 1.0,
    "verified": [],
}


@pytest_asyncio.fixture
async def scene(ground_beside_shops: Ground, clock: DrivenClock) -> AsyncIterator[Scene]:
    clock.set(LAST.updated_at + timedelta(minutes=1))
    shop = ShopifyApi()
    shop.tell([FIRST, LAST])
    async with serving(shop) as domain:
        store = await ground_beside_shops.store("shopify", domain=domain)
        access = TOKEN_OF_SHOPIFY | {"url": f"http://{domain}"}
        answer = await ground_beside_shops.http.put(f"/v1/stores/{store.key}/credentials", json=access)
        assert answer.status_code == 200
        yield Scene(ground_beside_shops, store, clock)


@pytest.mark.parametrize(
    "steps",
    [
        ("fetched", "first"),
        ("first", "fetched"),
        ("fetched", "last"),
        ("last", "fetched"),
        ("fetched", "last", "first", "fetched", "last"),
        ("first", "fetched", "last", "fetched", "first"),
        ("fetched", "first", "replayed"),
        ("first", "fetched", "replayed"),
    ],
    ids=" ".join,
)
async def test_a_checkout_is_one_whoever_tells_of_it_first(scene: Scene, steps: tuple[str, ...]) -> None:
    for step in steps:
        match step:
            case "fetched":
                await scene.fetched()
            case "replayed":
                assert (await scene.replayed())["changed"] == 0
            case _:
                await scene.told(FIRST if step == "first" else LAST)
    await scene.ground.line.advance(LAST.updated_at + timedelta(minutes=50))
    assert await scene.shown() == ONE

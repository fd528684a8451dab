"""Checkouts that were left, as Shopify's Admin API has them: found where no webhook told of them."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from regulars.shop import shopify
from regulars.shop.model import Checkout
from regulars.shop.shopify_api import ShopifyApi
from tests.integration.ingest.conftest import Grounds
from tests.integration.ingest.ground import Ground
from tests.integration.ingest.shop_api import (
    CREDENTIALS,
    TOKEN_OF_SHOPIFY,
    backfilled,
    reconciled,
    serving,
    small_world,
    told,
)

EVERY = [
    change.state for change in small_world().changes if change.store == "shopify" and isinstance(change.state, Checkout)
]
LAST = {state.token: state for state in EVERY}
LEFT = [state for state in LAST.values() if state.completed_at is None and state.contact.email]


@pytest_asyncio.fixture
async def ground(grounds: Grounds) -> AsyncIterator[Ground]:
    async with grounds(fetch_concurrency=0) as running:
        yield running


@pytest.fixture
def shop() -> ShopifyApi:
    shop = ShopifyApi()
    shop.tell(EVERY)
    return shop


@pytest_asyncio.fixture
async def store(ground: Ground, shop: ShopifyApi) -> AsyncIterator[str]:
    ground.clock.set(small_world().start)
    async with serving(shop) as domain:
        key = await ground.register(domain=domain)
        access = TOKEN_OF_SHOPIFY | {"url": f"http://{domain}"}
        assert (await ground.http.put(f"/v1/stores/{key}/credentials", json=access)).status_code == 200
        ground.clock.set(small_world().end)
        yield key


async def sent(ground: Ground, store: str, states: list[Checkout]) -> None:
    for n, state in enumerate(states):
        answer = await ground.shopify(store, shopify.body(state), topic="checkouts/update", id_=f"c-{n}")
        assert answer.status_code == 200


async def test_those_that_no_webhook_told_of_are_found_and_those_it_did_are_not(
    ground: Ground, shop: ShopifyApi, store: str
) -> None:
    lost = LEFT[0]
    late = next(state for state in LEFT[1:] if sum(each.token == state.token for each in EVERY) > 1)
    await sent(ground, store, [each for each in EVERY if each.token != lost.token and each is not late])
    before = {*await told(ground)}
    await reconciled(ground)
    after = await told(ground)
    # Nobody has told of its own token: its cart's is what there is.
    assert {*after} - before == {f"checkout:{lost.cart}"}
    found = [(key, data) for _, key, data in await ground.commerce() if data.get("origin") == "reconciled"]
    assert sorted(key for key, _ in found) == sorted(
        [f"{store}:checkout:{lost.cart}", f"{store}:checkout:{late.token}"]
    )
    assert all(data.get("completed_at") is None for _, data in found)
    assert (await ground.get(f"/v1/stores/{store}/health"))["reconciled"]["missing"] == 2
    # A second look finds nothing new.
    await reconciled(ground)
    assert await told(ground) == after


async def test_a_backfill_tells_of_those_that_were_left_and_whether_they_were_bought(
    ground: Ground, shop: ShopifyApi, store: str
) -> None:
    done = await backfilled(ground, store, kinds=["checkouts"])
    assert (done["state"], done["kinds"], done["broken"]) == ("done", ["checkouts"], 0)
    found = await told(ground)
    assert {each.cart for each in LEFT} <= {key.partition(":")[2] for key in found}
    assert {data["origin"] for _, _, data in await ground.commerce()} == {"backfill"}
    bought = {each.cart for each in LAST.values() if each.completed_at is not None}
    for key, data in found.items():
        assert (data.get("completed_at") is not None) == (key.partition(":")[2] in bought)


async def test_an_app_that_may_not_see_them_sees_all_the_rest(ground: Ground, shop: ShopifyApi, store: str) -> None:
    shop.shows_checkouts = False
    done = await backfilled(ground, store)
    assert (done["state"], done["kinds"][-1], done["broken"]) == ("done", "checkouts", 1)
    [reason] = done["reasons"]
    assert reason["reason"].startswith("no checkouts: the shop refuses (ACCESS_DENIED)")
    assert (await ground.get(f"/v1/stores/{store}/credentials"))["state"] == "good"


async def test_woocommerce_has_none(ground: Ground) -> None:
    woo = await ground.register(platform="woocommerce", domain="shop.example")
    assert (await ground.http.put(f"/v1/stores/{woo}/credentials", json=CREDENTIALS)).status_code == 200
    asked = {"store": woo, "kinds": ["orders", "checkouts"]}
    answer = await ground.http.post("/v1/backfills", json=asked)
    assert (answer.status_code, [each["pointer"] for each in answer.json()["errors"]]) == (422, ["/kinds/1"])
    answer = await ground.http.post("/v1/backfills", json={"store": woo})
    assert (answer.status_code, answer.json()["kinds"]) == (202, ["customers", "products", "orders"])

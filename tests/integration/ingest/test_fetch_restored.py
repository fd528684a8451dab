"""What was gone and is shown again by its shop's own API: it is there, and for as long as the shop says."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

from regulars.shop.model import Customer, Deleted, Order, ProductState
from regulars.shop.woocommerce_api import WooCommerceApi
from tests.integration.ingest.conftest import Grounds
from tests.integration.ingest.ground import Ground
from tests.integration.ingest.shop_api import STATES, backfilled, reconciled, sent, small_world, stepped, told

EXISTING = [state for state in STATES if not isinstance(state, Deleted)]
ORDER = next(state for state in reversed(EXISTING) if isinstance(state, Order))
CUSTOMER = next(state for state in reversed(EXISTING) if isinstance(state, Customer))
DAY = timedelta(days=1, minutes=5)


@pytest_asyncio.fixture
async def ground(grounds: Grounds) -> AsyncIterator[Ground]:
    """Its worker asks nobody: the tests do, step by step."""
    async with grounds(fetch_concurrency=0) as running:
        yield running


async def _is_there(ground: Ground, root: str) -> bool:
    observed = await told(ground)
    return len(observed[root]) > 3


async def _after(ground: Ground, passed: timedelta) -> None:
    """So much later, all is compared."""
    ground.clock.set(ground.clock.now() + passed)
    await reconciled(ground)


@pytest_asyncio.fixture
async def known(ground: Ground, shop: WooCommerceApi, store: str) -> str:
    """The store; we know all that its shop has, and nothing has changed since."""
    shop.tell(EXISTING)
    ground.clock.set(small_world().end)
    await sent(ground, store, EXISTING)
    await told(ground)
    return store


async def test_a_backfill_restores_what_a_comparison_removed(ground: Ground, shop: WooCommerceApi, known: str) -> None:
    root = f"order:{ORDER.id}"
    before = (await told(ground))[root]
    assert (await backfilled(ground, known))["published"] > 0
    for _ in range(2):
        shop.erase("orders", ORDER.id)
        await _after(ground, DAY)
        assert not await _is_there(ground, root)
        shop.tell([ORDER])
        assert (await backfilled(ground, known))["published"] == 1
        after = (await told(ground))[root]
        assert after | {"updated_at": None} == before | {"updated_at": None}
        # The same news is none again.
        assert (await backfilled(ground, known))["published"] == 0
    # A change of it is later than its return.
    changed = next(state for state in EXISTING if isinstance(state, ProductState))
    await sent(ground, known, [changed])
    assert await _is_there(ground, root)


@pytest.mark.parametrize("state", [CUSTOMER, ORDER], ids=["customer", "order"])
async def test_a_comparison_restores_what_another_removed(
    ground: Ground, shop: WooCommerceApi, known: str, state: Customer | Order
) -> None:
    kind = "order" if isinstance(state, Order) else "customer"
    root = f"{kind}:{state.id}"

    async def missing() -> int:
        return int((await ground.get(f"/v1/stores/{known}/health"))["swept"]["missing"])

    shop.erase(f"{kind}s", state.id)
    await _after(ground, DAY)
    assert not await _is_there(ground, root)
    # It stays gone, which is told once.
    await _after(ground, DAY)
    assert not await _is_there(ground, root)
    assert await missing() == 0
    shop.tell([state])
    await _after(ground, DAY)
    assert await _is_there(ground, root)
    assert await missing() == 1
    # It is as it was: nothing is missing any more, and it may go once more.
    await _after(ground, DAY)
    assert await missing() == 0
    shop.erase(f"{kind}s", state.id)
    await _after(ground, DAY)
    assert not await _is_there(ground, root)


@pytest.mark.parametrize("told_of", ["before", "after"])
async def test_a_deletion_told_by_a_webhook(ground: Ground, shop: WooCommerceApi, known: str, told_of: str) -> None:
    """What was told before the backfill was asked for is older than what it shows; what came later is not."""

    async def deleted() -> None:
        ground.clock.set(ground.clock.now() + timedelta(minutes=1))
        await ground.woocommerce(known, {"id": ORDER.id}, topic="order.deleted", id_="d-gone")
        assert not await _is_there(ground, f"order:{ORDER.id}")
        ground.clock.set(ground.clock.now() + timedelta(minutes=1))

    if told_of == "before":
        await deleted()
    asked = (await ground.http.post("/v1/backfills", json={"store": known})).json()
    await ground.http.post(f"/v1/backfills/{asked['id']}/pause")
    if told_of == "after":
        await deleted()
    await ground.http.post(f"/v1/backfills/{asked['id']}/resume")
    await stepped(ground)
    assert await _is_there(ground, f"order:{ORDER.id}") == (told_of == "before")


async def test_what_is_shown_in_the_trash_is_gone(ground: Ground, shop: WooCommerceApi, known: str) -> None:
    shop.erase("orders", ORDER.id)
    await _after(ground, DAY)
    assert not await _is_there(ground, f"order:{ORDER.id}")
    shop.moods.append(
        b'[{"id": %d, "status": "trash", "currency": "EUR", "total": "1.00", "line_items": [],'
        b' "date_created_gmt": "2026-03-02T12:00:00", "date_modified_gmt": "2026-03-02T12:00:00"}]' % ORDER.id
    )
    done = await backfilled(ground, known, kinds=["orders"])
    assert (done["fetched"], done["published"], done["broken"]) == (1, 1, 0)
    assert not await _is_there(ground, f"order:{ORDER.id}")

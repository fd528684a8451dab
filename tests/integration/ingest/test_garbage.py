"""What a store sends that nobody can read holds up no other store."""

from tests.integration.ingest.conftest import Grounds
from tests.logged import Lines
from tests.unit.ingest.payloads import shopify_order


async def test_an_order_behind_the_garbage_of_a_second_store_is_read(grounds: Grounds, lines: Lines) -> None:
    """The worker has just started: it has served nobody yet."""
    async with grounds(dead_letter_burst=10, normalise_batch_size=5) as ground:
        shopify = await ground.register()
        woocommerce = await ground.register(platform="woocommerce", domain="shop.example")
        for n in range(120):
            await ground.woocommerce(woocommerce, {"id": n + 1}, topic="order.updated", id_=str(n))
        await ground.shopify(shopify, shopify_order())
        await ground.drain()
        assert [type_ for type_, _, _ in await ground.commerce()] == ["order.observed"]
        counts = await ground.get("/v1/deliveries/counts")
    assert (counts["dead"], counts["observed"]) == (120, 1)
    assert "consumer halted" in lines.getvalue()


async def test_nor_is_it_behind_that_of_stores_who_send_it_at_one_time(grounds: Grounds, lines: Lines) -> None:
    """However they spell its topic."""
    async with grounds(dead_letter_burst=10, normalise_batch_size=5) as ground:
        bad = [await ground.register(domain=f"{n}.myshopify.com") for n in range(2)]
        good = await ground.register()
        for n in range(60):
            for store in bad:
                await ground.shopify(store, {"id": n + 1}, topic="Orders/Create!", id_=f"{store} {n}")
        await ground.shopify(good, shopify_order())
        await ground.drain()
        assert [type_ for type_, _, _ in await ground.commerce()] == ["order.observed"]
    assert "consumer halted" in lines.getvalue()

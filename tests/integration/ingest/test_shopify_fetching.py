"""Backfill and reconciliation of a Shopify store, against the simulated shop's Admin API over HTTP."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from libs.common.crypto import Keyring
from libs.common.ids import new_id
from regulars.shop import shopify
from regulars.shop.model import Checkout, Consent, Customer, Deleted, Order, ProductState, Refund, RefundTold, State
from regulars.shop.shopify_api import ShopifyApi
from services.ingest import credentials, fetches
from services.ingest.opening import opener
from services.ingest.platforms.port import NotAsked
from tests.integration.ingest.conftest import Grounds
from tests.integration.ingest.ground import Ground
from tests.integration.ingest.shop_api import (
    TOKEN_OF_SHOPIFY,
    backfilled,
    fetching,
    reconciled,
    serving,
    small_world,
    stepped,
    told,
)

STATES = [change.state for change in small_world().changes if change.store == "shopify"]
EXISTING = [state for state in STATES if isinstance(state, Order | Customer | ProductState)]
ORDER = next(state for state in EXISTING if isinstance(state, Order) and not state.refunds)
TOPICS: dict[type, str] = {
    Order: "orders/updated",
    Customer: "customers/update",
    ProductState: "products/update",
    Deleted: "orders/delete",
    RefundTold: "refunds/create",
    Consent: "customers_email_marketing_consent/update",
}


@pytest_asyncio.fixture
async def ground(grounds: Grounds) -> AsyncIterator[Ground]:
    """Its worker asks nobody: the tests do, step by step."""
    async with grounds(fetch_concurrency=0) as running:
        yield running


@pytest.fixture
def shop() -> ShopifyApi:
    return ShopifyApi()


@pytest_asyncio.fixture
async def store(ground: Ground, shop: ShopifyApi) -> AsyncIterator[str]:
    """One whose API is open to us, at the end of the world."""
    ground.clock.set(small_world().start)
    async with serving(shop) as domain:
        key = await ground.register(domain=domain)
        await opened(ground, key, domain)
        ground.clock.set(small_world().end)
        yield key


async def opened(ground: Ground, key: str, domain: str | None = None, **changes: str) -> None:
    path = f"/v1/stores/{key}/credentials"
    url = f"http://{domain}" if domain else (await ground.get(path))["url"]
    answer = await ground.http.put(path, json=TOKEN_OF_SHOPIFY | {"url": url} | changes)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["state"], "shpat" in answer.text) == ("unchecked", False)


async def sent(ground: Ground, key: str, states: Sequence[State], but: frozenset[int] = frozenset()) -> None:
    """Webhooks of these states, but for those at some places."""
    for n, state in enumerate(states):
        topic = TOPICS.get(type(state))
        if topic is not None and n not in but:
            answer = await ground.shopify(key, shopify.body(state), topic=topic, id_=f"w-{n}")
            assert answer.status_code == 200


def alike(observed: dict[str, Any]) -> dict[str, Any]:
    """Without what the Admin API does not tell, the shop's address, and the dates of deletions, which have none."""
    left_out = {"cart_token", "checkout_token", "url"}
    return {
        key: {name: each for name, each in value.items() if name not in left_out} if len(value) > 3 else "removed"
        for key, value in observed.items()
    }


async def test_what_is_fetched_is_what_webhooks_would_have_told(ground: Ground, shop: ShopifyApi, store: str) -> None:
    shop.tell(EXISTING)
    done = await backfilled(ground, store)
    assert (done["state"], done["broken"], done["published"]) == ("done", 0, done["fetched"])
    fetched = await told(ground)
    assert len(fetched) == done["fetched"] > 100
    urls = {each["url"] for key, each in fetched.items() if key.startswith("product:")}
    assert all("127.0.0.1" in url for url in urls)
    other = await ground.register(domain="other.myshopify.com")
    await sent(ground, other, EXISTING)
    assert alike(await told(ground)) == alike(fetched)
    assert {data.get("origin", "live") for _, key, data in await ground.commerce() if key.startswith(store)} == {
        "backfill"
    }
    again = await backfilled(ground, store)
    assert (again["state"], again["fetched"], again["published"]) == ("done", done["fetched"], 0)


async def test_who_dies_on_the_way_leaves_nothing_out_and_nothing_twice(
    ground: Ground, shop: ShopifyApi, store: str
) -> None:
    shop.tell(EXISTING)
    shop.most_cost = 50
    asked = (await ground.http.post("/v1/backfills", json={"store": store, "kinds": ["orders"]})).json()
    for _ in range(3):
        assert await fetching(ground).run(ground.clock.now())
        async with ground.database.transaction() as tx:
            assert await fetches.claim(tx, new_id()) is not None
        # Nobody else has it, until its lease is over.
        assert await stepped(ground) == 0
        async with ground.database.autocommit() as pg:
            await pg.execute("UPDATE fetches SET not_before = '-infinity'")
            await pg.execute("UPDATE credentials SET next_call_at = '-infinity'")
    await stepped(ground)
    done = await ground.get(f"/v1/backfills/{asked['id']}")
    orders = {state.id for state in EXISTING if isinstance(state, Order)}
    assert (done["state"], done["fetched"], done["published"]) == ("done", len(orders), len(orders))
    keys = [key for key in await told(ground) if key.startswith("order:")]
    assert sorted(keys) == sorted(f"order:{id_}" for id_ in orders)
    # What was too dear once is asked for in smaller pages from then on.
    sizes = [variables["first"] for operation, variables in shop.requests if operation == "PageOrders"]
    assert sizes[:5] == [50, 25, 12, 6, 6]
    assert set(sizes[4:]) == {6}


async def _rests(ground: Ground) -> float:
    """For how many seconds nobody asks the store."""
    async with ground.database.autocommit() as pg:
        return float(await pg.fetchval("SELECT extract(epoch FROM next_call_at - clock_timestamp()) FROM credentials"))


async def _again(ground: Ground) -> None:
    async with ground.database.autocommit() as pg:
        await pg.execute("UPDATE fetches SET not_before = '-infinity'")
        await pg.execute("UPDATE credentials SET next_call_at = '-infinity'")


async def test_points_that_are_spent_are_waited_for_without_a_lease(
    ground: Ground, shop: ShopifyApi, store: str
) -> None:
    shop.tell(EXISTING)
    # A page of orders is 300 points: three quarters of a minute until there are as many.
    shop.leave(30.0, restored=6.0)
    asked = (await ground.http.post("/v1/backfills", json={"store": store, "kinds": ["orders"]})).json()
    assert await stepped(ground) == 1
    waiting = await ground.get(f"/v1/backfills/{asked['id']}")
    assert (waiting["state"], waiting["reason"]) == ("waiting", "the shop wants fewer requests (THROTTLED)")
    assert 15 < await _rests(ground) <= 45
    assert (await ground.get(f"/v1/stores/{store}/credentials"))["state"] == "unchecked"
    # A page is paid; for the next one, too, it is waited, before it is asked for.
    shop.leave(310.0, restored=6.0)
    await _again(ground)
    assert await stepped(ground) == 1
    one = await ground.get(f"/v1/backfills/{asked['id']}")
    assert (one["state"], one["fetched"], one["failures"], one["reason"]) == ("running", 50, 0, None)
    assert 15 < await _rests(ground) <= 50
    shop.leave(2000.0, restored=10_000.0)
    await _again(ground)
    await stepped(ground)
    assert (await ground.get(f"/v1/backfills/{asked['id']}"))["state"] == "done"


def long(order: Order, n: int, lines: int = 170) -> Order:
    """An order of so many lines, all of which came back."""
    [item, *_] = order.items
    items = tuple(replace(item, id=10**6 + place, quantity=1) for place in range(lines))
    back = tuple((each.id, 1, each.price, each.tax) for each in items)
    refund = Refund(id=10**7 + n, at=order.updated_at, reason="all", total=item.price * lines, items=back)
    return replace(order, id=10**6 + n, items=items, refunds=(refund,), status="refunded")


async def test_long_lists_within_an_order_are_read_to_their_end(ground: Ground, shop: ShopifyApi, store: str) -> None:
    orders = [long(ORDER, n) for n in range(3)]
    shop.tell(orders)
    # Of three orders the second is in trouble: the first counts, and it goes on behind it.
    shop.moods.extend([None] * 6 + [502] * 3)
    asked = (await ground.http.post("/v1/backfills", json={"store": store, "kinds": ["orders"]})).json()
    assert await fetching(ground).run(ground.clock.now())
    assert (await ground.get(f"/v1/backfills/{asked['id']}"))["fetched"] == 1
    await stepped(ground)
    done = await ground.get(f"/v1/backfills/{asked['id']}")
    assert (done["state"], done["fetched"], done["broken"]) == ("done", 3, 0)
    fetched = await told(ground)
    assert [len(each["lines"]) for each in fetched.values()] == [170] * 3
    await sent(ground, await ground.register(domain="other.myshopify.com"), orders)
    assert alike(await told(ground)) == alike(fetched)


async def test_objects_that_change_while_they_are_fetched(ground: Ground, shop: ShopifyApi, store: str) -> None:
    """They leave the window, and none of the others moves."""
    many = [replace(ORDER, id=10**6 + n, updated_at=ORDER.updated_at + timedelta(seconds=n // 3)) for n in range(130)]
    shop.tell(many)
    asked = (await ground.http.post("/v1/backfills", json={"store": store, "kinds": ["orders"]})).json()
    working = fetching(ground)
    assert await working.run(ground.clock.now())
    later = small_world().end + timedelta(hours=1)
    shop.tell([replace(each, updated_at=later) for n, each in enumerate(many) if n % 4 == 0])
    while await working.run(ground.clock.now()):
        pass
    assert (await ground.get(f"/v1/backfills/{asked['id']}"))["state"] == "done"
    assert {f"order:{each.id}" for n, each in enumerate(many) if n % 4 or n < 50} == set(await told(ground))


async def test_the_shop_in_its_moods(ground: Ground, shop: ShopifyApi, store: str) -> None:
    shop.tell(EXISTING)
    shop.moods.extend([502, 429, b"[" * 100_000, b"<html>", "cut", "INTERNAL_SERVER_ERROR", b'{"data": null}'])
    asked = (await ground.http.post("/v1/backfills", json={"store": store, "kinds": ["orders"]})).json()
    for _ in range(9):
        await _again(ground)
        await stepped(ground)
    done = await ground.get(f"/v1/backfills/{asked['id']}")
    assert (done["state"], done["broken"], done["failures"]) == ("done", 0, 0)


async def test_what_the_shop_no_longer_understands_is_given_up(ground: Ground, shop: ShopifyApi, store: str) -> None:
    shop.moods.append("undefinedField")
    failed = await backfilled(ground, store)
    assert (failed["state"], failed["reason"]) == (
        "failed",
        "the shop does not understand what it is asked (undefinedField)",
    )


async def test_refused_tokens_and_rights_wait_for_better_ones(ground: Ground, shop: ShopifyApi, store: str) -> None:
    shop.tell(EXISTING)
    path = f"/v1/stores/{store}/credentials"
    await opened(ground, store, access_token="shpat_of_another_shop".replace("_of_another_", "_"))
    waiting = await backfilled(ground, store, kinds=["customers"])
    assert (waiting["state"], waiting["reason"]) == ("waiting", "the shop refuses these credentials (401)")
    assert (await ground.get(path))["state"] == "refused"
    shop.scopes.remove("read_customers")
    await opened(ground, store)
    await stepped(ground)
    reason = (await ground.get(f"/v1/backfills/{waiting['id']}"))["reason"]
    assert reason.startswith("the shop refuses (ACCESS_DENIED): has the app the rights read_orders")
    assert (await ground.get(path))["state"] == "refused"
    shop.scopes.add("read_customers")
    await opened(ground, store)
    await stepped(ground)
    assert (await ground.get(f"/v1/backfills/{waiting['id']}"))["state"] == "done"
    assert (await ground.get(path))["state"] == "good"


async def test_what_no_webhook_told_is_found(ground: Ground, shop: ShopifyApi, store: str) -> None:
    shop.tell(state for state in STATES if not isinstance(state, Checkout))
    last = {root: n for n, state in enumerate(STATES) if (root := _root(state)) is not None}
    dropped = frozenset(n for n in range(len(STATES)) if n % 20 == 10)
    missed = {root for root, n in last.items() if n in dropped}
    # Who heard of the refund has not heard of its order's new state.
    assert any(isinstance(STATES[n], Order) and isinstance(STATES[n - 1], RefundTold) for n in dropped)
    assert {root.partition(":")[0] for root in missed} == {"order", "customer", "product"}
    await sent(ground, store, STATES, but=dropped)
    await told(ground)
    await reconciled(ground)
    await told(ground)
    found = [key.partition(":")[2] for _, key, data in await ground.commerce() if data.get("origin") == "reconciled"]
    assert set(found) == missed
    health = await ground.get(f"/v1/stores/{store}/health")
    assert sum(topic["reconciled"] for topic in health["topics"]) == len(missed)
    # Customers, too, can be asked for by what changed.
    assert (health["reconciled"]["missing"], health["swept"]["missing"]) == (len(missed), 0)
    assert (health["credentials"]["state"], health["waiting"]) == ("good", None)
    ground.clock.set(ground.clock.now() + timedelta(days=2))
    await reconciled(ground)
    await told(ground)
    assert len([1 for _, _, data in await ground.commerce() if data.get("origin") == "reconciled"]) == len(found)


def _root(state: State) -> str | None:
    match state:
        case Order(id=id_) | Deleted(order_id=id_):
            return f"order:{id_}"
        case Customer(id=id_):
            return f"customer:{id_}"
        case ProductState(product=product):
            return f"product:{product.id}"
    return None


async def _removed(ground: Ground) -> set[str]:
    await told(ground)
    return {key.partition(":")[2] for type_, key, _ in await ground.commerce() if type_.endswith(".removed")}


async def test_deleted_for_good_is_found_and_back_again(ground: Ground, shop: ShopifyApi, store: str) -> None:
    shop.tell(EXISTING)
    await sent(ground, store, EXISTING)
    await told(ground)
    customer = next(state for state in reversed(EXISTING) if isinstance(state, Customer))
    before = (await told(ground))[f"order:{ORDER.id}"]
    shop.erase("orders", ORDER.id)
    shop.erase("customers", customer.id)
    await reconciled(ground)
    assert await _removed(ground) == {f"order:{ORDER.id}", f"customer:{customer.id}"}
    shop.tell([state for state in EXISTING if isinstance(state, Order) and state.id == ORDER.id])
    ground.clock.set(ground.clock.now() + timedelta(days=1, minutes=5))
    await reconciled(ground)
    after = (await told(ground))[f"order:{ORDER.id}"]
    assert alike({"order": after | {"updated_at": None}}) == alike({"order": before | {"updated_at": None}})


async def test_of_orders_that_may_not_be_seen_none_is_gone(ground: Ground, shop: ShopifyApi, store: str) -> None:
    """Without `read_all_orders` those of more than 60 days are not shown."""
    shop.tell(EXISTING)
    await sent(ground, store, EXISTING)
    await told(ground)
    shop.hidden = {state.id for state in EXISTING if isinstance(state, Order)}
    shop.scopes.remove("read_all_orders")
    await reconciled(ground)
    assert await _removed(ground) == set()
    assert (await ground.get(f"/v1/stores/{store}/health"))["waiting"] is None


async def test_that_all_is_gone_is_not_believed_of_a_shop_that_shows_nothing(
    ground: Ground, shop: ShopifyApi, store: str
) -> None:
    await sent(ground, store, [state for state in EXISTING if isinstance(state, Order)])
    await told(ground)
    await reconciled(ground)
    assert await _removed(ground) == set()
    assert "the shop shows no orders at all" in (await ground.get(f"/v1/stores/{store}/health"))["waiting"]


async def test_a_token_does_not_travel_in_the_clear(ground: Ground, shop: ShopifyApi, store: str) -> None:
    open_platform = opener(Keyring.from_settings(ground.settings), bulk_above=10_000, inside=False)
    async with ground.database.reading() as tx:
        held = await credentials.held(tx, "default", store)
    assert held is not None
    with pytest.raises(NotAsked, match="https"):
        open_platform(held)


async def test_bad_credentials_are_told_by_field(ground: Ground) -> None:
    key = await ground.register()

    async def told_of(body: dict[str, Any], at: str = key) -> tuple[int, list[str]]:
        answer = await ground.http.put(f"/v1/stores/{at}/credentials", json=body)
        assert "shp" not in answer.text.replace("those are shpat_,", "")
        return answer.status_code, [each["pointer"] for each in answer.json().get("errors") or []]

    woo = await ground.register(platform="woocommerce", domain="shop.example")
    assert await told_of({}) == (422, ["/access_token"])
    assert await told_of({"access_token": "shpss_0123456789abcdef"}) == (422, ["/access_token"])
    assert await told_of({"access_token": "shpat_0123 456"}) == (422, ["/access_token"])
    assert await told_of(TOKEN_OF_SHOPIFY | {"consumer_key": "ck_12345678"}) == (422, ["/consumer_key"])
    assert await told_of(TOKEN_OF_SHOPIFY | {"url": "https://evil.example"}) == (422, ["/url"])
    assert await told_of(TOKEN_OF_SHOPIFY, woo) == (422, ["/access_token"])
    assert await told_of({"consumer_key": "ck_12345678"}, woo) == (422, ["/consumer_secret"])
    assert await told_of(TOKEN_OF_SHOPIFY) == (200, [])
    [change, *_] = (await ground.get(f"/v1/stores/{key}/changes"))["data"]
    assert change["changes"] == {"credentials": "set"}

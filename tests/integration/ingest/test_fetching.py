"""Backfill and reconciliation, against the simulated shop's own API over HTTP."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest_asyncio

from libs.common.ids import new_id
from regulars.shop import woocommerce
from regulars.shop.model import Customer, Deleted, Order, ProductState, State
from regulars.shop.woocommerce_api import WooCommerceApi
from services.ingest import fetches
from services.ingest.fetches_watch import FAILING, fetches_watch
from services.ingest.fetching import Fetching
from services.ingest.platforms.port import Unavailable
from services.ingest.platforms.woocommerce import LARGEST
from tests.integration.ingest.conftest import Grounds
from tests.integration.ingest.ground import Ground
from tests.integration.ingest.shop_api import (
    CREDENTIALS,
    RHYTHM,
    STATES,
    backfilled,
    fetching,
    reconciled,
    sent,
    small_world,
    stepped,
    store_at,
    told,
)


@pytest_asyncio.fixture
async def ground(grounds: Grounds) -> AsyncIterator[Ground]:
    """Its worker asks nobody: the tests do, step by step."""
    async with grounds(fetch_concurrency=0) as running:
        yield running


async def test_what_is_fetched_is_what_webhooks_would_have_told(
    ground: Ground, shop: WooCommerceApi, store: str
) -> None:
    existing = [state for state in STATES if not isinstance(state, Deleted)]
    ground.clock.set(small_world().end)
    shop.tell(existing)
    done = await backfilled(ground, store)
    assert (done["state"], done["broken"], done["published"]) == ("done", 0, done["fetched"])
    fetched = await told(ground)
    assert len(fetched) == done["fetched"] > 100
    # It is no sign that webhooks come.
    topics = (await ground.get(f"/v1/stores/{store}/health"))["topics"]
    assert {(topic["last_at"], topic["deliveries"]) for topic in topics} == {(None, 0)}
    assert sum(topic["backfilled"] for topic in topics) == done["fetched"]
    other = await ground.register(**store_at("other.example"))
    await sent(ground, other, existing)
    async with ground.working():
        pass
    rows = [each for each in await ground.commerce() if each[1].startswith(other)]
    assert {key.partition(":")[2] for _, key, _ in rows} == set(fetched)
    # Both stores' last states are the same.
    assert await told(ground) == fetched
    origins = {data.get("origin", "live") for _, key, data in await ground.commerce() if key.startswith(store)}
    assert origins == {"backfill"}
    # And again: nothing of it is news.
    again = await backfilled(ground, store)
    assert (again["state"], again["fetched"], again["published"]) == ("done", done["fetched"], 0)


async def test_a_shop_in_all_its_moods(ground: Ground, shop: WooCommerceApi, store: str) -> None:
    shop.tell(STATES)
    ground.clock.set(small_world().end)
    order = next(each for each in STATES if isinstance(each, Order))
    strange = b"[%b," % woocommerce.body(
        order
    ) + b'{"id": null},{"id":"x","date_modified_gmt":"soon"},{"id":9,"note":"%b"}]' % (b"x" * LARGEST)
    shop.moods.extend(
        [502, 429, b"[" * 100_000, b"<b>Warning</b>: in /srv/shop.php", b'{"code":"maintenance"}', strange]
    )
    asked = (await ground.http.post("/v1/backfills", json={"store": store, "kinds": ["orders"]})).json()
    for _ in range(9):
        async with ground.database.autocommit() as pg:
            # Its patience is not what is tried here.
            await pg.execute("UPDATE fetches SET not_before = '-infinity'")
        await stepped(ground)
    done = await ground.get(f"/v1/backfills/{asked['id']}")
    assert (done["state"], done["broken"], done["failures"]) == ("done", 3, 0)
    assert sorted(each["reason"] for each in done["reasons"]) == [
        "date_modified_gmt: not a date",
        "id: missing",
        f"larger than {LARGEST} bytes",
    ]


async def test_a_fault_of_ours_is_told_and_tried_again(ground: Ground, store: str) -> None:
    def broken(_: object) -> Any:
        raise TypeError("an answer that nobody thought of")

    asked = (await ground.http.post("/v1/backfills", json={"store": store})).json()
    assert await Fetching(ground.database, RHYTHM, broken).run(ground.clock.now())
    told = await ground.get(f"/v1/backfills/{asked['id']}")
    assert (told["state"], told["failures"], told["reason"]) == ("waiting", 1, "TypeError while its answer was read")


async def test_wrong_credentials_wait_for_better_ones(ground: Ground, shop: WooCommerceApi, store: str) -> None:
    shop.tell(STATES)
    ground.clock.set(small_world().end)
    held = await ground.get(f"/v1/stores/{store}/credentials")
    path = f"/v1/stores/{store}/credentials"
    await ground.http.put(path, json=CREDENTIALS | {"consumer_secret": "cs_of_another_shop", "url": held["url"]})
    waiting = await backfilled(ground, store)
    assert (waiting["state"], waiting["reason"]) == ("waiting", "the shop refuses these credentials (401)")
    assert (await ground.get(path))["state"] == "refused"
    # Nothing here is left to do: somebody else has to act.
    assert (await ground.get("/v1/pipeline/ingest"))["pending"] == []
    await ground.http.put(path, json=CREDENTIALS | {"url": held["url"]})
    assert (await ground.get("/v1/pipeline/ingest"))["pending"] == ["1 backfills"]
    await stepped(ground)
    assert (await ground.get(f"/v1/backfills/{waiting['id']}"))["state"] == "done"
    assert (await ground.get(path))["state"] == "good"


async def test_shops_that_cannot_be_asked_are_counted(ground: Ground, shop: WooCommerceApi, store: str) -> None:
    async def failing() -> dict[str, float]:
        await fetches_watch(ground.database).run(ground.clock.now())
        [metric] = FAILING.collect()
        return {one.labels["purpose"]: one.value for one in metric.samples if one.labels["platform"] == "woocommerce"}

    none = {"backfill": 0.0, "reconcile": 0.0, "sweep": 0.0}
    await ground.http.post("/v1/backfills", json={"store": store, "kinds": ["orders"]})
    assert await failing() == none

    def away(_: object) -> Any:
        raise Unavailable("the shop answers 502")

    for failures in range(3):
        assert await failing() == none, failures
        async with ground.database.autocommit() as pg:
            await pg.execute("UPDATE fetches SET not_before = '-infinity'")
            await pg.execute("UPDATE credentials SET next_call_at = '-infinity'")
        assert await Fetching(ground.database, RHYTHM, away).run(ground.clock.now())
    assert await failing() == none | {"backfill": 1}
    async with ground.database.autocommit() as pg:
        await pg.execute("UPDATE fetches SET not_before = '-infinity'")
        await pg.execute("UPDATE credentials SET next_call_at = '-infinity'")
    await stepped(ground)
    assert await failing() == none
    # Refused once, it is not asked again for a while, and nothing else fails meanwhile.
    path = f"/v1/stores/{store}/credentials"
    url = (await ground.get(path))["url"]
    await ground.http.put(path, json=CREDENTIALS | {"consumer_secret": "cs_of_another_shop", "url": url})
    await backfilled(ground, store)
    assert await failing() == none | {"backfill": 1}
    await ground.http.delete(path)
    assert await failing() == none


async def test_pause_resume_cancel(ground: Ground, shop: WooCommerceApi, store: str) -> None:
    shop.tell(STATES)
    asked = (await ground.http.post("/v1/backfills", json={"store": store})).json()
    path = f"/v1/backfills/{asked['id']}"
    assert (await ground.http.post(f"{path}/pause")).json()["state"] == "paused"
    assert await stepped(ground) == 0
    assert (await ground.http.post(f"{path}/pause")).status_code == 200
    assert (await ground.http.post(f"{path}/resume")).json()["state"] == "waiting"
    assert await fetching(ground).run(ground.clock.now())
    # It waits for its next page, and for nothing else.
    assert (await ground.get(path))["state"] == "running"
    assert (await ground.http.post(f"{path}/cancel")).json()["state"] == "cancelled"
    assert await stepped(ground) == 0
    problem = (await ground.http.post(f"{path}/resume")).json()
    assert (problem["status"], problem["detail"]) == (409, "The backfill is cancelled.")
    assert [one["id"] for one in (await ground.get("/v1/backfills"))["data"]] == [asked["id"]]


async def test_who_comes_too_late_writes_nothing(ground: Ground, shop: WooCommerceApi, store: str) -> None:
    shop.tell(STATES)
    ground.clock.set(small_world().end)
    asked = (await ground.http.post("/v1/backfills", json={"store": store})).json()
    mine = new_id()
    async with ground.database.transaction() as tx:
        claimed = await fetches.claim(tx, mine)
        assert claimed is not None
    # Somebody else has it now: nobody gets it twice at one time, and he who hung finds it gone.
    assert await stepped(ground) == 0
    async with ground.database.autocommit() as pg:
        await pg.execute("UPDATE fetches SET not_before = '-infinity'")
        await pg.execute("UPDATE credentials SET next_call_at = '-infinity'")
    await stepped(ground)
    async with ground.database.transaction() as tx:
        assert not await fetches.save(tx, claimed[0], mine, pause=timedelta(0))
    assert (await ground.get(f"/v1/backfills/{asked['id']}"))["state"] == "done"


async def test_objects_that_change_while_they_are_fetched(ground: Ground, shop: WooCommerceApi, store: str) -> None:
    """They leave the window, and those behind them move up: none of these may be left out."""
    orders = [each for each in STATES if isinstance(each, Order)]
    shop.tell(orders)
    ground.clock.set(small_world().end)
    many = 250
    made = [_numbered(orders[0], n) for n in range(many)]
    shop.tell(made)
    asked = (await ground.http.post("/v1/backfills", json={"store": store, "kinds": ["orders"]})).json()
    working = fetching(ground)
    await working.run(ground.clock.now())
    later = small_world().end + timedelta(hours=1)
    shop.tell([_numbered(orders[0], n, updated_at=later) for n in range(40)])
    while await working.run(ground.clock.now()):
        pass
    assert (await ground.get(f"/v1/backfills/{asked['id']}"))["state"] == "done"
    assert {f"order:{10**6 + n}" for n in range(many)} <= set(await told(ground))


def _numbered(order: Order, n: int, **changes: Any) -> Order:
    return replace(order, id=10**6 + n, number=str(n), **changes)


async def test_what_no_webhook_told_is_found(ground: Ground, shop: WooCommerceApi, store: str) -> None:
    shop.tell(STATES)
    ground.clock.set(small_world().end)
    last = {root: n for n, state in enumerate(STATES) if (root := _root(state)) is not None}
    dropped = frozenset(n for n in range(len(STATES)) if n % 20 == 7)
    missed = {root for root, n in last.items() if n in dropped}
    assert {root.partition(":")[0] for root in missed} == {"order", "customer", "product"}
    await sent(ground, store, STATES, but=dropped)
    await told(ground)
    await reconciled(ground)
    found = await told(ground)
    origins = [key.partition(":")[2] for _, key, data in await ground.commerce() if data.get("origin") == "reconciled"]
    assert set(origins) == missed
    other = await ground.register(**store_at("other.example"))
    await sent(ground, other, STATES)
    assert _without_removals(await told(ground)) == _without_removals(found)
    health = await ground.get(f"/v1/stores/{store}/health")
    assert sum(topic["reconciled"] for topic in health["topics"]) == len(missed)
    assert health["reconciled"]["missing"] + health["swept"]["missing"] == len(missed)
    assert (health["credentials"]["state"], health["waiting"]) == ("good", None)
    # Another look finds nothing more.
    ground.clock.set(ground.clock.now() + timedelta(days=2))
    await reconciled(ground)
    assert (await ground.get("/v1/deliveries/counts"))["pending"] == 0
    assert len([1 for _, _, data in await ground.commerce() if data.get("origin") == "reconciled"]) == len(missed)


def _root(state: State) -> str | None:
    match state:
        case Order():
            return f"order:{state.id}"
        case Deleted():
            return f"order:{state.order_id}"
        case Customer():
            return f"customer:{state.id}"
        case ProductState():
            return f"product:{state.product.id}"
    return None


def _without_removals(observed: dict[str, Any]) -> dict[str, Any]:
    """A deletion has no date of its own: it is dated when we heard of it."""
    return {key: value if len(value) > 3 else "removed" for key, value in observed.items()}


async def test_deleted_for_good_is_found(ground: Ground, shop: WooCommerceApi, store: str) -> None:
    states = [state for state in STATES if not isinstance(state, Deleted)]
    shop.tell(states)
    ground.clock.set(small_world().end)
    await sent(ground, store, states)
    await told(ground)
    gone = next(state for state in reversed(states) if isinstance(state, Order))
    shop.erase("orders", gone.id)
    await reconciled(ground)
    await told(ground)
    removed = [key.partition(":")[2] for type_, key, _ in await ground.commerce() if type_ == "order.removed"]
    assert removed == [f"order:{gone.id}"]


async def test_what_a_list_leaves_out_is_not_gone(ground: Ground, shop: WooCommerceApi, store: str) -> None:
    states = [state for state in STATES if not isinstance(state, Deleted)]
    shop.tell(states)
    ground.clock.set(small_world().end)
    await sent(ground, store, states)
    await told(ground)
    shop.hidden = {state.id for state in states[: len(states) // 2] if isinstance(state, Order)}
    assert len(shop.hidden) > 2
    await reconciled(ground)
    await told(ground)
    assert not [1 for type_, _, _ in await ground.commerce() if type_ == "order.removed"]


async def test_that_all_is_gone_is_not_believed_of_a_shop_that_shows_nothing(
    ground: Ground, shop: WooCommerceApi, store: str
) -> None:
    states = [state for state in STATES if isinstance(state, Order)]
    ground.clock.set(small_world().end)
    await sent(ground, store, states)
    await told(ground)
    await reconciled(ground)
    await told(ground)
    assert not [1 for type_, _, _ in await ground.commerce() if type_ == "order.removed"]
    assert "the shop shows no orders at all" in (await ground.get(f"/v1/stores/{store}/health"))["waiting"]
    # Of one that shows others it is.
    shop.tell([_numbered(states[0], 1)])
    again = await ground.get(f"/v1/stores/{store}/credentials")
    await ground.http.put(f"/v1/stores/{store}/credentials", json=CREDENTIALS | {"url": again["url"]})
    assert await stepped(ground) > 0
    await told(ground)
    removed = {key.partition(":")[2] for type_, key, _ in await ground.commerce() if type_ == "order.removed"}
    assert removed >= {f"order:{state.id}" for state in states}


async def test_bad_requests_are_told_by_field(ground: Ground) -> None:
    shopify = await ground.register()
    woo = await ground.register(**store_at("shop.example"))

    async def pointer(method: str, path: str, body: dict[str, Any]) -> tuple[int, str | None]:
        answer = await ground.http.request(method, path, json=body)
        return answer.status_code, (answer.json().get("errors") or [{}])[0].get("pointer")

    path = f"/v1/stores/{woo}/credentials"
    assert await pointer("PUT", f"/v1/stores/{shopify}/credentials", CREDENTIALS) == (422, "/consumer_key")
    assert await pointer("PUT", path, CREDENTIALS | {"url": "https://evil.example"}) == (422, "/url")
    assert await pointer("PUT", path, CREDENTIALS | {"consumer_secret": "short"}) == (422, "/consumer_secret")
    assert await pointer("PUT", "/v1/stores/st_nobody/credentials", CREDENTIALS) == (404, None)
    assert await pointer("POST", "/v1/backfills", {"store": woo}) == (422, "/store")
    assert await pointer("POST", "/v1/backfills", {"store": "st_nobody"}) == (422, "/store")
    assert await pointer("POST", "/v1/backfills", {"store": woo, "kinds": ["carts"]}) == (422, "/kinds/0")
    till = await ground.register(platform="events", domain="till.example", secrets=[])
    for method, at, body, place in (
        ("PUT", f"/v1/stores/{till}/credentials", CREDENTIALS, "/consumer_key"),
        ("PUT", f"/v1/stores/{till}/credentials", {}, "/consumer_key"),
        ("POST", "/v1/backfills", {"store": till}, "/store"),
        ("POST", "/v1/backfills", {"store": till, "kinds": ["orders"]}, "/store"),
    ):
        answer = await ground.http.request(method, at, json=body)
        detail = "Stores of events have no API to ask: they tell of themselves by events."
        assert (answer.status_code, answer.json()["errors"]) == (422, [{"pointer": place, "detail": detail}])
    token = await ground.http.put(f"/v1/stores/{shopify}/credentials", json={"access_token": "shpat_of_yours"})
    assert token.json()["errors"][0]["detail"].endswith("those are shpat_, and then letters and digits.")
    assert await pointer("DELETE", path, {}) == (404, None)
    assert (await ground.http.put(path, json=CREDENTIALS)).json()["url"] == "https://shop.example"
    assert await pointer("POST", "/v1/backfills", {"store": woo, "since": "2999-01-01T00:00:00Z"}) == (422, "/since")
    for end in ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00"):
        assert await pointer("POST", "/v1/backfills", {"store": woo, "since": end}) == (422, "/since")
    assert (await ground.http.delete(path)).status_code == 204
    changes = (await ground.get(f"/v1/stores/{woo}/changes"))["data"]
    assert [each["changes"].get("credentials") for each in changes] == ["forgotten", "set", None]
    assert json.dumps(changes).count("cs_") == 0

"""Backfills by Shopify's bulk operations: the same as by pages, whatever becomes of them on the way."""

from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest
import pytest_asyncio

from libs.common.ids import new_id
from regulars.shop.model import Checkout, Customer, Order, ProductState
from regulars.shop.shopify_api import ShopifyApi
from services.ingest import fetches
from services.ingest.platforms import shopify_lines
from services.ingest.platforms.download import opened as opened_file
from services.ingest.platforms.port import NotAsked
from tests.integration.ingest.conftest import Grounds
from tests.integration.ingest.ground import Ground
from tests.integration.ingest.shop_api import (
    TOKEN_OF_SHOPIFY,
    at_port,
    backfilled,
    fetching,
    serving,
    small_world,
    stepped,
)

STATES = [
    change.state
    for change in small_world(days=20, how_many=25).changes
    if change.store == "shopify" and isinstance(change.state, Order | Customer | ProductState | Checkout)
]
ORDERS = {f"order:{state.id}" for state in STATES if isinstance(state, Order)}
CUSTOMERS = {f"customer:{state.id}" for state in STATES if isinstance(state, Customer)}


@pytest_asyncio.fixture
async def ground(grounds: Grounds) -> AsyncIterator[Ground]:
    async with grounds(fetch_concurrency=0) as running:
        yield running


@pytest_asyncio.fixture
async def shop() -> AsyncIterator[ShopifyApi]:
    """Its files are on another host."""
    shop = ShopifyApi()
    shop.tell(STATES)
    async with at_port(shop.bulk.files) as files:
        shop.bulk.files_at = f"http://{files}"
        yield shop


@pytest_asyncio.fixture
async def store(ground: Ground, shop: ShopifyApi) -> AsyncIterator[str]:
    ground.clock.set(small_world().start)
    async with serving(shop) as domain:
        yield await opened(ground, domain)


async def opened(ground: Ground, domain: str) -> str:
    key = await ground.register(domain=domain)
    access = TOKEN_OF_SHOPIFY | {"url": f"http://{domain}"}
    assert (await ground.http.put(f"/v1/stores/{key}/credentials", json=access)).status_code == 200
    ground.clock.set(small_world().end)
    return key


async def begun(ground: Ground, store: str, *kinds: str) -> str:
    asked = {"store": store, "kinds": kinds} if kinds else {"store": store}
    answer = await ground.http.post("/v1/backfills", json=asked)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def step(ground: Ground, id_: str) -> dict[str, Any]:
    """One, without waiting for its time to come."""
    await at_once(ground)
    await fetching(ground, bulk_above=0).run(ground.clock.now())
    found: dict[str, Any] = await ground.get(f"/v1/backfills/{id_}")
    return found


async def at_once(ground: Ground) -> None:
    async with ground.database.autocommit() as pg:
        await pg.execute("UPDATE fetches SET not_before = '-infinity'")
        await pg.execute("UPDATE credentials SET next_call_at = '-infinity'")


async def through(ground: Ground, id_: str) -> dict[str, Any]:
    """Step by step, to its end."""
    found = await step(ground, id_)
    for _ in range(60):
        if found["state"] in {"done", "failed"}:
            break
        found = await step(ground, id_)
    return found


async def published(ground: Ground, store: str) -> dict[str, Any]:
    """What of each object, without what says how we came to know. Each was told of once."""
    async with ground.working():
        pass
    left_out = {"position", "delivery", "store", "url"}
    found: dict[str, Any] = {}
    for _, key, data in await ground.commerce():
        if key.startswith(f"{store}:"):
            root = key.partition(":")[2]
            assert root not in found
            found[root] = {name: value for name, value in data.items() if name not in left_out}
    return found


async def test_a_backfill_in_bulk_ends_as_one_by_pages(ground: Ground, shop: ShopifyApi, store: str) -> None:
    refunded = {f"order:{state.id}" for state in STATES if isinstance(state, Order) and state.refunds}
    paged = await backfilled(ground, store)
    assert (paged["state"], paged["bulk"]) == ("done", [])
    shop.requests.clear()
    async with serving(shop) as domain:
        other = await opened(ground, domain)
        done = await through(ground, await begun(ground, other))
    assert (done["state"], done["broken"], done["fetched"]) == ("done", 0, paged["fetched"])
    assert [(each["kind"], each["state"]) for each in done["bulk"]] == [
        ("customers", "done"),
        ("products", "done"),
        ("orders", "done"),
        ("checkouts", "done"),
    ]
    assert all(each["bytes_read"] == each["bytes"] > 0 for each in done["bulk"])
    by_pages, in_bulk = await published(ground, store), await published(ground, other)
    assert in_bulk == by_pages
    assert refunded
    assert refunded < ORDERS < {*in_bulk}
    assert {each.split(":")[0] for each in in_bulk} == {"order", "customer", "product", "checkout"}
    # Whoever was given something back alone is asked for by itself, since that cannot be told in bulk.
    asked = [len(variables["ids"]) for operation, variables in shop.requests if operation.startswith("Those")]
    assert sum(asked) == len(refunded)
    assert not [operation for operation, _ in shop.requests if operation.startswith("Page")]
    # And the other host has learnt nothing of ours.
    assert shop.bulk.requests
    told = {name for request in shop.bulk.requests for name in request.headers}
    assert not {"authorization", "cookie", "x-shopify-access-token"} & told


async def test_few_objects_come_by_pages(ground: Ground, shop: ShopifyApi, store: str) -> None:
    id_ = await begun(ground, store, "orders")
    await stepped(ground, bulk_above=len(ORDERS))
    done = await ground.get(f"/v1/backfills/{id_}")
    assert (done["state"], done["fetched"], shop.bulk.operations) == ("done", len(ORDERS), [])
    id_ = await begun(ground, store, "orders")
    await stepped(ground, bulk_above=len(ORDERS) - 1)
    assert len(shop.bulk.operations) == 1


async def test_it_is_waited_for_while_the_shop_prepares_it(ground: Ground, shop: ShopifyApi, store: str) -> None:
    shop.bulk.looks = 4
    id_ = await begun(ground, store, "orders")
    waits = []
    for _ in range(4):
        found = await step(ground, id_)
        assert (found["state"], [each["state"] for each in found["bulk"]]) == ("running", ["running"])
        async with ground.database.autocommit() as pg:
            waits.append(
                await pg.fetchval("SELECT extract(epoch FROM not_before - clock_timestamp())::float8 FROM fetches")
            )
            # The shop may be asked for something else.
            assert await pg.fetchval("SELECT next_call_at <= clock_timestamp() FROM credentials")
    assert all(1.5 < after / before < 2.5 for before, after in pairwise(waits[1:]))
    done = await through(ground, id_)
    [bulk] = done["bulk"]
    assert (done["published"], bulk["state"], bulk["objects"]) == (len(ORDERS), "done", len(ORDERS))


async def test_who_dies_in_the_middle_of_the_file_goes_on_there(
    ground: Ground, shop: ShopifyApi, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shopify_lines, "TAKEN", 5)
    # And now and then the connection ends; the first time, before there is anything whole.
    shop.bulk.breaks.extend([500, 6000, 10**6, 3000])
    id_ = await begun(ground, store, "orders")
    states = set()
    while (found := await step(ground, id_))["state"] != "done":
        assert found["failures"] < 3
        states |= {each["state"] for each in found["bulk"]}
        await at_once(ground)
        async with ground.database.transaction() as tx:
            # Somebody takes it, and is heard of no more.
            assert await fetches.claim(tx, new_id()) is not None
    assert (found["state"], found["fetched"], found["published"]) == ("done", len(ORDERS), len(ORDERS))
    assert states == {"running", "reading"}
    assert {*await published(ground, store)} == ORDERS
    begins = [request.headers.get("range") for request in shop.bulk.requests]
    places = [int(each.removeprefix("bytes=").removesuffix("-")) for each in begins if each]
    assert places == sorted(places)
    # Nothing is asked for again but what was cut before there was anything whole.
    assert len({*places}) == len(places) - 1 > 3
    assert len(shop.bulk.operations) == 1


async def test_a_host_that_knows_no_parts_sends_it_all_and_it_is_read_from_there(
    ground: Ground, shop: ShopifyApi, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shopify_lines, "TAKEN", 10)
    shop.bulk.ranges = False
    done = await through(ground, await begun(ground, store, "orders"))
    assert (done["fetched"], done["published"], done["broken"]) == (len(ORDERS), len(ORDERS), 0)
    assert len(shop.bulk.requests) > 2


async def test_a_line_of_garbage_is_that_lines_error(ground: Ground, shop: ShopifyApi, store: str) -> None:
    await backfilled(ground, store)
    whole = await published(ground, store)
    shop.bulk.spoil = lambda lines: [b'{"id": "gid://shop' if n == 3 else line for n, line in enumerate(lines)]
    async with serving(shop) as domain:
        other = await opened(ground, domain)
        done = await through(ground, await begun(ground, other, "customers", "orders"))
    assert (done["state"], done["broken"]) == ("done", 2)
    assert done["reasons"] == [{"reason": shopify_lines.NOT_READ, "count": 2}]
    found = await published(ground, other)
    missing = (CUSTOMERS | ORDERS) - {*found}
    # Where something else stands by it that belongs to it, the object is asked for by itself.
    assert len(missing & CUSTOMERS) == 1
    assert not missing & ORDERS
    assert found == {root: whole[root] for root in found}


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ("FAILED", "the bulk operation came to nothing (FAILED, TIMEOUT)"),
        ("CANCELED", "the bulk operation came to nothing (CANCELED)"),
        ("EXPIRED", "the bulk operation came to nothing (EXPIRED)"),
        ("INVALID", "the shop does not begin a bulk operation (INVALID)"),
        (403, "the file's host answers 403"),
        (302, "the file's host answers 302"),
        ("file:///etc", "the shop names no address on https for its file"),
        ("http://me:too@127.0.0.1:1", "the shop names no address on https for its file"),
    ],
)
async def test_what_comes_to_nothing_is_fetched_by_pages(
    ground: Ground, shop: ShopifyApi, store: str, trouble: str | int, reason: str
) -> None:
    match trouble:
        case "FAILED" | "CANCELED" | "EXPIRED":
            shop.bulk.ends = trouble
        case "INVALID":
            shop.bulk.refusal = trouble
        case int():
            shop.bulk.moods.append(trouble)
        case str():
            shop.bulk.files_at = trouble
    done = await through(ground, await begun(ground, store, "orders"))
    assert (done["state"], done["fetched"], done["broken"]) == ("done", len(ORDERS), 0)
    [bulk] = done["bulk"]
    assert (bulk["state"], bulk["reason"]) == ("given_up", reason)
    assert {*await published(ground, store)} == ORDERS
    assert (await ground.get(f"/v1/stores/{store}/credentials"))["state"] == "good"


async def test_an_address_that_expires_on_the_way_loses_nothing_and_doubles_nothing(
    ground: Ground, shop: ShopifyApi, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shopify_lines, "TAKEN", 5)
    shop.bulk.moods.extend([None, 503, 403])
    done = await through(ground, await begun(ground, store, "orders"))
    assert (done["state"], done["published"]) == ("done", len(ORDERS))
    assert done["fetched"] > len(ORDERS)
    assert {*await published(ground, store)} == ORDERS


async def test_one_operation_at_a_time(ground: Ground, shop: ShopifyApi, store: str) -> None:
    foreign = shop.bulk.begin("query Theirs { products { edges { node { id } } } }")
    id_ = await begun(ground, store, "orders")
    waiting = await step(ground, id_)
    assert waiting["reason"] == "another bulk operation of this app is under way"
    assert [each["state"] for each in waiting["bulk"]] == ["waiting"]
    assert len(shop.bulk.operations) == 1
    foreign["status"] = "COMPLETED"
    assert (await step(ground, id_))["reason"] is None
    # Who dies before it is noted that ours has begun begins no second one.
    async with ground.database.autocommit() as pg:
        await pg.execute("UPDATE fetches SET following = NULL")
    done = await through(ground, id_)
    assert (done["published"], len(shop.bulk.operations)) == (len(ORDERS), 2)


def cancelled(shop: ShopifyApi) -> list[str]:
    """Operations that the shop was asked to end."""
    return [variables["id"] for operation, variables in shop.requests if operation == "CancelBulk"]


async def turned(ground: Ground, id_: str, how: str) -> None:
    assert (await ground.http.post(f"/v1/backfills/{id_}/{how}")).status_code == 200


async def test_the_operation_of_a_cancelled_backfill_is_ended_for_the_next(
    ground: Ground, shop: ShopifyApi, store: str
) -> None:
    shop.bulk.looks = 1000
    first = await begun(ground, store, "orders")
    assert (await step(ground, first))["bulk"][0]["state"] == "running"
    await turned(ground, first, "cancel")
    assert cancelled(shop) == []
    id_ = await begun(ground, store, "customers")
    for _ in range(2):
        # Asked for once; the shop takes its time over it.
        waiting = await step(ground, id_)
        assert waiting["reason"] == "the bulk operation of a cancelled backfill is being ended"
        assert cancelled(shop) == [shop.bulk.operations[0]["id"]]
        async with ground.database.autocommit() as pg:
            assert await pg.fetchval("SELECT not_before < now() + interval '5 s' FROM fetches WHERE state = 'waiting'")
    shop.bulk.looks = 2
    done = await through(ground, id_)
    assert (done["state"], done["published"]) == ("done", len(CUSTOMERS))
    assert [each["status"] for each in shop.bulk.operations] == ["CANCELED", "COMPLETED"]


async def test_an_operation_that_somebody_goes_on_with_is_not_ended(
    ground: Ground, shop: ShopifyApi, store: str
) -> None:
    shop.bulk.looks = 1000
    first = await begun(ground, store, "orders")
    await step(ground, first)
    for how in ("pause", "cancel"):
        # Paused, it may go on; cancelled, the same is asked for once more, and takes the operation over.
        await turned(ground, first, how)
        if how == "cancel":
            second = await begun(ground, store, "orders")
            assert (await step(ground, second))["bulk"][0]["state"] == "running"
            await turned(ground, second, "pause")
        id_ = await begun(ground, store, "customers")
        assert (await step(ground, id_))["reason"] == "another bulk operation of this app is under way"
        await turned(ground, id_, "cancel")
    assert len(shop.bulk.operations) == 1
    assert cancelled(shop) == []


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1:1/x", "https://10.0.0.1/x", "https://[::1]/x", "http://a.example/x"]
)
async def test_addresses_of_our_own_network_are_not_asked_for_files(url: str) -> None:
    with pytest.raises(NotAsked):
        async with opened_file(url, offset=0, inside=False):
            pass

"""Checkouts under their carts' tokens and under their own: what is told of each, however the two meet."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest
import pytest_asyncio

from regulars.shop import shopify
from regulars.shop.model import Checkout
from regulars.shop.shopify_api import ShopifyApi
from services.ingest import seen
from services.ingest.replaying import Replays
from tests.integration.ingest.conftest import Grounds
from tests.integration.ingest.ground import Ground
from tests.integration.ingest.shop_api import TOKEN_OF_SHOPIFY, backfilled, serving, small_world

CHECKOUT = next(
    change.state
    for change in small_world().changes
    if isinstance(change.state, Checkout) and change.state.contact.email
)
OWN, CARTS = f"checkout:{CHECKOUT.token}", f"checkout:{CHECKOUT.cart}"


@pytest_asyncio.fixture
async def ground(grounds: Grounds) -> AsyncIterator[Ground]:
    async with grounds(fetch_concurrency=0) as running:
        yield running


@pytest_asyncio.fixture
async def store(ground: Ground) -> AsyncIterator[str]:
    ground.clock.set(small_world().end)
    shop = ShopifyApi()
    shop.tell([CHECKOUT])
    async with serving(shop) as domain:
        key = await ground.register(domain=domain)
        access = TOKEN_OF_SHOPIFY | {"url": f"http://{domain}"}
        assert (await ground.http.put(f"/v1/stores/{key}/credentials", json=access)).status_code == 200
        yield key


async def told(ground: Ground, store: str, id_: str = "w-1", checkout: Checkout = CHECKOUT) -> None:
    answer = await ground.shopify(store, shopify.body(checkout), topic="checkouts/update", id_=id_)
    assert answer.status_code == 200


async def fetched(ground: Ground, store: str) -> None:
    assert (await backfilled(ground, store, kinds=["checkouts"]))["published"] == 1


async def observed(ground: Ground) -> list[tuple[str, str, Any, Any]]:
    """Type, object, where it came from, and what it is told as instead."""
    return sorted(
        (type_, key.partition(":")[2], data.get("origin", "live"), data.get("told_as"))
        for type_, key, data in await ground.commerce()
    )


FETCHED = ("checkout.observed", OWN, "backfill", None)
TOLD = ("checkout.observed", OWN, "live", None)
STAND_IN = ("checkout.observed", CARTS, "backfill", None)


async def objects(ground: Ground) -> set[str | None]:
    """Of all deliveries."""
    return {each["object"] for each in (await ground.get("/v1/deliveries"))["data"]}


@pytest.mark.parametrize("first", ["fetched", "told"])
async def test_who_are_read_together_are_one_from_the_start(ground: Ground, store: str, first: str) -> None:
    for step in (fetched, told) if first == "fetched" else (told, fetched):
        await step(ground, store)
    await ground.drain()
    taken_back = ("checkout.removed", CARTS, "backfill", CHECKOUT.token)
    assert await observed(ground) == sorted([TOLD, FETCHED, taken_back])
    assert await objects(ground) == {OWN}


async def test_what_was_fetched_is_told_again_once(ground: Ground, store: str) -> None:
    await fetched(ground, store)
    await ground.drain()
    assert await observed(ground) == [STAND_IN]
    await told(ground, store)
    await ground.drain()
    once = sorted([STAND_IN, FETCHED, TOLD, ("checkout.removed", CARTS, "live", CHECKOUT.token)])
    assert await observed(ground) == once
    await told(ground, store, "w-2")
    await ground.drain()
    assert await observed(ground) == sorted([*once, TOLD])
    assert await objects(ground) == {OWN}


async def test_what_is_not_kept_any_more_is_taken_back_and_not_told_again(ground: Ground, store: str) -> None:
    await fetched(ground, store)
    await ground.drain()
    async with ground.database.autocommit() as pg:
        await pg.execute("DELETE FROM log_journal")
    await told(ground, store)
    await ground.drain()
    assert await observed(ground) == sorted([STAND_IN, TOLD, ("checkout.removed", CARTS, "live", CHECKOUT.token)])


async def test_who_never_met_are_one_after_a_replay_and_a_dry_run_leaves_them_two(ground: Ground, store: str) -> None:
    await told(ground, store)
    await ground.drain()
    await fetched(ground, store)
    await ground.drain()
    async with ground.database.autocommit() as pg:
        # As a version left it that told both.
        await pg.execute("UPDATE deliveries SET object = $1 WHERE origin = 'backfill'", CARTS)
    ground.clock.set(ground.clock.now() + timedelta(hours=1))
    before = await observed(ground)
    working = Replays(ground.database, batch=1)
    for dry_run in (True, False):
        answer = await ground.http.post("/v1/deliveries/replays", json={"store": store, "dry_run": dry_run})
        assert answer.status_code == 202
        for _ in range(3):
            await working.run(ground.clock.now())
        if dry_run:
            assert (await observed(ground), await objects(ground)) == (before, {OWN, CARTS})
    assert await objects(ground) == {OWN}
    new = [each for each in await observed(ground) if each not in before]
    assert ("checkout.removed", CARTS, "replayed", CHECKOUT.token) in new
    assert {each[1] for each in new if each[0] == "checkout.observed"} == {OWN}


async def replayed(ground: Ground, store: str, *, batch: int = 9) -> int:
    """How many have changed."""
    ground.clock.set(ground.clock.now() + timedelta(hours=1))
    asked = (await ground.http.post("/v1/deliveries/replays", json={"store": store})).json()
    for _ in range(4):
        await Replays(ground.database, batch=batch).run(ground.clock.now())
    found = await ground.get(f"/v1/deliveries/replays/{asked['id']}")
    assert found["state"] == "done"
    return int(found["changed"])


PARKED = "outcome = 'parked', reason = 'no normaliser', object = NULL, cart = NULL"


@pytest.mark.parametrize("left", [PARKED, "cart = NULL"])
async def test_a_replay_notes_the_cart_that_an_older_version_did_not(ground: Ground, store: str, left: str) -> None:
    await told(ground, store)
    await ground.drain()
    async with ground.database.autocommit() as pg:
        await pg.execute(f"UPDATE deliveries SET {left}")
    assert await replayed(ground, store) == 1
    await fetched(ground, store)
    await ground.drain()
    assert await objects(ground) == {OWN}
    assert {each[1] for each in await observed(ground) if each[0] == "checkout.observed"} == {OWN}
    assert await replayed(ground, store) == 0


@pytest.mark.parametrize("batch", [1, 9])
@pytest.mark.parametrize("first", ["fetched", "told"])
async def test_no_two_that_a_replay_tells_have_one_id(ground: Ground, store: str, first: str, batch: int) -> None:
    for step in (fetched, told) if first == "fetched" else (told, fetched):
        await step(ground, store)
    await ground.drain()
    async with ground.database.autocommit() as pg:
        # As a version left it that could not read the webhook.
        await pg.execute(f"UPDATE deliveries SET {PARKED} WHERE origin = 'live'")
        await pg.execute("UPDATE deliveries SET object = $1 WHERE origin = 'backfill'", CARTS)
    await replayed(ground, store, batch=batch)
    assert await objects(ground) == {OWN}
    async with ground.database.autocommit() as pg:
        assert not await pg.fetch("SELECT id FROM log_commerce GROUP BY id HAVING count(*) > 1")


@pytest.mark.parametrize("order", [*permutations("12f")])
async def test_what_was_fetched_of_a_cart_is_told_of_each_of_its_checkouts(
    ground: Ground, store: str, order: tuple[str, ...]
) -> None:
    other = replace(CHECKOUT, token=f"{CHECKOUT.token}2")
    for each in order:
        if each == "f":
            await fetched(ground, store)
        else:
            await told(ground, store, f"w-{each}", CHECKOUT if each == "1" else other)
        await ground.drain()
    both = {OWN, f"checkout:{other.token}"}
    found = await observed(ground)
    assert {each[1] for each in found if each[0] == "checkout.observed" and each[2] == "backfill"} - {CARTS} == both
    # Who is fetched when a name is known never stood under another.
    assert [each[1] for each in found if each[0] == "checkout.removed"] == [CARTS] * (order[0] == "f")
    assert await objects(ground) == both
    assert await replayed(ground, store) == 0


async def test_who_tells_a_stand_in_waits_for_who_names_and_those_for_one_another_do_not(ground: Ground) -> None:
    place = {("default", "s")}
    waited = asyncio.Event()

    async def stand_in() -> None:
        async with ground.database.transaction() as tx:
            await seen.hold(tx, alone=place, together=set())
            waited.set()

    async with ground.database.transaction() as one, ground.database.transaction() as other:
        await seen.hold(one, alone=set(), together=place)
        await seen.hold(other, alone={("default", "another")}, together=place)
        waiting = asyncio.create_task(stand_in())
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while not await one.pg.fetchval(locks):
            assert not waited.is_set()
    await waiting
    assert waited.is_set()

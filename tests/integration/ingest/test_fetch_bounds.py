"""One store's API takes nothing away from others', and a job that cannot get on says so and ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from libs.common.auth import create_key
from libs.common.crypto import Keyring
from regulars.shop.woocommerce_api import WooCommerceApi
from services.ingest import credentials, fetching
from services.ingest.fetching import Fetching
from services.ingest.opening import opener
from services.ingest.platforms import woocommerce
from services.ingest.platforms.woocommerce import PAGE
from tests.e2e.cases.conftest import served
from tests.integration.ingest.conftest import Grounds
from tests.integration.ingest.ground import STORE, Ground
from tests.integration.ingest.shop_api import CREDENTIALS, RHYTHM, STATES, backfilled, small_world, stepped, store_at
from tests.waiting import eventually

ORDERS = "/wp-json/wc/v3/orders"


@pytest_asyncio.fixture
async def ground(grounds: Grounds) -> AsyncIterator[Ground]:
    """Its worker asks nobody: the tests do, step by step."""
    async with grounds(fetch_concurrency=0) as running:
        yield running


def _fetching(ground: Ground, *, at_one_time: int = 1, inside: bool = True) -> Fetching:
    open_platform = opener(Keyring.from_settings(ground.settings), bulk_above=10_000, inside=inside)
    return Fetching(ground.database, RHYTHM, open_platform, at_one_time=at_one_time)


async def _store_of(ground: Ground, address: str, headers: dict[str, str]) -> str:
    """A store whose API is there, with two backfills to be done."""
    wanted = STORE | store_at(address.removeprefix("http://"))
    key = (await ground.http.post("/v1/stores", json=wanted, headers=headers)).json()["store_key"]
    path = f"/v1/stores/{key}/credentials"
    answer = await ground.http.put(path, json=CREDENTIALS | {"url": address}, headers=headers)
    assert answer.status_code == 200, answer.text
    for since in ("2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"):
        asked = {"store": key, "kinds": ["orders"], "since": since}
        assert (await ground.http.post("/v1/backfills", json=asked, headers=headers)).status_code == 202
    return str(key)


class _Slow:
    """A shop that answers when it is told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.asked: list[str] = []
        """Which of its addresses."""
        self.app = Starlette(routes=[Route(ORDERS, self._orders)])

    async def _orders(self, request: Request) -> Response:
        self.asked.append(request.headers["host"])
        await self.go.wait()
        return Response(b"[]", headers={"x-wp-total": "0"})


async def test_slow_shops_of_one_tenant_leave_room_for_others(ground: Ground) -> None:
    slow, working = _Slow(), _fetching(ground, at_one_time=4)
    key = await create_key(ground.database, "other", {"*"}, "of the other tenant")
    async with AsyncExitStack() as stack:
        addresses = [await stack.enter_async_context(served(slow.app)) for _ in range(4)]  # type: ignore[arg-type]
        for address in addresses[:3]:
            await _store_of(ground, address, {})
        await _store_of(ground, addresses[3], {"authorization": f"Bearer {key}"})
        running = [asyncio.create_task(working.run(ground.clock.now())) for _ in range(4)]

        async def settled() -> bool:
            return len(slow.asked) + sum(each.done() for each in running) == len(running)

        try:
            await eventually(settled)
            # One of the other tenant, and two of the first, each of a store of its own; a fourth there may not be.
            assert len(slow.asked) == len(set(slow.asked)) == 3
            assert addresses[3].removeprefix("http://") in slow.asked
            # Nor does another worker ask a store that is being asked: the third of the first tenant is left.
            other = asyncio.create_task(_fetching(ground).run(ground.clock.now()))
            running.append(other)
            await eventually(settled)
            assert len(set(slow.asked)) == 4
            assert not await _fetching(ground).run(ground.clock.now())
        finally:
            slow.go.set()
            done = await asyncio.gather(*running)
        assert sorted(done) == [False, True, True, True, True]
        # All get their turn.
        while await working.run(ground.clock.now()):
            pass
    assert len(slow.asked) == 8
    assert {each["state"] for each in (await ground.get("/v1/backfills"))["data"]} == {"done"}


async def test_a_step_does_not_outlast_its_lease(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "STEP_SECONDS", 0.2)
    slow = _Slow()
    async with served(slow.app) as address:  # type: ignore[arg-type]
        await _store_of(ground, address, {})
        assert await _fetching(ground).run(ground.clock.now())
        slow.go.set()
    told = [(each["state"], each["reason"]) for each in (await ground.get("/v1/backfills"))["data"]]
    assert ("waiting", "the shop takes too long") in told


async def test_nothing_waits_for_a_store_without_credentials(ground: Ground, shop: WooCommerceApi, store: str) -> None:
    shop.tell(STATES)
    ground.clock.set(small_world().end)
    path = f"/v1/stores/{store}/credentials"
    held = await ground.get(path)
    asked = [{"store": store, "kinds": [kind]} for kind in ("orders", "products")]
    paused, waiting = [(await ground.http.post("/v1/backfills", json=each)).json()["id"] for each in asked]
    await ground.http.post(f"/v1/backfills/{paused}/pause")
    assert (await ground.http.delete(path)).status_code == 204
    for id_ in (paused, waiting):
        problem = (await ground.http.post(f"/v1/backfills/{id_}/resume")).json()
        assert (problem["status"], problem["detail"].partition(" PUT")[0]) == (409, "This store has no credentials.")
    told = await ground.get(f"/v1/backfills/{waiting}")
    assert (told["state"], told["reason"]) == ("failed", "This store has no credentials.")
    await ground.drain()
    for method in ("GET", "DELETE"):
        assert (await ground.http.request(method, path)).json()["detail"] == "This store has no credentials."
    # With others both go on.
    await ground.http.put(path, json=CREDENTIALS | {"url": held["url"]})
    for id_ in (paused, waiting):
        assert (await ground.http.post(f"/v1/backfills/{id_}/resume")).json()["state"] == "waiting"
    await stepped(ground)
    assert {each["state"] for each in (await ground.get("/v1/backfills"))["data"]} == {"done"}


async def test_credentials_that_go_while_it_is_asked_for(ground: Ground, store: str) -> None:
    asked = (await ground.http.post("/v1/backfills", json={"store": store})).json()["id"]
    async with ground.database.autocommit() as pg:
        await pg.execute("DELETE FROM credentials")
    await _fetching(ground).plan(ground.clock.now())
    told = await ground.get(f"/v1/backfills/{asked}")
    assert (told["state"], told["reason"]) == ("failed", credentials.NO_CREDENTIALS)


async def test_credentials_that_go_while_a_step_is_under_way(ground: Ground) -> None:
    slow = _Slow()
    async with served(slow.app) as address:  # type: ignore[arg-type]
        key = await _store_of(ground, address, {})
        step = asyncio.create_task(_fetching(ground).run(ground.clock.now()))

        async def asked() -> bool:
            return bool(slow.asked)

        await eventually(asked)
        assert (await ground.http.delete(f"/v1/stores/{key}/credentials")).status_code == 204
        slow.go.set()
        await step
    told = {(each["state"], each["reason"]) for each in (await ground.get("/v1/backfills"))["data"]}
    assert told == {("failed", credentials.NO_CREDENTIALS)}


@pytest.mark.parametrize("step", [-1, 10**6], ids=["back and back", "on and on"])
async def test_a_list_without_end(ground: Ground, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    monkeypatch.setattr(woocommerce, "MOST_PAGES", 7)
    totals = iter(range(10**9, 10**9 + 10**8, step) if step > 0 else range(10**9, 0, step * PAGE))
    one = b'{"id":1,"date_modified_gmt":"2026-03-01T00:00:00","total":"1.00"}'

    async def page(_: Request) -> Response:
        return Response(b"[" + b",".join([one] * PAGE) + b"]", headers={"x-wp-total": str(next(totals))})

    async with served(Starlette(routes=[Route(ORDERS, page)])) as address:  # type: ignore[arg-type]
        await _store_of(ground, address, {})
        for _ in range(2 * 8):
            await _fetching(ground).run(ground.clock.now())
    told = {(each["state"], each["reason"]) for each in (await ground.get("/v1/backfills"))["data"]}
    assert told == {("failed", "the shop's list of orders has no end: 7 pages were read")}
    await ground.drain()


async def test_stores_that_are_too_young_to_compare_keep_nobody_waiting(
    ground: Ground, shop: WooCommerceApi, store: str
) -> None:
    """A tenant may register a hundred of them whenever it likes."""
    ground.clock.set(ground.clock.now() + timedelta(hours=1))
    async with ground.database.transaction() as tx:
        for number in range(100):
            young = f"a{number:03}"
            await tx.pg.execute(
                """
                INSERT INTO stores (tenant, key, platform, domain, name, currency, timezone, consent, version,
                    created_at, updated_at, secrets)
                VALUES ('a', $1, 'woocommerce', $1, $1, 'EUR', 'UTC', 'explicit', 1, $2, $2, $3)
                """,
                young,
                ground.clock.now(),
                [b"sealed"],
            )
            await credentials.put(tx, "a", young, url="https://a.example", sealed=b"", at=ground.clock.now(), by="a")
    await _fetching(ground).plan(ground.clock.now())
    async with ground.database.reading() as tx:
        asked = await tx.pg.fetch("SELECT store, purpose FROM fetches ORDER BY purpose")
    assert [tuple(row) for row in asked] == [(store, "reconcile"), (store, "sweep")]


async def test_until_when_a_shop_wants_to_be_left_alone_is_told(ground: Ground) -> None:
    async def rests(_: Request) -> Response:
        return Response(b"{}", 429, {"retry-after": "31536000"})

    async with served(Starlette(routes=[Route(ORDERS, rests)])) as address:  # type: ignore[arg-type]
        store = await ground.register(**store_at(address.removeprefix("http://")))
        path = f"/v1/stores/{store}/credentials"
        opening = CREDENTIALS | {"url": address}
        await ground.http.put(path, json=opening)
        asked = {"store": store, "kinds": ["orders"]}
        first = (await ground.http.post("/v1/backfills", json=asked)).json()
        assert first["reason"] is None
        await _fetching(ground).run(ground.clock.now())
        async with ground.database.autocommit() as pg:
            at = await pg.fetchval("SELECT next_call_at FROM credentials")
        rest = f"the shop wants to be left alone until {at:%Y-%m-%d %H:%M} UTC"
        told = await ground.get(f"/v1/backfills/{first['id']}")
        assert (told["state"], told["reason"]) == ("waiting", f"the shop answers 429; {rest}")
        # It rests whatever it is asked for, and whoever asks.
        await ground.http.put(path, json=opening)
        later = await ground.http.post("/v1/backfills", json=asked | {"since": "2025-01-01T00:00:00Z"})
        assert (later.status_code, later.json()["state"], later.json()["reason"]) == (202, "waiting", rest)
        assert not await _fetching(ground).run(ground.clock.now())
        assert later.json() in (await ground.get("/v1/backfills"))["data"]
        ground.clock.set(ground.clock.now() + timedelta(hours=1))
        await _fetching(ground).plan(ground.clock.now())
        assert (await ground.get(f"/v1/stores/{store}/health"))["waiting"] == rest


async def test_that_it_is_we_who_refuse_is_told(ground: Ground, store: str) -> None:
    ground.clock.set(ground.clock.now() + timedelta(hours=1))
    working = _fetching(ground, inside=False)
    await working.plan(ground.clock.now())
    while await working.run(ground.clock.now()):
        pass
    health = await ground.get(f"/v1/stores/{store}/health")
    for told in (health["waiting"], health["credentials"]["reason"]):
        assert "127.0.0.1 has a private address" in told
        assert "REGULARS_FETCH_PRIVATE_ADDRESSES" in told
    assert health["credentials"]["state"] == "unchecked"


async def test_when_a_comparison_ended(ground: Ground, shop: WooCommerceApi, store: str) -> None:
    shop.tell(STATES)
    ground.clock.set(small_world().end)
    await _fetching(ground).plan(ground.clock.now())
    ground.clock.set(small_world().end + timedelta(minutes=20))
    await stepped(ground)
    health = await ground.get(f"/v1/stores/{store}/health")
    ended = (small_world().end + timedelta(minutes=20)).isoformat().replace("+00:00", "Z")
    assert (health["reconciled"]["at"], health["swept"]["at"]) == (ended, ended)
    assert (await backfilled(ground, store))["state"] == "done"

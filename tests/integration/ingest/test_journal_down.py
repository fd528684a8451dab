"""The database away, hanging or full of work: never a false 200, and back by itself."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest_asyncio
from prometheus_client import REGISTRY
from sqlalchemy.engine import make_url

from tests.integration.ingest.conftest import Grounds
from tests.integration.ingest.ground import Ground
from tests.proxy import Proxy, proxied
from tests.waiting import eventually

WAIT = 0.5


@pytest_asyncio.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    url = make_url(database_url)
    assert url.host is not None
    async with proxied(url.host, url.port or 5432) as running:
        yield running


@pytest_asyncio.fixture
async def behind(grounds: Grounds, proxy: Proxy, database_url: str) -> AsyncIterator[Ground]:
    """An ingest that reaches its database through the proxy."""
    url = make_url(database_url).set(port=proxy.port).render_as_string(hide_password=False)
    async with grounds(database_url=url, journal_wait_seconds=WAIT, journal_queue_length=20) as running:
        yield running


async def test_a_journal_that_is_away_means_503_and_retry_after(behind: Ground, proxy: Proxy) -> None:
    store = await behind.register()
    assert (await behind.shopify(store, {"id": 1})).status_code == 200
    proxy.cut()
    began = time.monotonic()
    answers = await asyncio.gather(*(behind.shopify(store, {"id": n}) for n in range(2, 12)))
    assert time.monotonic() - began < 4 * WAIT
    assert {answer.status_code for answer in answers} == {503}
    assert {answer.headers["retry-after"] for answer in answers} == {"2"}
    assert {answer.json()["code"] for answer in answers} == {"unavailable"}
    await proxy.open()
    assert (await behind.shopify(store, {"id": 2})).status_code == 200
    assert await behind.journalled() == 2
    assert (await behind.get("/v1/deliveries/counts"))["refused"] == {"journal": 10}


async def test_a_short_absence_goes_unnoticed(behind: Ground, proxy: Proxy) -> None:
    store = await behind.register()
    assert (await behind.shopify(store, {"id": 1})).status_code == 200
    proxy.cut()
    under_way = asyncio.create_task(behind.shopify(store, {"id": 2}))
    await asyncio.wait([under_way], timeout=WAIT / 5)
    assert not under_way.done()
    await proxy.open()
    assert (await under_way).status_code == 200
    assert await behind.journalled() == 2


async def test_a_journal_that_hangs_means_503_and_no_doubling_later(behind: Ground, proxy: Proxy) -> None:
    store = await behind.register()
    assert (await behind.shopify(store, {"id": 1})).status_code == 200
    proxy.freeze()
    began = time.monotonic()
    answers = await asyncio.gather(*(behind.shopify(store, {"id": n}) for n in range(2, 12)))
    assert time.monotonic() - began < 4 * WAIT
    assert {answer.status_code for answer in answers} == {503}
    proxy.thaw()
    # The sender tries again; whether the first try was stored meanwhile or not, it is there once.
    answers = await asyncio.gather(*(behind.shopify(store, {"id": n}) for n in range(2, 12)))
    assert {answer.status_code for answer in answers} == {200}
    assert await behind.journalled() == 11


async def test_what_does_not_fit_is_shed_at_once(behind: Ground, proxy: Proxy) -> None:
    store = await behind.register()
    proxy.freeze()
    answers = await asyncio.gather(*(behind.shopify(store, {"id": n}) for n in range(100)))
    codes = [answer.json()["code"] for answer in answers]
    assert set(codes) == {"overloaded", "unavailable"}
    assert codes.count("overloaded") >= 60
    proxy.thaw()


async def test_events_are_not_lost_either(behind: Ground, proxy: Proxy) -> None:
    store = await behind.register()
    event = {
        "id": "e1",
        "type": "product.viewed",
        "store": store,
        "profile": {"email": "ada@example.com"},
        "properties": {"product_id": "1"},
    }
    proxy.cut()
    # The key was verified a moment ago, so that only the journal is missed.
    answer = await behind.http.post("/v1/events", json=event)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    await proxy.open()
    assert (await behind.http.post("/v1/events", json=event)).status_code == 202


async def test_stores_registered_elsewhere_are_learnt_and_again_after_an_absence(
    behind: Ground, proxy: Proxy, grounds: Grounds
) -> None:
    async with grounds() as other:
        store = await other.register()

        async def known(key: str) -> bool:
            return (await behind.shopify(key, {"id": 1})).status_code == 200

        assert await eventually(lambda: known(store))
        proxy.cut()
        later = await other.register(domain="later.myshopify.com")
        assert (await behind.shopify(later, {"id": 1})).status_code == 401
        await proxy.open()
        assert await eventually(lambda: known(later))


async def test_who_starts_without_the_database_takes_nothing_until_it_is_there(
    grounds: Grounds, proxy: Proxy, database_url: str
) -> None:
    async with grounds() as other:
        store = await other.register()
        proxy.cut()
        url = make_url(database_url).set(port=proxy.port).render_as_string(hide_password=False)
        async with grounds(database_url=url) as late:
            before = refused_by_journal()
            answers = [await late.shopify(store, {"id": 1}), await late.http.get("/v1/stores")]
            assert [answer.status_code for answer in answers] == [503, 503]
            assert [answer.json()["code"] for answer in answers] == ["unavailable", "unavailable"]
            # It burns the budget of refused webhooks, as it does while the journal is away later.
            assert refused_by_journal() == before + 1
            assert (await late.http.get("/readyz")).status_code == 503
            assert (await late.http.get("/openapi.json")).status_code == 200
            await proxy.open()

            async def taken() -> bool:
                return (await late.shopify(store, {"id": 1})).status_code == 200

            async def ready() -> bool:
                return (await late.http.get("/readyz")).status_code == 200

            assert await eventually(taken)
            assert await eventually(ready)
            assert (await late.http.get("/v1/stores")).status_code == 200


def refused_by_journal() -> float:
    return REGISTRY.get_sample_value("regulars_ingest_refused_total", {"reason": "journal"}) or 0.0

"""A shop's API that means us harm: each answer is an outcome, in bounded memory and time."""

import gzip
import json
import tracemalloc
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from services.ingest.platforms import http
from services.ingest.platforms.http import MOST_TOLD, ShopHttp
from services.ingest.platforms.port import Refused, Unavailable
from services.ingest.platforms.woocommerce import PAGE, WooCommerce
from tests.conftest import START
from tests.e2e.cases.conftest import served

MEGABYTE = 1024 * 1024


@asynccontextmanager
async def shop(answer: Callable[[], Response]) -> AsyncIterator[ShopHttp]:
    async def always(_: Request) -> Response:
        return answer()

    async with served(Starlette(routes=[Route("/", always)])) as address:  # type: ignore[arg-type]
        client = ShopHttp(address, auth=None, inside=True)
        try:
            yield client
        finally:
            await client.aclose()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "TRIES", 1)


async def test_a_gzipped_answer_is_read() -> None:
    async with shop(lambda: Response(gzip.compress(b"[1]"), headers={"content-encoding": "gzip"})) as client:
        assert (await client.get("/", {})).content == b"[1]"


@pytest.mark.parametrize(
    ("listed", "total"),
    [(101, "101"), (1, "9" * 4400), (1, "\u00b2"), (1, "-1")],
    ids=["long", "huge", "odd", "negative"],
)
async def test_a_list_and_its_total(listed: int, total: str) -> None:
    one = b'{"id":1,"date_modified_gmt":"2026-03-01T00:00:00"}'

    async def page(_: Request) -> Response:
        return Response(b"[" + b",".join([one] * listed) + b"]", headers={"x-wp-total": total})

    async with served(Starlette(routes=[Route("/wp-json/wc/v3/orders", page)])) as address:  # type: ignore[arg-type]
        platform = WooCommerce(address, key="ck_12345678", secret="cs_12345678", inside=True)
        try:
            if listed > PAGE:
                with pytest.raises(Unavailable, match="more than the 100 objects"):
                    await platform.page("orders", since=None, until=START, following=None)
            else:
                found = await platform.page("orders", since=None, until=START, following=None)
                assert (len(found.objects), found.following) == (1, None)
        finally:
            await platform.aclose()


async def test_a_list_of_millions_is_not_made() -> None:
    body = b"[1" + b",1" * 2_000_000 + b"]"

    async def page(_: Request) -> Response:
        return Response(body)

    async with served(Starlette(routes=[Route("/wp-json/wc/v3/orders", page)])) as address:  # type: ignore[arg-type]
        platform = WooCommerce(address, key="ck_12345678", secret="cs_12345678", inside=True)
        tracemalloc.start()
        try:
            with pytest.raises(Unavailable, match="more than the 100 objects"):
                await platform.page("orders", since=None, until=START, following=None)
            assert tracemalloc.get_traced_memory()[1] < 10 * len(body)
        finally:
            tracemalloc.stop()
            await platform.aclose()


async def test_large_objects_come_on_smaller_pages() -> None:
    """Whatever a page of a hundred would hold, a worker holds some megabytes."""
    note = "n" * 600_000
    orders = [{"id": n, "date_modified_gmt": "2026-03-01T00:00:00", "note": note} for n in range(1, 31)]
    sizes: list[int] = []

    async def page(request: Request) -> Response:
        size, offset = (int(request.query_params[name]) for name in ("per_page", "offset"))
        shown = orders[offset : offset + size]
        sizes.append(len(shown))
        return Response(json.dumps(shown), headers={"x-wp-total": str(len(orders))})

    async with served(Starlette(routes=[Route("/wp-json/wc/v3/orders", page)])) as address:  # type: ignore[arg-type]
        platform = WooCommerce(address, key="ck_12345678", secret="cs_12345678", inside=True)
        try:
            roots: list[str] = []
            following: str | None = None
            while True:
                found = await platform.page("orders", since=None, until=START, following=following)
                roots += [each.root for each in found.objects]
                if (following := found.following) is None:
                    break
            assert roots == [f"order:{n}" for n in range(1, 31)]
            assert sizes == [30, 10, 10, 10]
        finally:
            await platform.aclose()


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip", "br", "zstd"])
async def test_a_bomb_is_not_unpacked(encoding: str) -> None:
    bomb = gzip.compress(gzip.compress(bytes(400 * MEGABYTE), 1) if "," in encoding else bytes(400 * MEGABYTE), 1)
    async with shop(lambda: Response(bomb, headers={"content-encoding": encoding})) as client:
        tracemalloc.start()
        try:
            with pytest.raises(Refused):
                await client.get("/", {})
            assert tracemalloc.get_traced_memory()[1] < 200 * MEGABYTE
        finally:
            tracemalloc.stop()


async def test_what_comes_behind_an_answer_is_not_kept() -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield gzip.compress(b"[]")
        for _ in range(100):
            yield bytes(MEGABYTE)

    async with shop(lambda: StreamingResponse(endless(), headers={"content-encoding": "gzip"})) as client:
        tracemalloc.start()
        try:
            assert (await client.get("/", {})).content == b"[]"
            assert tracemalloc.get_traced_memory()[1] < 20 * MEGABYTE
        finally:
            tracemalloc.stop()


async def test_what_is_no_gzip_is_told() -> None:
    async with shop(lambda: Response(b"[1]", headers={"content-encoding": "gzip"})) as client:
        with pytest.raises(Unavailable):
            await client.get("/", {})


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "1000000000"}, MOST_TOLD),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "\u00b2"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Mon, 02 Mar 2026 12:00:07 GMT"}, 0),
        ({"retry-after": "Mon, 02 Mar 2026 12:00:07 -0000"}, None),
        ({"retry-after": "Mon, 02 Mar 9026 12:00:07 GMT"}, MOST_TOLD),
    ],
)
async def test_when_to_come_again(headers: Mapping[str, str], seconds: float | None) -> None:
    async with shop(lambda: Response(b"", 503, dict(headers))) as client:
        with pytest.raises(Unavailable) as raised:
            await client.get("/", {})
    assert raised.value.retry_after == seconds

"""A shop's API that means us harm: each answer is an outcome, in bounded memory and time."""

import gzip
import tracemalloc
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.ingest.platforms import http
from services.ingest.platforms.http import MOST_TOLD, ShopHttp
from services.ingest.platforms.port import Refused, Unavailable
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

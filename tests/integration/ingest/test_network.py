"""The webhook route over real sockets: sizes, slow senders, big orders."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
import uvicorn

from libs.common.web import body as bodies
from regulars.serving import server_config
from tests.integration.ingest.conftest import Grounds
from tests.integration.ingest.ground import Ground, shopify_headers, sign
from tests.waiting import eventually, pause

LIMIT = 300_000
SECONDS = 1.0


@asynccontextmanager
async def _listening(ground: Ground) -> AsyncIterator[int]:
    config = server_config(ground.app)
    config.lifespan = "off"
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())

    async def port() -> int:
        return int(server.servers[0].sockets[0].getsockname()[1]) if server.started else 0

    yield await eventually(port)
    server.should_exit = True
    await serving


@pytest_asyncio.fixture
async def small(grounds: Grounds) -> AsyncIterator[Ground]:
    async with grounds(webhook_max_body=LIMIT, webhook_body_seconds=SECONDS, webhook_reading_bytes=LIMIT) as running:
        yield running


class Wire:
    """One connection, spoken by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> tuple[int, dict[str, Any]]:
        head = (await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 10)).decode().lower()
        status = int(head.split(" ")[1])
        if status == 100:
            return status, {}
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        return status, json.loads(await self._reader.readexactly(length))

    async def closed(self) -> bool:
        return await asyncio.wait_for(self._reader.read(), 10) == b""

    def close(self) -> None:
        self._writer.close()


async def _connect(port: int) -> Wire:
    return Wire(*await asyncio.open_connection("127.0.0.1", port))


def _head(store: str, headers: dict[str, str]) -> bytes:
    lines = [f"POST /webhooks/shopify/{store} HTTP/1.1", "Host: shop.test", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


async def test_too_large_is_refused_before_it_is_read(small: Ground) -> None:
    store = await small.register()
    async with _listening(small) as port:
        wire = await _connect(port)
        await wire.send(_head(store, {"content-length": str(LIMIT + 1)}))
        status, problem = await wire.answer()
        assert (status, problem["code"]) == (413, "too_large")
        assert problem["detail"] == f"The body is larger than {LIMIT} bytes."
        assert await wire.closed()
        wire.close()
    assert (await small.get("/v1/deliveries/counts"))["refused"] == {"too_large": 1}


async def test_too_large_in_chunks_is_refused_when_it_is_too_much(small: Ground) -> None:
    store = await small.register()
    async with _listening(small) as port:
        wire = await _connect(port)
        await wire.send(_head(store, {"transfer-encoding": "chunked"}))
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        await wire.send(chunk * (LIMIT // 65536 + 1))
        assert (await wire.answer())[0] == 413
        wire.close()


async def test_bodies_that_come_slowly_do_not_fill_the_memory(small: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MOST_HELD", 100_000)
    async with _listening(small) as port:
        waiting = [await _connect(port) for _ in range(3)]
        for wire in waiting:
            await wire.send(_stores_head(90_000) + b"x" * 60_000)
        # One of them has room; whoever comes when there is none is told to come again.
        status, problem = await next(asyncio.as_completed([wire.answer() for wire in waiting]))
        assert (status, problem["code"]) == (503, "overloaded")
        for wire in waiting:
            wire.close()
        late = await _connect(port)
        await late.send(_stores_head(2) + b"{}")
        assert (await late.answer())[0] in {401, 422}
        late.close()


async def test_who_sends_all_of_it_before_he_listens_is_told_too(small: Ground) -> None:
    store = await small.register()
    body = b"x" * (20 * LIMIT)
    async with _listening(small) as port:
        for head in (_head(store, {"content-length": str(len(body))}), _stores_head(len(body))):
            wire = await _connect(port)
            await wire.send(head + body)
            status, problem = await wire.answer()
            assert (status, problem["code"]) == (413, "too_large")
            assert await wire.closed()
            wire.close()


def _stores_head(length: int) -> bytes:
    return f"POST /v1/stores HTTP/1.1\r\nHost: shop.test\r\nContent-Length: {length}\r\n\r\n".encode()


async def test_a_slow_body_is_given_up(small: Ground) -> None:
    store = await small.register()
    async with _listening(small) as port:
        wire = await _connect(port)
        await wire.send(_head(store, {"content-length": "100"}) + b"{")
        status, problem = await wire.answer()
        assert (status, problem["code"]) == (408, "too_slow")
        assert await wire.closed()
        wire.close()
    assert (await small.get("/v1/deliveries/counts", store=store))["refused"] == {"slow": 1}


async def test_a_sender_who_hangs_up_is_counted_and_nothing_more(small: Ground) -> None:
    store = await small.register()
    async with _listening(small) as port:
        wire = await _connect(port)
        await wire.send(_head(store, {"content-length": "100"}) + b"{")
        wire.close()

        async def counted() -> bool:
            counts = await small.get("/v1/deliveries/counts", store=store)
            return bool(counts["refused"] == {"gone": 1})

        assert await eventually(counted)
    assert await small.journalled() == 0


async def test_a_big_order_announced_with_expect_100_continue(small: Ground) -> None:
    store = await small.register()
    body = json.dumps({"id": 1, "note": "x" * 250_000}).encode()
    async with _listening(small) as port:
        wire = await _connect(port)
        headers = shopify_headers(body) | {"content-length": str(len(body)), "expect": "100-continue"}
        await wire.send(_head(store, headers))
        assert (await wire.answer())[0] == 100
        await wire.send(body)
        assert (await wire.answer())[0] == 200
        wire.close()
    assert await small.journalled() == 1


async def test_many_large_bodies_at_one_time_are_shed_and_small_ones_are_not(small: Ground) -> None:
    store = await small.register()
    big = json.dumps({"id": 1, "note": "x" * 250_000}).encode()
    headers = shopify_headers(big) | {"content-length": str(len(big))}
    async with _listening(small) as port:
        first, second, third = [await _connect(port) for _ in range(3)]
        for wire in (first, second):
            await wire.send(_head(store, headers) + big[:-1])
        status, problem = await asyncio.wait_for(_either(first, second), 5)
        assert (status, problem["code"]) == (503, "overloaded")
        small_body = b'{"id": 2}'
        await third.send(_head(store, shopify_headers(small_body) | {"content-length": "9"}) + small_body)
        assert (await third.answer())[0] == 200
        for wire in (first, second, third):
            wire.close()


async def _either(*wires: Wire) -> tuple[int, dict[str, Any]]:
    asked = [asyncio.create_task(wire.answer()) for wire in wires]
    done, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    return done.pop().result()


async def test_a_connection_is_kept_for_the_next_delivery(small: Ground) -> None:
    store = await small.register()
    async with _listening(small) as port:
        wire = await _connect(port)
        for n in range(3):
            body = b'{"id": %d}' % n
            await wire.send(_head(store, shopify_headers(body) | {"content-length": str(len(body))}) + body)
            assert await wire.answer() == (200, {"status": "ok"})
        bad = {"x-shopify-hmac-sha256": sign(b"?"), "content-length": "2"}
        await wire.send(_head(store, bad) + b"{}")
        assert (await wire.answer())[0] == 401
        wire.close()


ORDER = json.dumps({"id": 1, "note": "x" * 5000}).encode()


@pytest.mark.parametrize(
    ("path", "headers", "body", "status"),
    [
        ("shopify/{store}", shopify_headers(ORDER), ORDER, 200),
        ("shopify/{store}", shopify_headers(ORDER), ORDER + b" ", 401),
        ("shopify/{store}", {}, ORDER, 401),
        ("shopify/{store}", shopify_headers(b""), b"", 200),
        ("shopify/st_unknown", shopify_headers(ORDER), ORDER, 401),
        ("woocommerce/{store}", shopify_headers(ORDER), ORDER, 401),
        ("woocommerce/{store}", {}, b"webhook_id=12", 200),
        ("magento/{store}", shopify_headers(ORDER), ORDER, 404),
        ("shopify/{store}/more", shopify_headers(ORDER), ORDER, 401),
    ],
)
async def test_how_a_request_comes_makes_no_difference(
    small: Ground, path: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    """In one piece, with its body behind it, and with an address that has to be decoded."""
    store = await small.register()
    head = _head(store, headers | {"content-length": str(len(body))})
    head = head.replace(f"/shopify/{store}".encode(), f"/{path.format(store=store)}".encode())
    answers = []
    async with _listening(small) as port:
        for sent in ([head + body], [head, body], [head.replace(b"/webhooks/", b"/web%68ooks/") + body]):
            wire = await _connect(port)
            for part in sent:
                await wire.send(part)
                await pause(0.02)
            answers.append(await wire.answer())
            wire.close()
    assert answers[0][0] == status
    assert answers == [answers[0]] * 3
    counts = await small.get("/v1/deliveries/counts", store=store)
    stored = await small.journalled()
    assert (stored, counts["duplicates"]) == ((1, 2) if status == 200 and headers else (0, 0))
    assert sum(counts["refused"].values()) == (3 if status == 401 and path.endswith("{store}") else 0)


async def test_a_body_in_one_piece_is_not_too_large_either(grounds: Grounds) -> None:
    async with grounds(webhook_max_body=1024) as ground, _listening(ground) as port:
        store = await ground.register()
        body = b"x" * 1025
        for lengths in ({"content-length": "1025"}, {"transfer-encoding": "chunked"}):
            wire = await _connect(port)
            chunked = b"401\r\n" + body + b"\r\n0\r\n\r\n"
            await wire.send(_head(store, lengths) + (body if "content-length" in lengths else chunked))
            status, problem = await wire.answer()
            assert (status, problem["code"]) == (413, "too_large")
            assert await wire.closed()
            wire.close()
        assert (await ground.get("/v1/deliveries/counts"))["refused"] == {"too_large": 2}

"""Senders who do not come to the point are hung up on; the others are not."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from fastapi import FastAPI

from regulars import serving

REQUEST = b"GET /openapi.json HTTP/1.1\r\nHost: regulars.test\r\n\r\n"


@pytest_asyncio.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(serving, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(serving, "settle", lambda: None)
    listener = socket.create_server(("127.0.0.1", 0))
    started = asyncio.Event()
    server = serving.Server(serving.server_config(FastAPI()), started.set)
    serve = asyncio.create_task(server.serve([listener]))
    await started.wait()
    yield listener.getsockname()[1]
    server.should_exit = True
    await serve


@pytest.mark.parametrize("sent", [b"", b"POST /v1/stores HTTP/1.1\r\nHost: x\r\nAuthor"])
async def test_headers_that_do_not_come(port: int, sent: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()


async def test_a_second_request_that_stops_in_its_headers(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    assert b"200 OK" in await reader.readline()
    writer.write(b"POST /v1")
    async with asyncio.timeout(10):
        await reader.read()
    writer.close()


async def test_a_connection_that_is_kept_is_not_late(port: int) -> None:
    """Idle between two requests is no offence: that is the keep-alive's own, longer, limit."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    late, late_writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    assert b"200 OK" in await reader.readline()
    async with asyncio.timeout(10):
        assert await late.read() == b""  # by now the limit has passed
    writer.write(REQUEST)
    async with asyncio.timeout(10):
        while b"200 OK" not in await reader.readline():
            pass
    writer.close()
    late_writer.close()

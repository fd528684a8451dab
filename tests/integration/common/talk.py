"""HTTP, spoken by hand."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp

from regulars import serving
from tests.waiting import pause


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[serving.Server]:
    """The app, as every HTTP role serves it."""
    listener = socket.create_server(("127.0.0.1", 0))
    started = asyncio.Event()
    server = serving.Server(serving.server_config(app), started.set)
    serve = asyncio.create_task(server.serve([listener]))
    await started.wait()
    yield server
    server.should_exit = True
    await serve


def port_of(server: serving.Server) -> int:
    """Where it listens."""
    return int(server.servers[0].sockets[0].getsockname()[1])


TURNS = 4


async def talked(port: int, *parts: bytes, ends: int = 1) -> bytes:
    """What comes back for these packets until so many whole bodies have, or the server hangs up.

    The server is of the same loop: after some turns of it, it has read each of them by itself.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await writer.drain()
        for _ in range(TURNS):
            await pause(0)
    answer = b""
    async with asyncio.timeout(10):
        while answer.count(b"whole body") < ends and (some := await reader.read(65536)):
            answer += some
    writer.close()
    return answer

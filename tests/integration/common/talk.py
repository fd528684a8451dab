"""HTTP, spoken by hand."""

import asyncio

from tests.waiting import pause

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

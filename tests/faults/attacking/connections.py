"""Many connections that say little, or say much and never listen."""

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from tests.faults.attacking.ground import Attack, Ground, Seen
from tests.faults.attacking.wire import HUNG_UP, SILENT, Answer, Wire, answers, request
from tests.waiting import pause

IDLE = 10_000
SPARE = 500
"""Descriptors for all else."""
SLOW_HEADS = 1000
HUNG_UP_AFTER = 20.0
"""Seconds; the server gives 10."""
AT_ONCE = 200
PIPELINED = 100
FLOODS = 10
FLOOD = 10_000
TINY = b"GET / HTTP/1.1\r\n\r\n"
DEAF = 20
DEAF_REQUESTS = 100
DEAF_SECONDS = 35.0
"""The server gives 20 from when it can send no more."""
ESTABLISHED = "01"
_FILLER = b"X-Filler: " + b"x" * 1000 + b"\r\n"


async def _opened(port: int, many: int) -> list[Wire]:
    wires: list[Wire] = []
    while len(wires) < many:
        some = [Wire.open(port) for _ in range(min(AT_ONCE, many - len(wires)))]
        found = await asyncio.gather(*some, return_exceptions=True)
        wires += [each for each in found if isinstance(each, Wire)]
        if not any(isinstance(each, Wire) for each in found):
            break
    return wires


async def _hung_up_on(seen: Seen, wires: list[Wire], what: str) -> None:
    """Each of them is, in time."""
    ended = await asyncio.gather(*(wire.ended(HUNG_UP_AFTER) for wire in wires))
    for each in ended:
        seen.expect(Answer(HUNG_UP if each else SILENT), HUNG_UP, what)
    for wire in wires:
        wire.close()


async def idle(ground: Ground) -> Seen:
    """Connections that never say anything."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    many = min(IDLE, allowed - SPARE)
    wires = await _opened(ground.port, many)
    seen = Seen(f"{len(wires):,} connections (descriptors allowed: {allowed:,})")
    if len(wires) < many:
        seen.wrong.append(f"{many - len(wires)} connections could not be made")
    await _hung_up_on(seen, wires, "an idle connection")
    return seen


async def slow_heads(ground: Ground) -> Seen:
    """A line of a head every second, each of a kilobyte."""
    wires = await _opened(ground.port, SLOW_HEADS)
    seen = Seen(f"{len(wires):,} connections, a header of 1 kB a second each")

    async def lines() -> AsyncIterator[bytes]:
        yield f"POST /webhooks/shopify/{ground.key} HTTP/1.1\r\nHost: x\r\n".encode()
        while True:
            yield _FILLER
            await pause(1.0)

    sending = [asyncio.create_task(wire.send(lines())) for wire in wires]
    await _hung_up_on(seen, wires, "a slow head")
    for task in sending:
        task.cancel()
    await asyncio.gather(*sending, return_exceptions=True)
    return seen


async def pipelined(ground: Ground) -> Seen:
    """A hundred webhooks in one piece: each answered, in order."""
    seen = Seen(f"{PIPELINED} webhooks in one piece, every second one forged")
    good = [ground.webhook(ground.order()) for _ in range(PIPELINED // 2)]
    forged = request(f"/webhooks/shopify/{ground.key}".encode(), body=ground.order())
    found = await answers(ground.port, b"".join(each + forged for each in good), PIPELINED)
    for n, each in enumerate(found):
        seen.expect(each, "401" if n % 2 else "200", f"pipelined webhook {n}")
    if len(found) < PIPELINED:
        seen.wrong.append(f"{PIPELINED - len(found)} were not answered")
    return seen


async def without_end(ground: Ground) -> Seen:
    """Tiny requests by the thousand, before any answer is waited for: some are answered, and the connection ends."""
    seen = Seen(f"{FLOODS} connections x {FLOOD:,} requests in one piece")

    async def one() -> None:
        found = await answers(ground.port, TINY * FLOOD, FLOOD)
        if len(found) == FLOOD:
            seen.wrong.append("all of them were taken")
        for each in found[:-1]:
            seen.expect(each, "404", "a tiny request")
        seen.expect(found[-1], HUNG_UP, "the end of the connection")

    await asyncio.gather(*(one() for _ in range(FLOODS)))
    return seen


async def deaf(ground: Ground) -> Seen:
    """Senders who ask for much and never read what comes: they are hung up on."""
    asked = ground.api(b"/openapi.json", method=b"GET") * DEAF_REQUESTS
    seen = Seen(f"{DEAF} connections x {DEAF_REQUESTS} requests for the API's description")

    async def one() -> None:
        wire = await Wire.open(ground.port)
        # Else the stream would read ahead by itself.
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        with suppress(ConnectionError):
            await wire.send(asked)
        ended = await _let_go(ground.port, wire)
        seen.expect(Answer(HUNG_UP if ended else SILENT), HUNG_UP, "who never reads")
        wire.writer.transport.abort()

    await asyncio.gather(*(one() for _ in range(DEAF)))
    return seen


async def _let_go(port: int, wire: Wire) -> bool:
    """Whether the server lets go in time of a connection that nobody reads from: the machine knows."""
    ours = wire.writer.get_extra_info("sockname")[1]
    theirs = (f":{port:04X}", f":{ours:04X}", ESTABLISHED)
    for _ in range(int(DEAF_SECONDS)):
        table = await asyncio.to_thread(Path("/proc/net/tcp").read_text)
        rows = (line.split()[1:4] for line in table.splitlines()[1:])
        if not any((local[8:], remote[8:], state) == theirs for local, remote, state in rows):
            return True
        await pause(1.0)
    return False


ATTACKS = (
    Attack("idle connections", idle),
    Attack("slow header senders", slow_heads),
    Attack("pipelined webhooks", pipelined),
    Attack("requests without end", without_end),
    Attack("answers never read", deaf),
)

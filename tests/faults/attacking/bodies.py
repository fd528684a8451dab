"""Bodies that are too large, too slow, too deep, or not what they say."""

import gzip
import json
from collections.abc import AsyncIterator, Iterator

from tests.faults.attacking.ground import Attack, Ground, Seen, at_once
from tests.faults.attacking.wire import Sent, answer, request
from tests.waiting import pause

MEGABYTE = 1024 * 1024
HUNDRED = 100 * MEGABYTE
AT_ONCE = 4
SLOW = 200
LARGEST = 5 * MEGABYTE
"""What ingest and the API take."""
ROWS = 10_000
BATCHES = 8
MOST_ROWS = 1000
_ZEROS = bytes(MEGABYTE)
_NDJSON = (b"Content-Type", b"application/x-ndjson")


def _announced(head: bytes, size: int) -> Iterator[bytes]:
    yield head
    for _ in range(size // MEGABYTE):
        yield _ZEROS


def _chunked(head: bytes, size: int) -> Iterator[bytes]:
    yield head
    for _ in range(size // MEGABYTE):
        yield b"%x\r\n" % MEGABYTE + _ZEROS + b"\r\n"
    yield b"0\r\n\r\n"


async def hundred_megabytes(ground: Ground) -> Seen:
    """Announced, and in chunks."""
    seen = Seen(f"{AT_ONCE} at once with Content-Length, {AT_ONCE} in chunks")
    target = f"/webhooks/shopify/{ground.key}".encode()
    said = request(target, headers=[(b"Content-Length", b"%d" % HUNDRED)], length=False)
    chunked = request(target, headers=[(b"Transfer-Encoding", b"chunked")], length=False)

    async def one(data: Sent) -> None:
        seen.expect(await answer(ground.port, data), "413", "100 MB")

    await at_once([one(_announced(said, HUNDRED)) for _ in range(AT_ONCE)], AT_ONCE)
    await at_once([one(_chunked(chunked, HUNDRED)) for _ in range(AT_ONCE)], AT_ONCE)
    return seen


async def api_bodies(ground: Ground) -> Seen:
    """64 MiB to routes of the API, with a good key and with none."""
    size = 64 * MEGABYTE
    length, chunks = (b"Content-Length", b"%d" % size), (b"Transfer-Encoding", b"chunked")
    key = (b"Authorization", b"Bearer " + ground.api_key)
    seen = Seen("64 MiB to 3 routes, with a key and without, announced and in chunks")

    async def one(target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        announced = request(target, headers=[*headers, length], length=False)
        seen.expect(await answer(ground.port, _announced(announced, size)), "413", "64 MiB announced")
        chunked = request(target, headers=[*headers, chunks], length=False)
        seen.expect(await answer(ground.port, _chunked(chunked, size)), "413", "64 MiB in chunks")

    targets = (b"/v1/events", b"/v1/events/batch", b"/v1/stores")
    await at_once([one(target, headers) for target in targets for headers in ([key], [])], AT_ONCE)
    return seen


async def slow_bodies(ground: Ground) -> Seen:
    """A byte a second."""
    seen = Seen(f"{SLOW} connections, half of them to the API")
    webhook = request(f"/webhooks/shopify/{ground.key}".encode(), headers=[(b"Content-Length", b"1000")], length=False)
    api = request(b"/v1/events", headers=[(b"Content-Length", b"1000")], length=False)

    async def trickle(head: bytes) -> AsyncIterator[bytes]:
        yield head
        for _ in range(60):
            await pause(1.0)
            yield b"{"

    async def one(head: bytes) -> None:
        seen.expect(await answer(ground.port, trickle(head)), "408", "a byte a second")

    await at_once([one(webhook if n % 2 else api) for n in range(SLOW)], SLOW)
    return seen


def _gzip_bomb() -> bytes:
    """A gigabyte of zeros, zipped, in a thousand members: a megabyte."""
    return gzip.compress(_ZEROS, mtime=0) * 1024


async def gzip_bomb(ground: Ground) -> Seen:
    """Nothing here unpacks: what is signed is kept as it came and becomes a dead letter, once."""
    bomb = _gzip_bomb()
    zipped = (b"Content-Encoding", b"gzip")
    seen = Seen(f"{len(bomb) / MEGABYTE:.1f} MiB that unpack to 1 GiB; an order, zipped")
    dead = await _dead(ground)
    for body in (bomb, gzip.compress(ground.order())):
        seen.expect(await answer(ground.port, ground.webhook(body, headers=[zipped])), "200", "signed")
        forged = request(f"/webhooks/shopify/{ground.key}".encode(), headers=[zipped], body=body)
        seen.expect(await answer(ground.port, forged), "401", "not signed")
        for target in (b"/v1/events", b"/v1/events/batch"):
            found = await answer(ground.port, ground.api(target, headers=[zipped], body=body))
            seen.expect(found, "400,415,422", target.decode())
    died = 0
    for _ in range(100):
        if (died := await _dead(ground) - dead) >= 2:
            break
        await pause(0.1)
    if died != 2:
        seen.wrong.append(f"2 should have become dead letters, {died} did")
    return seen


async def json_bombs(ground: Ground) -> Seen:
    """As much as is taken of brackets, of objects in objects, of halves of characters, of digits."""
    deep = b'{"a":' * (LARGEST // 6)
    bombs = {
        "brackets": b"[" * LARGEST,
        "closed brackets": b"[" * (LARGEST // 2) + b"]" * (LARGEST // 2),
        "objects": deep + b"}" * (LARGEST - len(deep)),
        "in a field": b'{"id":1,"note":' + b"[" * (LARGEST - 20),
        "half characters": b'{"id":1,"email":"' + b"\\ud800" * (LARGEST // 6 - 4) + b'"}',
        "half characters, open": b'{"id":1,"email":"' + b"\\ud800" * (LARGEST // 6 - 4),
        "backslashes": b'{"id":1,"email":"' + b"\\\\" * (LARGEST // 2 - 20) + b'\\ud800"}',
        "digits": b'{"id":' + b"9" * (LARGEST - 20) + b"}",
        "digits in a text": b'{"id":1,"total_discounts":"' + b"9" * (LARGEST - 40) + b'"}',
        "references": b'{"id":1,"line_items":[{"title":"' + b"&#9" * (LARGEST // 3 - 20) + b'"}]}',
        "lines": b'{"id":1,"created_at":"2026-03-01","line_items":[' + b"{}," * (LARGEST // 3 - 30) + b"{}]}",
    }
    seen = Seen(f"{len(bombs)} kinds of up to 5 MiB, to a store and to the API")
    before = await ground.asked("/v1/deliveries/counts")
    for name, body in bombs.items():
        seen.expect(await answer(ground.port, ground.webhook(body)), "200", f"{name}, signed")
        for target in (b"/v1/events", b"/v1/events/batch"):
            seen.expect(
                await answer(ground.port, ground.api(target, body=body)), "400,413,422", f"{name} to {target!r}"
            )
        found = await answer(ground.port, ground.api(b"/v1/events/batch", headers=[_NDJSON], body=body))
        seen.expect(found, "202,400,413,422", f"{name} as a line")
    await _read(ground, seen, before, len(bombs))
    return seen


async def batches(ground: Ground) -> Seen:
    """Ten times as many events as one batch may have, and many full ones."""
    seen = Seen(f"{BATCHES} x {ROWS:,} rows as an array and as lines; {BATCHES} x {MOST_ROWS:,} good ones")

    def rows(batch: str, many: int) -> list[dict[str, object]]:
        event = {"type": "product.viewed", "store": ground.key, "properties": {"product_id": "77"}}
        return [{"id": f"{batch}-{n}", "profile": {"customer_id": str(n)}, **event} for n in range(many)]

    async def one(name: str, many: int, right: str, *, lines: bool) -> None:
        made = rows(name, many)
        body = b"\n".join(json.dumps(row).encode() for row in made) if lines else json.dumps(made).encode()
        found = await answer(
            ground.port, ground.api(b"/v1/events/batch", headers=[_NDJSON] if lines else [], body=body)
        )
        seen.expect(found, right, f"{many:,} rows")

    many = [one(f"many-{n}", ROWS, "422", lines=lines) for n in range(BATCHES) for lines in (True, False)]
    await at_once(many, BATCHES)
    await at_once([one(f"full-{n}", MOST_ROWS, "202,503", lines=bool(n % 2)) for n in range(BATCHES)], BATCHES)
    return seen


async def _dead(ground: Ground) -> int:
    counts = await ground.asked(f"/v1/deliveries/counts?store={ground.key}")
    return int(counts["dead"])


async def _read(ground: Ground, seen: Seen, before: dict[str, int], more: int) -> None:
    """The normaliser gets through them and is not stopped by them."""
    names = ("observed", "parked", "ignored", "dead")
    now = before
    for _ in range(200):
        now = await ground.asked("/v1/deliveries/counts")
        if not now["pending"] and sum(now[name] - before[name] for name in names) >= more:
            return
        await pause(0.1)
    seen.wrong.append(f"the normaliser did not get through: {now}")


ATTACKS = (
    Attack("body of 100 MB", hundred_megabytes),
    Attack("API bodies of 64 MiB", api_bodies),
    Attack("body at a byte a second", slow_bodies),
    Attack("gzip bomb", gzip_bomb),
    Attack("JSON bombs", json_bombs),
    Attack("batches of 10,000 rows", batches),
)

"""Deliveries by nobody who may: wrong secrets, stores that are none, old deliveries again."""

import asyncio

from tests.faults.attacking.ground import Attack, Ground, Seen, at_once
from tests.faults.attacking.wire import Answer, answer, request
from tests.waiting import pause

FORGED = 1000
REPLAYED = 300
STRANGERS = 2000
WIDTH = 16
STATISTICS_SECONDS = 1.5
"""A backend tells what it has done once a second."""
IDLE_SECONDS = 10.5
"""One that is idle, after ten."""
READS = 150
TIMES = 3


async def _flood(ground: Ground, seen: Seen, what: str, right: str, requests: list[bytes]) -> list[Answer]:
    found: list[Answer] = []

    async def one(data: bytes) -> None:
        got = await answer(ground.port, data)
        seen.expect(got, right, what)
        found.append(got)

    await at_once([one(data) for data in requests], WIDTH)
    return found


def _forged(ground: Ground) -> bytes:
    body = ground.order()
    target = f"/webhooks/shopify/{ground.key}".encode()
    return request(target, headers=ground.signed(body, secret="somebody else's secret"), body=body)


async def bad_signature(ground: Ground) -> Seen:
    """By another secret."""
    seen = Seen(f"{FORGED:,} webhooks")
    await _flood(ground, seen, "bad signature", "401", [_forged(ground) for _ in range(FORGED)])
    return seen


async def no_signature(ground: Ground) -> Seen:
    """None, an empty one, what is not base64, megabytes of it would not fit a head."""
    target = f"/webhooks/shopify/{ground.key}".encode()
    body = ground.order()
    odd: list[list[tuple[bytes, bytes]]] = [
        [],
        [(b"X-Shopify-Hmac-Sha256", b"")],
        [(b"X-Shopify-Hmac-Sha256", b"=" * 44)],
        [(b"X-Shopify-Hmac-Sha256", b"\xff\xfe")],
        [(b"X-Shopify-Hmac-Sha256", b"A" * 30_000)],
        [(b"X-WC-Webhook-Signature", b"AAAA")],
    ]
    each = FORGED // len(odd)
    seen = Seen(f"{each * len(odd):,} webhooks, {len(odd)} kinds")
    await _flood(
        ground, seen, "no signature", "401", [request(target, headers=h, body=body) for h in odd for _ in range(each)]
    )
    return seen


async def unknown_store(ground: Ground) -> Seen:
    """Costs no query, and is answered as a bad secret is."""
    seen = Seen(f"{STRANGERS:,} webhooks to stores that are none")
    known = await answer(ground.port, _forged(ground))
    told: list[str] = []
    # What they cost, they cost each time. What a worker had to do for something else may fall into any one time.
    for _ in range(TIMES):
        during, idle = await _transactions(ground, seen, known)
        told.append(f"{during} during, {idle} in as long a time idle")
        if during <= idle + STRANGERS // 20:
            break
    else:
        seen.wrong.append(f"unknown stores cost queries: transactions {'; '.join(told)}")
    before = await ground.transactions()
    for _ in range(READS):
        await ground.asked("/v1/stores")
        # Longer than a backend keeps to itself what it has done.
        await pause(2 * STATISTICS_SECONDS / READS)
    await pause(STATISTICS_SECONDS)
    reads = await ground.transactions() - before
    seen.sent += f"; transactions {'; '.join(told)}; {reads} for {READS} reads of the API"
    if reads < READS // 2:
        seen.wrong.append(f"{READS} reads of the API were seen as {reads} transactions: the measure sees nothing")
    return seen


async def _transactions(ground: Ground, seen: Seen, known: Answer) -> tuple[int, int]:
    """While strangers send, and in as long a time without them: the workers commit by themselves, too."""
    # Before this a backend that has nothing to do may keep to itself what it has done.
    await pause(IDLE_SECONDS)
    began = asyncio.get_running_loop().time()
    before = await ground.transactions()
    bodies = [ground.order() for _ in range(100)]
    requests = [ground.webhook(bodies[n % 100], store=f"st_{n:026d}") for n in range(STRANGERS)]
    found = await _flood(ground, seen, "unknown store", "401", requests)
    if any(each.without_its_own() != known.without_its_own() for each in found):
        seen.wrong.append("an unknown store is answered otherwise than a bad secret")
    await pause(STATISTICS_SECONDS)
    seconds = asyncio.get_running_loop().time() - began
    during = await ground.transactions() - before
    before = await ground.transactions()
    await pause(seconds)
    return during, await ground.transactions() - before


async def replay(ground: Ground) -> Seen:
    """The very delivery again, and an old one for the first time: nothing signs its date."""
    body = ground.order()
    delivery = ground.webhook(body, headers=[(b"X-Shopify-Triggered-At", b"2020-01-01T00:00:00.123456789Z")])
    seen = Seen(f"1 webhook of 2020, {REPLAYED:,} times")
    path = f"/v1/deliveries/counts?store={ground.key}"
    await ground.asked(path)
    seen.expect(await answer(ground.port, delivery), "200", "an old delivery")
    before, journalled = (await ground.asked(path))["duplicates"], await _journalled(ground)
    await _flood(ground, seen, "a replay", "200", [delivery] * REPLAYED)
    after = (await ground.asked(path))["duplicates"]
    if after - before != REPLAYED:
        seen.wrong.append(f"{REPLAYED} replays, of which {after - before} were known as such")
    if (more := await _journalled(ground) - journalled) != 0:
        seen.wrong.append(f"{more} replays were journalled")
    return seen


async def _journalled(ground: Ground) -> int:
    return int(await ground.database.fetchval("SELECT count(*) FROM ingest.log_journal"))


ATTACKS = (
    Attack("bad signature", bad_signature),
    Attack("no signature", no_signature),
    Attack("unknown store", unknown_store, alone=True),
    Attack("replay of an old delivery", replay, alone=True),
)

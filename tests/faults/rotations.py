"""Secrets and keys rotated while webhooks come: `python -m tests.faults.rotations` prints what was answered.

`regulars run` with two API processes. Every second a store gets a new secret, with an overlap, and shops sign with it
from the moment that this was answered, or with the one before until near the overlap's end; and `regulars keys rotate`
seals everything anew. Wrong is any answer but 200, and anything that was answered so and is not in the journal.
"""

import argparse
import asyncio
import secrets
import sys
import tempfile
from collections import Counter
from pathlib import Path
from time import monotonic

import httpx

from libs.common.ids import new_id
from services.ingest.headers import signed
from services.ingest.signatures import sign
from tests.faults.ledger import drain
from tests.faults.running import ADMIN_KEY, Running
from tests.waiting import pause

LANES = 16
STORES = 4
OVERLAP_SECONDS = 10
LAGGING_SECONDS = 8.0
"""For so long some go on to sign with the secret of before."""
KEYS_EVERY = 5.0


class Shop:
    """A store, and the secrets that sign for it."""

    def __init__(self, key: str, secret: str) -> None:
        self.key = key
        self.now = self.before = secret
        self.changed = monotonic()

    def secret(self, *, lagging: bool) -> str:
        """What a sender signs with that takes its time, or none."""
        return self.before if lagging and monotonic() - self.changed < LAGGING_SECONDS else self.now


class Run:
    """What was sent and done."""

    def __init__(self, address: str, shops: list[Shop]) -> None:
        self.answers = Counter[int]()
        self.slowest = 0.0
        self.secrets = self.keys = 0
        self._address = address
        self._shops = shops
        self._over = asyncio.Event()

    async def last(self, seconds: float, data_dir: Path) -> None:
        """Goes on for so long."""
        headers = {"authorization": f"Bearer {ADMIN_KEY}"}
        async with httpx.AsyncClient(base_url=self._address, timeout=30) as http, asyncio.TaskGroup() as group:
            for n in range(LANES):
                group.create_task(self._send(n))
            group.create_task(self._rotate_secrets(http, headers))
            group.create_task(self._rotate_keys(data_dir))
            await pause(seconds)
            self._over.set()

    async def _send(self, lane: int) -> None:
        # A connection of its own: a pool would let the two processes share them unevenly.
        async with httpx.AsyncClient(base_url=self._address, timeout=30) as http:
            n = 0
            while not self._over.is_set():
                n += 1
                shop = self._shops[(lane + n) % STORES]
                body = b'{"id": %d, "currency": "EUR", "created_at": "2026-03-01T10:00:00Z"}' % (lane * 10**9 + n)
                signature = sign(shop.secret(lagging=lane % 2 == 1).encode(), body).decode()
                told = signed("shopify", "orders/create", new_id(), signature)
                began = monotonic()
                answer = await http.post(f"/webhooks/shopify/{shop.key}", content=body, headers=told)
                self.slowest = max(self.slowest, monotonic() - began)
                self.answers[answer.status_code] += 1

    async def _rotate_secrets(self, http: httpx.AsyncClient, headers: dict[str, str]) -> None:
        n = 0
        while not self._over.is_set():
            n += 1
            shop, secret = self._shops[n % STORES], secrets.token_hex(16)
            if monotonic() - shop.changed > OVERLAP_SECONDS:
                change = {"secrets": [secret], "overlap_seconds": OVERLAP_SECONDS}
                (await http.patch(f"/v1/stores/{shop.key}", json=change, headers=headers)).raise_for_status()
                shop.before, shop.now, shop.changed = shop.now, secret, monotonic()
                self.secrets += 1
            await pause(1.0)

    async def _rotate_keys(self, data_dir: Path) -> None:
        command = [sys.executable, "-m", "regulars", "keys", "rotate", "--data-dir", str(data_dir)]
        while not self._over.is_set():
            process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
            if await process.wait():
                sys.exit("keys rotate failed")
            self.keys += 1
            await pause(KEYS_EVERY)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="regulars-rotations-") as folder:
        options, quiet = ("--api-processes", "2"), {"REGULARS_LOG_LEVEL": "error"}
        with Running(Path(folder) / "data", options=options, environment=quiet) as run:
            shops = [_registered(run, n) for n in range(STORES)]
            done = Run(run.address, shops)
            asyncio.run(done.last(asked.seconds, run.data_dir))
            drain(run)
            kept = _kept(run)
    told = ", ".join(f"{n} answered {status}" for status, n in sorted(done.answers.items()))
    print(
        f"{done.secrets} secrets and {done.keys} keys rotated in {asked.seconds:.0f} s: {told}; {kept} in the journal;"
    )
    print(f"the slowest answer took {done.slowest * 1000:.0f} ms")
    if set(done.answers) != {200} or kept != done.answers[200]:
        sys.exit(1)


def _registered(run: Running, n: int) -> Shop:
    secret = secrets.token_hex(16)
    body = {
        "platform": "shopify",
        "domain": f"rotated-{n}.myshopify.com",
        "secrets": [secret],
        "currency": "EUR",
        "timezone": "UTC",
    }
    with run.client() as client:
        return Shop(client.post("/v1/stores", json=body).raise_for_status().json()["store_key"], secret)


def _kept(run: Running) -> int:
    with run.client() as client:
        counts = client.get("/v1/deliveries/counts").raise_for_status().json()
    return sum(int(counts[name]) for name in ("observed", "parked", "ignored", "dead", "pending"))


if __name__ == "__main__":
    main()

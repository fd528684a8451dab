"""A record that alone takes longer than a transaction may: what becomes of it, and of another tenant's beside it."""

import asyncio
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

import asyncpg
import httpx

from libs.common.auth import create_key
from libs.common.db import IDLE_IN_TRANSACTION, Database
from tests.faults.apart import Apart
from tests.faults.ledger import FIRST_ORDER, Report, dead_letters, judge, judge_timelines, register
from tests.faults.promises import Shown
from tests.faults.scene import PLACED, Scene
from tests.faults.traffic import Sender, Webhook, order, orders
from tests.waiting import until

SLOW = 400_000_000
"""Number of the order that takes too long."""
NEIGHBOURS = 50
REASON = f"TookTooLong: it takes longer than {IDLE_IN_TRANSACTION:g} s"
BURIED_SECONDS = 240.0
_SLOW_SHOP, _OTHER_TENANTS_SHOP = "slow.myshopify.com", "neighbour.myshopify.com"


@dataclass(frozen=True, slots=True)
class _Tenant:
    """An installation as one of its tenants sees it."""

    line: Apart
    key: str

    def client(self) -> httpx.Client:
        """With all that the tenant may do."""
        return self.line.client(self.key)


class Slow:
    """`sent` while others come, `judged` when all is through."""

    def __init__(self, scene: Scene) -> None:
        self._line = scene.line
        self._senders: list[Sender] = []
        self._neighbour: _Tenant | None = None
        self._store = ""
        self._buried, self._passed = 0.0, 0.0

    async def sent(self) -> None:
        """An order that takes too long, and behind it another tenant's. Returns when it is buried and they are through.

        Raises TimeoutError.
        """
        store = await asyncio.to_thread(register, self._line, _SLOW_SHOP)
        neighbour = self._neighbour = _Tenant(self._line, await _key_of_another_tenant(self._line))
        self._store = await asyncio.to_thread(register, neighbour, _OTHER_TENANTS_SHOP)
        await _make_slow(self._line.database_url, store)
        self._senders = [
            Sender(partial("{}/webhooks/shopify/{}".format, self._line.address, key)) for key in (store, self._store)
        ]
        began = monotonic()
        await self._senders[0].send([Webhook("orders/create", order(SLOW, PLACED), PLACED, "slow")])
        await self._senders[1].send(orders(NEIGHBOURS, PLACED))
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(until, "the neighbours are through", self._is_through, BURIED_SECONDS))
            group.create_task(asyncio.to_thread(until, "it is buried", self._is_buried, BURIED_SECONDS, 0.25))
        self._buried, self._passed = self._buried - began, self._passed - began

    async def judged(self, shown: Shown, letters: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Adds to what was shown, and returns the other dead letters."""
        assert self._neighbour is not None
        report = Report(NEIGHBOURS, 0)
        await asyncio.to_thread(judge, self._neighbour, self._store, self._senders[1], report)
        await asyncio.to_thread(judge_timelines, self._neighbour, self._store, self._senders[1], report)
        shown.judged(report)
        shown.seen.append(
            f"an order that takes longer than a transaction may, each time: a dead letter of profiles after"
            f" {self._buried:.0f} s ({REASON}); {NEIGHBOURS} orders that another tenant sent behind it were through"
            f" after {self._passed:.0f} s"
        )
        shown.differences += [f"answered otherwise: {answer}" for sender in self._senders for answer in sender.other]
        mine = [letter for letter in letters if _is_slow(letter)]
        if [letter["consumer"] for letter in mine] != ["profiles"]:
            shown.differences.append(f"the order that takes too long: dead letters {mine}")
        return [letter for letter in letters if letter not in mine]

    def _is_through(self) -> bool:
        assert self._neighbour is not None
        with self._neighbour.client() as client:
            last = client.get(f"/v1/orders/{self._store}:{FIRST_ORDER + NEIGHBOURS - 1}")
        self._passed = monotonic()
        return last.status_code == 200

    def _is_buried(self) -> bool:
        self._buried = monotonic()
        return any(map(_is_slow, dead_letters(self._line)))


def _is_slow(letter: dict[str, Any]) -> bool:
    return bool(letter["reason"] == REASON)


async def _key_of_another_tenant(line: Apart) -> str:
    database = Database(line.database_url, schema="common", pool_size=1)
    try:
        return await create_key(database, "neighbour", ["*"], "poison")
    finally:
        await database.close()


async def _make_slow(database_url: str, store: str) -> None:
    """Whoever saves this order, alone or with others, is at it until the server ends his transaction.

    The server does so after 11 s, where `LONGEST_TRANSACTION` would have it wait for 60: each try is as hopeless.
    """
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            f"""
            CREATE FUNCTION profiles.dawdle() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                -- A timeout that runs is not made shorter: it is ended, and another one begins.
                PERFORM set_config('transaction_timeout', '0', true);
                PERFORM set_config('transaction_timeout', '11s', true);
                PERFORM pg_sleep(60);
                RETURN NEW;
            END $$;
            CREATE TRIGGER slow BEFORE INSERT ON profiles.orders FOR EACH ROW
            WHEN (NEW.store = '{store}' AND NEW.source_id = '{FIRST_ORDER + SLOW}') EXECUTE FUNCTION profiles.dawdle();
            """
        )
    finally:
        await connection.close()

"""Who comes at about the same time shares a commit; who comes alone waits for nobody."""

import asyncio

import pytest
from prometheus_client import REGISTRY

from libs.common.contracts.journal import Delivery
from libs.common.ids import new_id
from services.ingest import journal
from services.ingest.journal import Journal, Kept, digest_of, event_of
from tests.integration.ingest.ground import Ground

MANY = 40


def _commits() -> float:
    return REGISTRY.get_sample_value("regulars_ingest_group_size_count") or 0.0


class Sender:
    """Offers deliveries, and hears what became of them."""

    def __init__(self, ground: Ground) -> None:
        self._journal: Journal = ground.app.state.ingest.journal
        self._now = ground.clock.now()
        self._waiting: list[asyncio.Future[Kept]] = []

    def offer(self, id_: str = "") -> None:
        id_ = id_ or new_id()
        delivery = Delivery(
            store="st_1", platform="shopify", topic="orders/create", delivery_id=id_, headers={}, body=b"{}"
        )
        event = event_of(delivery, id=new_id(), tenant="default", root="order:1", time=self._now, traceparent=None)
        answer: asyncio.Future[Kept] = asyncio.get_running_loop().create_future()
        self._journal.offer(event, digest_of(id_), answer.set_result)
        self._waiting.append(answer)

    async def told(self) -> list[Kept]:
        """Of all that were offered since it was last asked."""
        waiting, self._waiting = self._waiting, []
        return await asyncio.wait_for(asyncio.gather(*waiting), 10)

    async def trickle(self, seconds: float) -> None:
        """Another one of as many each time that so long has passed."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        for n in range(MANY):
            loop.call_later(n * seconds, self.offer)
        loop.call_later(MANY * seconds, done.set)
        await done.wait()


async def test_who_comes_at_one_time_shares_a_commit(ground: Ground) -> None:
    sender = Sender(ground)
    before = _commits()
    for _ in range(MANY):
        sender.offer()
    assert await sender.told() == [Kept.NEW] * MANY
    assert _commits() - before == 1


async def test_behind_a_large_group_as_many_are_waited_for(ground: Ground) -> None:
    """They come one by one, each well before the commit of the one before it would be there."""
    sender = Sender(ground)
    for _ in range(MANY):
        sender.offer()
    await sender.told()
    before = _commits()
    await sender.trickle(journal.GATHER_SECONDS / 2 / MANY)
    assert await sender.told() == [Kept.NEW] * MANY
    assert _commits() - before <= 2


async def test_nobody_is_waited_for_where_little_comes(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "PAUSE_SECONDS", 60.0)
    sender = Sender(ground)
    for _ in range(5):
        for _ in range(journal.BUSY - 1):
            sender.offer()
        # Were anybody waited for, it would be for a minute.
        assert await sender.told() == [Kept.NEW] * (journal.BUSY - 1)


async def test_one_whose_answer_fails_costs_the_others_nothing(ground: Ground) -> None:
    sender = Sender(ground)
    sender.offer("first")
    # Told twice: the second time raises, in the midst of the group.
    sender._waiting[0].set_result(Kept.NOT)
    sender.offer("second")
    sender.offer("second")
    _, *others = await sender.told()
    assert others == [Kept.NEW, Kept.SEEN]
    assert await ground.journalled() == 2

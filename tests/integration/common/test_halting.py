"""A burst of dead letters: a bad version halts before it buries a day, and nobody's garbage halts the others."""

from collections import Counter
from functools import partial

import pytest
from msgspec import structs
from prometheus_client import REGISTRY

from libs.common.contracts.topics import COMMERCE, CUSTOMERS
from libs.common.log.postgres import PostgresLog, append
from libs.common.worker import Batch, Consumer, Limits, Worker
from tests.contract.logs import event, working
from tests.integration.common.workbench import Bench
from tests.waiting import eventually

LIMITS = Limits(lease=0.3, patience=0.05, backoff=0.05, burst=10)
REASON = "more than 10 dead letters among the last 20 records, and nobody else's pass"


async def send(
    bench: Bench, store: str, *datas: bytes, tenant: str = "default", kind: str = "order.observed", key: str = ""
) -> None:
    """Events of a store, of as many objects; `key`: of this one."""
    events = [event(f"{store}:{key or n}", data=data, tenant=tenant) for n, data in enumerate(datas)]
    async with bench.written.database.transaction() as tx:
        await append(tx, COMMERCE, [structs.replace(each, type=kind) for each in events])


async def told(bench: Bench, worker: Worker) -> tuple[list[str], float | None, tuple[str, str | None]]:
    """By the worker itself, by its metric, and in the table that the doctor reads."""
    async with bench.database.autocommit() as pg:
        row = await pg.fetchrow("SELECT state, reason FROM workers WHERE worker = $1", worker.name)
    halted = REGISTRY.get_sample_value("regulars_consumer_halted", {"consumer": "profiles"})
    return worker.problems(), halted, (row["state"], row["reason"]) if row else ("", None)


async def is_halted(bench: Bench, worker: Worker) -> bool:
    return await told(bench, worker) == ([f"profiles is halted: {REASON}"], 1, ("halted", REASON))


async def runs(bench: Bench, worker: Worker) -> bool:
    return await told(bench, worker) == ([], 0, ("running", None))


async def test_garbage_of_one_store_halts_until_another_store_sends_something(bench: Bench) -> None:
    """After a restart nobody knows yet who passes."""
    await send(bench, "st_bad", *[b"refuse"] * 60)
    worker = bench.worker(limits=LIMITS, batch_size=4)
    async with working(worker):
        await eventually(partial(is_halted, bench, worker))
        assert len(await bench.dead()) <= 10
        await send(bench, "st_good", b"{}")
        await eventually(bench.drained)
        await eventually(partial(runs, bench, worker))
    assert list((await bench.effects()).values()) == [1]
    assert len(await bench.dead()) == 60


async def test_what_comes_far_behind_the_garbage_is_found(bench: Bench) -> None:
    """In its partition too, and further than one look goes."""
    await send(bench, "st_bad", *[b"poison"] * 250, key="order:1")
    await send(bench, "st_bad", *[b"{}"] * 5, key="order:1")
    await send(bench, "st_good", *[b"{}"] * 3)
    worker = bench.worker(limits=LIMITS)
    async with working(worker):
        await eventually(bench.drained)
        assert worker.problems() == []
    assert Counter((await bench.effects()).values()) == {1: 8}
    assert len(await bench.dead()) == 250


async def test_garbage_of_tenants_who_send_it_at_one_time(bench: Bench) -> None:
    for tenant in ("b", "c"):
        await send(bench, "st_1", *[b"refuse"] * 60, tenant=tenant)
    await send(bench, "st_1", b"{}", tenant="a")
    worker = bench.worker(limits=LIMITS, batch_size=4)
    async with working(worker):
        await eventually(bench.drained)
        assert worker.problems() == []
    assert len(await bench.effects()) == 1
    assert len(await bench.dead()) == 120


async def test_whoever_was_served_before_waits_for_no_look(bench: Bench) -> None:
    worker = bench.worker(limits=LIMITS, batch_size=4)
    async with working(worker):
        await send(bench, "st_good", *[b"{}"] * 4)
        await eventually(bench.drained)
        await send(bench, "st_bad", *[b"refuse"] * 60)
        await eventually(bench.drained)
        assert worker.problems() == []
    assert len(await bench.dead()) == 60


@pytest.mark.parametrize("fault", ["rejects", "breaks"])
async def test_a_bad_version_halts_and_stays_so_until_a_good_one_starts(bench: Bench, fault: str) -> None:
    await send(bench, "st_1", *[b"{}"] * 100)
    await send(bench, "st_2", *[b"{}"] * 20)
    tried: set[str] = set()

    async def fail(batch: Batch) -> None:
        tried.update(record.key for record in batch.records if record.key.startswith("st_2"))
        for record in batch.records:
            batch.reject(record, "no good")
        if fault == "breaks":
            raise ZeroDivisionError

    async def all_tried() -> bool:
        return len(tried) == 20

    bad = bench.worker(fail, limits=LIMITS, batch_size=4)
    async with working(bad):
        await eventually(partial(is_halted, bench, bad))
        # Whatever is not of the store to blame was looked at meanwhile, and speaks against us.
        await eventually(all_tried)
        await eventually(partial(is_halted, bench, bad))
    buried = len(await bench.dead())
    assert 0 < buried <= 10

    async with working(bench.worker(limits=LIMITS, batch_size=4)):
        await eventually(bench.drained)
    assert len(await bench.dead()) == buried
    assert Counter((await bench.effects()).values()) == {1: 120 - buried}


async def test_nothing_of_a_look_stays(bench: Bench) -> None:
    """Orders and carts of two stores die. That an order of a third one would pass is not enough."""
    for store in ("st_1", "st_2"):
        for kind in ("order.observed", "cart.observed"):
            await send(bench, store, *[b"refuse"] * 30, kind=kind)
    tried: list[str] = []

    async def tell(batch: Batch) -> None:
        await bench.note(batch)
        for record in batch.records:
            tried.append(record.type)
            batch.emit(CUSTOMERS, "x", record, key="k", time=record.time, cause=record)

    async def has_tried() -> bool:
        return bool(tried)

    async def kept() -> tuple[list[int], int]:
        events = (await PostgresLog(bench.database).end_offsets(CUSTOMERS.name)).values()
        return list((await bench.effects()).values()), sum(events)

    worker = bench.worker(tell, limits=LIMITS, batch_size=1)
    async with working(worker):
        await eventually(partial(is_halted, bench, worker))
        await send(bench, "st_3", b"{}")
        await eventually(has_tried)
        await eventually(partial(is_halted, bench, worker))
        assert await kept() == ([], 0)
        await send(bench, "st_3", b"{}", kind="cart.observed")
        await eventually(bench.drained)
    assert await kept() == ([1, 1], 2)


async def test_a_halted_consumer_waits_for_a_lost_database_as_such(bench: Bench) -> None:
    """It does not forget why it halted."""
    await send(bench, "st_bad", *[b"refuse"] * 60)
    seen: list[list[str]] = []

    async def away_at_first(batch: Batch) -> None:
        if any(record.data == b"{}" for record in batch.records) and len(seen) < 2:
            seen.append(worker.problems())
            raise ConnectionError
        await bench.note(batch)

    worker = bench.worker(away_at_first, limits=LIMITS, batch_size=1)
    async with working(worker):
        await eventually(partial(is_halted, bench, worker))
        await send(bench, "st_good", b"{}")
        await eventually(bench.drained)
        await eventually(partial(runs, bench, worker))
    assert seen == [[f"profiles is halted: {REASON}"]] * 2
    assert list((await bench.effects()).values()) == [1]


@pytest.mark.parametrize("bench", ["postgres"], indirect=True)
async def test_what_has_effects_elsewhere_is_not_tried(bench: Bench) -> None:
    """A relay sends for good whatever it is given."""
    worker = bench.worker(limits=LIMITS)
    [consuming] = worker._consuming
    consuming.consumer = Consumer("profiles", (COMMERCE,), bench.note, copies=True)
    await send(bench, "st_bad", *[b"refuse"] * 60)
    async with working(worker):
        await eventually(partial(is_halted, bench, worker))
        assert consuming.lookout is None

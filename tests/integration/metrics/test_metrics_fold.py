"""Facts through the handler into PostgreSQL: what corrects the past, and what two workers do at once."""

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import Numeric, Table

from libs.common.db import Database
from services.metrics import steps, tables, verify
from services.metrics.kpis import Kpi
from tests.integration.metrics.driving import NOON, cart, checkout, deliver, moved, order, read, record, sent

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


async def right(database: Database, tenant: str = "default") -> None:
    async with database.reading() as tx:
        checked, differences = await verify.verify(tx, tenant, NOON)
    assert checked
    assert differences == []


async def test_a_refund_changes_the_day_of_the_order(metrics_db: Database) -> None:
    placed = NOON - 40 * DAY
    await deliver(metrics_db, [moved("customer:a", "p"), order("1", placed, gross=100_00)])
    assert (await read(metrics_db, NOON - 39 * DAY))["net_sales"].value == 100_00
    await deliver(metrics_db, [order("1", placed, gross=100_00, returns=30_00, revision=2)])
    assert (await read(metrics_db, NOON - 39 * DAY))["net_sales"].value == 70_00
    assert (await read(metrics_db, NOON))["net_sales"].value == 0
    await right(metrics_db)


async def test_a_cancelled_order_never_was(metrics_db: Database) -> None:
    first, second = NOON - 3 * DAY, NOON - 2 * DAY
    await deliver(metrics_db, [moved("customer:a", "p"), order("1", first), order("2", second)])
    assert (await read(metrics_db, NOON))["repeat_purchase_rate"].value == 1
    await deliver(metrics_db, [order("1", first, counted=False, revision=2)])
    found = await read(metrics_db, NOON)
    assert (found["orders"].value, found["customers"].value, found["repeat_purchase_rate"].value) == (1, 1, 0)
    assert (await read(metrics_db, NOON - 2 * DAY))["orders"].value == 0
    await right(metrics_db)


async def test_an_order_can_change_its_day_its_currency_and_its_account(metrics_db: Database) -> None:
    await deliver(metrics_db, [moved("customer:a", "p"), moved("guest:b", "q"), order("1", NOON - DAY)])
    await deliver(metrics_db, [order("1", NOON - 9 * DAY, currency="JPY", account="guest:b", gross=500, revision=2)])
    assert (await read(metrics_db, NOON))["orders"].value == 0
    found = await read(metrics_db, NOON, currency="JPY")
    assert (found["gross_sales"].value, found["customers"].value) == (500, 1)
    await deliver(metrics_db, [order("2", NOON - DAY, currency="JPY", account="customer:a")])
    assert (await read(metrics_db, NOON, currency="JPY"))["repeat_purchase_rate"] == Kpi("rate", 0, 2)
    await right(metrics_db)


async def test_moved_accounts_make_one_buyer_of_two_and_two_of_one(metrics_db: Database) -> None:
    await deliver(
        metrics_db,
        [
            moved("guest:a", "p"),
            moved("customer:b", "q"),
            order("1", NOON - 33 * DAY, account="guest:a"),
            order("2", NOON - 3 * DAY, account="customer:b", store="st_2"),
        ],
    )
    assert (await read(metrics_db, NOON))["retention_rate"] == Kpi("rate", 0, 1)
    await deliver(metrics_db, [moved("guest:a", "q", revision=2)])
    found = await read(metrics_db, NOON)
    assert found["retention_rate"] == Kpi("rate", 1, 1)
    assert (found["new_customers"].value, found["returning_customers"].value) == (0, 1)
    alone = await read(metrics_db, NOON, store="st_2")
    assert (alone["new_customers"].value, alone["retention_rate"].value) == (1, None), "in that store it was the first"
    await deliver(metrics_db, [moved("guest:a", "p", revision=3)])
    assert (await read(metrics_db, NOON))["retention_rate"] == Kpi("rate", 0, 1)
    await right(metrics_db)


async def test_an_order_waits_for_its_buyer(metrics_db: Database) -> None:
    await deliver(metrics_db, [order("1", NOON - DAY), order("2", NOON - DAY, account=None)])
    found = await read(metrics_db, NOON)
    assert (found["orders"].value, found["customers"].value) == (2, 0)
    await deliver(metrics_db, [moved("customer:a", "p")])
    found = await read(metrics_db, NOON)
    assert (found["orders"].value, found["customers"].value) == (2, 1)
    assert found["purchase_frequency"] == Kpi("ratio", 1, 1)
    await right(metrics_db)


async def test_an_old_revision_changes_nothing(metrics_db: Database) -> None:
    late = [order("1", NOON - DAY, gross=7_00, revision=2), moved("customer:a", "q", revision=2)]
    early = [order("1", NOON - DAY, gross=5_00), moved("customer:a", "p")]
    await deliver(metrics_db, late)
    before = await _rows(metrics_db)
    await deliver(metrics_db, early + late + early)
    assert await _rows(metrics_db) == before
    assert (await read(metrics_db, NOON))["gross_sales"].value == 7_00


async def test_a_checkout_and_its_order_in_any_order(metrics_db: Database) -> None:
    placed = NOON - HOUR
    await deliver(metrics_db, [order("1", placed, checkout="tok"), moved("customer:a", "p")])
    await deliver(metrics_db, [checkout("tok", NOON - 2 * HOUR)])
    await deliver(metrics_db, [checkout("9001", NOON - 2 * HOUR)])
    assert (await read(metrics_db, NOON))["conversion_rate"] == Kpi("rate", 1, 2)
    await deliver(metrics_db, [order("9001", placed)])
    assert (await read(metrics_db, NOON))["conversion_rate"] == Kpi("rate", 2, 2), "a draft becomes the order of its id"
    await deliver(metrics_db, [order("1", placed, checkout="other", revision=2)])
    found = await read(metrics_db, NOON)
    assert (found["conversion_rate"], found["abandonment_rate"]) == (Kpi("rate", 1, 2), Kpi("rate", 1, 2))
    await right(metrics_db)


async def test_an_emptied_or_deleted_checkout_is_none(metrics_db: Database) -> None:
    start = NOON - 2 * HOUR
    for revision, gone in ((1, {}), (2, {"items": 0}), (3, {}), (4, {"deleted": True})):
        await deliver(
            metrics_db,
            [
                checkout("a", start),
                checkout("b", start, revision=revision, **gone),
                cart("a", start),
                cart("b", start, revision=revision, **gone),
            ],
        )
        found = await read(metrics_db, NOON)
        assert (found["checkouts"].value, found["carts"].value) == ((1, 1) if gone else (2, 2))
        await right(metrics_db)


@pytest.mark.parametrize(
    ("bought", "recovered"),
    [(timedelta(hours=1), 1), (5 * DAY, 1), (5 * DAY + timedelta(microseconds=1), 0), (timedelta(0), 0)],
)
async def test_recovery_by_the_profile_within_five_days(
    metrics_db: Database, bought: timedelta, recovered: int
) -> None:
    start = NOON - 20 * DAY
    message = start + timedelta(minutes=45)
    facts = [
        moved("customer:a", "p"),
        moved("guest:b", "p"),
        checkout("tok", start),
        sent("tok", message + DAY),
        sent("tok", message),
        sent("tok", message - HOUR, flow="welcome"),
        order("1", message + bought, account="guest:b", store="st_2", gross=80_00, discounts=8_00),
    ]
    for fact in facts:
        await deliver(metrics_db, [fact])
    found = await read(metrics_db, NOON, store="st_1")
    assert found["recovery_rate"] == Kpi("rate", recovered, 1)
    assert found["recovered_sales"].value == 72_00 * recovered
    await right(metrics_db)
    await deliver(metrics_db, [moved("guest:b", "q", revision=2)])
    assert (await read(metrics_db, NOON))["recovery_rate"] == Kpi("rate", 0, 1), "it was somebody else"
    await deliver(metrics_db, [moved("customer:a", "q", revision=2)])
    assert (await read(metrics_db, NOON))["recovery_rate"] == Kpi("rate", recovered, 1)
    await right(metrics_db)


async def test_recovery_by_the_token_at_any_time(metrics_db: Database) -> None:
    start = NOON - 20 * DAY
    await deliver(metrics_db, [checkout("tok", start, account=None), sent("tok", start + HOUR)])
    await deliver(metrics_db, [order("1", start + 15 * DAY, account=None, checkout="tok", gross=9_00)])
    found = await read(metrics_db, NOON)
    assert (found["recovery_rate"], found["recovered_sales"].value) == (Kpi("rate", 1, 1), 9_00)
    await deliver(
        metrics_db, [order("1", start + 15 * DAY, account=None, checkout="tok", gross=9_00, returns=4_00, revision=2)]
    )
    assert (await read(metrics_db, NOON))["recovered_sales"].value == 5_00
    await deliver(metrics_db, [order("1", start, account=None, checkout="tok", gross=9_00, revision=3)])
    assert (await read(metrics_db, NOON))["recovery_rate"] == Kpi("rate", 0, 0), "it had been ordered already"
    await right(metrics_db)


async def test_what_cannot_be_counted_is_rejected_alone(metrics_db: Database) -> None:
    bad = msgspec.structs.replace(record("order.placed", {}), offset=1, data=b"{}")
    strange = msgspec.structs.replace(order("2", NOON - DAY, currency="ABC"), offset=2)
    unread = msgspec.structs.replace(bad, type="profile.changed", offset=3)
    batch = await deliver(metrics_db, [order("1", NOON - DAY), bad, strange, unread])
    assert {place[2]: reason for place, (_, reason) in batch.rejected.items()}.keys() == {1, 2}
    assert batch.rejected["customers", 0, 2][1] == "unknown currency"
    assert (await read(metrics_db, NOON))["orders"].value == 1


async def test_workers_at_once_miss_nothing_of_each_other(metrics_db: Database) -> None:
    async def worker(which: int) -> None:
        # Each its own account of the same person; the checkout in one hand, its order in the other.
        for n in range(12):
            place = NOON - timedelta(days=n, hours=which + 1)
            token = f"{n}-{which}"
            await deliver(
                metrics_db,
                [
                    moved(f"guest:{which}", "p" if n % 2 else f"p{which}", revision=n + 1),
                    order(f"{n}-{which}", place, account=f"guest:{which}", checkout=f"{n}-{1 - which}"),
                    checkout(token, place - HOUR, account=f"guest:{which}"),
                    sent(f"{n}-{1 - which}", place),
                ],
            )

    await asyncio.gather(worker(0), worker(1))
    assert (await read(metrics_db, NOON))["conversion_rate"] == Kpi("rate", 24, 24)
    await right(metrics_db)


async def test_tenants_do_not_meet(metrics_db: Database) -> None:
    await deliver(metrics_db, [moved("customer:a", "p"), order("1", NOON - DAY, checkout="tok")])
    await deliver(
        metrics_db, [checkout("tok", NOON - 2 * DAY, tenant="other"), sent("tok", NOON - 2 * DAY, tenant="other")]
    )
    await deliver(metrics_db, [moved("customer:a", "p", tenant="other")])
    assert (await read(metrics_db, NOON, tenant="other"))["conversion_rate"] == Kpi("rate", 0, 1)
    assert (await read(metrics_db, NOON, tenant="other"))["orders"].value == 0
    assert (await read(metrics_db, NOON))["checkouts"].value == 0
    await right(metrics_db)
    await right(metrics_db, "other")


async def test_verify_sees_what_is_wrong(metrics_db: Database) -> None:
    await deliver(metrics_db, [moved("customer:a", "p"), order("1", NOON - DAY), order("2", NOON - HOUR)])
    async with metrics_db.transaction() as tx:
        await tx.pg.execute("UPDATE orders SET returns = 1 WHERE source_id = '1'")
    async with metrics_db.reading() as tx:
        _, differences = await verify.verify(tx, "default", NOON)
    assert {one.figure for one in differences} == {"returns", "net_ever"}
    assert {one.recounted for one in differences if one.figure == "returns"} == {1}
    watch = verify.Watch(metrics_db)
    for _ in range(2):
        assert await watch.run(NOON) is False
    assert verify.DIFFERENCES._value.get() > 0


async def test_verify_sees_sums_that_do_not_add_up(metrics_db: Database) -> None:
    await deliver(metrics_db, [order("1", NOON - DAY)])
    async with metrics_db.transaction() as tx:
        await tx.pg.execute("UPDATE totals SET gross = gross + 1 WHERE tier = 2 AND store = '*'")
    async with metrics_db.reading() as tx:
        assert [row[:4] for row in await steps.uneven(tx, "default")] == [("totals", "*", "EUR", 2)]


async def test_tables_are_those_of_the_migrations(metrics_db: Database) -> None:
    async with metrics_db.reading() as tx:
        for table in tables.metadata.sorted_tables:
            rows = await tx.pg.fetch(
                """
                SELECT column_name, is_nullable = 'YES' AS nullable, data_type = 'numeric' AS is_numeric
                FROM information_schema.columns
                WHERE table_schema = current_schema() AND table_name = $1 ORDER BY ordinal_position
                """,
                table.name,
            )
            assert [tuple(row) for row in rows] == _columns(table), table.name


def _columns(table: Table) -> list[tuple[str, bool, bool]]:
    return [(c.name, bool(c.nullable), isinstance(c.type, Numeric)) for c in table.columns]


async def _rows(database: Database) -> list[Any]:
    async with database.reading() as tx:
        return [
            sorted(tuple(row) for row in await tx.pg.fetch(f"SELECT * FROM {table}"))
            for table in ("orders", "accounts", "totals", "long_intervals")
        ]

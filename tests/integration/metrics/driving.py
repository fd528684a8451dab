"""Facts as other services publish them, and a way to have them folded."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from libs.common.batch import Batch
from libs.common.contracts import codec, customers, messages
from libs.common.db import Database, Tx
from libs.common.log.base import Record
from services.metrics import steps
from services.metrics.algebra import ALL_STORES, WINDOWS
from services.metrics.facts import micros
from services.metrics.handlers import on_facts
from services.metrics.kpis import Kpi, figures, instants, kpis

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def record(type_: str, data: Any, tenant: str = "default", offset: int = 0) -> Record:
    topic = "messages" if type_.startswith("message.") else "customers"
    return Record(
        id=f"{type_}-{offset}",
        type=type_,
        source="/services/tests",
        tenant=tenant,
        key="key",
        time=NOON,
        data=codec.encode(topic, data),
        topic=topic,
        partition=0,
        offset=offset,
        appended_at=NOON,
    )


def order(
    source_id: str,
    placed_at: datetime,
    *,
    account: str | None = "customer:a",
    store: str = "st_1",
    revision: int = 1,
    counted: bool = True,
    currency: str = "EUR",
    gross: int = 10_00,
    discounts: int = 0,
    returns: int = 0,
    shipping: int = 0,
    taxes: int = 0,
    checkout: str | None = None,
    tenant: str = "default",
) -> Record:
    net = gross - discounts - returns
    view = customers.OrderView(
        store=store,
        source_id=source_id,
        account=account,
        counted=counted,
        placed_at=placed_at,
        currency=currency,
        gross=gross,
        discounts=discounts,
        returns=returns,
        net=net,
        shipping=shipping,
        taxes=taxes,
        total=net + shipping + taxes,
        checkout_token=checkout,
    )
    if revision == 1:
        return record("order.placed", customers.OrderPlaced(store=store, order=view, revision=1), tenant)
    fact = customers.OrderRevised(store=store, before=view, order=view, revision=revision)
    return record("order.revised", fact, tenant)


def moved(account: str, profile: str, *, revision: int = 1, tenant: str = "default") -> Record:
    fact = customers.AccountMoved(store="st_1", account=account, profile=profile, revision=revision)
    return record("account.moved", fact, tenant)


def checkout(
    token: str,
    started_at: datetime,
    *,
    changed_at: datetime | None = None,
    account: str | None = "customer:a",
    store: str = "st_1",
    revision: int = 1,
    items: int = 1,
    deleted: bool = False,
    currency: str = "EUR",
    tenant: str = "default",
) -> Record:
    fact = customers.CheckoutChanged(
        store=store,
        account=account,
        token=token,
        started_at=started_at,
        changed_at=changed_at or started_at,
        items=items,
        currency=currency,
        total=0,
        deleted=deleted,
        revision=revision,
    )
    return record("checkout.deleted" if deleted else "checkout.changed", fact, tenant)


def cart(
    token: str,
    started_at: datetime,
    *,
    store: str = "st_1",
    revision: int = 1,
    items: int = 1,
    deleted: bool = False,
    currency: str = "EUR",
    tenant: str = "default",
) -> Record:
    fact = customers.CartChanged(
        store=store,
        account=f"cart:{store}:{token}",
        token=token,
        started_at=started_at,
        changed_at=started_at,
        items=items,
        currency=currency,
        total=0,
        deleted=deleted,
        revision=revision,
    )
    return record("cart.changed", fact, tenant)


def sent(
    token: str, at: datetime, *, store: str = "st_1", flow: str = "cart_abandonment", tenant: str = "default"
) -> Record:
    fact = messages.MessageSent(
        message="m",
        store=store,
        profile="p",
        account="customer:a",
        flow=flow,
        version=1,
        step=1,
        run_key=token,
        channel="email",
        at=at,
        checkout_token=token,
    )
    return record("message.sent", fact, tenant)


async def deliver(database: Database, records: Sequence[Record]) -> Batch:
    """One batch, folded and committed."""
    async with database.transaction() as tx:
        batch = Batch(tx, records, NOON, "metrics")
        await on_facts(batch)
    return batch


async def read(
    database: Database,
    as_of: datetime,
    window: str = "30d",
    *,
    store: str | None = None,
    currency: str = "EUR",
    tenant: str = "default",
) -> dict[str, Kpi]:
    """The KPIs as the API computes them."""
    async with database.reading() as tx:
        return await read_in(tx, as_of, window, store=store, currency=currency, tenant=tenant)


async def read_in(
    tx: Tx,
    as_of: datetime,
    window: str,
    *,
    store: str | None = None,
    currency: str = "EUR",
    tenant: str = "default",
) -> dict[str, Kpi]:
    at, length = micros(as_of), WINDOWS[window]
    totals, longer = await steps.read(tx, (tenant, store or ALL_STORES, currency), length, instants(at, length))
    return kpis(figures(totals, longer, at, length), length)

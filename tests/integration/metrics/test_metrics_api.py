"""`/v1/kpis` and `/v1/kpis/verify` over HTTP."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from libs.common.clock import DrivenClock
from libs.common.contracts.customers import StoreChanged
from libs.common.db import Database
from tests.integration.metrics.driving import checkout, deliver, moved, order, record

KPIS = [
    "orders",
    "gross_sales",
    "discounts",
    "returns",
    "net_sales",
    "shipping",
    "taxes",
    "total_sales",
    "aov",
    "customers",
    "new_customers",
    "returning_customers",
    "purchase_frequency",
    "repeat_purchase_rate",
    "retention_rate",
    "churn_rate",
    "clv_historic",
    "clv_simple",
    "carts",
    "checkouts",
    "abandonment_rate",
    "recovery_rate",
    "recovered_sales",
    "conversion_rate",
]


def eur(amount: str) -> dict[str, str]:
    return {"amount": amount, "currency": "EUR"}


async def get(api: httpx.AsyncClient, **parameters: str) -> Any:
    answer = await api.get("/v1/kpis", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_every_kpi_with_its_fraction_and_the_window_before(
    api: httpx.AsyncClient, metrics_db: Database, clock: DrivenClock
) -> None:
    now = clock.now()
    await deliver(
        metrics_db,
        [
            moved("customer:a", "p"),
            order("1", now - timedelta(days=40), gross=5_00),
            order("2", now - timedelta(days=2), gross=10_01, taxes=1_90),
            order("3", now - timedelta(days=1), gross=10_00, account=None),
            checkout("tok", now - timedelta(days=1)),
        ],
    )
    found = await get(api)
    assert list(found) == ["as_of", "window", "store", "currency", "kpis"]
    assert found["as_of"] == "2026-03-02T12:00:00Z"
    assert (found["window"], found["store"], found["currency"]) == ("30d", None, "EUR")
    assert list(found["kpis"]) == KPIS
    assert found["kpis"]["orders"] == {"value": 2, "numerator": 2, "denominator": 1, "previous": 1}
    assert found["kpis"]["aov"] == {
        "value": eur("10.00"),  # 10.005, half to even
        "numerator": eur("20.01"),
        "denominator": 2,
        "previous": eur("5.00"),
    }
    assert found["kpis"]["total_sales"]["value"] == eur("21.91")
    assert found["kpis"]["retention_rate"] == {"value": 1.0, "numerator": 1, "denominator": 1, "previous": None}
    assert found["kpis"]["abandonment_rate"] == {"value": 1.0, "numerator": 1, "denominator": 1, "previous": None}
    assert found["kpis"]["recovery_rate"] == {"value": None, "numerator": 0, "denominator": 0, "previous": None}
    past = await get(api, as_of="2026-02-01T13:00:00+01:00", window="90d", store="st_1")
    assert (past["as_of"], past["store"]) == ("2026-02-01T12:00:00Z", "st_1")
    assert past["kpis"]["net_sales"]["value"] == eur("5.00")
    verified = (await api.get("/v1/kpis/verify")).json()
    assert verified["checked"] > 1000
    assert verified["differences"] == []


async def test_a_store_in_which_nothing_has_happened_is_not_one_that_is_not_there(
    api: httpx.AsyncClient, metrics_db: Database
) -> None:
    told = StoreChanged(
        store="st_new",
        platform="shopify",
        name="New",
        domain="new.example",
        currency="EUR",
        timezone="UTC",
        consent_policy="explicit",
        revision=1,
    )
    await deliver(metrics_db, [record("store.changed", told), record("store.changed", told, "other")])
    assert (await get(api, store="st_new"))["kpis"]["orders"]["value"] == 0
    for parameters in ({"store": "st_none"}, {"store": "st_none", "currency": "EUR"}):
        answer = await api.get("/v1/kpis", params=parameters)
        assert answer.status_code == 404
        assert answer.json()["errors"][0]["parameter"] == "store"


async def test_nothing_yet(api: httpx.AsyncClient) -> None:
    found = await get(api)
    assert found["currency"] is None
    assert found["kpis"]["orders"] == {"value": 0, "numerator": 0, "denominator": 1, "previous": 0}
    assert found["kpis"]["net_sales"] == {"value": None, "numerator": None, "denominator": 1, "previous": None}
    named = await get(api, currency="KWD")
    assert named["kpis"]["net_sales"]["value"] == {"amount": "0.000", "currency": "KWD"}
    assert (await api.get("/v1/kpis/verify")).json()["differences"] == []


async def test_several_currencies_must_be_told_apart(
    api: httpx.AsyncClient, metrics_db: Database, clock: DrivenClock
) -> None:
    day = clock.now() - timedelta(days=1)
    await deliver(metrics_db, [order("1", day, gross=1_00), order("2", day, gross=700, currency="JPY", store="st_2")])
    answer = await api.get("/v1/kpis")
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {"pointer": "/currency", "detail": "There are several; ask for one of EUR, JPY.", "parameter": "currency"}
    ]
    assert (await get(api, currency="JPY"))["kpis"]["gross_sales"]["value"] == {"amount": "700", "currency": "JPY"}
    assert (await get(api, store="st_1"))["currency"] == "EUR"
    # What turned out to be in another currency is no second one.
    await deliver(metrics_db, [order("2", day, gross=7_00, store="st_2", revision=2)])
    assert (await get(api))["kpis"]["gross_sales"]["value"] == eur("8.00")


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("window", "31d"),
        ("window", ""),
        ("store", ""),
        ("currency", "eur"),
        ("currency", "QQQ"),
        ("as_of", "yesterday"),
        ("as_of", "1700000000"),
        ("as_of", "2026-03-01"),
        ("as_of", "2026-03-01T00:00:00"),
        ("as_of", "2026-02-30T00:00:00Z"),
        ("as_of", "0001-01-01T00:00:00+14:00"),
        ("as_of", "1969-12-31T23:59:59Z"),
        ("as_of", ""),
    ],
)
async def test_bad_parameters_are_named(api: httpx.AsyncClient, parameter: str, value: str) -> None:
    answer = await api.get("/v1/kpis", params={parameter: value})
    assert answer.status_code == 422
    assert [error["parameter"] for error in answer.json()["errors"]] == [parameter]


@pytest.mark.parametrize("as_of", ["1970-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "2026-06-30t23:59:59z"])
async def test_odd_instants_that_exist(api: httpx.AsyncClient, as_of: str) -> None:
    assert (await get(api, as_of=as_of, window="365d"))["kpis"]["orders"]["value"] == 0
    assert (await api.get("/v1/kpis/verify", params={"as_of": as_of})).status_code == 200


async def test_keys_scopes_and_tenants(
    api: httpx.AsyncClient, stranger: httpx.AsyncClient, metrics_db: Database, clock: DrivenClock
) -> None:
    await deliver(metrics_db, [order("1", clock.now() - timedelta(days=1))])
    assert (await get(api))["kpis"]["orders"]["value"] == 1
    assert (await get(stranger))["kpis"]["orders"]["value"] == 0
    assert (await stranger.get("/v1/kpis/verify")).json()["checked"] == 0
    assert (await api.get("/v1/kpis", headers={"authorization": "Bearer nobody"})).status_code == 401

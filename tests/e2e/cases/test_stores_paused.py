"""A merchant pauses a store, resumes it, deletes it: what becomes of its mails and of what the API says."""

from datetime import timedelta

import pytest

from tests.conftest import START
from tests.e2e.cases.ground import Ground, Store
from tests.e2e.cases.test_cases_17_to_25 import checkout
from tests.integration.messaging.driving import Inbox
from tests.unit.ingest.payloads import shopify_order

BEGAN = f"{START:%Y-%m-%dT%H:%M:%SZ}"
PERSON = {"id": 88, "email": "ada@example.com", "created_at": "2026-03-01T09:00:00Z"}
MINUTES, HOURS = timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture
def ground(ground_with_mail: Ground) -> Ground:
    """Everything runs, and its mail arrives."""
    return ground_with_mail


async def left_behind(store: Store) -> None:
    """Somebody who may be written to leaves a checkout at START."""
    consent = {"state": "subscribed", "opt_in_level": None, "consent_updated_at": "2026-03-01T09:00:00Z"}
    assert (
        await store.send("customers/create", PERSON | {"email_marketing_consent": consent, "updated_at": BEGAN}) == 200
    )
    assert await store.send("checkouts/create", checkout(created_at=BEGAN, updated_at=BEGAN, customer=PERSON)) == 200


async def messages(ground: Ground) -> list[tuple[str, str | None]]:
    told = (await ground.get("/v1/messages"))["data"]
    return [(message["state"], message["reason"]) for message in reversed(told)]


async def test_a_paused_store_sends_no_mail_and_a_resumed_one_does(ground: Ground, inbox: Inbox) -> None:
    store = await ground.store("shopify")
    await left_behind(store)
    await ground.line.advance(START + 30 * MINUTES)
    path = f"/v1/stores/{store.key}"
    assert (await ground.http.patch(path, json={"paused": True})).json()["state"] == "paused"
    order = shopify_order(id=5, email="eve@example.com", customer=None)
    assert await store.send("orders/create", order) == 200
    await ground.line.advance(START + 2 * HOURS)
    assert await messages(ground) == [("skipped", "store_paused")]
    # It is listened to as ever.
    assert [each["source_id"] for each in await store.orders()] == ["5"]
    assert (await ground.http.patch(path, json={"paused": False})).json()["state"] == "active"
    await ground.line.advance(START + 3 * HOURS)
    assert await messages(ground) == [("skipped", "store_paused")]
    await ground.line.advance(START + 24 * HOURS)
    assert await messages(ground) == [("skipped", "store_paused"), ("sent", None)]
    assert inbox.to == [PERSON["email"]]


async def test_a_deleted_store_answers_its_history_and_nothing_more(ground: Ground, inbox: Inbox) -> None:
    store = await ground.store("shopify")
    await left_behind(store)
    assert await store.send("orders/create", shopify_order(id=5, email="eve@example.com", customer=None)) == 200
    before = await store.orders()
    await ground.line.advance(START + 50 * MINUTES)
    assert await messages(ground) == [("sent", None)]
    assert (await ground.http.delete(f"/v1/stores/{store.key}")).json()["secrets"] == 1
    assert await store.send("orders/create", shopify_order(id=6)) == 401
    await ground.line.advance(START + 49 * HOURS)
    assert await messages(ground) == [("sent", None)]
    assert inbox.to == [PERSON["email"]]
    assert await store.orders() == before
    kpis = await store.kpis()
    assert (kpis["orders"], kpis["net_sales"]) == (1, {"amount": "72.00", "currency": "EUR"})
    assert (await ground.get("/v1/kpis/verify"))["differences"] == []
    for service in ("profiles", "metrics", "messaging"):
        assert (await ground.get(f"/v1/dead-letters/{service}"))["data"] == []
    again = await ground.store("shopify")
    assert again.key != store.key
    assert await again.orders() == []

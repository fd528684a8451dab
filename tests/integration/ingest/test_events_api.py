"""`POST /v1/events`."""

import json
from datetime import timedelta
from typing import Any

import pytest

from tests.integration.ingest.ground import Ground


def consent(store: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": "e-1",
        "type": "consent.changed",
        "time": "2026-03-02T12:00:00Z",
        "store": store,
        "profile": {"email": "ada@example.com"},
        "properties": {"channel": "email", "state": "subscribed"},
    } | changes


async def test_an_event_is_accepted_and_observed_once(ground: Ground) -> None:
    store = await ground.register()
    for _ in range(2):
        answer = await ground.http.post("/v1/events", json=consent(store))
        assert (answer.status_code, answer.json()) == (202, {"id": "e-1", "status": "accepted"})
    # The id decides, not the content.
    answer = await ground.http.post(
        "/v1/events", json=consent(store, properties={"channel": "sms", "state": "pending"})
    )
    assert answer.status_code == 202
    await ground.drain()
    [(type_, _, data)] = await ground.commerce()
    assert type_ == "consent.observed"
    assert data["consent"] == {"channel": "email", "state": "subscribed", "at": "2026-03-02T12:00:00Z", "source": "api"}
    assert (data["source_id"], data["identifiers"], data["platform"]) == ("e-1", {"email": "ada@example.com"}, "events")
    assert "origin" not in data
    assert (await ground.get("/v1/deliveries/counts", store=store))["duplicates"] == 2
    [delivery] = (await ground.get("/v1/deliveries", topic="consent.changed"))["data"]
    assert (delivery["platform"], delivery["outcome"], delivery["delivery_id"]) == ("events", "observed", "e-1")


async def test_the_same_id_in_another_store_is_another_event(ground: Ground) -> None:
    for domain in ("a.example", "b.example"):
        store = await ground.register(domain=domain)
        assert (await ground.http.post("/v1/events", json=consent(store))).status_code == 202
    await ground.drain()
    assert len(await ground.commerce()) == 2


async def test_a_view_of_a_product(ground: Ground) -> None:
    store = await ground.register()
    event = consent(
        store,
        type="product.viewed",
        time=None,
        profile={"cart_token": "c1", "phone": "+49 30 901820"},
        properties={"product_id": "77", "price": 9.5},
    )
    assert (await ground.http.post("/v1/events", json=event)).status_code == 202
    await ground.drain()
    [(type_, _, data)] = await ground.commerce()
    assert (type_, data["activity"], data["properties"]) == (
        "activity.observed",
        "product.viewed",
        {"product_id": "77", "price": 9.5},
    )
    assert data["updated_at"] == "2026-03-02T12:00:00Z"


async def test_what_is_older_than_a_day_is_backfill(ground: Ground) -> None:
    store = await ground.register()
    old = (ground.clock.now() - timedelta(hours=25)).isoformat()
    await ground.http.post("/v1/events", json=consent(store, time=old))
    await ground.drain()
    [(_, _, data)] = await ground.commerce()
    assert data["origin"] == "backfill"


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"id": ""}, "/id"),
        ({"id": "x" * 129}, "/id"),
        ({"id": 7}, "/id"),
        ({"type": "order.shipped"}, "/type"),
        ({"type": "Custom.x"}, "/type"),
        ({"type": "order.placed"}, "/properties"),
        ({"type": ""}, "/type"),
        ({"time": "yesterday"}, "/time"),
        ({"time": "2026-03-02T12:00:00"}, "/time"),
        ({"time": "2026-03-02T12:06:00Z"}, "/time"),
        ({"store": "st_none"}, "/store"),
        ({"store": None}, "/store"),
        ({"profile": {}}, "/profile"),
        ({"profile": {"email": "not an address"}}, "/profile/email"),
        ({"profile": {"phone": "call me"}}, "/profile/phone"),
        ({"profile": {"customer_id": ""}}, "/profile/customer_id"),
        ({"profile": {"nickname": "ada"}}, "/profile/nickname"),
        ({"properties": {"channel": "email"}}, "/properties/state"),
        ({"properties": {"channel": "fax", "state": "subscribed"}}, "/properties/channel"),
        ({"properties": {"channel": ["email"]}}, "/properties/channel"),
        ({"properties": {"channel": "email", "state": "subscribed", "note": "x" * 2000}}, "/properties"),
        ({"properties": {str(n): n for n in range(51)}}, "/properties"),
        ({"type": "product.viewed", "properties": {}}, "/properties/product_id"),
        ({"colour": "red"}, "/colour"),
    ],
)
async def test_what_is_wrong_is_pointed_at(ground: Ground, change: dict[str, Any], pointer: str) -> None:
    store = await ground.register()
    answer = await ground.http.post("/v1/events", json=consent(store) | change)
    assert answer.status_code == 422
    pointers = [error["pointer"] for error in answer.json()["errors"]]
    assert any(found.startswith(pointer) for found in pointers), pointers
    assert await ground.journalled() == 0


async def test_half_an_emoji_is_what_it_is_of_a_webhook(ground: Ground) -> None:
    store = await ground.register()
    told = consent(store) | {
        "type": "product.viewed",
        "properties": {"product_id": "a cut \ud83d", "\udfff": "\U0001f600"},
    }
    headers = {"content-type": "application/json"}
    answer = await ground.http.post("/v1/events", content=json.dumps(told).encode(), headers=headers)
    assert answer.status_code == 202, answer.text
    await ground.drain()
    [(_, _, data)] = await ground.commerce()
    assert data["properties"] == {"product_id": "a cut \ufffd", "\ufffd": "\U0001f600"}


async def test_nul_characters_and_odd_numbers(ground: Ground) -> None:
    store = await ground.register()
    good = {"channel": "email", "state": "subscribed"}
    for change in (
        {"id": "e\x00"},
        {"properties": good | {"n\x00": 1}},
        {"properties": good | {"n": "v\x00"}},
        {"profile": {"email": "a\x00@b.c"}},
    ):
        body = json.dumps(consent(store) | change).encode()
        answer = await ground.http.post("/v1/events", content=body, headers={"content-type": "application/json"})
        assert answer.status_code in {400, 422}, change
    answer = await ground.http.post(
        "/v1/events",
        content=b'{"id": "e", "type": "product.viewed", "store": "%s", "profile": {"email": "a@b.c"},'
        b' "properties": {"product_id": "1", "n": 1e999}}' % store.encode(),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 422

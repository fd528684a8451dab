"""The journal as a file of lines."""

import json
from typing import Any

from libs.common.auth import create_key
from services.ingest.export_api import PAGE
from tests.integration.ingest.ground import Ground
from tests.unit.ingest.payloads import shopify_order


async def exported(ground: Ground, **filters: str) -> list[dict[str, Any]]:
    answer = await ground.http.get("/v1/deliveries/export", params=filters)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_each_delivery_is_a_line_as_it_is_shown_alone(ground: Ground) -> None:
    store = await ground.register()
    await ground.shopify(store, shopify_order(), id_="1")
    await ground.shopify(store, {"id": 1}, topic="themes/publish", id_="2")
    await ground.shopify(store, b"<xml/>\xff", id_="3")
    await ground.drain()
    await ground.shopify(store, shopify_order(note="later"), id_="4")
    lines = await exported(ground)
    assert [line["outcome"] for line in lines] == ["pending", "dead", "parked", "observed"]
    for line in lines:
        assert line == await ground.get(f"/v1/deliveries/{line['id']}")
        assert line["body"]
    assert await exported(ground, outcome="dead") == [lines[1]]
    assert await exported(ground, topic="themes/publish", store=store) == [lines[2]]
    assert await exported(ground, since=lines[0]["received_at"], object="order:1") == []


async def test_there_may_be_more_than_are_held_at_a_time(ground: Ground) -> None:
    store = await ground.register()
    for number in range(PAGE * 2):
        await ground.shopify(store, shopify_order(note=str(number)), id_=str(number))
    ids = [line["delivery_id"] for line in await exported(ground)]
    assert ids == [str(number) for number in reversed(range(PAGE * 2))]


async def test_nobody_elses(ground: Ground) -> None:
    await ground.shopify(await ground.register(), shopify_order())
    key = await create_key(ground.database, "other", ["deliveries:read"], "theirs")
    answer = await ground.http.get("/v1/deliveries/export", headers={"authorization": f"Bearer {key}"})
    assert (answer.status_code, answer.text) == (200, "")
    narrow = await create_key(ground.database, "default", ["orders:read"], "narrow")
    answer = await ground.http.get("/v1/deliveries/export", headers={"authorization": f"Bearer {narrow}"})
    assert answer.status_code == 403


async def test_a_wrong_filter_is_named(ground: Ground) -> None:
    answer = await ground.http.get("/v1/deliveries/export", params={"since": "yesterday"})
    assert answer.status_code == 422
    assert "since" in answer.text
    for path in ("/v1/deliveries/export", "/v1/deliveries"):
        turned = {"since": "2026-03-02T12:00:00Z", "until": "2026-03-01T12:00:00Z"}
        answer = await ground.http.get(path, params=turned)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/since")

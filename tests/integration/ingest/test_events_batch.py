"""`POST /v1/events/batch`."""

import json
from typing import Any

import msgspec
import pytest

from libs.common.problems import NUL
from services.ingest.event_models import MOST_EVENTS
from tests.integration.ingest.ground import Ground

NDJSON = {"content-type": "application/x-ndjson"}


def view(store: str, n: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"e-{n}",
        "type": "product.viewed",
        "store": store,
        "profile": {"customer_id": str(n)},
        "properties": {"product_id": "77"},
    } | changes


async def test_a_batch_is_accepted_and_observed_once(ground: Ground) -> None:
    store = await ground.register()
    batch = [view(store, n) for n in range(120)]
    for _ in range(2):
        answer = await ground.http.post("/v1/events/batch", json=batch)
        assert answer.status_code == 202
        told = answer.json()
        assert (told["accepted"], told["rejected"]) == (120, 0)
        assert told["events"][7] == {"id": "e-7", "status": "accepted", "errors": [], "errors_left_out": 0}
    lines = b"\n".join(msgspec.json.encode(each) for each in batch) + b"\n\n"
    answer = await ground.http.post("/v1/events/batch", content=lines, headers=NDJSON)
    assert answer.json()["accepted"] == 120
    await ground.drain()
    assert len(await ground.commerce()) == 120


async def test_a_bad_event_leaves_its_neighbours_alone(ground: Ground) -> None:
    store = await ground.register()
    rows = [
        json.dumps(view(store, 1)),
        "{broken",
        json.dumps(view(store, 2, type="order.shipped")),
        json.dumps(view("st_none", 3)),
        "7",
        json.dumps(view(store, 4, properties={})),
        json.dumps(view(store, 5, id=5)),
        json.dumps(view(store, 6, properties={"product_id": "1", "n": 10**30})),
        json.dumps(view(store, 7)),
    ]
    answer = await ground.http.post("/v1/events/batch", content="\n".join(rows), headers=NDJSON)
    assert answer.status_code == 202
    told = answer.json()
    assert (told["accepted"], told["rejected"]) == (2, 7)
    places = [(row["id"], [error["pointer"] for error in row["errors"]]) for row in told["events"]]
    assert places == [
        ("e-1", []),
        (None, [""]),
        ("e-2", ["/type"]),
        ("e-3", ["/store"]),
        (None, [""]),
        ("e-4", ["/properties/product_id"]),
        (None, ["/id"]),
        ("e-6", ["/properties"]),
        ("e-7", []),
    ]
    await ground.drain()
    assert len(await ground.commerce()) == 2


async def test_what_names_nobody_is_told_row_by_row(ground: Ground) -> None:
    store = await ground.register()
    till, ada = {"email": "noreply@shop.example"}, {"email": "ada@shop.example"}
    rows = [view(store, n, profile=ada if n == 50 else till) for n in range(100)]
    answer = (await ground.http.post("/v1/events/batch", json=rows)).json()
    assert (answer["accepted"], answer["rejected"]) == (1, 99)
    assert [row["id"] for row in answer["events"] if row["status"] == "accepted"] == ["e-50"]
    assert {error["pointer"] for row in answer["events"] for error in row["errors"]} == {"/profile/email"}
    assert answer["events"][0]["errors"] or answer["events"][0]["errors_left_out"]


async def test_a_nul_is_told_in_our_own_words(ground: Ground) -> None:
    store = await ground.register()
    answer = await ground.http.post("/v1/events/batch", json=[view(store, 1, id="e\x00"), view(store, 2)])
    assert (answer.status_code, answer.json()["accepted"]) == (202, 1)
    assert answer.json()["events"][0]["errors"] == [{"pointer": "/id", "detail": NUL, "parameter": None}]


@pytest.mark.parametrize("media_type", ["application/json", "application/x-ndjson"])
async def test_half_an_emoji_is_told_with_its_neighbours(ground: Ground, media_type: str) -> None:
    store = await ground.register()
    rows = [
        json.dumps(view(store, n, properties={"product_id": text})) for n, text in enumerate(("1", "\ud83d", "\\ud83d"))
    ]
    body = f"[{','.join(rows)}]" if media_type == "application/json" else "\n".join(rows)
    answer = await ground.http.post("/v1/events/batch", content=body, headers={"content-type": media_type})
    assert (answer.status_code, answer.json()["accepted"]) == (202, 3)
    await ground.drain()
    ids = {data["properties"]["product_id"] for _, _, data in await ground.commerce()}
    assert ids == {"1", "\ufffd", "\\ud83d"}


async def test_one_id_twice_in_a_batch_counts_once(ground: Ground) -> None:
    store = await ground.register()
    answer = await ground.http.post("/v1/events/batch", json=[view(store, 1), view(store, 1)])
    assert answer.json()["accepted"] == 2
    await ground.drain()
    assert len(await ground.commerce()) == 1
    assert (await ground.get("/v1/deliveries/counts", store=store))["duplicates"] == 1


@pytest.mark.parametrize(
    ("content", "media_type", "status", "pointer"),
    [
        (b"[", "application/json", 400, ""),
        (b"{}", "application/json", 422, ""),
        (b"[]", "application/json", 422, ""),
        (b"\n \n", "application/x-ndjson", 422, ""),
        (b"[" + b"1," * MOST_EVENTS + b"1]", "application/json", 422, ""),
        (b"1\n" * (MOST_EVENTS + 1), "application/x-ndjson", 422, ""),
        (b"[]", "text/csv", 415, "/content-type"),
        (b"[" * 100_000, "application/json", 400, ""),
    ],
)
async def test_what_is_no_batch_is_refused(
    ground: Ground, content: bytes, media_type: str, status: int, pointer: str
) -> None:
    answer = await ground.http.post("/v1/events/batch", content=content, headers={"content-type": media_type})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert await ground.journalled() == 0


async def test_other_platforms_orders_reach_the_topic_as_webhooks_do(ground: Ground) -> None:
    """A shop of any kind: what it sends becomes what a platform's webhook would."""
    store = await ground.register()
    eur = {"amount": "19.00", "currency": "EUR"}
    order = {
        "order_id": "1001",
        "lines": [{"title": "Cup", "quantity": 2, "price": {"amount": "9.50", "currency": "EUR"}}],
    }
    who = {"email": "ada@example.com"}
    batch = [
        view(store, 1, type="checkout.started", profile=who | {"checkout_token": "k1"}, properties={"lines": []}),
        view(store, 2, type="order.placed", profile=who | {"checkout_token": "k1"}, properties=order),
        view(
            store,
            3,
            type="order.refunded",
            profile={},
            properties={"order_id": "1001", "refund_id": "r", "amount": eur},
        ),
        view(store, 4, type="survey.answered", profile=who, properties={"survey": "nps", "score": 9}),
        view(store, 5, type="custom.quiz.finished", profile=who, properties={"points": 3}),
    ]
    answer = await ground.http.post("/v1/events/batch", json=batch)
    assert answer.json()["accepted"] == 5, answer.text
    await ground.drain()
    told = sorted((type_, data["source_id"]) for type_, _, data in await ground.commerce())
    assert told == [
        ("activity.observed", "e-4"),
        ("activity.observed", "e-5"),
        ("checkout.observed", "k1"),
        ("order.observed", "1001"),
        ("refund.observed", "1001"),
    ]

"""Privacy requests as callers and shops meet them: taking, listing, exporting; and a shop that leaves."""

import json
from datetime import timedelta
from typing import Any

import pytest

from libs.common.clock import DrivenClock
from libs.common.ids import new_id
from tests.conftest import START
from tests.integration.ingest.ground import Ground
from tests.integration.ingest.test_privacy import ADA, PATH, asked, redacted, sent
from tests.logged import Lines
from tests.unit.ingest.payloads import shopify_order, woocommerce_order

REQUEST = {"shop_domain": "demo.myshopify.com", "customer": ADA, "orders_requested": [7], "data_request": {"id": 9999}}


async def test_a_request_that_comes_twice_is_one(ground: Ground) -> None:
    store = await ground.register()
    # The second by another subscription: what makes it the same is the number that Shopify gave it.
    for id_ in ("1", "1", "2"):
        await ground.shopify(store, REQUEST, topic="customers/data_request", id_=id_)
    await ground.shopify(store, REQUEST | {"data_request": {"id": 1}}, topic="customers/data_request", id_="3")
    await ground.drain()
    found = (await ground.get(PATH))["data"]
    assert [row["customer"] for row in found] == [{"id": "88", "email": "ada@example.com", "phone": None}] * 2
    assert {row["due_at"] for row in found} == {"2026-04-01T12:00:00Z"}
    published = [(key, data) for type_, key, data in await ground.commerce() if type_ == "privacy.requested"]
    assert {key for key, _ in published} == {f"{store}:store:privacy"}
    assert {data["source_id"] for _, data in published} == {row["id"] for row in found}
    assert published[0][1]["identifiers"] == {"customer_id": "88", "email": "ada@example.com"}


async def test_an_idempotency_key_makes_a_request_one(ground: Ground) -> None:
    store = await ground.register(platform="woocommerce", domain="shop.example")
    asking = {"store": store, "kind": "data_request", "customer": {"email": "grace@example.com"}}
    answers = [await ground.http.post(PATH, json=asking, headers={"idempotency-key": "of hers"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()
    assert len((await ground.get(PATH))["data"]) == 1


async def test_what_a_person_is_shown_is_all_that_came_about_him(ground: Ground) -> None:
    store = await ground.register()
    about_ada = await sent(ground, store)
    answer = await ground.http.post(
        PATH, json={"store": store, "kind": "data_request", "customer": {"email": "ada@example.com"}}
    )
    path = f"{PATH}/{answer.json()['id']}/export"
    early = await ground.http.get(path)
    assert (early.status_code, early.json()["code"]) == (409, "not_done")
    # Later than the request: not what was asked for.
    ground.clock.set(ground.clock.now() + timedelta(hours=1))
    await ground.shopify(store, shopify_order(id=30), id_="later")
    await ground.drain()
    lines = await exported(ground, path)
    assert [line["id"] for line in lines] == about_ada
    assert lines[1] == await ground.get(f"/v1/deliveries/{about_ada[1]}")
    assert json.loads(lines[1]["body"])["email"].strip() == "Ada@Example.com"
    request = await ground.get(path.removesuffix("/export"))
    assert request["receipts"][0]["found"] == len(about_ada)
    # What is gone is shown to nobody.
    done = await redacted(ground, store, email="ada@example.com")
    assert await exported(ground, path) == []
    assert (await ground.http.get(f"{PATH}/{done['id']}/export")).json()["code"] == "wrong_kind"


async def exported(ground: Ground, path: str) -> list[dict[str, Any]]:
    answer = await ground.http.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_who_was_erased_is_not_known_by_his_request_either(lines: Lines, ground: Ground) -> None:
    store = await ground.register()
    other = await asked(ground, store, "data_request", email="bob@example.com")
    shown = await asked(ground, store, "data_request", email="ADA@example.com", phone="+49 30 123456")
    done = await redacted(ground, store, id="gid://shopify/Customer/88", email="ada@example.com")
    assert done["customer"] == {"id": "88", "email": None, "phone": None}
    assert (await ground.get(f"{PATH}/{shown['id']}"))["customer"] == {"id": None, "email": None, "phone": None}
    assert (await ground.get(f"{PATH}/{other['id']}"))["customer"]["email"] == "bob@example.com"
    logged = lines.getvalue()
    assert "privacy request done" in logged
    assert not [told for told in ("ada@", "ADA@", "bob@", "123456") if told in logged]


async def test_requests_of_one_store_are_done_as_they_came(ground: Ground) -> None:
    store = await ground.register()
    about_ada = await sent(ground, store)
    ids = []
    for kind in ("data_request", "redact"):
        asking = {"store": store, "kind": kind, "customer": {"email": "ada@example.com"}}
        ids.append((await ground.http.post(PATH, json=asking)).json()["id"])
    await ground.drain()
    for id_ in ids:
        assert (await ground.get(f"{PATH}/{id_}"))["receipts"][0]["found"] == len(about_ada)


async def test_lists_are_filtered_and_come_in_pages(ground: Ground) -> None:
    shopify = await ground.register()
    woo = await ground.register(platform="woocommerce", domain="shop.example")
    for store in (shopify, woo, shopify):
        await asked(ground, store, "data_request", email="ada@example.com")
        ground.clock.set(ground.clock.now() + timedelta(minutes=1))
    await redacted(ground, woo, email="ada@example.com")
    whole = (await ground.get(PATH))["data"]
    assert [(row["store"], row["kind"]) for row in whole] == [
        (woo, "redact"), (shopify, "data_request"), (woo, "data_request"), (shopify, "data_request")
    ]  # fmt: skip
    pages: list[Any] = []
    cursor = None
    while cursor is not None or not pages:
        page = await ground.get(PATH, limit=1, **({"cursor": cursor} if cursor else {}))
        pages += page["data"]
        cursor = page["next"]
    assert pages == whole
    assert (await ground.get(PATH, store=woo))["data"] == [whole[0], whole[2]]
    assert (await ground.get(PATH, kind="redact"))["data"] == [whole[0]]
    assert (await ground.get(PATH, state="done"))["data"] == whole
    assert (await ground.get(PATH, state="waiting"))["data"] == []


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"store": "st_none"}, "/store"),
        ({"kind": "redact_store"}, "/kind"),
        ({"customer": {}}, "/customer"),
        ({"customer": {"id": "0"}}, "/customer"),
        ({"customer": {"id": "guest"}}, "/customer"),
        ({"customer": {"email": ""}}, "/customer/email"),
        ({"customer": {"email": "EUR"}}, "/customer/email"),
        ({"customer": {"phone": "none"}}, "/customer/phone"),
        ({"customer": {"phone": "123"}}, "/customer/phone"),
        ({"customer": {"email": "ada@example.com", "phone": "123"}}, "/customer/phone"),
        ({"customer": {"email": "a\x00"}}, "/customer/email"),
        ({"customer": {"name": "Ada"}}, "/customer/name"),
        ({"due_at": "2026-03-02T12:00:00Z"}, "/due_at"),
        ({"due_at": "soon"}, "/due_at"),
        ({"orders": [1]}, "/orders"),
    ],
)
async def test_a_bad_request_names_its_field(ground: Ground, changes: dict[str, Any], pointer: str) -> None:
    store = await ground.register()
    good = {"store": store, "kind": "redact", "customer": {"email": "ada@example.com"}}
    answer = await ground.http.post(PATH, json=good | changes)
    assert answer.status_code == 422, answer.text
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert (await ground.get(PATH))["data"] == []
    assert (await ground.http.get(f"{PATH}/{new_id()}")).status_code == 404


async def test_a_deadline_of_the_caller_s_own(ground: Ground, clock: DrivenClock) -> None:
    store = await ground.register(platform="woocommerce", domain="shop.example")
    await ground.woocommerce(store, woocommerce_order())
    await ground.drain()
    asking = {"store": store, "kind": "redact", "customer": {"phone": "+49 30 9876"}, "due_at": "2026-03-09T00:00:00Z"}
    answer = await ground.http.post(PATH, json=asking)
    assert answer.json()["due_at"] == "2026-03-09T00:00:00Z"
    await ground.drain()
    assert (await ground.get(f"{PATH}/{answer.json()['id']}"))["receipts"][0]["found"] == 1


async def test_a_shop_that_throws_the_app_out_is_asked_nothing_more(ground: Ground) -> None:
    store = await ground.register()
    credentials = f"/v1/stores/{store}/credentials"
    token = {"access_token": "shpat_0123456789abcdef"}
    assert (await ground.http.put(credentials, json=token)).status_code == 200
    backfill = (await ground.http.post("/v1/backfills", json={"store": store})).json()["id"]
    await ground.shopify(store, {"id": 1, "myshopify_domain": "demo.myshopify.com"}, topic="app/uninstalled", id_="u-1")
    await ground.drain()
    gone = (await ground.get(f"/v1/stores/{store}/health"))["credentials"]
    assert (gone["state"], gone["reason"]) == ("gone", "the app was uninstalled")
    stopped = await ground.get(f"/v1/backfills/{backfill}")
    assert stopped["state"] == "failed"
    answer = await ground.http.post("/v1/backfills", json={"store": store})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/store")
    assert (await ground.http.post(f"/v1/backfills/{backfill}/resume")).json()["code"] == "no_credentials"
    change = (await ground.get(f"/v1/stores/{store}/changes"))["data"][0]
    assert (change["by"], change["changes"]) == ("shopify", {"credentials": "gone"})
    # Webhooks are taken as ever, and the next token opens the shop again: what was heard before says nothing of it.
    assert (await ground.shopify(store, shopify_order(), id_="1")).status_code == 200
    ground.clock.set(START + timedelta(hours=1))
    assert (await ground.http.put(credentials, json=token)).json()["state"] == "unchecked"
    assert (await ground.http.post("/v1/deliveries/replays", json={"store": store})).status_code == 202
    await ground.drain()
    assert (await ground.get(credentials))["state"] != "gone"
    assert len((await ground.get(f"/v1/stores/{store}/changes"))["data"]) == 4

"""Connecting a WooCommerce store: the simulated shop's API over HTTP, and this API behind a real socket."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from libs.common.crypto import Keyring
from regulars.shop.woocommerce_api import WooCommerceApi
from services.ingest import connecting, fetches
from services.ingest.connecting import watcher
from services.ingest.fetching import Fetching
from services.ingest.opening import opener
from services.ingest.subscriptions_watch import SUBSCRIPTIONS, subscriptions_watch
from services.ingest.wanted import WANTED
from tests.e2e.cases.conftest import served
from tests.integration.ingest.conftest import Grounds
from tests.integration.ingest.ground import SECRET, Ground, sign
from tests.integration.ingest.shop_api import CREDENTIALS, RHYTHM, serving, store_at

TOPICS = WANTED["woocommerce"]


@pytest_asyncio.fixture
async def ground(reached: Grounds) -> AsyncIterator[Ground]:
    async with reached() as running:
        yield running


async def connected(ground: Ground, store: str, **asked: Any) -> dict[str, Any]:
    answer = await ground.http.post(f"/v1/stores/{store}/connection", json=asked)
    assert answer.status_code == 200, answer.text
    assert SECRET not in answer.text
    found: dict[str, Any] = answer.json()
    return found


def done(found: dict[str, Any]) -> dict[str, Any]:
    return {each["topic"]: each["done"] for each in found["subscriptions"]}


def states(found: dict[str, Any]) -> dict[str, Any]:
    return {each["topic"]: each["state"] for each in found["subscriptions"]}


def address(ground: Ground, store: str) -> str:
    return f"{ground.settings.public_url}/webhooks/woocommerce/{store}"


async def test_all_that_is_read_is_sent_from_then_on(ground: Ground, shop: WooCommerceApi, store: str) -> None:
    found = await connected(ground, store)
    assert (found["complete"], found["webhook_url"], found["others"]) == (True, address(ground, store), 0)
    assert done(found) == dict.fromkeys(TOPICS, "made")
    assert found["test"] == {"arrived": True, "status": 200, "reason": None}
    assert found["credentials"]["state"] == "good"
    made = shop.webhooks.values()
    assert [each["topic"] for each in made] == list(TOPICS)
    assert {(each["delivery_url"], each["secret"], each["status"]) for each in made} == {
        (address(ground, store), SECRET, "active")
    }
    # Each was tried by the shop itself, too.
    assert shop.pinged == [200] * len(TOPICS)
    one = shop.webhooks[1]
    body = json.dumps({"id": 5, "status": "processing", "currency": "EUR", "date_created_gmt": "2026-03-01T00:00:00"})
    headers = {
        "x-wc-webhook-topic": one["topic"],
        "x-wc-webhook-signature": sign(body.encode(), one["secret"]),
        "x-wc-webhook-delivery-id": "1",
    }
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.post(one["delivery_url"], content=body, headers=headers)).status_code == 200
    await ground.drain()
    told = (await ground.get("/v1/deliveries"))["data"]
    assert [(each["topic"], each["outcome"], each["reason"]) for each in told] == [
        ("order.created", "observed", None),
        ("regulars/test", "ignored", "a test of our own"),
    ]


async def test_what_is_there_is_kept(ground: Ground, shop: WooCommerceApi, store: str) -> None:
    await connected(ground, store)
    before = json.dumps(shop.webhooks)
    shop.requests.clear()
    again = await connected(ground, store)
    assert (again["complete"], done(again)) == (True, dict.fromkeys(TOPICS, "kept"))
    assert {each.partition(" ")[0] for each in shop.requests} == {"GET"}
    assert json.dumps(shop.webhooks) == before


async def test_ours_are_mended_and_others_left_alone(ground: Ground, shop: WooCommerceApi, store: str) -> None:
    await connected(ground, store)
    shop.webhooks[1]["status"] = "disabled"
    shop.webhooks[2]["status"] = "paused"
    shop.webhooks[3]["delivery_url"] = f"https://before.example/webhooks/woocommerce/{store}"
    others = [
        shop.webhook("order.created", "https://erp.example/orders", status="disabled", secret="theirs"),
        shop.webhook("order.updated", f"{ground.settings.public_url}/webhooks/woocommerce/st_another", secret="theirs"),
    ]
    theirs = {id_: dict(shop.webhooks[id_]) for id_ in others}
    found = await connected(ground, store)
    expected = dict.fromkeys(TOPICS, "kept") | {
        TOPICS[0]: "switched_on",
        TOPICS[1]: "switched_on",
        TOPICS[2]: "moved",
    }
    assert (done(found), found["others"], found["complete"]) == (expected, 2, True)
    assert {id_: shop.webhooks[id_] for id_ in others} == theirs
    ours = [each for id_, each in shop.webhooks.items() if id_ not in others]
    assert len(ours) == len(TOPICS)
    assert {(each["delivery_url"], each["status"]) for each in ours} == {(address(ground, store), "active")}


async def test_the_secret_of_what_others_made_for_us_is_ours_then(
    ground: Ground, shop: WooCommerceApi, store: str
) -> None:
    shop.webhook("order.created", address(ground, store), secret="what the merchant typed")
    assert done(await connected(ground, store))["order.created"] == "signed"
    assert done(await connected(ground, store))["order.created"] == "kept"
    assert shop.webhooks[1]["secret"] == SECRET
    # While both sign, either will do; then the new one alone.
    path = f"/v1/stores/{store}"
    await ground.http.patch(path, json={"secrets": [SECRET, "another secret"]})
    assert set(done(await connected(ground, store)).values()) == {"kept"}
    await ground.http.patch(path, json={"secrets": ["another secret"], "overlap_seconds": 60})
    assert set(done(await connected(ground, store)).values()) == {"signed"}
    assert {each["secret"] for each in shop.webhooks.values()} == {"another secret"}


async def test_a_key_that_may_only_read(ground: Ground, shop: WooCommerceApi, store: str) -> None:
    shop.writes = False
    found = await connected(ground, store)
    assert (found["complete"], set(states(found).values()), shop.webhooks) == (False, {"missing"}, {})
    assert {each["reason"] for each in found["subscriptions"]} == {
        "the shop refuses these credentials (401): has the key the permission Read/Write?"
    }
    # It is good for all else.
    assert (found["credentials"]["state"], found["test"]["arrived"]) == ("good", True)


async def test_a_key_that_opens_nothing(ground: Ground, shop: WooCommerceApi, store: str) -> None:
    shop.moods.extend([401])
    answer = await ground.http.post(f"/v1/stores/{store}/connection")
    assert (answer.status_code, answer.json()["code"]) == (409, "refused")
    assert answer.json()["detail"] == "the shop refuses these credentials (401)."
    assert (await ground.get(f"/v1/stores/{store}/credentials"))["state"] == "refused"
    # Nobody holds the store's lease any more.
    assert (await connected(ground, store))["complete"]


async def test_a_shop_that_wants_fewer_requests(ground: Ground, shop: WooCommerceApi, store: str) -> None:
    shop.moods.extend([None, 429, None, 429, 429])
    found = await connected(ground, store)
    assert (found["complete"], done(found)) == (True, dict.fromkeys(TOPICS, "made"))
    assert len(shop.webhooks) == len(TOPICS)


async def test_a_shop_that_goes_away_on_the_way(ground: Ground, shop: WooCommerceApi, store: str) -> None:
    shop.moods.extend([None, None, 500])
    found = await connected(ground, store)
    [first, second, *rest] = found["subscriptions"]
    assert (first["done"], second["reason"]) == ("made", "the shop answers 500")
    assert {each["reason"] for each in rest} == {"not tried any more: the shop answers 500"}
    assert (found["complete"], len(shop.webhooks)) == (False, 1)
    # What it made without saying so is there the next time, and not made twice.
    shop.webhook(TOPICS[1], address(ground, store))
    again = await connected(ground, store)
    assert [*done(again).values()] == ["kept", "signed", *["made"] * (len(TOPICS) - 2)]


async def test_a_look_changes_nothing(ground: Ground, shop: WooCommerceApi, store: str) -> None:
    shop.webhook("order.created", address(ground, store), status="disabled")
    before = json.dumps(shop.webhooks)
    found = await ground.get(f"/v1/stores/{store}/connection")
    assert json.dumps(shop.webhooks) == before
    assert states(found) == dict.fromkeys(TOPICS, "missing") | {"order.created": "disabled"}
    assert (found["complete"], found["test"], set(done(found).values())) == (False, None, {None})


async def swept(ground: Ground) -> None:
    """A daily comparison has come to its end."""
    keyring = Keyring.from_settings(ground.settings)
    watch = watcher(ground.database, ground.settings.public_url)
    working = Fetching(ground.database, RHYTHM, opener(keyring, bulk_above=10_000, inside=True), watch=watch)
    ground.clock.set(ground.clock.now().replace(year=ground.clock.now().year + 1))
    await working.plan(ground.clock.now())
    steps = 0
    while await working.run(ground.clock.now()):
        steps += 1
    assert steps > 0


async def counted(ground: Ground) -> dict[str, float]:
    await subscriptions_watch(ground.database).run(ground.clock.now())
    [metric] = SUBSCRIPTIONS.collect()
    every = {one.labels["state"]: one.value for one in metric.samples if one.labels["platform"] == "woocommerce"}
    return {state: value for state, value in every.items() if value}


async def test_what_is_gone_or_switched_off_is_seen_by_the_daily_comparison(
    ground: Ground, shop: WooCommerceApi, store: str
) -> None:
    assert (await ground.get(f"/v1/stores/{store}/health"))["subscriptions"] == {
        "looked_at": None, "unseen": None, "topics": []
    }  # fmt: skip
    await connected(ground, store)
    assert await counted(ground) == {"active": len(TOPICS)}
    del shop.webhooks[1]
    shop.webhooks[2]["status"] = "disabled"
    await swept(ground)
    told = (await ground.get(f"/v1/stores/{store}/health"))["subscriptions"]
    assert told["looked_at"] == ground.clock.now().isoformat().replace("+00:00", "Z")
    by_state = {each["topic"]: each["state"] for each in told["topics"] if each["state"] != "active"}
    assert by_state == {TOPICS[0]: "gone", TOPICS[1]: "disabled"}
    assert await counted(ground) == {"active": len(TOPICS) - 2, "gone": 1, "disabled": 1}
    since = {each["topic"]: each["since"] for each in told["topics"]}
    await swept(ground)
    later = (await ground.get(f"/v1/stores/{store}/health"))["subscriptions"]
    assert {each["topic"]: each["since"] for each in later["topics"]} == since
    assert later["looked_at"] > told["looked_at"]
    assert done(await connected(ground, store)) == dict.fromkeys(TOPICS, "kept") | {
        TOPICS[0]: "made",
        TOPICS[1]: "switched_on",
    }
    assert await counted(ground) == {"active": len(TOPICS)}
    # Of a store that nothing opens nobody knows anything.
    await ground.http.delete(f"/v1/stores/{store}/credentials")
    assert (await ground.get(f"/v1/stores/{store}/health"))["subscriptions"] is None
    assert await counted(ground) == {}


async def test_a_comparison_does_not_fail_where_webhooks_may_not_be_seen(
    ground: Ground, shop: WooCommerceApi, store: str
) -> None:
    await connected(ground, store)
    shop.manages = False
    await swept(ground)
    health = await ground.get(f"/v1/stores/{store}/health")
    assert health["subscriptions"]["unseen"] == "the shop refuses these credentials (403)"
    assert {each["state"] for each in health["subscriptions"]["topics"]} == {"active"}
    assert (health["swept"] is not None, health["credentials"]["state"]) == (True, "good")


async def test_what_is_left_out_is_not_missed(ground: Ground, shop: WooCommerceApi, store: str) -> None:
    found = await connected(ground, store, topics=["order.created", "order.updated"])
    assert found["complete"]
    assert [each["topic"] for each in shop.webhooks.values()] == ["order.created", "order.updated"]
    await swept(ground)
    assert await counted(ground) == {"active": 2, "unwanted": len(TOPICS) - 2}
    assert (await connected(ground, store))["complete"]
    assert await counted(ground) == {"active": len(TOPICS)}


async def test_bad_requests_are_told_by_field(ground: Ground, store: str) -> None:
    async def told(key: str, body: Any) -> tuple[int, str, list[str]]:
        answer = await ground.http.post(f"/v1/stores/{key}/connection", json=body)
        problem = answer.json()
        return answer.status_code, problem["code"], [each["pointer"] for each in problem.get("errors") or []]

    assert await told(store, {"topics": ["order.created", "orders/create"]}) == (422, "invalid", ["/topics/1"])
    assert await told(store, {"topic": []}) == (422, "invalid", ["/topic"])
    assert await told("st_nobody", {}) == (404, "not_found", [])
    other = await ground.register(domain="other.myshopify.com")
    assert await told(other, {}) == (404, "not_found", [])
    till = await ground.register(platform="events", domain="till.example", secrets=[])
    assert await told(till, {}) == (422, "invalid", ["/key"])
    assert (await ground.http.get(f"/v1/stores/{till}/connection")).status_code == 422


@pytest.mark.parametrize("port", [0, 65_536, 99_999])
async def test_a_store_of_before_ports_were_looked_at(ground: Ground, store: str, port: int) -> None:
    async with ground.database.transaction() as tx:
        await tx.pg.execute("UPDATE stores SET domain = $1", f"127.0.0.1:{port}")
        await tx.pg.execute("UPDATE credentials SET url = $1", f"https://127.0.0.1:{port}")
    for answer in (
        await ground.http.get(f"/v1/stores/{store}/connection"),
        await ground.http.post(f"/v1/stores/{store}/connection"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "refused")
        assert f"https://127.0.0.1:{port} names a port that there is not" in answer.json()["detail"]
    assert (await ground.get(f"/v1/stores/{store}/health"))["credentials"]["state"] == "unchecked"


@pytest.mark.parametrize(
    ("platform", "url", "why"),
    [
        ("woocommerce", "http://127.0.0.1:8080", "which no shop reaches"),
        ("woocommerce", "https://localhost", "which no shop reaches"),
        ("woocommerce", "https://10.0.0.5", "which no shop reaches"),
        ("shopify", "http://regulars.example", "Shopify delivers to https alone"),
    ],
)
async def test_an_address_that_no_shop_reaches(grounds: Grounds, platform: str, url: str, why: str) -> None:
    async with grounds(public_url=url) as ground:
        key = await ground.register(platform=platform, domain="shop.example")
        given = {"access_token": "shpat_12345678"}
        if platform == "woocommerce":
            given = {"consumer_key": "ck_12345678", "consumer_secret": "cs_12345678"}
        assert (await ground.http.put(f"/v1/stores/{key}/credentials", json=given)).status_code == 200
        answer = await ground.http.post(f"/v1/stores/{key}/connection")
        assert (answer.status_code, answer.json()["code"]) == (409, "no_public_address")
        assert "REGULARS_PUBLIC_URL" in answer.json()["detail"]
        assert why in answer.json()["detail"]


async def test_a_test_that_arrives_elsewhere(reached: Grounds, shop: WooCommerceApi) -> None:
    async def takes_all(request: Request) -> Response:
        return Response("{}", status_code=401 if "strict" in request.url.path else 200)

    elsewhere = Starlette(routes=[Route("/{path:path}", takes_all, methods=["POST"])])
    async with served(elsewhere) as catch_all, serving(shop) as domain:  # type: ignore[arg-type]
        for url, status, why in (
            (catch_all, 200, f"what {catch_all} takes does not arrive here"),
            (f"{catch_all}/strict", 401, f"{catch_all}/strict answers 401: is it another installation's?"),
            ("http://127.0.0.1:1", None, "http://127.0.0.1:1: nothing answers within 5 s: ConnectError"),
        ):
            async with reached(public_url=url) as ground:
                key = await ground.register(**store_at(domain))
                opens = CREDENTIALS | {"url": f"http://{domain}"}
                await ground.http.put(f"/v1/stores/{key}/credentials", json=opens)
                found = await connected(ground, key)
                assert found["test"] == {"arrived": False, "status": status, "reason": why}
                assert not found["complete"]


async def test_a_store_that_is_being_asked(ground: Ground, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "PATIENCE", 0.3)
    async with ground.database.transaction() as tx:
        assert await fetches.claim_store(tx, "default", store, "00000000-0000-7000-8000-000000000000") is not None
    answer = await ground.http.post(f"/v1/stores/{store}/connection")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")

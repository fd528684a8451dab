"""Connecting a Shopify store, with a token that lasts and with an app that asks for its own."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from regulars.shop.shopify_api import ShopifyApi
from regulars.shop.shopify_webhooks import CLIENT_ID, CLIENT_SECRET
from services.ingest.connection_models import SIGNED_BY_THE_APP
from services.ingest.platforms.shopify_subscriptions import as_enum
from services.ingest.wanted import WANTED
from tests.integration.ingest.conftest import Grounds
from tests.integration.ingest.ground import Ground
from tests.integration.ingest.shop_api import STATES_OF_SHOPIFY, TOKEN_OF_SHOPIFY, backfilled, serving, small_world
from tests.integration.ingest.test_connecting import connected, done, states

TOPICS = WANTED["shopify"]
APP = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}


@pytest_asyncio.fixture
async def ground(reached: Grounds) -> AsyncIterator[Ground]:
    async with reached() as running:
        yield running


@pytest_asyncio.fixture
async def shop() -> ShopifyApi:
    return ShopifyApi()


@pytest_asyncio.fixture
async def store(ground: Ground, shop: ShopifyApi) -> AsyncIterator[str]:
    """Open to an app that asks for its tokens."""
    async with serving(shop) as domain:
        key = await ground.register(domain=domain)
        await opened(ground, key, domain, APP)
        yield key


async def opened(ground: Ground, key: str, domain: str, credentials: dict[str, str]) -> None:
    answer = await ground.http.put(f"/v1/stores/{key}/credentials", json=credentials | {"url": f"http://{domain}"})
    assert answer.status_code == 200, answer.text
    assert not any(secret in answer.text for secret in credentials.values())


def address(ground: Ground, store: str) -> str:
    return f"{ground.settings.public_url}/webhooks/shopify/{store}"


async def test_an_app_is_subscribed_and_its_secret_signs(ground: Ground, shop: ShopifyApi, store: str) -> None:
    assert (await ground.shopify(store, {"id": 1}, secret=CLIENT_SECRET)).status_code == 401
    found = await connected(ground, store)
    assert (found["complete"], found["test"]["arrived"], found["notes"]) == (True, True, [])
    assert done(found) == dict.fromkeys(TOPICS, "made")
    assert "orders/edited" not in TOPICS
    made = shop.webhooks.there.values()
    assert [(each["topic"], each["uri"]) for each in made] == [
        (as_enum(topic), address(ground, store)) for topic in TOPICS
    ]
    assert {"ORDERS_PARTIALLY_FULFILLED", "CUSTOMERS_EMAIL_MARKETING_CONSENT_UPDATE"} <= {
        each["topic"] for each in made
    }
    assert (await ground.shopify(store, {"id": 1}, secret=CLIENT_SECRET)).status_code == 200
    # What the shop's admin made goes on to be signed by the other one.
    assert (await ground.shopify(store, {"id": 1}, id_="w-2")).status_code == 200
    before = json.dumps(shop.webhooks.there)
    again = await connected(ground, store)
    assert done(again) == dict.fromkeys(TOPICS, "kept")
    assert json.dumps(shop.webhooks.there) == before
    changes = [each["changes"] for each in (await ground.get(f"/v1/stores/{store}/changes"))["data"]]
    assert changes[:2] == [{"secrets": {"added": 1}}, {"credentials": "set"}]
    assert CLIENT_SECRET not in json.dumps(changes)


async def test_ours_are_moved_and_others_left_alone(ground: Ground, shop: ShopifyApi, store: str) -> None:
    theirs = [shop.webhooks.add("ORDERS_CREATE", "https://erp.example/orders") for _ in range(120)]
    shop.webhooks.add("SHOP_UPDATE", "pubsub://project:topic")
    moved = shop.webhooks.add("ORDERS_CREATE", f"https://before.example/webhooks/shopify/{store}")
    found = await connected(ground, store)
    assert (found["complete"], found["others"], done(found)["orders/create"]) == (True, 121, "moved")
    assert moved["uri"] == address(ground, store)
    assert {each["uri"] for each in theirs} == {"https://erp.example/orders"}
    assert len(shop.webhooks.there) == 121 + len(TOPICS)


async def test_what_the_app_has_no_right_to_says_so(ground: Ground, shop: ShopifyApi, store: str) -> None:
    shop.scopes.remove("read_customers")
    found = await connected(ground, store)
    missing = {each["topic"]: each["reason"] for each in found["subscriptions"] if each["state"] != "active"}
    assert missing.keys() == {topic for topic in TOPICS if topic.startswith("customers")}
    assert missing["customers/create"] == (
        "the shop refuses: You do not have permission to create or update webhooks with CUSTOMERS_CREATE topic."
    )
    assert not found["complete"]
    told = (await ground.get(f"/v1/stores/{store}/health"))["subscriptions"]["topics"]
    assert {each["topic"]: each["reason"] for each in told if each["state"] == "missing"} == missing
    shop.scopes.add("read_customers")
    assert (await connected(ground, store))["complete"]


async def test_a_shop_that_is_asked_for_too_much(ground: Ground, shop: ShopifyApi, store: str) -> None:
    shop.moods.extend([None, 429, "THROTTLED", None, "INTERNAL_SERVER_ERROR"])
    found = await connected(ground, store)
    assert [*states(found).values()][:2] == ["active", "missing"]
    assert found["subscriptions"][1]["reason"] == "the shop answers with an error (INTERNAL_SERVER_ERROR)"
    assert (await connected(ground, store))["complete"]


async def test_a_token_that_lasts_leaves_the_secret_to_the_merchant(ground: Ground, shop: ShopifyApi) -> None:
    async with serving(shop) as domain:
        key = await ground.register(domain=domain)
        await opened(ground, key, domain, TOKEN_OF_SHOPIFY)
        found = await connected(ground, key)
        assert (found["complete"], found["notes"], shop.grant.granted) == (True, [SIGNED_BY_THE_APP], [])
        assert len(await ground.get(f"/v1/stores/{key}/secrets")) == 1


async def test_a_token_is_asked_for_once_and_once_more_when_it_is_refused(
    ground: Ground, shop: ShopifyApi, store: str
) -> None:
    shop.tell(STATES_OF_SHOPIFY)
    ground.clock.set(small_world().end)
    assert (await connected(ground, store))["complete"]
    assert len(shop.grant.granted) == 1
    # Withdrawn before its time.
    shop.grant.good.clear()
    assert (await connected(ground, store))["complete"]
    assert len(shop.grant.granted) == 2
    done_ = await backfilled(ground, store, kinds=["products"])
    assert (done_["state"], done_["fetched"] > 0) == ("done", True)


async def test_a_token_is_renewed_before_its_end(ground: Ground, shop: ShopifyApi, store: str) -> None:
    shop.grant.seconds = 0
    await connected(ground, store)
    # Each request asked for its own.
    assert len(shop.grant.granted) == 1 + len(TOPICS)


async def test_an_app_that_the_shop_does_not_know(ground: Ground, shop: ShopifyApi) -> None:
    async with serving(shop) as domain:
        key = await ground.register(domain=domain)
        await opened(ground, key, domain, APP | {"client_secret": "shpss_of_another_app"})
        answer = await ground.http.post(f"/v1/stores/{key}/connection")
        assert (answer.status_code, answer.json()["code"]) == (409, "refused")
        assert "the shop gives this app no token" in answer.json()["detail"]
        assert "shpss_" not in answer.text


async def test_a_token_that_stays_refused(ground: Ground, shop: ShopifyApi, store: str) -> None:
    shop.moods.extend([401, 401])
    answer = await ground.http.post(f"/v1/stores/{store}/connection")
    assert (answer.status_code, answer.json()["detail"]) == (409, "the shop refuses these credentials (401).")
    assert len(shop.grant.granted) == 2
    assert (await ground.get(f"/v1/stores/{store}/credentials"))["state"] == "refused"


async def test_credentials_of_two_kinds_are_told_by_field(ground: Ground) -> None:
    key = await ground.register()

    async def told(**body: Any) -> tuple[int, list[str]]:
        answer = await ground.http.put(f"/v1/stores/{key}/credentials", json=body)
        return answer.status_code, [each["pointer"] for each in answer.json().get("errors") or []]

    assert await told(client_id=CLIENT_ID) == (422, ["/client_secret"])
    assert await told(client_secret=CLIENT_SECRET) == (422, ["/client_id"])
    assert await told(**APP, **TOKEN_OF_SHOPIFY) == (422, ["/client_id"])
    assert await told(**APP, consumer_key="ck_12345678") == (422, ["/consumer_key"])
    assert await told(**APP) == (200, [])

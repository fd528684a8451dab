"""Who asks again and again keeps nobody waiting, and has nothing done twice."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from libs.common.auth import create_key
from services.ingest.asking import MOST_OF_A_STORE, MOST_OF_A_TENANT
from services.ingest.redacting import PrivacyRequests
from services.ingest.replaying import Replays
from tests.integration.ingest.ground import STORE, Ground
from tests.integration.ingest.shop_api import CREDENTIALS
from tests.integration.ingest.test_replays import sent

REPLAYS = "/v1/deliveries/replays"
BACKFILLS = "/v1/backfills"
PRIVACY = "/v1/privacy-requests"


async def shop(ground: Ground, n: int = 0) -> str:
    """A store whose API is open to us, and that nobody asks."""
    domain = f"shop-{n}.example"
    store = await ground.register(platform="woocommerce", domain=domain)
    await ground.http.put(f"/v1/stores/{store}/credentials", json=CREDENTIALS)
    return store


async def of(ground: Ground, tenant: str) -> dict[str, str]:
    """What another tenant sends along."""
    return {"authorization": f"Bearer {await create_key(ground.database, tenant, {'*'}, 'of another tenant')}"}


def month(n: int) -> dict[str, str]:
    """Not what another `n` asks for."""
    return {"since": f"20{10 + n // 12}-{1 + n % 12:02}-01T00:00:00Z"}


@pytest.mark.parametrize("path", [REPLAYS, BACKFILLS])
async def test_what_is_asked_for_twice_is_one(ground: Ground, path: str) -> None:
    store = await shop(ground)
    first = await ground.http.post(path, json={"store": store} | month(1))
    again = [await ground.http.post(path, json={"store": store} | month(1)) for _ in range(10)]
    assert first.status_code == 202
    assert {(answer.status_code, answer.json()["id"]) for answer in again} == {(200, first.json()["id"])}
    assert (await ground.http.post(path, json={"store": store} | month(2))).status_code == 202
    # Once it is at its end, another may begin.
    await ground.http.post(f"{path}/{first.json()['id']}/cancel")
    anew = await ground.http.post(path, json={"store": store} | month(1))
    assert (anew.status_code, anew.json()["id"] != first.json()["id"]) == (202, True)


@pytest.mark.parametrize(
    "different",
    [{"topic": "orders/create"}, {"outcome": "dead"}, {"until": "2026-03-01T00:00:00Z"}, {"dry_run": True}],
)
async def test_another_selection_is_another_replay(ground: Ground, different: dict[str, Any]) -> None:
    store = await shop(ground)
    assert (await ground.http.post(REPLAYS, json={"store": store})).status_code == 202
    for status in (202, 200):
        ground.clock.set(ground.clock.now() + timedelta(minutes=1))
        assert (await ground.http.post(REPLAYS, json={"store": store} | different)).status_code == status


async def test_a_paused_backfill_is_not_made_anew(ground: Ground) -> None:
    store = await shop(ground)
    asked = (await ground.http.post(BACKFILLS, json={"store": store})).json()
    await ground.http.post(f"{BACKFILLS}/{asked['id']}/pause")
    again = await ground.http.post(BACKFILLS, json={"store": store, "kinds": asked["kinds"][::-1]})
    assert (again.status_code, again.json()["id"], again.json()["state"]) == (200, asked["id"], "paused")


@pytest.mark.parametrize("path", [REPLAYS, BACKFILLS])
async def test_only_so_many_are_open_at_one_time(ground: Ground, path: str) -> None:
    stores = [await shop(ground, n) for n in range(MOST_OF_A_TENANT // MOST_OF_A_STORE + 1)]
    for store in stores[:-1]:
        # At once: none of them slips through while the others are counted.
        asking = [ground.http.post(path, json={"store": store} | month(n)) for n in range(MOST_OF_A_STORE + 2)]
        answers = sorted([answer.status_code for answer in await asyncio.gather(*asking)])
        assert answers == [202] * MOST_OF_A_STORE + [409] * 2
    refused = await ground.http.post(path, json={"store": stores[0]} | month(99))
    assert (refused.json()["code"], refused.json()["errors"][0]["pointer"]) == ("too_many_open", "/store")
    assert f"At most {MOST_OF_A_STORE} {path.rpartition('/')[2]} of this store" in refused.json()["detail"]
    refused = await ground.http.post(path, json={"store": stores[-1]})
    assert refused.status_code == 409
    assert f"At most {MOST_OF_A_TENANT} {path.rpartition('/')[2]} of all stores" in refused.json()["detail"]
    # Nobody else is held back by it.
    theirs = await of(ground, "other")
    store = (await ground.http.post("/v1/stores", json=STORE | {"platform": "woocommerce"}, headers=theirs)).json()
    await ground.http.put(f"/v1/stores/{store['store_key']}/credentials", json=CREDENTIALS, headers=theirs)
    assert (await ground.http.post(path, json={"store": store["store_key"]}, headers=theirs)).status_code == 202
    # Nor is whoever has one less.
    newest = (await ground.get(path))["data"][0]
    await ground.http.post(f"{path}/{newest['id']}/cancel")
    assert (await ground.http.post(path, json={"store": stores[-1]})).status_code == 202


async def test_what_has_failed_is_not_resumed_beyond_that(ground: Ground) -> None:
    store = await shop(ground)
    failed = (await ground.http.post(BACKFILLS, json={"store": store})).json()["id"]
    await ground.http.delete(f"/v1/stores/{store}/credentials")
    await ground.http.put(f"/v1/stores/{store}/credentials", json=CREDENTIALS)
    assert (await ground.get(f"{BACKFILLS}/{failed}"))["state"] == "failed"
    ids = [
        (await ground.http.post(BACKFILLS, json={"store": store} | month(n))).json()["id"]
        for n in range(MOST_OF_A_STORE)
    ]
    refused = await ground.http.post(f"{BACKFILLS}/{failed}/resume")
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_open")
    await ground.http.post(f"{BACKFILLS}/{ids[0]}/cancel")
    assert (await ground.http.post(f"{BACKFILLS}/{failed}/resume")).json()["state"] == "waiting"


async def test_tenants_take_turns_however_many_replays_one_has(ground: Ground) -> None:
    ours = await sent(ground, orders=5)
    theirs = await of(ground, "other")
    store = (await ground.http.post("/v1/stores", json=STORE, headers=theirs)).json()["store_key"]
    await ground.shopify(store, {"id": 1})
    await ground.drain()
    ground.clock.set(ground.clock.now() + timedelta(hours=1))
    for n in range(MOST_OF_A_STORE):
        await ground.http.post(REPLAYS, json={"store": ours} | month(n))
    asked = (await ground.http.post(REPLAYS, json={"store": store}, headers=theirs)).json()["id"]
    working = Replays(ground.database, batch=2)
    for _ in range(2):
        await working.run(ground.clock.now())
    told = (await ground.http.get(f"{REPLAYS}/{asked}", headers=theirs)).json()
    assert told["state"] == "done"
    assert [one["looked_at"] for one in (await ground.get(REPLAYS))["data"]] == [0] * 4 + [2]


async def test_so_they_do_with_privacy_requests(ground: Ground) -> None:
    asked = {}
    for tenant, requests in {"busy": 4, "busier": 6, "third": 1}.items():
        headers = await of(ground, tenant)
        for n in range(requests):
            domain = {"domain": f"{tenant}-{n}.myshopify.com"}
            store = (await ground.http.post("/v1/stores", json=STORE | domain, headers=headers)).json()["store_key"]
            about = {"store": store, "kind": "redact", "customer": {"email": "ada@example.com"}}
            asked[tenant] = (await ground.http.post(PRIVACY, json=about, headers=headers)).json()["id"], headers
    working = PrivacyRequests(ground.database, ground.keyring, rate=100)
    for _ in range(2 * len(asked)):
        await working.run(ground.clock.now())
    third, headers = asked["third"]
    told = (await ground.http.get(f"{PRIVACY}/{third}", headers=headers)).json()
    assert told["state"] == "done"

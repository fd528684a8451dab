"""Public keys, from their making to their end, and proofs."""

from datetime import timedelta
from typing import Any

import pytest

from libs.common.auth import create_key
from services.ingest.registration import MAX_PUBLIC_KEYS
from tests.integration.ingest.conftest import Grounds
from tests.integration.ingest.ground import Ground
from tests.integration.ingest.pages import ORIGIN, browsing, proof, public_key, view
from tests.waiting import eventually


async def test_a_key_is_made_listed_and_withdrawn(ground: Ground) -> None:
    store = await ground.register()
    answer = await ground.http.post(f"/v1/stores/{store}/public-keys", json={})
    made = answer.json()
    assert (answer.status_code, made["origins"], made["created_by"]) == (201, [ORIGIN], "admin")
    assert made["public_key"].startswith("pk_")
    other = await public_key(ground, store, "https://www.Shop.example:443/", "http://localhost:3000")
    listed = await ground.get(f"/v1/stores/{store}/public-keys")
    assert [each["public_key"] for each in listed] == sorted([made["public_key"], other])
    assert {"http://localhost:3000", "https://www.shop.example"} in [set(each["origins"]) for each in listed]
    async with browsing(ground, made["public_key"]) as page:
        assert (await page.send(view())).status_code == 202
        gone = await ground.http.delete(f"/v1/stores/{store}/public-keys/{made['public_key']}")
        assert (gone.status_code, gone.content, "content-type" in gone.headers) == (204, b"", False)
        assert (await page.send(view("e-2"))).status_code == 401
        page.key, page.origin = other, "http://localhost:3000"
        assert (await page.send(view("e-3"))).status_code == 202
    gone = await ground.http.delete(f"/v1/stores/{store}/public-keys/{made['public_key']}")
    assert gone.status_code == 404
    told = [entry["changes"] for entry in (await ground.get(f"/v1/stores/{store}/changes"))["data"]]
    assert told[0] == {"public_keys": {"withdrawn": made["public_key"]}}
    assert told[2] == {"public_keys": {"added": made["public_key"], "origins": [ORIGIN]}}
    # A failed withdrawal changed nothing.
    assert len(told) == 4


async def test_what_the_store_has_otherwise_stays(ground: Ground) -> None:
    store = await ground.register(name="Tea & Co")
    before = await ground.get(f"/v1/stores/{store}")
    await public_key(ground, store)
    assert await ground.get(f"/v1/stores/{store}") == before
    assert (await ground.shopify(store, {"id": 1})).status_code == 200
    key = await public_key(ground, store)
    await ground.http.patch(f"/v1/stores/{store}", json={"name": "Tea"})
    async with browsing(ground, key) as page:
        assert (await page.send(view())).status_code == 202


async def test_another_process_learns_of_it(grounds: Grounds, ground: Ground) -> None:
    store = await ground.register()
    async with grounds() as other:
        key = await public_key(ground, store)
        async with browsing(other, key) as page:

            async def taken() -> bool:
                return (await page.send(view())).status_code == 202

            async def refused() -> bool:
                return (await page.send(view())).status_code == 401

            await eventually(taken)
            await ground.http.delete(f"/v1/stores/{store}/public-keys/{key}")
            await eventually(refused)


async def test_no_more_than_a_few(ground: Ground) -> None:
    store = await ground.register()
    for _ in range(MAX_PUBLIC_KEYS):
        await public_key(ground, store)
    answer = await ground.http.post(f"/v1/stores/{store}/public-keys", json={})
    assert (answer.status_code, answer.json()["errors"][0]["detail"][:20]) == (422, "A store has at most ")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"origins": []}, "/origins"),
        ({"origins": ["*"]}, "/origins/0"),
        ({"origins": ["https://a.example", "http://shop.example"]}, "/origins/1"),
        ({"origins": ["https://shop.example/path"]}, "/origins/0"),
        ({"origins": [f"https://{n}.example" for n in range(21)]}, "/origins"),
        ({"scopes": ["*"]}, "/scopes"),
    ],
)
async def test_what_is_wrong_is_pointed_at(ground: Ground, body: dict[str, Any], pointer: str) -> None:
    store = await ground.register()
    answer = await ground.http.post(f"/v1/stores/{store}/public-keys", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


async def test_a_domain_that_is_no_origin(ground: Ground) -> None:
    """As could be registered before ports were looked at."""
    store = await ground.register()
    async with ground.database.transaction() as tx:
        await tx.pg.execute("UPDATE stores SET domain = 'shop.example:99999' WHERE key = $1", store)
    answer = await ground.http.post(f"/v1/stores/{store}/public-keys", json={})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/origins")


async def test_another_tenant_has_no_say(ground: Ground) -> None:
    store = await ground.register()
    key = await public_key(ground, store)
    stranger = {"authorization": f"Bearer {await create_key(ground.database, 'another', {'*'}, 'stranger')}"}
    paths = f"/v1/stores/{store}/public-keys"
    for method, path in (("GET", paths), ("POST", paths), ("DELETE", f"{paths}/{key}")):
        answer = await ground.http.request(method, path, headers=stranger, json={} if method == "POST" else None)
        assert answer.status_code == 404, method
    answer = await ground.http.post(f"/v1/stores/{store}/proofs", headers=stranger, json={"customer_id": "7"})
    assert answer.status_code == 404
    # Nor has one store of a tenant a say in another's.
    second = await ground.register(domain="b.example")
    assert (await ground.http.delete(f"/v1/stores/{second}/public-keys/{key}")).status_code == 404
    async with browsing(ground, key) as page:
        assert (await page.send(view())).status_code == 202


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, ""),
        ({"email": "not an address"}, "/email"),
        ({"phone": "call me"}, "/phone"),
        ({"email": "noreply@shop.example"}, "/email"),
        ({"phone": "0151 1234567"}, "/phone"),
        ({"email": "noreply@shop.example", "phone": "0151 1234567"}, ""),
        ({"customer_id": ""}, "/customer_id"),
        ({"cart_token": "c1"}, "/cart_token"),
        ({"customer_id": "7", "expires_in_seconds": 86_401}, "/expires_in_seconds"),
        ({"customer_id": "7", "expires_in_seconds": 1}, "/expires_in_seconds"),
    ],
)
async def test_a_proof_that_proves_nothing(ground: Ground, body: dict[str, Any], pointer: str) -> None:
    store = await ground.register()
    answer = await ground.http.post(f"/v1/stores/{store}/proofs", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


async def test_a_proof_says_when_it_ends(ground: Ground) -> None:
    store = await ground.register()
    answer = await ground.http.post(
        f"/v1/stores/{store}/proofs", json={"email": "ada@example.com", "expires_in_seconds": 600}
    )
    assert answer.json()["expires_at"] == "2026-03-02T12:10:00Z"
    assert await proof(ground, store, customer_id="7")


async def test_a_proof_that_is_asked_for_again_is_another(ground: Ground) -> None:
    """One that was kept would have come to its end, or could be taken from where it was kept."""
    store = await ground.register()
    path, headers = f"/v1/stores/{store}/proofs", {"idempotency-key": "of ada"}
    asking = {"email": "ada@example.com", "expires_in_seconds": 60}
    first = await ground.http.post(path, json=asking, headers=headers)
    async with ground.database.autocommit() as pg:
        assert await pg.fetchval("SELECT body FROM common.idempotency_keys") is None
    ground.clock.set(ground.clock.now() + timedelta(minutes=2))
    again = await ground.http.post(path, json=asking, headers=headers)
    assert (first.status_code, again.status_code, again.headers["idempotency-replayed"]) == (201, 201, "true")
    key = await public_key(ground, store)
    async with browsing(ground, key) as page:
        assert (await page.send(view(), proof=first.json()["proof"])).status_code == 422
        assert (await page.send(view(), proof=again.json()["proof"])).status_code == 202
    other = await ground.http.post(path, json=asking | {"email": "eve@example.com"}, headers=headers)
    assert other.json()["code"] == "idempotency_key_reused"

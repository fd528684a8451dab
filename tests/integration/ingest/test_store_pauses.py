"""A store that is paused, and one that is deleted: what is taken of them, what goes, what stays."""

import asyncio
import json
from typing import Any

import pytest

from libs.common.auth import create_key
from services.ingest import fetches
from services.ingest import store as records
from services.ingest.registry import Registry
from tests.integration.ingest.ground import Ground
from tests.integration.ingest.shop_api import fetching
from tests.waiting import eventually

NOTHING = {"secrets": 0, "credentials": 0, "public_keys": 0, "backfills": 0, "comparisons": 0, "replays": 0}


async def told(ground: Ground) -> list[dict[str, Any]]:
    """What the other services get to know of stores."""
    async with ground.database.autocommit() as pg:
        rows = await pg.fetch("SELECT data FROM log_commerce WHERE type = 'store.observed'")
    found = [json.loads(row["data"]) for row in rows]
    return sorted(found, key=lambda data: (data["updated_at"], data["position"]))


async def patch(ground: Ground, store: str, **changes: Any) -> dict[str, Any]:
    answer = await ground.http.patch(f"/v1/stores/{store}", json=changes)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def delete(ground: Ground, store: str, **parameters: Any) -> dict[str, Any]:
    answer = await ground.http.delete(f"/v1/stores/{store}", params=parameters)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def other_tenant(ground: Ground) -> dict[str, str]:
    return {"authorization": f"Bearer {await create_key(ground.database, 'other', {'*'}, 'of the other tenant')}"}


async def rows_of(ground: Ground, store: str) -> dict[str, int]:
    """What there is of a store that only serves to take something of it."""
    async with ground.database.autocommit() as pg:
        return {
            table: await pg.fetchval(f"SELECT count(*) FROM {table} WHERE store = $1", store)
            for table in ("credentials", "public_keys", "fetches")
        }


# Paused --------------------------------------------------------------------------------------------------------------


async def test_a_pause_and_its_end_are_told_and_audited(ground: Ground) -> None:
    store = await ground.register()
    begin = ground.clock.now()
    assert (await ground.get(f"/v1/stores/{store}"))["state"] == "active"
    assert (await patch(ground, store, paused=True))["state"] == "paused"
    ground.clock.set(begin.replace(hour=begin.hour + 1))
    await patch(ground, store, paused=True, name="Tea")
    assert (await patch(ground, store, paused=False))["state"] == "active"
    stamp, end = (moment.isoformat().replace("+00:00", "Z") for moment in (begin, ground.clock.now()))
    moments = [(data.get("paused_at"), data.get("resumed_at")) for data in await told(ground)]
    assert moments == [(None, None), (stamp, None), (stamp, None), (stamp, end)]
    changes = (await ground.get(f"/v1/stores/{store}/changes"))["data"]
    assert [each["changes"] for each in changes][:3] == [{"state": "active"}, {"name": "Tea"}, {"state": "paused"}]
    assert {each["by"] for each in changes} == {"admin"}


async def test_registering_it_again_does_not_end_a_pause(ground: Ground) -> None:
    store = await ground.register()
    await patch(ground, store, paused=True)
    assert await ground.register(name="Tea") == store
    assert (await ground.get(f"/v1/stores/{store}"))["state"] == "paused"


@pytest.mark.parametrize("wrong", [None, "yes", 1])
async def test_paused_is_true_or_false(ground: Ground, wrong: object) -> None:
    store = await ground.register()
    answer = await ground.http.patch(f"/v1/stores/{store}", json={"paused": wrong})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/paused")


async def test_what_a_paused_store_sends_is_kept_and_read(ground: Ground) -> None:
    store = await ground.register()
    await patch(ground, store, paused=True)
    assert (await ground.shopify(store, {"id": 1, "currency": "EUR", "line_items": []})).status_code == 200
    await ground.drain()
    assert [type_ for type_, _, _ in await ground.commerce()] == ["order.observed"]


async def test_a_paused_store_is_not_compared_until_it_is_resumed(ground: Ground, store: str) -> None:
    await patch(ground, store, paused=True)
    ground.clock.set(ground.clock.now().replace(day=ground.clock.now().day + 1))
    now = ground.clock.now()
    await fetching(ground).plan(now)
    async with ground.database.autocommit() as pg:
        assert await pg.fetchval("SELECT count(*) FROM fetches") == 0
    await patch(ground, store, paused=False)
    await fetching(ground).plan(now)
    async with ground.database.autocommit() as pg:
        assert await pg.fetchval("SELECT count(*) FROM fetches WHERE state = 'waiting'") == 2


async def test_a_comparison_under_way_rests_and_a_backfill_goes_on(ground: Ground, store: str) -> None:
    async with ground.database.autocommit() as pg:
        for purpose in ("reconcile", "sweep", "backfill"):
            await pg.execute(
                """
                INSERT INTO fetches (tenant, id, store, purpose, kinds, until, state, asked_at, asked_by, not_before)
                VALUES ('default', gen_random_uuid(), $1, $2, '{orders}', now(), 'waiting', now(), 'x', '-infinity')
                """,
                store,
                purpose,
            )
    await patch(ground, store, paused=True)

    async def claimed() -> str | None:
        async with ground.database.transaction() as tx:
            found = await fetches.claim(tx, "00000000-0000-7000-8000-000000000000")
            await tx.pg.execute("UPDATE credentials SET next_call_at = '-infinity'")
        return found[0].purpose if found else None

    assert [await claimed() for _ in range(2)] == ["backfill", None]
    await patch(ground, store, paused=False)
    assert {await claimed() for _ in range(2)} == {"reconcile", "sweep"}


# Deleted -------------------------------------------------------------------------------------------------------------


async def furnished(ground: Ground, store: str) -> dict[str, int]:
    """A key for pages, a backfill and a replay of a store with credentials; how many of each there are."""
    await ground.http.post(f"/v1/stores/{store}/public-keys", json={"origins": ["https://tea.example"]})
    asked = await ground.http.post("/v1/backfills", json={"store": store})
    again = await ground.http.post("/v1/deliveries/replays", json={"store": store})
    assert (asked.status_code, again.status_code) == (202, 202), (asked.text, again.text)
    return NOTHING | {"secrets": 1, "credentials": 1, "public_keys": 1, "backfills": 1, "replays": 1}


async def test_a_dry_run_tells_what_would_go_and_leaves_it(ground: Ground, store: str) -> None:
    there = await furnished(ground, store)
    before = await rows_of(ground, store), await told(ground)
    assert (
        await delete(ground, store, dry_run="true")
        == {
            "store": store,
            "dry_run": True,
            "deleted_at": None,
        }
        | there
    )
    assert (await rows_of(ground, store), await told(ground)) == before
    assert (await ground.woocommerce(store, {"id": 1})).status_code == 200


async def test_what_opens_it_goes_and_its_history_stays(ground: Ground, store: str) -> None:
    await ground.woocommerce(store, {"id": 7, "currency": "EUR"}, topic="order.created")
    await ground.drain()
    there = await furnished(ground, store)
    stamp = ground.clock.now().isoformat().replace("+00:00", "Z")
    assert await delete(ground, store) == {"store": store, "dry_run": False, "deleted_at": stamp} | there
    assert set((await rows_of(ground, store)).values()) == {0}
    assert (await told(ground))[-1]["deleted_at"] == stamp
    found = await ground.get(f"/v1/stores/{store}")
    assert found["state"] == "deleted"
    assert (await ground.get("/v1/stores"))["data"] == []
    assert [each["topic"] for each in (await ground.get("/v1/deliveries", store=store))["data"]] == ["order.created"]
    assert (await ground.get("/v1/deliveries/counts", store=store))["parked"] == 0
    assert await ground.get(f"/v1/stores/{store}/secrets") == []
    assert await ground.get(f"/v1/stores/{store}/public-keys") == []
    assert (await ground.get(f"/v1/stores/{store}/health"))["credentials"] is None
    last = (await ground.get(f"/v1/stores/{store}/changes"))["data"][0]
    assert (last["by"], last["at"], last["changes"]["state"]) == ("admin", stamp, "deleted")
    assert last["changes"]["removed"]["secrets"] == 1


async def replay(ground: Ground) -> dict[str, Any]:
    [found] = (await ground.get("/v1/deliveries/replays"))["data"]
    return dict(found)


async def test_a_replay_under_way_ends(ground: Ground, store: str) -> None:
    await furnished(ground, store)
    await delete(ground, store)
    assert (await replay(ground))["state"] == "cancelled"


async def test_asked_again_nothing_is_left_to_go(ground: Ground) -> None:
    store = await ground.register()
    first = await delete(ground, store)
    ground.clock.set(ground.clock.now().replace(day=28))
    assert await delete(ground, store) == first | NOTHING
    assert await delete(ground, store, dry_run="true") == first | NOTHING | {"dry_run": True}
    assert len(await told(ground)) == 2
    assert len((await ground.get(f"/v1/stores/{store}/changes"))["data"]) == 2


async def test_its_webhook_address_answers_as_that_of_an_unknown_store(ground: Ground) -> None:
    store = await ground.register()
    unknown = await ground.shopify("st_none", {"id": 1})
    await delete(ground, store)
    answer = await ground.shopify(store, {"id": 1})
    assert (answer.status_code, answer.json()) == (unknown.status_code, unknown.json()) == (401, unknown.json())
    assert await ground.journalled() == 0
    event = {"id": "1", "type": "product.viewed", "store": store, "profile": {"customer_id": "1"}}
    told_ = await ground.http.post("/v1/events", json=event)
    assert (told_.status_code, told_.json()["errors"][0]["pointer"]) == (422, "/store")


async def test_its_pages_are_refused_too(ground: Ground) -> None:
    store = await ground.register()
    made = await ground.http.post(f"/v1/stores/{store}/public-keys", json={"origins": ["https://tea.example"]})
    key = made.json()["public_key"]
    await delete(ground, store)
    body = {"events": [{"id": "1", "type": "product.viewed", "profile": {"cart_token": "c"}}]}
    answer = await ground.http.post(
        f"/v1/browser/events?key={key}", json=body, headers={"origin": "https://tea.example"}
    )
    assert answer.status_code == 401


async def test_other_processes_forget_it_and_ask_nobody_about_it(ground: Ground) -> None:
    store = await ground.register()
    edge = ground.app.state.ingest
    elsewhere = Registry(ground.database, edge.keyring, ground.clock)
    await elsewhere.start()
    try:
        assert elsewhere.find(store) is not None
        async with ground.database.reading() as tx:
            [read_before] = await records.sealed_stores(tx, [store])
        await delete(ground, store)

        async def forgotten() -> bool:
            return elsewhere.find(store) is None

        await eventually(forgotten)
    finally:
        await elsewhere.stop()
    # Read before it was deleted, and taken over late.
    edge.registry._remember(read_before)
    assert edge.registry.find(store) is None


async def test_deliveries_taken_before_are_still_read(ground: Ground) -> None:
    store = await ground.register()
    await ground.shopify(store, {"id": 1, "currency": "EUR", "line_items": []})
    await delete(ground, store)
    await ground.drain()
    assert [type_ for type_, _, _ in await ground.commerce()] == ["order.observed"]


async def test_its_domain_may_be_registered_again_under_another_key(ground: Ground) -> None:
    first = await ground.register()
    await delete(ground, first)
    second = await ground.register()
    assert second != first
    assert [each["store_key"] for each in (await ground.get("/v1/stores"))["data"]] == [second]
    assert (await ground.shopify(first, {"id": 1})).status_code == 401
    assert (await ground.shopify(second, {"id": 1})).status_code == 200
    await delete(ground, second)
    assert await ground.register() not in {first, second}


async def test_nothing_about_it_can_be_changed(ground: Ground, store: str) -> None:
    await delete(ground, store)
    credentials = {"consumer_key": "ck_12345678", "consumer_secret": "cs_12345678"}
    answers = [
        await ground.http.patch(f"/v1/stores/{store}", json={"paused": True}),
        await ground.http.patch(f"/v1/stores/{store}", json={"secrets": ["another secret"]}),
        await ground.http.put(f"/v1/stores/{store}/credentials", json=credentials),
        await ground.http.post(f"/v1/stores/{store}/public-keys", json={}),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(409, "deleted")] * 4
    for path in ("/v1/backfills", "/v1/deliveries/replays"):
        answer = await ground.http.post(path, json={"store": store})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/store")


async def test_two_who_delete_at_one_time_delete_once(ground: Ground) -> None:
    store = await ground.register()
    answers = await asyncio.gather(*(delete(ground, store) for _ in range(4)))
    assert sorted(answer["secrets"] for answer in answers) == [0, 0, 0, 1]
    assert len(await told(ground)) == 2


async def test_another_tenant_neither_sees_nor_pauses_nor_deletes_it(ground: Ground) -> None:
    store = await ground.register()
    other = await other_tenant(ground)
    path = f"/v1/stores/{store}"
    answers = [
        await ground.http.delete(path, headers=other),
        await ground.http.delete(path, params={"dry_run": "true"}, headers=other),
        await ground.http.patch(path, json={"paused": True}, headers=other),
    ]
    assert [answer.status_code for answer in answers] == [404] * 3
    assert (await ground.get(path))["state"] == "active"
    assert (await ground.http.delete("/v1/stores/st_none")).status_code == 404


async def test_who_may_only_read_deletes_nothing(ground: Ground) -> None:
    store = await ground.register()
    key = await create_key(ground.database, "default", {"stores:read"}, "reads")
    answer = await ground.http.delete(f"/v1/stores/{store}", headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == 403
    assert (await ground.shopify(store, {"id": 1})).status_code == 200

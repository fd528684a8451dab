"""A store changed: what it is then, who did it, and which secrets sign."""

import asyncio
import json
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from libs.common.auth import create_key
from tests.integration.ingest.ground import SECRET, Ground
from tests.waiting import eventually

NEW = "another secret, longer"
OVERLAP = 3600


async def changed(ground: Ground, store: str, **changes: Any) -> dict[str, Any]:
    answer = await ground.http.patch(f"/v1/stores/{store}", json=changes)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def accepted(ground: Ground, store: str) -> dict[str, int]:
    """What is answered to a delivery signed by the old secret, and by the new one."""
    name = f"{ground.clock.now()}"
    return {
        secret: (await ground.shopify(store, {"id": 1}, id_=f"{name} {secret}", secret=secret)).status_code
        for secret in (SECRET, NEW)
    }


async def test_what_is_absent_stays(ground: Ground) -> None:
    store = await ground.register(name="Tea & Co")
    before = await ground.get(f"/v1/stores/{store}")
    after = await changed(ground, store, currency="chf", consent="soft_opt_in")
    assert after == before | {"currency": "CHF", "consent": "soft_opt_in"}
    assert await ground.get(f"/v1/stores/{store}") == after
    assert await accepted(ground, store) == {SECRET: 200, NEW: 401}


async def test_a_rotation_overlaps_and_ends(ground: Ground) -> None:
    store = await ground.register()
    await changed(ground, store, secrets=[NEW], overlap_seconds=OVERLAP)
    assert await accepted(ground, store) == {SECRET: 200, NEW: 200}
    began, end = ground.clock.now(), ground.clock.now() + timedelta(seconds=OVERLAP)
    listed = await ground.get(f"/v1/stores/{store}/secrets")
    stamps = [began.isoformat().replace("+00:00", "Z"), end.isoformat().replace("+00:00", "Z")]
    assert [(each["added_at"], each["ends_at"]) for each in listed] == [(stamps[0], None), tuple(stamps)]
    ground.clock.set(end)
    # As the look that each process takes every half a minute does.
    await ground.app.state.ingest.registry.reload(store)
    assert await accepted(ground, store) == {SECRET: 401, NEW: 200}
    assert len(await ground.get(f"/v1/stores/{store}/secrets")) == 1


async def test_a_secret_ends_by_itself_and_however_often_other_stores_change(ground: Ground) -> None:
    ended, kept, other = [await ground.register(domain=f"{name}.myshopify.com") for name in ("ended", "kept", "other")]
    await changed(ground, ended, secrets=[NEW], overlap_seconds=OVERLAP)
    await changed(ground, kept, secrets=[NEW], overlap_seconds=2 * OVERLAP)
    ground.clock.set(ground.clock.now() + timedelta(seconds=OVERLAP))
    # Its news cuts short the wait for the look at all of them.
    await changed(ground, other, name="Tea")

    async def refused() -> bool:
        return (await accepted(ground, ended))[SECRET] == 401

    await eventually(refused, timeout=10)
    assert await accepted(ground, kept) == {SECRET: 200, NEW: 200}


async def test_a_secret_ends_on_time(ground: Ground) -> None:
    store = await ground.register()
    await changed(ground, store, secrets=[NEW], overlap_seconds=OVERLAP)
    almost = ground.clock.now() + timedelta(seconds=OVERLAP - 0.3)
    ground.clock.set(almost)
    # What the process learns now, it learns of an overlap that is nearly over.
    await changed(ground, store, name="Tea")
    ground.clock.set(almost + timedelta(seconds=0.3))

    async def refused() -> bool:
        return (await accepted(ground, store))[SECRET] == 401

    # Long before it would look at all stores anyway.
    await eventually(refused, timeout=10)


async def test_without_an_overlap_the_old_secret_ends_at_once(ground: Ground) -> None:
    store = await ground.register()
    await changed(ground, store, secrets=[NEW])
    assert await accepted(ground, store) == {SECRET: 401, NEW: 200}


async def test_a_secret_that_comes_back_signs_for_good(ground: Ground) -> None:
    store = await ground.register()
    await changed(ground, store, secrets=[NEW], overlap_seconds=OVERLAP)
    await changed(ground, store, secrets=[SECRET, NEW])
    ground.clock.set(ground.clock.now() + timedelta(days=1))
    await ground.app.state.ingest.registry.reload(store)
    assert await accepted(ground, store) == {SECRET: 200, NEW: 200}


async def test_another_change_does_not_end_a_rotation(ground: Ground) -> None:
    store = await ground.register()
    await changed(ground, store, secrets=[NEW], overlap_seconds=OVERLAP)
    await changed(ground, store, name="Tea")
    assert await accepted(ground, store) == {SECRET: 200, NEW: 200}
    ground.clock.set(ground.clock.now() + timedelta(seconds=OVERLAP))
    await ground.app.state.ingest.registry.reload(store)
    assert await accepted(ground, store) == {SECRET: 401, NEW: 200}


async def test_secrets_that_the_version_before_wrote_sign(ground: Ground) -> None:
    store = await ground.register()
    async with ground.database.autocommit() as pg:
        await pg.execute("UPDATE stores SET secrets_added = NULL, secrets_end = NULL")
    created = (await ground.get(f"/v1/stores/{store}"))["created_at"]
    assert await ground.get(f"/v1/stores/{store}/secrets") == [{"added_at": created, "ends_at": None}]
    await changed(ground, store, secrets=[NEW], overlap_seconds=OVERLAP)
    assert await accepted(ground, store) == {SECRET: 200, NEW: 200}


async def test_no_good_delivery_is_refused_while_secrets_rotate(ground: Ground) -> None:
    store = await ground.register()
    secret, answers = SECRET, Counter[int]()
    rotated = asyncio.Event()

    async def send() -> None:
        n = 0
        while not rotated.is_set():
            n += 1
            answers[(await ground.shopify(store, {"id": n}, id_=f"d-{n}", secret=secret)).status_code] += 1

    sending = asyncio.create_task(send())
    for n in range(20):
        following = f"secret number {n:03}"
        await changed(ground, store, secrets=[following], overlap_seconds=1)
        # The shop learns the new one while its deliveries are on their way.
        secret = following
        ground.clock.set(ground.clock.now() + timedelta(seconds=2))
    rotated.set()
    await sending
    assert answers[200] > 20
    assert set(answers) == {200}


async def test_every_change_is_in_the_audit_log(ground: Ground) -> None:
    store = await ground.register()
    key = await create_key(ground.database, "default", {"stores:write"}, "for the audit")
    headers = {"authorization": f"Bearer {key}"}
    asked = {"timezone": "Europe/Vienna", "currency": "EUR", "secrets": [NEW], "overlap_seconds": OVERLAP}
    await ground.http.patch(f"/v1/stores/{store}", json=asked, headers=headers)
    await ground.register(secrets=[NEW], timezone="Europe/Vienna", name="Tea")
    answer = await ground.http.get(f"/v1/stores/{store}/changes", params={"limit": 2})
    page = answer.json()
    assert [entry["version"] for entry in page["data"]] == [3, 2]
    again, patched = (entry["changes"] for entry in page["data"])
    assert again == {"name": "Tea", "secrets": {"ended": 1}}
    end = (ground.clock.now() + timedelta(seconds=OVERLAP)).isoformat().replace("+00:00", "Z")
    assert patched == {"timezone": "Europe/Vienna", "secrets": {"added": 1, "ending": [end]}}
    assert [entry["by"] for entry in page["data"]] == ["admin", key.split("_")[1]]
    [first] = (await ground.get(f"/v1/stores/{store}/changes", limit=2, cursor=page["next"]))["data"]
    assert (first["version"], first["changes"]["currency"], first["changes"]["secrets"]) == (1, "EUR", {"added": 1})
    for secret in (SECRET, NEW):
        assert secret not in answer.text


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({}, ""),
        ({"overlap_seconds": 60}, "/secrets"),
        ({"currency": "EURO"}, "/currency"),
        ({"timezone": "Berlin"}, "/timezone"),
        ({"consent": "all"}, "/consent"),
        ({"name": None}, "/name"),
        ({"secrets": None}, "/secrets"),
        ({"secrets": []}, "/secrets"),
        ({"secrets": ["short"]}, "/secrets/0"),
        ({"secrets": [f"secret number {n}" for n in range(8)], "overlap_seconds": 60}, "/secrets"),
        ({"secrets": [NEW], "overlap_seconds": -1}, "/overlap_seconds"),
        ({"secrets": [NEW], "overlap_seconds": 10**9}, "/overlap_seconds"),
        ({"platform": "woocommerce"}, "/platform"),
        ({"domain": "other.example"}, "/domain"),
        ({"name": "Other", "domain": None}, "/domain"),
    ],
)
async def test_a_bad_change_names_its_field_and_changes_nothing(
    ground: Ground, changes: dict[str, Any], pointer: str
) -> None:
    store = await ground.register()
    before = await ground.get(f"/v1/stores/{store}")
    answer = await ground.http.patch(f"/v1/stores/{store}", json=changes)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert await ground.get(f"/v1/stores/{store}") == before
    assert len((await ground.get(f"/v1/stores/{store}/changes"))["data"]) == 1
    assert await accepted(ground, store) == {SECRET: 200, NEW: 401}


async def test_another_tenant_s_store_is_none(ground: Ground) -> None:
    store = await ground.register()
    other = {"authorization": f"Bearer {await create_key(ground.database, 'other', {'*'}, 'of the other tenant')}"}
    path = f"/v1/stores/{store}"
    assert (await ground.http.patch(path, json={"name": "Mine"}, headers=other)).status_code == 404
    for tail in ("/secrets", "/changes"):
        assert (await ground.http.get(path + tail, headers=other)).status_code == 404


async def test_of_changes_at_one_time_the_last_version_is_the_latest(ground: Ground) -> None:
    """They are dated as they come, and wait for each other after that."""
    store = await ground.register()
    late = ground.clock.now() + timedelta(seconds=5)
    ground.clock.set(late)
    await changed(ground, store, consent="soft_opt_in")
    ground.clock.set(late - timedelta(seconds=5))
    await changed(ground, store, consent="explicit")
    async with ground.database.autocommit() as pg:
        rows = await pg.fetch("SELECT data FROM log_commerce WHERE type = 'store.observed'")
    told = sorted((json.loads(row["data"]) for row in rows), key=lambda data: (data["updated_at"], data["position"]))
    assert [(data["position"], data["consent_policy"]) for data in told][1:] == [(2, "soft_opt_in"), (3, "explicit")]


@pytest.mark.parametrize("name", ["\u202e", " \u200b", "Tea\u202e", "Te\na", "\ue000"])
async def test_a_name_is_something_to_read(ground: Ground, name: str) -> None:
    store = await ground.register()
    answer = await ground.http.patch(f"/v1/stores/{store}", json={"name": name})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/name")
    assert (await ground.http.patch(f"/v1/stores/{store}", json={"name": "Café Größe 茶"})).status_code == 200


@pytest.mark.parametrize("wrong", [{"timezone": "localtime"}, {"overlap_seconds": True}])
async def test_what_looks_like_something_else(ground: Ground, wrong: dict[str, object]) -> None:
    store = await ground.register()
    answer = await ground.http.patch(f"/v1/stores/{store}", json={"secrets": [NEW], **wrong})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, f"/{next(iter(wrong))}")


async def test_what_cannot_be_changed_says_what_to_do_instead(ground: Ground) -> None:
    store = await ground.register()
    answer = await ground.http.patch(f"/v1/stores/{store}", json={"platform": "events", "domain": "other.example"})
    for name, error in zip(("platform", "domain"), answer.json()["errors"], strict=True):
        assert error["pointer"] == f"/{name}"
        assert error["detail"].startswith(f"The {name} of a store cannot be changed")
        assert "POST /v1/stores" in error["detail"]

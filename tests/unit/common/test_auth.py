from datetime import timedelta
from typing import Any

import httpx
import pytest

from libs.common.auth import Access, any_key, create_key, list_keys, require, revoke_key, set_admin_key
from libs.common.clock import DrivenClock
from libs.common.db import Database
from libs.common.problems import Problem


@pytest.fixture
def access(database: Database, clock: DrivenClock) -> Access:
    return Access(database, clock, rate_limit=3)


async def test_a_key_tells_tenant_and_scopes(access: Access, database: Database) -> None:
    key = await create_key(database, "acme", ["profiles:read"], "reader")
    principal = await access.principal(key)
    assert principal is not None
    assert principal.tenant == "acme"
    assert principal.may("profiles:read")
    assert not principal.may("profiles:write")


async def test_only_a_hash_is_stored(database: Database) -> None:
    key = await create_key(database, "acme", ["*"], "admin")
    async with database.reading() as tx:
        stored = await tx.pg.fetchval("SELECT k::text FROM common.api_keys k")
    assert key.rpartition("_")[2] not in stored
    assert len(key.split("_", 2)[2]) == 43


async def test_every_other_key_is_refused(access: Access, database: Database) -> None:
    key = await create_key(database, "acme", ["*"], "admin")
    other = await create_key(database, "acme", ["*"], "other")
    mixed = key[:20] + other[20:]
    for wrong in ["", "x", key[:-1], key + "A", key.upper(), mixed, "rk_", "\x00", "é" * 40, "admin"]:
        assert await access.principal(wrong) is None


async def test_an_expired_key_is_refused(access: Access, database: Database, clock: DrivenClock) -> None:
    expired = await create_key(database, "acme", ["*"], "old", expires_at=clock.now())
    living = await create_key(database, "acme", ["*"], "new", expires_at=clock.now() + timedelta(seconds=1))
    assert await access.principal(expired) is None
    assert await access.principal(living) is not None


async def test_a_revoked_key_is_refused(database: Database, clock: DrivenClock) -> None:
    key = await create_key(database, "acme", ["*"], "admin")
    key_id = key.split("_")[1]
    assert await any_key(database)
    assert not await revoke_key(database, "another tenant", key_id)
    assert await revoke_key(database, "acme", key_id)
    assert not await revoke_key(database, "acme", key_id)
    assert await Access(database, clock, rate_limit=0).principal(key) is None
    assert not await any_key(database)


async def test_a_new_admin_key_replaces_the_former(database: Database, clock: DrivenClock) -> None:
    async def accepted(key: str) -> bool:
        return await Access(database, clock, rate_limit=0).principal(key) is not None

    await set_admin_key(database, "first admin key!")
    assert await accepted("first admin key!")
    await set_admin_key(database, "second admin key")
    assert not await accepted("first admin key!")
    assert await accepted("second admin key")
    await revoke_key(database, "default", "admin")
    await set_admin_key(database, "second admin key")
    assert not await accepted("second admin key")
    await set_admin_key(database, "a third admin key")
    assert await accepted("a third admin key")
    # Whoever still has the revoked one in his settings changes nothing.
    await set_admin_key(database, "second admin key")
    assert not await accepted("second admin key")
    assert await accepted("a third admin key")
    await set_admin_key(database, None)
    assert not await accepted("a third admin key")
    await set_admin_key(database, "second admin key")
    assert not await accepted("second admin key")


async def test_verified_keys_are_remembered(access: Access, database: Database) -> None:
    key = await create_key(database, "acme", ["*"], "admin")
    first = await access.principal(key)
    await revoke_key(database, "acme", key.split("_")[1])
    assert await access.principal(key) is first


def test_rate_limit(access: Access) -> None:
    remaining = [access.count("k")["ratelimit-remaining"] for _ in range(3)]
    assert remaining == ["2", "1", "0"]
    with pytest.raises(Problem) as caught:
        access.count("k")
    assert caught.value.status == 429
    assert 1 <= int(caught.value.headers["retry-after"]) <= 60
    assert access.count("another")["ratelimit-limit"] == "3"


async def test_answers_to_missing_and_bad_keys(anonymous: httpx.AsyncClient) -> None:
    for headers in [
        {},
        {"authorization": "Bearer nonsense"},
        {"authorization": "Basic eDp5"},
        {"authorization": "Bearer"},
    ]:
        answer = await anonymous.get("/v1/things", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "unauthorized"


async def test_answer_to_a_lacking_scope(anonymous: httpx.AsyncClient, database: Database) -> None:
    key = await create_key(database, "acme", ["stores:read"], "reader")
    headers = {"authorization": f"Bearer {key}"}
    assert (await anonymous.get("/v1/things", headers=headers)).status_code == 200
    answer = await anonymous.post("/v1/things", headers=headers, json={"name": "abc"})
    assert answer.status_code == 403
    problem: dict[str, Any] = answer.json()
    assert "stores:write" in problem["detail"]


async def test_a_tenant_sees_his_keys_and_no_other(database: Database) -> None:
    await create_key(database, "acme", ["stores:read", "profiles:read"], "reader")
    await create_key(database, "acme", ["*"], "admin")
    await create_key(database, "another", ["*"], "theirs")
    reader, admin = await list_keys(database, "acme")
    assert (reader.name, reader.scopes, reader.revoked_at) == ("reader", ("profiles:read", "stores:read"), None)
    await revoke_key(database, "acme", admin.id)
    assert [key.revoked_at is None for key in await list_keys(database, "acme")] == [True, False]


def test_a_route_asks_for_a_scope_that_a_key_can_have() -> None:
    with pytest.raises(ValueError, match="profile:read"):
        require("profile:read")

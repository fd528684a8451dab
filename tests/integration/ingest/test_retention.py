"""Bodies past their tenant's retention are gone, and nothing else is."""

import asyncio
import json
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from libs.common.auth import create_key
from libs.common.contracts.topics import JOURNAL
from libs.common.log.schema import children, make_children, span_of, upkeeping
from services.ingest.settings import IngestSettings
from tests.integration.ingest.aged import NOW, age, gapless, keep, read_all, rows
from tests.integration.ingest.ground import Ground
from tests.integration.ingest.test_replays import LINE, ORDER, replayed
from tests.waiting import eventually

SECRETIVE = "ada@acme.example"


async def two_tenants(ground: Ground, days: int) -> tuple[str, str, dict[str, str]]:
    """A store of `default`, one of `acme`, and how to ask as the latter; both sent orders so many days ago."""
    key = await create_key(ground.database, "acme", {"stores:write", "deliveries:read", "deliveries:write"}, "test")
    acme = {"authorization": f"Bearer {key}"}
    ours = await ground.register()
    answer = await ground.http.post(
        "/v1/stores",
        json={"platform": "shopify", "domain": "acme.myshopify.com", "secrets": ["hush, a secret"], "currency": "EUR",
              "timezone": "UTC"},
        headers=acme,
    )  # fmt: skip
    theirs = str(answer.json()["store_key"])
    for n in range(6):
        order = ORDER | {"id": n + 1, "line_items": [LINE], "email": SECRETIVE}
        for store in (ours, theirs):
            assert (await ground.shopify(store, order, id_=f"o-{n}")).status_code == 200
            again = order | {"updated_at": "2026-03-01T11:00:00Z"}
            assert (await ground.shopify(store, again, topic="orders/updated", id_=f"u-{n}")).status_code == 200
    await ground.drain()
    await age(ground.database, days)
    return ours, theirs, acme


async def shown(ground: Ground, headers: dict[str, str]) -> list[dict[str, Any]]:
    """Every delivery with its body, as the tenant sees it."""
    listed = (await ground.http.get("/v1/deliveries?limit=250", headers=headers)).json()["data"]
    return [(await ground.http.get(f"/v1/deliveries/{one['id']}", headers=headers)).json() for one in listed]


async def test_each_tenant_has_its_own_days(ground: Ground) -> None:
    *_, acme = await two_tenants(ground, 60)
    before = await rows(ground.database)
    counts = await ground.http.get("/v1/deliveries/counts", headers=acme)
    await keep(ground.database, acme=30)
    after = await rows(ground.database)
    assert [row.stripped() if row.tenant == "acme" else row for row in before] == after
    assert sum(row.tenant == "acme" for row in after) == 12
    assert await gapless(ground.database)
    assert {one["body"] is None for one in await shown(ground, acme)} == {True}
    assert len(await shown(ground, acme)) == 12
    assert all(SECRETIVE in one["body"] for one in await shown(ground, {}))
    assert (await ground.http.get("/v1/deliveries/counts", headers=acme)).json() == counts.json()
    exported = (await ground.http.get("/v1/deliveries/export", headers=acme)).text.splitlines()
    assert [json.loads(line)["body"] for line in exported] == [None] * 12
    # The other way round: named ones are those who keep theirs.
    await keep(ground.database, days=30, acme=90)
    assert await rows(ground.database) == [row.stripped() for row in before]


async def test_a_replay_goes_past_what_was_removed(ground: Ground) -> None:
    ours, theirs, acme = await two_tenants(ground, 60)
    recent = await ground.http.get("/v1/deliveries?limit=1", headers=acme)
    await ground.shopify(theirs, ORDER | {"id": 99, "line_items": [LINE]}, id_="new")
    await ground.drain()
    await keep(ground.database, acme=30)
    assert recent.status_code == 200
    observed = len(await ground.commerce())
    ground.clock.set(ground.clock.now().replace(year=2027))
    asked = await ground.http.post("/v1/deliveries/replays", json={"store": theirs}, headers=acme)
    await ground.drain()
    told = (await ground.http.get(f"/v1/deliveries/replays/{asked.json()['id']}", headers=acme)).json()
    assert (told["state"], told["total"], told["looked_at"], told["gone"]) == ("done", 13, 13, 12)
    assert (told["observed"], told["unreadable"], told["changed"]) == (1, 0, 0)
    assert len(await ground.commerce()) == observed + 1
    told = await replayed(ground, ours)
    assert (told["observed"], told["gone"]) == (12, 0)


async def test_what_is_past_everybodys_days_goes_with_its_table(ground: Ground) -> None:
    await two_tenants(ground, 100)
    counts = (await ground.get("/v1/deliveries/counts"))["observed"]
    await keep(ground.database, acme=30)
    assert await rows(ground.database) == []
    assert await gapless(ground.database)
    assert (await ground.get("/v1/deliveries/counts"))["observed"] == counts == 12
    # The last of each object stays listed: what the platform has is compared with it.
    listed = (await ground.get("/v1/deliveries", limit=250))["data"]
    assert sorted(one["object"] for one in listed) == [f"order:{n}" for n in range(1, 7)]
    assert {one["topic"] for one in listed} == {"orders/updated"}


async def test_what_nobody_has_read_stays(ground: Ground) -> None:
    store = await ground.register()
    await ground.shopify(store, ORDER | {"id": 1, "line_items": [LINE]})
    await age(ground.database, 500)
    before = await rows(ground.database)
    await keep(ground.database)
    assert await rows(ground.database) == before
    await read_all(ground.database)
    asked = await ground.http.post("/v1/deliveries/replays", json={"store": store, "until": "2030-01-01T00:00:00Z"})
    await keep(ground.database)
    assert await rows(ground.database) == before
    await ground.http.post(f"/v1/deliveries/replays/{asked.json()['id']}/cancel")
    await keep(ground.database)
    assert await rows(ground.database) == []


@pytest.mark.parametrize(("days", "theirs"), [(60, 30), (500, 30), (500, 90)])
async def test_a_tenant_s_replay_keeps_nobody_else_s(ground: Ground, days: int, theirs: int) -> None:
    ours, _, acme = await two_tenants(ground, days)
    before = await rows(ground.database)
    asked = (await ground.http.post("/v1/deliveries/replays", json={"store": ours})).json()
    assert asked["state"] == "waiting"
    await keep(ground.database, acme=theirs)
    assert [row.stripped() if row.tenant == "acme" else row for row in before] == await rows(ground.database)
    assert await gapless(ground.database)
    assert {one["body"] is None for one in await shown(ground, acme)} == {True}
    await ground.http.post(f"/v1/deliveries/replays/{asked['id']}/cancel")
    await keep(ground.database, acme=theirs)
    assert len(await rows(ground.database)) == (24 if days < 90 else 0)


async def test_nothing_is_cut_out_of_the_midst_when_a_replay_ends_meanwhile(ground: Ground) -> None:
    ours, theirs, _ = await two_tenants(ground, 500)
    await ground.shopify(theirs, ORDER | {"id": 99, "line_items": [LINE]}, id_="later")
    await age(ground.database, 300)
    await read_all(ground.database)
    before = await rows(ground.database)
    asked = (await ground.http.post("/v1/deliveries/replays", json={"store": ours})).json()
    async with ground.database.autocommit() as pg:
        first = next(child for child in await children(pg, JOURNAL) if child.end < NOW - timedelta(days=400))
        async with pg.transaction():
            # It has seen that this table stays, and cannot take anything out of it yet.
            await pg.execute(f"LOCK TABLE {first.name} IN ROW EXCLUSIVE MODE")
            running = asyncio.create_task(keep(ground.database))

            async def waits() -> bool:
                found = "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = $1::text::regclass AND NOT granted)"
                return bool(await pg.fetchval(found, first.name))

            await eventually(waits)
            await ground.http.post(f"/v1/deliveries/replays/{asked['id']}/cancel")
        await running
    kept = {row.id for row in await rows(ground.database)}
    assert kept == {row.id for row in before}
    assert await gapless(ground.database)
    await keep(ground.database)
    assert await rows(ground.database) == []


async def test_it_keeps_only_what_it_may_be_about(ground: Ground) -> None:
    ours, *_ = await two_tenants(ground, 100)
    later = (NOW - timedelta(days=10)).isoformat()
    ground.clock.set(NOW)
    await ground.http.post("/v1/deliveries/replays", json={"store": ours, "since": later})
    await keep(ground.database)
    assert await rows(ground.database) == []


async def test_a_dead_delivery_keeps_its_body_until_it_was_read(ground: Ground) -> None:
    store = await ground.register()
    await ground.shopify(store, ORDER | {"id": 8, "line_items": [LINE | {"price": "a lot"}]})
    await ground.drain()
    await age(ground.database, 60)
    for state, left in (("dead", 1), ("replayed", 0)):
        async with ground.database.autocommit() as pg:
            await pg.execute("UPDATE dead_letters SET state = $1, appended_at = $2", state, NOW - timedelta(days=60))
        await keep(ground.database, default=30)
        async with ground.database.autocommit() as pg:
            assert await pg.fetchval("SELECT count(*) FROM dead_letters") == left


async def test_tables_become_shorter_and_longer_with_the_shortest_days(ground: Ground) -> None:
    """What there is keeps its length; nothing comes into the rest, and nothing overlaps."""
    made = []
    weeks = [400] * 3 + [30] * 12 + [400] * 9 + [7] * 2
    for n, shortest in enumerate(weeks):
        async with upkeeping(ground.database) as pg:
            await make_children(pg, JOURNAL, NOW + timedelta(weeks=n), span_of(shortest))
            made = await children(pg, JOURNAL)
            await make_children(pg, JOURNAL, NOW + timedelta(weeks=n), span_of(shortest))
            assert await children(pg, JOURNAL) == made
    assert {(child.end - child.start).days for child in made} >= {7, 28}
    assert all(earlier.end == later.start for earlier, later in pairwise(made))
    assert made[0].start <= NOW <= NOW + timedelta(weeks=len(weeks)) <= made[-1].end


async def test_a_second_run_writes_nothing(ground: Ground) -> None:
    await two_tenants(ground, 60)
    await keep(ground.database, acme=30)
    query = "SELECT relname, relfilenode FROM pg_class WHERE relname ~ '^log_journal' ORDER BY 1"
    async with ground.database.autocommit() as pg:
        files = await pg.fetch(query)
        await keep(ground.database, acme=30)
        assert await pg.fetch(query) == files
    # Other days that mean the same for what there is do not either.
    await keep(ground.database, days=90, acme=40)
    async with ground.database.autocommit() as pg:
        assert await pg.fetch(query) == files


async def test_the_new_table_is_made_as_the_old_one(ground: Ground) -> None:
    await two_tenants(ground, 60)
    query = """
        SELECT c.relname, c.reloptions, pg_get_expr(c.relpartbound, c.oid) AS bound, c.relispartition,
            (SELECT array_agg(a.attname || a.attstorage::text ORDER BY a.attnum) FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0) AS columns,
            (SELECT array_agg(pg_get_constraintdef(k.oid)) FROM pg_constraint k
             WHERE k.conrelid = c.oid AND k.contype = 'c') AS checks,
            (SELECT array_agg(p.relname || x.indisunique::text || x.indisvalid) FROM pg_index x
             JOIN pg_inherits h ON h.inhrelid = x.indexrelid JOIN pg_class p ON p.oid = h.inhparent
             WHERE x.indrelid = c.oid) AS indexes
        FROM pg_class c WHERE c.relname ~ '^log_journal_[0-9]{8}' AND c.relkind = 'r' ORDER BY 1
        """
    async with ground.database.autocommit() as pg:
        before = await pg.fetch(query)
        await keep(ground.database, acme=30)
        assert await pg.fetch(query) == before


def test_settings_say_whose_days(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGULARS_JOURNAL_DAYS", "90,acme:30")
    kept = IngestSettings().journal_retention
    assert (kept.days, kept.tenants, kept.longest, kept.shortest) == (90, {"acme": 30}, 90, 30)

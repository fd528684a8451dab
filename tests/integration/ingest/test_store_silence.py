"""A store that falls silent: what its health says, and how many of them the worker tells of."""

from datetime import datetime, timedelta
from typing import Any

from prometheus_client import REGISTRY

from libs.common.auth import create_key
from services.ingest.listening import Listening
from services.ingest.silence import HISTORY
from tests.conftest import START
from tests.integration.ingest.ground import Ground

HOUR = timedelta(hours=1)
ORDER = {"currency": "EUR", "line_items": []}


async def busy(ground: Ground, store: str, *, days: int = 14) -> None:
    """Something came of it in each minute of so many days until now; and now."""
    now = ground.clock.now()
    hours = [now.replace(minute=0) - n * HOUR for n in range(1, days * 24 + 1)]
    async with ground.database.autocommit() as pg:
        await pg.execute(
            """
            INSERT INTO arrivals (tenant, store, hour, journal_partition, minutes)
            SELECT tenant, key, unnest($2::timestamptz[]), 0, $3 FROM stores WHERE key = $1
            """,
            store,
            hours,
            (1 << 60) - 1,
        )
    await deliver(ground, store)


async def deliver(ground: Ground, store: str, **options: str) -> None:
    now = ground.clock.now()
    answer = await ground.shopify(store, ORDER | {"id": int(now.timestamp())}, id_=f"{store} {now}", **options)
    assert answer.status_code == 200
    await ground.drain()


async def silence(ground: Ground, store: str) -> Any:
    return (await ground.get(f"/v1/stores/{store}/health"))["silence"]


async def listened(ground: Ground, listening: Listening | None = None) -> float:
    """How many silent stores are told of."""
    await (listening or Listening(ground.database)).run(ground.clock.now())
    found = REGISTRY.get_sample_value("regulars_ingest_silent_stores")
    assert found is not None
    return found


def later(ground: Ground, **by: float) -> datetime:
    moment = ground.clock.now() + timedelta(**by)
    ground.clock.set(moment)
    return moment


async def test_nothing_is_said_of_the_first_week(ground: Ground) -> None:
    store = await ground.register()
    assert await silence(ground, store) is None
    await busy(ground, store, days=6)
    assert await silence(ground, store) is None


async def test_a_busy_store_that_falls_silent(ground: Ground) -> None:
    store = await ground.register()
    await busy(ground, store)
    since = START.replace(second=0, microsecond=0).isoformat().replace("+00:00", "Z")
    assert await silence(ground, store) == {"since": since, "expected": 0.0, "unusual": False}
    assert await listened(ground) == 0
    later(ground, minutes=90)
    found = await silence(ground, store)
    assert (found["since"], found["unusual"]) == (since, True)
    assert 80 < found["expected"] < 91
    assert await listened(ground) == 1
    await deliver(ground, store)
    assert (await silence(ground, store))["unusual"] is False
    assert await listened(ground) == 0


async def test_within_the_hour(ground: Ground) -> None:
    store = await ground.register()
    ground.clock.set(START.replace(hour=12, minute=5))
    await busy(ground, store)
    ground.clock.set(START.replace(hour=12, minute=50))
    assert await listened(ground) == 1
    await deliver(ground, store)
    assert await listened(ground) == 0


async def test_what_we_fetch_ourselves_and_what_its_site_tells_ends_no_silence(ground: Ground) -> None:
    store = await ground.register()
    await busy(ground, store)
    later(ground, minutes=90)
    event = {"id": "1", "type": "product.viewed", "store": store, "profile": {"customer_id": "1"}}
    event["properties"] = {"product_id": "7"}
    assert (await ground.http.post("/v1/events", json=event)).status_code == 202
    replay = await ground.http.post("/v1/deliveries/replays", json={"store": store})
    assert replay.status_code == 202
    await ground.drain()
    assert (await silence(ground, store))["unusual"] is True


async def test_events_are_what_is_heard_of_a_store_that_has_nothing_else(ground: Ground) -> None:
    store = await ground.register(platform="events", secrets=[])
    event = {"id": "1", "type": "product.viewed", "store": store, "profile": {"customer_id": "1"}}
    event["properties"] = {"product_id": "7"}
    assert (await ground.http.post("/v1/events", json=event)).status_code == 202
    await ground.drain()
    async with ground.database.autocommit() as pg:
        assert await pg.fetchval("SELECT minutes FROM arrivals") == 1 << ground.clock.now().minute


async def test_a_delivery_that_nobody_can_read_is_no_silence(ground: Ground) -> None:
    store = await ground.register()
    assert (await ground.shopify(store, b"{")).status_code == 200
    await ground.drain()
    assert (await ground.get("/v1/deliveries/counts", store=store))["dead"] == 1
    async with ground.database.autocommit() as pg:
        assert await pg.fetchval("SELECT count(*) FROM arrivals") == 1


async def test_what_was_not_read_yet_is_no_silence(ground: Ground) -> None:
    store = await ground.register()
    await busy(ground, store)
    later(ground, minutes=90)
    await ground.shopify(store, ORDER | {"id": 1})
    async with ground.database.autocommit() as pg:
        await pg.execute("UPDATE log_journal SET appended_at = appended_at - interval '89 minutes'")
    assert (await silence(ground, store))["unusual"] is False
    assert await listened(ground) == 0


async def test_a_paused_or_deleted_store_may_be_silent(ground: Ground) -> None:
    paused, deleted = [await ground.register(domain=f"{name}.myshopify.com") for name in ("paused", "deleted")]
    for store in (paused, deleted):
        await busy(ground, store)
    later(ground, hours=2)
    assert await listened(ground) == 2
    await ground.http.patch(f"/v1/stores/{paused}", json={"paused": True})
    await ground.http.delete(f"/v1/stores/{deleted}")
    assert await listened(ground) == 0
    await ground.http.patch(f"/v1/stores/{paused}", json={"paused": False})
    assert await listened(ground) == 1


async def test_what_is_long_past_is_dropped_and_what_is_usual_stays_however_long_it_is_silent(ground: Ground) -> None:
    store = await ground.register()
    await busy(ground, store, days=40)
    later(ground, days=200)
    assert await listened(ground) == 1
    async with ground.database.autocommit() as pg:
        hours = [row["hour"] for row in await pg.fetch("SELECT hour FROM arrivals ORDER BY hour")]
    assert START - hours[0] == HISTORY
    assert len(hours) == HISTORY // HOUR + 1
    assert (await silence(ground, store))["unusual"] is True


async def test_another_tenant_s_silence_is_not_told(ground: Ground) -> None:
    store = await ground.register()
    await busy(ground, store)
    other = {"authorization": f"Bearer {await create_key(ground.database, 'other', {'*'}, 'of the other tenant')}"}
    assert (await ground.http.get(f"/v1/stores/{store}/health", headers=other)).status_code == 404

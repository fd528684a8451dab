from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import httpx
import pytest_asyncio

from libs.common import positions
from libs.common.auth import create_key
from libs.common.contracts import codec
from libs.common.contracts.journal import Delivery
from libs.common.contracts.topics import JOURNAL
from libs.common.db import Database
from libs.common.log.base import Event, Record
from libs.common.log.postgres import append

FAILED = datetime(2026, 3, 2, 11, tzinfo=UTC)
DELIVERY = Delivery(
    store="st_1", platform="shopify", topic="orders/create", delivery_id="d1", headers={}, body=b'{"id": 1}'
)


def _event(n: int) -> Event:
    return Event(
        id=f"e{n}",
        type="delivery.received",
        source="/services/ingest",
        tenant="default",
        key="k",
        time=FAILED,
        data=codec.encode("journal", DELIVERY),
    )


def _record(n: int, tenant: str = "default", data: bytes | None = None) -> Record:
    return Record(
        id=f"e{n}",
        type="delivery.received",
        source="/services/ingest",
        tenant=tenant,
        key="k",
        time=FAILED,
        data=codec.encode("journal", DELIVERY) if data is None else data,
        topic="journal",
        partition=0,
        offset=n,
        appended_at=FAILED,
    )


@pytest_asyncio.fixture
async def session(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await database.session()
    yield connection
    await connection.close()


class TestPipeline:
    async def test_a_consumer_that_never_ran_is_not_drained(self, client: httpx.AsyncClient) -> None:
        answer = (await client.get("/v1/pipeline/ingest")).json()
        assert answer == {"service": "ingest", "drained": False, "consumers": [], "workers": [], "pending": []}

    async def test_positions_and_ends(
        self,
        client: httpx.AsyncClient,
        database: Database,
        session: asyncpg.Connection,
    ) -> None:
        await positions.begin(session, "normaliser", [JOURNAL], "w1")
        await positions.heartbeat(session, "normaliser", "w1", 30)
        assert (await client.get("/v1/pipeline/ingest")).json()["drained"] is True
        async with database.transaction() as tx:
            await append(tx, JOURNAL, [_event(1), _event(2)])
        answer = (await client.get("/v1/pipeline/ingest")).json()
        assert answer["drained"] is False
        assert answer["workers"][0]["state"] == "running"
        (consumer,) = answer["consumers"]
        assert (consumer["consumer"], consumer["topic"]) == ("normaliser", "journal")
        assert len(consumer["partitions"]) == JOURNAL.partitions
        (behind,) = [p for p in consumer["partitions"] if p["lag"]]
        assert (behind["position"], behind["end"], behind["lag"], behind["owner"]) == (0, 2, 2, "w1")
        assert 0 <= behind["oldest_unprocessed_seconds"] < 60
        async with database.transaction() as tx:
            await positions.advance(tx, "normaliser", "w1", {("journal", behind["partition"]): (0, 2)})
        answer = (await client.get("/v1/pipeline/ingest")).json()
        assert answer["drained"] is True

    async def test_services_that_are_not_here(self, client: httpx.AsyncClient) -> None:
        assert (await client.get("/v1/pipeline/nothing")).status_code == 404
        assert (await client.get("/v1/dead-letters/nothing")).status_code == 404


class TestDeadLetters:
    @pytest_asyncio.fixture(autouse=True)
    async def letters(self, database: Database) -> None:
        async with database.transaction() as tx:
            for n in range(5):
                at = FAILED + timedelta(minutes=n // 2)
                await positions.bury(tx, "normaliser", [(_record(n), f"reason {n % 2}: detail {n}")], at, f"trace {n}")
            await positions.bury(tx, "normaliser", [(_record(9, "other"), "reason 0")], FAILED)

    async def _ids(self, client: httpx.AsyncClient, query: str = "") -> list[str]:
        answer = await client.get(f"/v1/dead-letters/ingest?{query}")
        assert answer.status_code == 200, answer.text
        return [letter["event_id"] for letter in answer.json()["data"]]

    async def test_list_in_pages(self, client: httpx.AsyncClient) -> None:
        seen: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            parameters = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
            page = (await client.get("/v1/dead-letters/ingest", params=parameters)).json()
            seen += [letter["event_id"] for letter in page["data"]]
            cursor = page["next"]
        assert len(seen) == len(set(seen)) == 5
        assert seen[0] == "e4"

    async def test_filters(self, client: httpx.AsyncClient) -> None:
        assert set(await self._ids(client, "reason=reason 1")) == {"e1", "e3"}
        assert set(await self._ids(client, "since=2026-03-02T11:02:00Z")) == {"e4"}
        assert await self._ids(client, "consumer=another") == []
        assert await self._ids(client, "state=replay") == []
        assert (await client.get("/v1/dead-letters/ingest?state=x")).status_code == 422
        assert (await client.get("/v1/dead-letters/ingest?since=yesterday")).status_code == 422
        assert (await client.get("/v1/dead-letters/ingest?cursor=x")).status_code == 422
        assert (await client.get("/v1/dead-letters/ingest?reason=%00")).status_code == 422

    async def test_one_of_them(self, client: httpx.AsyncClient) -> None:
        listed = (await client.get("/v1/dead-letters/ingest?limit=1")).json()["data"][0]
        shown = (await client.get(f"/v1/dead-letters/ingest/{listed['id']}")).json()
        assert shown["traceback"] == "trace 4"
        assert shown["data"]["topic"] == "orders/create"
        assert shown["source"] == "/services/ingest"
        assert (await client.get("/v1/dead-letters/ingest/00000000-0000-0000-0000-000000000000")).status_code == 404
        assert (await client.get("/v1/dead-letters/ingest/x")).status_code == 422

    async def test_undecodable_data_is_shown_raw(self, client: httpx.AsyncClient, database: Database) -> None:
        async with database.transaction() as tx:
            await positions.bury(tx, "normaliser", [(_record(10, data=b"\xff\x00"), "garbage")], FAILED)
        listed = (await client.get("/v1/dead-letters/ingest?reason=garbage")).json()["data"][0]
        shown = (await client.get(f"/v1/dead-letters/ingest/{listed['id']}")).json()
        assert shown["data"] == {"base64": "/wA="}

    async def test_replay_by_reason_time_and_ids(self, client: httpx.AsyncClient) -> None:
        async def replay(body: dict[str, object]) -> int:
            answer = await client.post("/v1/dead-letters/ingest/replay", json=body)
            assert answer.status_code == 200, answer.text
            marked: int = answer.json()["marked"]
            return marked

        assert await replay({"reason": "reason 1"}) == 2
        assert await replay({"reason": "reason 1"}) == 0
        assert await replay({"until": "2026-03-02T11:01:00Z"}) == 1
        letter = (await client.get("/v1/dead-letters/ingest?state=dead&limit=1")).json()["data"][0]
        assert await replay({"ids": [letter["id"]]}) == 1
        assert len(await self._ids(client, "state=replay")) == 4
        pending = (await client.get("/v1/pipeline/ingest")).json()["pending"]
        assert pending == ["4 dead letters to replay"]

    async def test_replay_wants_to_know_which(self, client: httpx.AsyncClient) -> None:
        for body in [{}, {"everything": True}, {"ids": []}, {"since": "yesterday"}]:
            assert (await client.post("/v1/dead-letters/ingest/replay", json=body)).status_code == 422

    async def test_replay_and_discard_one(self, client: httpx.AsyncClient) -> None:
        letter = (await client.get("/v1/dead-letters/ingest?limit=1")).json()["data"][0]
        address = f"/v1/dead-letters/ingest/{letter['id']}"
        assert (await client.post(f"{address}/replay")).json() == {"marked": 1}
        assert (await client.post(f"{address}/replay")).status_code == 409
        assert (await client.post(f"{address}/discard")).json() == {"marked": 1}
        assert (await client.post(f"{address}/discard")).status_code == 409
        assert (await client.post(f"{address}/replay")).json() == {"marked": 1}

    async def test_tenants_do_not_see_each_other(self, client: httpx.AsyncClient, stranger: httpx.AsyncClient) -> None:
        (theirs,) = (await stranger.get("/v1/dead-letters/ingest")).json()["data"]
        assert theirs["event_id"] == "e9"
        assert "e9" not in await self._ids(client)
        address = f"/v1/dead-letters/ingest/{theirs['id']}"
        assert (await client.get(address)).status_code == 404
        assert (await client.post(f"{address}/replay")).status_code == 404
        assert (await client.post(f"{address}/discard")).status_code == 404
        assert (await client.post("/v1/dead-letters/ingest/replay", json={"ids": [theirs["id"]]})).json() == {
            "marked": 0
        }

    async def test_scopes(self, anonymous: httpx.AsyncClient, database: Database) -> None:
        key = await create_key(database, "default", ["dead-letters:read"], "reader")
        anonymous.headers["authorization"] = f"Bearer {key}"
        assert (await anonymous.get("/v1/dead-letters/ingest")).status_code == 200
        assert (await anonymous.post("/v1/dead-letters/ingest/replay", json={"reason": "x"})).status_code == 403
        assert (await anonymous.get("/v1/pipeline/ingest")).status_code == 403

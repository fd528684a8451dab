import asyncio
import json
from datetime import UTC, datetime
from uuid import UUID

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from libs.common.clock import DrivenClock
from libs.common.db import Database
from libs.common.problems import MOST_ERRORS, Problem
from libs.common.settings import CommonSettings
from libs.common.web import Service, build_app, decode_cursor, encode_cursor
from libs.common.web import app as web_app
from libs.common.web.health import database_check
from libs.common.web.short import Answer
from tests.logged import Lines
from tests.unit.common.conftest import Webhooks

GOOD = {"name": "a thing"}
DO = ": is it up, and REGULARS_DATABASE_URL right?"
SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
"""What a client of PostgreSQL begins with."""


async def test_every_bad_field_is_pointed_at_and_none_is_repeated(client: httpx.AsyncClient) -> None:
    body = {"name": "ab", "secrets": ["long enough", "hunter2"], "a/b~c": 1}
    answer = await client.post("/v1/things", json=body)
    assert answer.status_code == 422
    problem = answer.json()
    assert {error["pointer"] for error in problem["errors"]} == {"/name", "/secrets/1", "/a~1b~0c"}
    assert "hunter2" not in answer.text
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert (problem["code"], problem["status"], problem["type"]) == ("invalid", 422, "about:blank")


async def test_many_bad_fields_are_counted_and_some_named(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/things", json={"name": "abc", "secrets": ["short"] * 100})
    problem = answer.json()
    pointers = [error["pointer"] for error in problem["errors"]]
    assert pointers == [f"/secrets/{n}" for n in range(MOST_ERRORS)]
    assert problem["errors_left_out"] == 100 - MOST_ERRORS


async def test_an_object_of_too_many_names_is_not_looked_into(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/things", json={"name": "ab"} | {f"{n}": 1 for n in range(100)})
    assert answer.json()["errors"] == [{"pointer": "", "detail": "There are too many names in it."}]


@pytest.mark.parametrize(
    ("query", "pointer"), [("limit=0", "/limit"), ("limit=251", "/limit"), ("limit=x", "/limit"), ("n=x", "/n")]
)
async def test_bad_parameters(client: httpx.AsyncClient, query: str, pointer: str) -> None:
    answer = await client.get(f"/v1/things?{query}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert answer.json()["errors"][0]["parameter"] == pointer[1:]


async def test_a_plus_that_an_address_made_a_blank_of(client: httpx.AsyncClient) -> None:
    told = []
    for time in ("2026-03-01T12:00:00+01:00", "2026-03-01T12:00:00%2B01:00", "yesterday-ish"):
        answer = await client.get(f"/v1/things?since={time}")
        told.append(answer.json()["errors"][0]["detail"] if answer.is_error else None)
    assert told == [
        "This is not a time as RFC 3339 has it (`+` is `%2B` in an address).",
        None,
        "This is not a time as RFC 3339 has it.",
    ]


async def test_reading_well_is_no_news(client: httpx.AsyncClient, lines: Lines) -> None:
    await client.get("/v1/things")
    await client.get("/v1/things?limit=0")
    await client.post("/v1/things", json=GOOD)
    told = [one for one in map(json.loads, lines.getvalue().splitlines()) if one["event"] == "answered"]
    assert [(one["method"], one["status"], one["level"]) for one in told] == [
        ("GET", 200, "debug"), ("GET", 422, "info"), ("POST", 201, "info"),
    ]  # fmt: skip


async def test_unknown_addresses_and_methods(client: httpx.AsyncClient) -> None:
    for method, path, status in [("GET", "/nothing", 404), ("GET", "/v1/things/", 404), ("DELETE", "/v1/things", 405)]:
        answer = await client.request(method, path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status


async def test_what_an_address_takes_is_told_of_all_its_routes(client: httpx.AsyncClient) -> None:
    for method, path, takes in [
        ("PUT", "/v1/things", "GET, HEAD, POST"),
        ("DELETE", "/openapi.json", "GET, HEAD"),
        ("HEAD", "/webhooks/shopify/st_1", "POST"),
    ]:
        answer = await client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, takes)


async def test_asked_for_the_head_alone(client: httpx.AsyncClient) -> None:
    whole, head = await client.get("/v1/things"), await client.head("/v1/things")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"]
    assert (await client.head("/v1/things?limit=0")).status_code == 422


async def test_webhooks_pass_untouched(client: httpx.AsyncClient) -> None:
    answer = await client.post("/webhooks/shopify/st_1", content=b"x" * 5000)
    assert answer.text == "5000"
    bad = await client.get("/webhooks/shopify/st_1")
    assert (bad.status_code, bad.json()["status"]) == (405, 405)
    assert "x-request-id" not in answer.headers


async def test_a_webhook_that_fails_is_told_so_by_both_ways(
    app: FastAPI, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, status, lines in [(ValueError("secret"), 500, {}), (ConnectionResetError(), 503, {"retry-after": "2"})]:
        monkeypatch.setattr(Webhooks, "fail", error)
        long = await client.post("/webhooks/shopify/st_1", content=b"x")
        told: list[Answer] = []
        app.short_way("/webhooks/shopify/st_1", [], b"x", lambda answer, _, told=told: told.append(answer))  # type: ignore[attr-defined]
        [short] = told
        assert (long.status_code, short.status) == (status, status)
        assert long.json() == json.loads(short.body)
        assert lines.items() <= dict(long.headers).items()
        assert lines.items() <= {name.decode(): value.decode() for name, value in short.headers}.items()
        assert b"secret" not in short.body


async def test_request_ids(client: httpx.AsyncClient) -> None:
    given = await client.get("/v1/things", headers={"x-request-id": "order-4711-a"})
    assert given.headers["x-request-id"] == "order-4711-a"
    for bad in ["", "short", "x" * 200, "with spaces in it", "a\tb-------"]:
        answer = await client.get("/v1/things", headers={"x-request-id": bad})
        assert UUID(answer.headers["x-request-id"]).version == 7


async def test_security_headers(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/things")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


async def test_unexpected_errors_tell_nothing(client: httpx.AsyncClient, app: FastAPI) -> None:
    app.state.ingest.fail = RuntimeError("the secret is hunter2")
    answer = await client.post("/v1/things", json=GOOD)
    assert answer.status_code == 500
    assert "hunter2" not in answer.text
    assert answer.json()["code"] == "internal"
    assert answer.headers["x-request-id"]


async def test_a_database_that_is_away_is_a_503(client: httpx.AsyncClient, app: FastAPI) -> None:
    await client.get("/v1/things")
    app.state.ingest.fail = ConnectionRefusedError("postgres")
    answer = await client.post("/v1/things", json=GOOD)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


class TestHealth:
    async def test_alive_ready_version_metrics(self, anonymous: httpx.AsyncClient) -> None:
        assert (await anonymous.get("/livez")).json() == {"status": "alive"}
        silent = ["nobody runs normaliser: no worker gives a sign"]
        assert (await anonymous.get("/readyz")).json() == {"status": "ready", "reasons": [], "alarms": silent}
        assert "version" in (await anonymous.get("/version")).json()
        await anonymous.get("/v1/things")
        metrics = (await anonymous.get("/metrics")).text
        assert 'regulars_api_requests_total{method="GET",route="/v1/things",status="401"}' in metrics

    async def test_a_worker_is_missed_once_its_sign_has_lapsed(
        self, anonymous: httpx.AsyncClient, database: Database
    ) -> None:
        """Webhooks are taken all the same: still ready."""

        async def alarms(state: str, seconds: int) -> list[str]:
            async with database.autocommit() as pg:
                await pg.execute(
                    "INSERT INTO workers (consumer, worker, seen_until, state, reason)"
                    f" VALUES ('normaliser', 'w', now() + interval '{seconds} s', '{state}', 'a reason')"
                    " ON CONFLICT (consumer, worker) DO UPDATE SET seen_until = excluded.seen_until,"
                    " state = excluded.state"
                )
            answer = await anonymous.get("/readyz")
            assert (answer.status_code, answer.json()["reasons"]) == (200, [])
            told: list[str] = answer.json()["alarms"]
            return told

        assert await alarms("running", 30) == []
        assert await alarms("halted", 30) == ["normaliser is halted: a reason"]
        assert await alarms("running", -1) == ["nobody runs normaliser: no worker gives a sign"]

    async def test_openapi_speaks_of_problems_and_keys(self, anonymous: httpx.AsyncClient) -> None:
        answers = [await anonymous.get("/openapi.json") for _ in range(2)]
        assert answers[0].content == answers[1].content
        described = answers[1].json()
        operation = described["paths"]["/v1/things"]["post"]
        assert operation["security"] == [{"HTTPBearer": []}]
        assert operation["responses"]["422"]["content"]["application/problem+json"]["schema"]
        assert operation["responses"]["201"]["content"]["application/json"]
        # Of a router that was included, as all of ours are.
        assert "Needs a key with the scope `" in operation["description"]
        assert [each["name"] for each in operation["parameters"] if each["in"] == "header"] == ["Idempotency-Key"]

    async def test_not_ready_without_migrations(self, empty_database_url: str, clock: DrivenClock) -> None:
        database = Database(empty_database_url, schema="ingest")
        app = build_app(
            [Service(name="ingest", router=APIRouter(), database=database)], settings=CommonSettings(), clock=clock
        )
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            answer = await client.get("/readyz")
        await database.close()
        assert answer.status_code == 503
        assert answer.json()["reasons"] == ["ingest: schema common is not migrated: run `regulars migrate`"]

    async def test_what_does_not_end_is_left(
        self, database: Database, clock: DrivenClock, lines: Lines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As what is to be written beside a database that hangs."""
        monkeypatch.setattr(web_app, "END_SECONDS", 0.05)
        ended = asyncio.Event()

        async def end() -> None:
            ended.set()

        async def hang() -> None:
            await asyncio.Event().wait()

        services = [
            Service(name=name, router=APIRouter(), database=database, stop=stop)
            for name, stop in (("ingest", end), ("profiles", hang))
        ]
        app = build_app(services, settings=CommonSettings(), clock=clock)
        async with asyncio.timeout(20), app.router.lifespan_context(app):
            assert not ended.is_set()
        assert ended.is_set()
        left = [one["service"] for one in map(json.loads, lines.getvalue().splitlines()) if "is left" in one["event"]]
        assert "profiles" in left

    async def test_not_ready_without_a_database(self, clock: DrivenClock) -> None:
        database = Database("postgresql://nobody:hunter2@127.0.0.1:1/none", schema="ingest")
        app = build_app(
            [Service(name="ingest", router=APIRouter(), database=database)], settings=CommonSettings(), clock=clock
        )
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            answer = await client.get("/readyz")
            assert (await client.get("/livez")).status_code == 200
        await database.close()
        assert answer.status_code == 503
        assert "hunter2" not in answer.text

    @pytest.mark.parametrize(
        ("state", "reason"),
        [
            ("42704", "ingest: the database is older than PostgreSQL 17"),
            ("28P01", "ingest: the database refuses (InvalidPasswordError): is REGULARS_DATABASE_URL right?"),
            ("57P03", f"ingest: the database does not answer (CannotConnectNowError){DO}"),
        ],
    )
    async def test_a_database_that_lets_nobody_in(self, state: str, reason: str) -> None:
        """As a server says it that is too old, that has another password, that is starting up."""

        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while (head := await reader.read(8192)) == SSL_REQUEST:
                writer.write(b"N")
            assert b"transaction_timeout" in head
            fields = b"SFATAL\0C" + state.encode() + b"\0Mno\0\0"
            writer.write(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)
            writer.close()

        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        database = Database(f"postgresql://ada:secret@127.0.0.1:{port}/shop", schema="ingest")
        check = database_check("ingest", database, [])
        assert await check() == [reason]
        await database.close()
        server.close()

    async def test_a_worker_s_health_is_asked_for(self, clock: DrivenClock) -> None:
        async def check() -> list[str]:
            return ["ledger is halted: burst"]

        app = build_app([], settings=CommonSettings(), clock=clock, checks=[check])
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            answer = await client.get("/readyz")
        assert answer.json() == {"status": "not ready", "reasons": ["ledger is halted: burst"]}


class TestCursors:
    def test_there_and_back(self) -> None:
        moment = datetime(2026, 3, 2, 12, 0, 0, 123456, tzinfo=UTC)
        number = UUID(int=7)
        cursor = encode_cursor("things", moment, number, "é/?", 5, None)
        assert decode_cursor(cursor, "things", datetime, UUID, str, int, str | None) == [moment, number, "é/?", 5, None]
        assert cursor.isascii()
        assert not set("=+/&?") & set(cursor)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "x",
            "!!!",
            "é",
            "bnVsbA",
            "e30",
            "W10",
            encode_cursor("things", 1),
            encode_cursor("things", "a", "b", "c"),
            encode_cursor("others", datetime(2026, 3, 2, tzinfo=UTC), "b"),
        ],
    )
    def test_what_is_no_cursor(self, text: str) -> None:
        with pytest.raises(Problem) as caught:
            decode_cursor(text, "things", datetime, str)
        assert caught.value.status == 422
        assert caught.value.errors[0].pointer == "/cursor"

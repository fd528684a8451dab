import asyncio
import json
from contextvars import Context
from hashlib import sha256

import httpx
import pytest
from fastapi import FastAPI

from libs.common.db import Database, Tx
from libs.common.problems import Problem
from libs.common.web.idempotency import forget_answers
from tests.unit.common.conftest import Things

GOOD = {"name": "a thing"}


async def _left(database: Database, minutes: int, *, committed: bool) -> None:
    """What an API left that was killed so many minutes after it had begun."""
    async with database.transaction() as tx:
        await tx.pg.execute(
            "UPDATE common.idempotency_keys SET status = NULL, committed = $2,"
            " started_at = now() - make_interval(mins => $1)",
            minutes,
            committed,
        )


async def _kept(database: Database) -> list[bytes]:
    """All that is kept of each request, as its columns' bytes one after another."""
    async with database.autocommit() as pg:
        rows = await pg.fetch("SELECT * FROM common.idempotency_keys")
    return [b" ".join(each if isinstance(each, bytes) else str(each).encode() for each in row) for row in rows]


async def _old(database: Database, n: int) -> None:
    """Claims of others, whose day is over."""
    async with database.autocommit() as pg:
        await pg.execute(
            "INSERT INTO common.idempotency_keys (tenant, key_id, key, route, body_sha256, started_at)"
            " SELECT 'other', 'k', n::text, '', '', now() - interval '25 hours' FROM generate_series(1, $1) n",
            n,
        )


async def _old_ones_are_gone(database: Database) -> None:
    await forget_answers(database)
    assert await _count(database) == 1


async def _count(database: Database) -> int:
    async with database.autocommit() as pg:
        count: int = await pg.fetchval("SELECT count(*) FROM common.idempotency_keys")
    return count


class TestIdempotencyKeys:
    async def test_a_repeat_gets_the_same_answer(self, client: httpx.AsyncClient, app: FastAPI) -> None:
        first = await client.post("/v1/things", json=GOOD, headers={"idempotency-key": "k1"})
        again = await client.post("/v1/things", json=GOOD, headers={"idempotency-key": "k1"})
        assert (first.status_code, first.json()) == (again.status_code, again.json()) == (201, again.json())
        assert again.headers["idempotency-replayed"] == "true"
        assert again.headers["content-type"] == first.headers["content-type"]
        assert app.state.ingest.made == 1

    async def test_another_key_or_body_or_tenant(
        self, client: httpx.AsyncClient, stranger: httpx.AsyncClient, app: FastAPI
    ) -> None:
        headers = {"idempotency-key": "k1"}
        assert (await client.post("/v1/things", json=GOOD, headers=headers)).status_code == 201
        other_body = await client.post("/v1/things", json={"name": "another"}, headers=headers)
        assert other_body.status_code == 422
        assert other_body.json()["code"] == "idempotency_key_reused"
        other_tenant = await stranger.post("/v1/things", json=GOOD, headers=headers)
        assert other_tenant.json()["tenant"] == "other"
        assert (await client.post("/v1/things", json=GOOD, headers={"idempotency-key": "k2"})).json()["number"] == 3
        assert app.state.ingest.made == 3

    async def test_bad_answers_of_the_caller_s_making_are_remembered(self, client: httpx.AsyncClient) -> None:
        headers = {"idempotency-key": "k1"}
        first = await client.post("/v1/things", json={"name": ""}, headers=headers)
        answer = await client.post("/v1/things", json={"name": ""}, headers=headers)
        assert first.status_code == answer.status_code == 422
        assert answer.headers["idempotency-replayed"] == "true"
        assert answer.headers["content-type"] == "application/problem+json"

    @pytest.mark.parametrize("fault", [RuntimeError("x"), ConnectionResetError(), Problem(503, "busy", "busy")])
    async def test_what_failed_may_be_tried_again(
        self, client: httpx.AsyncClient, app: FastAPI, fault: Exception
    ) -> None:
        app.state.ingest.fail = fault
        assert (await client.post("/v1/things", json=GOOD, headers={"idempotency-key": "k1"})).status_code >= 500
        app.state.ingest.fail = None
        assert (await client.post("/v1/things", json=GOOD, headers={"idempotency-key": "k1"})).status_code == 201

    async def test_of_many_at_once_one_is_done(self, client: httpx.AsyncClient, app: FastAPI) -> None:
        headers = {"idempotency-key": "k1"}
        answers = await asyncio.gather(*(client.post("/v1/things", json=GOOD, headers=headers) for _ in range(4)))
        assert app.state.ingest.made == 1
        assert {answer.status_code for answer in answers} <= {201, 409}

    async def test_nothing_is_kept_that_names_somebody_or_could_be_guessed(
        self, client: httpx.AsyncClient, database: Database
    ) -> None:
        """Neither the caller's words, nor a digest that whoever guesses them makes, too."""
        key, body = b"for ada@example.com", b'{"ada@example.com": 1}'
        headers = {b"idempotency-key": key, b"content-type": b"application/json"}
        answers = [await client.post("/v1/things", content=body, headers=headers) for _ in range(2)]
        assert [answer.headers.get("idempotency-replayed") for answer in answers] == [None, "true"]
        assert answers[0].content == answers[1].content
        assert b"/ada@example.com" in answers[1].content
        await client.post("/v1/things?who=ada@example.com", content=body, headers=headers)
        kept = b"".join(await _kept(database))
        for told in (b"@example", b"/v1/things", b"/name"):
            assert told not in kept
        for guessed in (key, body):
            assert sha256(guessed).digest() not in kept
            assert sha256(guessed).hexdigest().encode() not in kept

    async def test_the_same_of_two_callers_is_kept_as_two_things(
        self, client: httpx.AsyncClient, stranger: httpx.AsyncClient, database: Database
    ) -> None:
        for caller in (client, stranger):
            assert (await caller.post("/v1/things", json=GOOD, headers={"idempotency-key": "k1"})).status_code == 201
        async with database.autocommit() as pg:
            rows = await pg.fetch("SELECT key, body_sha256 FROM common.idempotency_keys")
        assert len({row["key"] for row in rows}) == len({row["body_sha256"] for row in rows}) == 2

    @pytest.mark.parametrize("status", [201, None])
    async def test_what_a_version_before_remembers(
        self, client: httpx.AsyncClient, app: FastAPI, database: Database, status: int | None
    ) -> None:
        """Or has under way."""
        content = json.dumps(GOOD).encode()
        async with database.autocommit() as pg:
            await pg.execute(
                "INSERT INTO common.idempotency_keys (tenant, key_id, key, route, body_sha256, status, headers, body)"
                " VALUES ('default', 'admin', $1, '/v1/things?', $2, $3, '{}', 'as it was')",
                sha256(b"k1").hexdigest(),
                sha256(content).digest(),
                status,
            )
        headers = {"idempotency-key": "k1", "content-type": "application/json"}
        again = await client.post("/v1/things", content=content, headers=headers)
        other = await client.post("/v1/things", content=b"{}", headers=headers)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
        if status is None:
            assert (again.status_code, again.json()["code"]) == (409, "in_progress")
        else:
            assert (again.status_code, again.content) == (201, b"as it was")
        assert app.state.ingest.made == 0
        async with database.autocommit() as pg:
            await pg.execute("UPDATE common.idempotency_keys SET started_at = now() - interval '25 hours'")
        assert (await client.post("/v1/things", content=content, headers=headers)).status_code == 201
        assert await _count(database) == 1

    async def test_claims_of_others_are_forgotten_few_at_a_time(
        self, client: httpx.AsyncClient, database: Database
    ) -> None:
        await _old(database, 50)
        assert (await client.post("/v1/things", json=GOOD, headers={"idempotency-key": "k1"})).status_code == 201
        assert await _count(database) == 41
        await _old_ones_are_gone(database)

    async def test_nobody_waits_for_who_forgets(self, client: httpx.AsyncClient, database: Database) -> None:
        """Else of two who forget the same claims in another order neither would get on."""
        await _old(database, 3)
        async with database.transaction() as tx, asyncio.timeout(10):
            await tx.pg.execute("SELECT FROM common.idempotency_keys WHERE key = '2' FOR UPDATE")
            assert (await client.post("/v1/things", json=GOOD, headers={"idempotency-key": "k1"})).status_code == 201
            assert await _count(database) == 2
            await forget_answers(database)
            assert await _count(database) == 2
        await _old_ones_are_gone(database)

    @pytest.mark.parametrize(("committed", "statuses", "made"), [(False, [409, 201], 2), (True, [409, 409], 1)])
    async def test_what_a_killed_api_left_is_done_again_unless_it_had_been_done(
        self,
        client: httpx.AsyncClient,
        app: FastAPI,
        database: Database,
        *,
        committed: bool,
        statuses: list[int],
        made: int,
    ) -> None:
        assert (await client.post("/v1/things", json=GOOD, headers={"idempotency-key": "one"})).status_code == 201
        answers = []
        for minutes in (4, 6):
            await _left(database, minutes, committed=committed)
            answers.append(await client.post("/v1/things", json=GOOD, headers={"idempotency-key": "one"}))
        assert [answer.status_code for answer in answers] == statuses
        assert answers[0].json()["code"] == "in_progress"
        assert app.state.ingest.made == made
        if committed:
            assert answers[1].json()["code"] == "outcome_unknown"

    async def test_what_was_made_says_so_as_it_commits(
        self, client: httpx.AsyncClient, app: FastAPI, database: Database
    ) -> None:
        """A kill at any time thereafter leaves it so."""
        things: Things = app.state.ingest
        found: list[bool] = []

        async def look() -> None:
            async with database.autocommit() as pg:
                found.append(await pg.fetchval("SELECT committed FROM common.idempotency_keys"))

        things.before, things.after = look, look
        assert (await client.post("/v1/things", json=GOOD, headers={"idempotency-key": "one"})).status_code == 201
        assert found == [False, True]

    @pytest.mark.parametrize(
        ("fault", "again"),
        [(RuntimeError("x"), 409), (Problem(503, "busy", "busy"), 201), (Problem(404, "none", "none"), 404)],
    )
    async def test_a_fault_after_the_commit(
        self, client: httpx.AsyncClient, app: FastAPI, fault: Exception, again: int
    ) -> None:
        """Who asks to be tried again knows what he did; one that fails does not."""
        things: Things = app.state.ingest

        async def fail() -> None:
            raise fault

        things.after = fail
        assert (await client.post("/v1/things", json=GOOD, headers={"idempotency-key": "one"})).is_error
        things.after = None
        answer = await client.post("/v1/things", json=GOOD, headers={"idempotency-key": "one"})
        assert answer.status_code == again

    async def test_a_commit_of_which_nothing_is_known(
        self, client: httpx.AsyncClient, app: FastAPI, database: Database
    ) -> None:
        """The connection was lost in the midst of it: the route's answer asks for another try, and it had been done."""
        things: Things = app.state.ingest

        async def note(tx: Tx) -> None:
            tx.after_commit.append(gone)

        def gone() -> None:
            raise ConnectionResetError

        things.within = note
        assert (await client.post("/v1/things", json=GOOD, headers={"idempotency-key": "one"})).status_code == 503
        things.within = None
        answer = await client.post("/v1/things", json=GOOD, headers={"idempotency-key": "one"})
        assert (answer.status_code, answer.json()["code"]) == (409, "in_progress")
        async with database.autocommit() as pg:
            assert await pg.fetchval("SELECT count(*) FROM things") == 1

    async def test_who_was_taken_over_commits_no_more(
        self, client: httpx.AsyncClient, app: FastAPI, database: Database
    ) -> None:
        """An API that was stopped for long, and goes on when the same request has been done by another one."""
        things: Things = app.state.ingest
        answers: list[httpx.Response] = []

        async def meanwhile() -> None:
            await _left(database, 6, committed=False)
            answers.append(await client.post("/v1/things", json=GOOD, headers={"idempotency-key": "one"}))

        async def stopped() -> None:
            things.before = None
            await asyncio.create_task(meanwhile(), context=Context())

        things.before = stopped
        late = await client.post("/v1/things", json=GOOD, headers={"idempotency-key": "one"})
        assert (answers[0].status_code, late.status_code, late.json()["code"]) == (201, 409, "in_progress")
        async with database.autocommit() as pg:
            assert await pg.fetchval("SELECT count(*) FROM things") == 1
        again = await client.post("/v1/things", json=GOOD, headers={"idempotency-key": "one"})
        assert (again.status_code, again.json()) == (201, answers[0].json())

    async def test_memory_ends_after_a_day(self, client: httpx.AsyncClient, app: FastAPI, database: Database) -> None:
        for _ in range(2):
            assert (await client.post("/v1/things", json=GOOD, headers={"idempotency-key": "k1"})).status_code == 201
            async with database.transaction() as tx:
                await tx.pg.execute("UPDATE common.idempotency_keys SET started_at = started_at - interval '25 hours'")
        assert app.state.ingest.made == 2

    @pytest.mark.parametrize("key", ["x" * 256, "caf\u00e9"])
    async def test_bad_keys(self, client: httpx.AsyncClient, key: str) -> None:
        answer = await client.post("/v1/things", json=GOOD, headers={b"idempotency-key": key.encode()})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["parameter"] == "Idempotency-Key"

import asyncio
from contextvars import Context

import httpx
import pytest
from fastapi import FastAPI

from libs.common.db import Database, Tx
from libs.common.problems import Problem
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

    async def test_a_key_is_not_kept_in_its_own_words(self, client: httpx.AsyncClient, database: Database) -> None:
        """It may name somebody."""
        for key in ("ada@example.com", "eve@example.com"):
            assert (await client.post("/v1/things", json=GOOD, headers={"idempotency-key": key})).status_code == 201
        async with database.autocommit() as pg:
            kept = await pg.fetch("SELECT k::text AS text FROM common.idempotency_keys k")
            assert len(kept) == 2
            assert not [row["text"] for row in kept if "example" in row["text"]]

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

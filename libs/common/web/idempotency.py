"""`Idempotency-Key` on POST: the same request asked twice is done once and answered the same.

An answer is remembered for 24 hours per API key, idempotency key and address. The same key with another body is a 422,
with a request still under way a 409. Answers that ask to be tried again (5xx, 408, 429, 401, 403) are not remembered.

The first transaction that a route commits says so at the key's claim. Where an API is killed, or fails, between that
and the note of its answer, nobody knows what was to be answered: the same request is a 409 for the rest of those 24
hours, and is not done again. A claim that is left without a commit has done nothing: after five minutes, in which
nobody can tell it from a request that is still under way, it is done anew, and what began it can commit no more.

A key is kept as its digest: it is the caller's own words, and may name somebody.

What says who somebody is must not be remembered: a route that made such a thing calls `not_to_be_remembered`, and no
more than its Location is. Asked again the route itself answers, by `made_before`.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from http import HTTPStatus

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libs.common.auth import Access, Principal
from libs.common.db import LAST, Database, Tx
from libs.common.problems import FieldError, Problem, respond

LONGEST_KEY = 255
KEPT_HOURS = 24
TAKEN_OVER_MINUTES = 5
"""A claim that has been without an answer for so long is taken for that of an API that was killed."""
_TO_BE_TRIED_AGAIN = frozenset({401, 403, 408, 429})
_KEPT_HEADERS = frozenset({b"content-type", b"location"})
_REPLAYED = {"idempotency-replayed": "true"}
_FORGETFUL, _MADE = "answer_not_to_be_remembered", "made_before"


@dataclass(frozen=True, slots=True)
class _Claim:
    principal: Principal
    key_sha256: str
    route: str
    body_sha256: bytes
    started_at: datetime | None = None
    """Once it is ours: another one at its place has another."""

    @property
    def place(self) -> tuple[str, str, str, str]:
        return (self.principal.tenant, self.principal.key_id, self.key_sha256, self.route)


class _Mark:
    """Says at a claim that something of its request was committed."""

    def __init__(self, claim: _Claim) -> None:
        self.committed = self.over = False
        self.unsure = False
        """A transaction was about to commit, and nobody knows whether it did."""
        self._claim = claim

    async def __call__(self, tx: Tx) -> None:
        """In each transaction of the request. Problem 409 when the claim is no longer ours."""
        if self.over:
            return
        if not self.committed and not await tx.pg.fetchval(
            """
            UPDATE common.idempotency_keys SET committed = true
            WHERE (tenant, key_id, key, route) = ($1, $2, $3, $4) AND started_at = $5 RETURNING true
            """,
            *self._claim.place,
            self._claim.started_at,
        ):
            raise _in_progress()
        self.unsure = True
        tx.after_commit.append(self._done)

    def _done(self) -> None:
        self.committed, self.unsure = True, False


class Idempotency:
    """Middleware, inside of `WholeBody`, whose body it compares."""

    def __init__(self, app: ASGIApp, database: Database, access: Access) -> None:
        self._app = app
        self._database = database
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers from memory where it can; else lets the route answer, and remembers."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        key = headers.get("idempotency-key")
        # An address with a NUL is nobody's, and the database does not take it: the route says so itself.
        principal = await self._principal(headers) if key and "\0" not in scope["path"] else None
        if key is None or principal is None:
            # Without a good API key there is nothing to remember.
            await self._app(scope, receive, send)
            return
        try:
            found = await self._begin(_claim(scope, principal, key))
        except Problem as problem:
            await respond(problem)(scope, receive, send)
            return
        if isinstance(found, Response):
            await found(scope, receive, send)
        elif isinstance(found, str):
            scope["state"][_MADE] = found
            await self._app(scope, receive, _replayed(send))
        else:
            await self._run(found, scope, receive, send)

    async def _principal(self, headers: Headers) -> Principal | None:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        return await self._access.principal(token) if scheme.lower() == "bearer" else None

    async def _begin(self, claim: _Claim) -> _Claim | Response | str:
        """The claim, when it is ours to do; or the remembered answer, or where what was made is. Problem 409 or 422."""
        async with self._database.transaction() as tx:
            await tx.pg.execute(
                """
                DELETE FROM common.idempotency_keys WHERE started_at < now() - make_interval(hours => $5)
                   OR (tenant, key_id, key, route) = ($1, $2, $3, $4)
                      AND status IS NULL AND NOT committed AND started_at < now() - make_interval(mins => $6)
                """,
                *claim.place,
                KEPT_HOURS,
                TAKEN_OVER_MINUTES,
            )
            started_at = await tx.pg.fetchval(
                """
                INSERT INTO common.idempotency_keys (tenant, key_id, key, route, body_sha256)
                VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING started_at
                """,
                *claim.place,
                claim.body_sha256,
            )
            if started_at is not None:
                return replace(claim, started_at=started_at)
            row = await tx.pg.fetchrow(
                """
                SELECT body_sha256, status, headers, body,
                    committed AND started_at < now() - make_interval(mins => $5) AS lost
                FROM common.idempotency_keys WHERE (tenant, key_id, key, route) = ($1, $2, $3, $4)
                """,
                *claim.place,
                TAKEN_OVER_MINUTES,
            )
        if row is not None and row["body_sha256"] != claim.body_sha256:
            raise Problem(
                422,
                "idempotency_key_reused",
                "This Idempotency-Key came with another body before.",
                [_at_key("Reused.")],
            )
        if row is None or (row["status"] is None and not row["lost"]):
            raise _in_progress()
        if row["status"] is None:
            raise Problem(
                409,
                "outcome_unknown",
                "A request with this Idempotency-Key has changed something, and its answer was lost. Look what is"
                " there: it is not done again; with another key it is.",
            )
        headers = msgspec.json.decode(row["headers"], type=dict[str, str])
        if row["body"] is None:
            return headers["location"]
        return Response(row["body"], row["status"], headers | _REPLAYED)

    async def _run(self, claim: _Claim, scope: Scope, receive: Receive, send: Send) -> None:
        start: Message = {}
        body = bytearray()
        mark = _Mark(claim)

        async def remember(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            body.extend(message.get("body", b""))
            if message.get("more_body", False):
                return
            mark.over = True
            # Remembered before it is sent: whoever got an answer gets the same one again.
            forgetful = scope["state"].get(_FORGETFUL, False)
            await self._finish(claim, mark, start, None if forgetful else bytes(body))
            await send(start)
            await send({"type": "http.response.body", "body": bytes(body)})

        token = LAST.set(mark)
        try:
            await self._app(scope, receive, remember)
        except BaseException:
            mark.over = True
            await self._forget(claim)
            raise
        finally:
            LAST.reset(token)

    async def _finish(self, claim: _Claim, mark: _Mark, start: Message, body: bytes | None) -> None:
        status: int = start["status"]
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TO_BE_TRIED_AGAIN:
            # A route that fails does not know itself what it has done; one that asks for another try does.
            asks = status != HTTPStatus.INTERNAL_SERVER_ERROR and mark.committed and not mark.unsure
            await self._forget(claim, even_committed=asks)
            return
        headers = {name.decode(): value.decode("latin-1") for name, value in start["headers"] if name in _KEPT_HEADERS}
        async with self._database.transaction() as tx:
            await tx.pg.execute(
                """
                UPDATE common.idempotency_keys SET status = $6, headers = $7, body = $8
                WHERE (tenant, key_id, key, route) = ($1, $2, $3, $4) AND started_at = $5
                """,
                *claim.place,
                claim.started_at,
                status,
                msgspec.json.encode(headers).decode(),
                body,
            )

    async def _forget(self, claim: _Claim, *, even_committed: bool = False) -> None:
        async with self._database.transaction() as tx:
            await tx.pg.execute(
                """
                DELETE FROM common.idempotency_keys
                WHERE (tenant, key_id, key, route) = ($1, $2, $3, $4) AND started_at = $5 AND status IS NULL
                    AND (NOT committed OR $6)
                """,
                *claim.place,
                claim.started_at,
                even_committed,
            )


def _in_progress() -> Problem:
    return Problem(
        409, "in_progress", "A request with this Idempotency-Key is under way.", headers={"retry-after": "1"}
    )


def made_before(request: Request) -> str | None:
    """Location of what this very request made, when it came before."""
    made: str | None = request.scope["state"].get(_MADE)
    return made


def not_to_be_remembered(request: Request, response: Response, location: str) -> None:
    """Answers with this Location, by which the route can answer again: nothing else of the answer is kept."""
    response.headers["location"] = location
    request.scope["state"][_FORGETFUL] = True


async def forget_answers(database: Database) -> None:
    """Those that are too old to be given again, though nobody asks."""
    async with database.transaction() as tx:
        await tx.pg.execute(
            "DELETE FROM common.idempotency_keys WHERE started_at < now() - make_interval(hours => $1)", KEPT_HOURS
        )


def _replayed(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(_REPLAYED)
        await send(message)

    return sending


def _claim(scope: Scope, principal: Principal, key: str) -> _Claim:
    if not key.isascii() or not key.isprintable() or len(key) > LONGEST_KEY:
        detail = f"Must be at most {LONGEST_KEY} printable ASCII characters."
        raise Problem(422, "invalid", "The request is not valid.", [_at_key(detail)])
    route = scope["path"] + "?" + scope["query_string"].decode("latin-1")
    return _Claim(principal, sha256(key.encode()).hexdigest(), route, sha256(scope["state"]["body"]).digest())


def _at_key(detail: str) -> FieldError:
    return FieldError("/Idempotency-Key", detail, "Idempotency-Key")

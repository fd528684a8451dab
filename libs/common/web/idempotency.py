"""`Idempotency-Key` on POST: the same request asked twice is done once and answered the same.

An answer is remembered for 24 hours per API key, idempotency key and address. The same key with another body is a 422,
with a request still under way a 409. Answers that ask to be tried again (5xx, 408, 429, 401, 403) are not remembered.

The first transaction that a route commits says so at the key's claim. Where an API is killed, or fails, between that
and the note of its answer, nobody knows what was to be answered: the same request is a 409 for the rest of those 24
hours, and is not done again. A claim that is left without a commit has done nothing: after five minutes, in which
nobody can tell it from a request that is still under way, it is done anew, and what began it can commit no more.

A request may name somebody, in its key, its address or its body; so may its answer, or it is a secret. Of a request
fingerprints are kept, made with the caller's API key, of which we have a digest alone: whoever reads them has nothing
to compare a guess with. (An administrator's key that was changed is another key here, too.) The answer is sealed by the
API key and the whole request: it opens to the same request alone.

An answer that is to be another each time (a proof comes to its end), or is to say how it is by then, is not kept: the
route calls `not_to_be_remembered`, and answers itself when it is asked again. By `made_before` it knows the Location
of what it made.
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
from libs.common.crypto import Keyring
from libs.common.db import LAST, Database, Tx
from libs.common.problems import FieldError, Problem, respond

LONGEST_KEY = 255
KEPT_HOURS = 24
TAKEN_OVER_MINUTES = 5
"""A claim that has been without an answer for so long is taken for that of an API that was killed."""
_FORGOTTEN_BY_EACH, _FORGOTTEN_AT_ONCE = 10, 1000
"""Claims: more than each request adds, and as many as an hourly look takes in one transaction."""
_ANSWER = b"idempotency answer"
_TO_BE_TRIED_AGAIN = frozenset({401, 403, 408, 429})
_KEPT_HEADERS = frozenset({b"content-type", b"location"})
_REPLAYED = {"idempotency-replayed": "true"}
_FORGETFUL, _MADE = "answer_not_to_be_remembered", "made_before"


@dataclass(frozen=True, slots=True)
class _Claim:
    principal: Principal
    key: str
    """By which the same key at the same address is known again."""
    body: bytes
    """The same of the body."""
    answers: Keyring
    """Seals the answer."""
    before: tuple[str, str, bytes]
    """Key, address and body as they were kept before: a claim of an older version counts until its day is over."""
    started_at: datetime | None = None
    """Once it is ours: another one at its place has another."""

    @property
    def place(self) -> tuple[str, str, str, str]:
        return (self.principal.tenant, self.principal.key_id, self.key, "")


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
        token = _token(headers) if key and "\0" not in scope["path"] else None
        principal = await self._access.principal(token) if token is not None else None
        if key is None or token is None or principal is None:
            # Without a good API key there is nothing to remember.
            await self._app(scope, receive, send)
            return
        try:
            found = await self._begin(_claim(scope, principal, token, key))
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

    async def _begin(self, claim: _Claim) -> _Claim | Response | str:
        """The claim, when it is ours to do; or the remembered answer, or where what was made is. Problem 409 or 422."""
        # Both columns by themselves, and not the pairs: so the index finds them, whatever is believed of the table.
        key_before, address, body_before = claim.before
        async with self._database.transaction() as tx:
            await tx.pg.execute(
                """
                DELETE FROM common.idempotency_keys
                WHERE tenant = $1 AND key_id = $2 AND key IN ($3, $5) AND route IN ($4, $6)
                    AND (started_at < now() - make_interval(hours => $7) OR (
                        status IS NULL AND NOT committed AND started_at < now() - make_interval(mins => $8)))
                """,
                *claim.place,
                key_before,
                address,
                KEPT_HOURS,
                TAKEN_OVER_MINUTES,
            )
            started_at = await tx.pg.fetchval(
                """
                INSERT INTO common.idempotency_keys (tenant, key_id, key, route, body_sha256)
                SELECT $1, $2, $3, $4, $5 WHERE NOT EXISTS (
                    SELECT FROM common.idempotency_keys WHERE (tenant, key_id, key, route) = ($1, $2, $6, $7))
                ON CONFLICT DO NOTHING RETURNING started_at
                """,
                *claim.place,
                claim.body,
                key_before,
                address,
            )
            if started_at is not None:
                # Last of all: who has locked others' claims must wait for nobody.
                await _forget_some(tx, _FORGOTTEN_BY_EACH)
                return replace(claim, started_at=started_at)
            row = await tx.pg.fetchrow(
                """
                SELECT key, body_sha256, status, headers, body,
                    committed AND started_at < now() - make_interval(mins => $7) AS lost
                FROM common.idempotency_keys
                WHERE tenant = $1 AND key_id = $2 AND key IN ($3, $5) AND route IN ($4, $6)
                """,
                *claim.place,
                key_before,
                address,
                TAKEN_OVER_MINUTES,
            )
        ours = row is not None and row["key"] == claim.key
        if row is not None and row["body_sha256"] != (claim.body if ours else body_before):
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
            return headers.get("location", "")
        body = claim.answers.open(row["body"], _ANSWER) if ours else row["body"]
        return Response(body, row["status"], headers | _REPLAYED)

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
                None if body is None else claim.answers.seal(body, _ANSWER),
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
    """Location of what this very request made, when it came before; empty where that has none."""
    made: str | None = request.scope["state"].get(_MADE)
    return made


def not_to_be_remembered(request: Request) -> None:
    """Nothing of the answer is kept but its Location: asked again the route answers again."""
    request.scope["state"][_FORGETFUL] = True


async def forget_answers(database: Database) -> None:
    """Those that are too old to be given again, though nobody asks."""
    some = _FORGOTTEN_AT_ONCE
    while some == _FORGOTTEN_AT_ONCE:
        async with database.transaction() as tx:
            some = await _forget_some(tx, _FORGOTTEN_AT_ONCE)


async def _forget_some(tx: Tx, most: int) -> int:
    """How many. It waits for nobody: who has locked one of them forgets it himself."""
    done = await tx.pg.execute(
        """
        DELETE FROM common.idempotency_keys WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM common.idempotency_keys WHERE started_at < now() - make_interval(hours => $1)
            ORDER BY started_at LIMIT $2 FOR UPDATE SKIP LOCKED))
        """,
        KEPT_HOURS,
        most,
    )
    return int(done.rpartition(" ")[2])


def _replayed(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(_REPLAYED)
        await send(message)

    return sending


def _token(headers: Headers) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else None


def _claim(scope: Scope, principal: Principal, token: str, key: str) -> _Claim:
    if not key.isascii() or not key.isprintable() or len(key) > LONGEST_KEY:
        detail = f"Must be at most {LONGEST_KEY} printable ASCII characters."
        raise Problem(422, "invalid", "The request is not valid.", [_at_key(detail)])
    address = scope["path"] + "?" + scope["query_string"].decode("latin-1")
    place = key.encode() + b"\0" + address.encode()
    caller, body = Keyring.of_caller(token), scope["state"]["body"]
    return _Claim(
        principal,
        caller.fingerprint(place, b"idempotency key").hex(),
        caller.fingerprint(place + b"\0" + body, b"idempotency body"),
        Keyring([caller.fingerprint(place + b"\0" + body, _ANSWER)]),
        (sha256(key.encode()).hexdigest(), address, sha256(body).digest()),
    )


def _at_key(detail: str) -> FieldError:
    return FieldError("/Idempotency-Key", detail, "Idempotency-Key")

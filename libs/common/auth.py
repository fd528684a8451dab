"""API keys: `rk_<id>_<secret>`, stored as SHA-256 only, each with a tenant and scopes.

`require("profiles:read")` is what routes depend on. Keys live in `common.api_keys`, in every service's database; a
verified key is remembered for `CACHE_SECONDS`, which is also how long a revoked one may go on.
"""

import base64
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import Counter
from pyrate_limiter import InMemoryBucket, Rate, RateItem

from libs.common.clock import Clock, monotonic
from libs.common.contracts.types import Tenant
from libs.common.db import Database
from libs.common.problems import Problem

DEFAULT_TENANT = Tenant("default")
TENANT = r"[A-Za-z0-9._-]{1,64}"
"""How a tenant is called: settings name it, too."""
EVERYTHING = "*"
"""The scope that holds all others."""
SCOPES = frozenset(
    {
        "stores:read", "stores:write", "deliveries:read", "deliveries:write", "events:write",
        "profiles:read", "metrics:read", "messages:read", "flows:read", "flows:write",
        "suppressions:read", "suppressions:write", "privacy:read", "privacy:write",
        "dead-letters:read", "dead-letters:write", "pipeline:read",
    }
)  # fmt: skip
"""All that a route asks for."""
CACHE_SECONDS = 30.0

_ADMIN_ID = "admin"
_KEY = re.compile(r"rk_([a-z2-7]{16})_[A-Za-z0-9_-]{43}", re.ASCII)
_CACHED_KEYS = 10_000
_WINDOW_MS = 60_000
_BEARER = HTTPBearer(auto_error=False, description="An API key: `rk_…`.")

REFUSED = Counter("regulars_api_refused_total", "API requests refused before a route saw them.", ["reason"])


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking."""

    tenant: Tenant
    key_id: str
    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        """Whether this key holds `scope`."""
        return scope in self.scopes or EVERYTHING in self.scopes


class Access:
    """The keys of one API process, and how fast each of them may ask."""

    def __init__(self, database: Database, clock: Clock, *, rate_limit: int) -> None:
        """`rate_limit`: requests in any 60 seconds by one key; 0 for none."""
        self._database = database
        self._clock = clock
        self._rate_limit = rate_limit
        self._verified: dict[bytes, tuple[Principal, float]] = {}
        self._asked: dict[str, InMemoryBucket] = {}

    async def principal(self, token: str) -> Principal | None:
        """Whose key this is; None when it is unknown, expired or revoked."""
        digest = sha256(token.encode()).digest()
        cached = self._verified.get(digest)
        if cached is not None and cached[1] > monotonic():
            return cached[0]
        self._verified.pop(digest, None)
        found = _KEY.fullmatch(token)
        principal = await self._stored([_ADMIN_ID, found[1]] if found else [_ADMIN_ID], digest)
        if principal is not None:
            if len(self._verified) >= _CACHED_KEYS:
                self._verified.clear()
            self._verified[digest] = (principal, monotonic() + CACHE_SECONDS)
        return principal

    def count(self, key_id: str) -> dict[str, str]:
        """Counts a request; the `RateLimit-*` headers of its answer. Problem 429 when it is one too many."""
        if not self._rate_limit:
            return {}
        bucket = self._asked.get(key_id)
        if bucket is None:
            bucket = self._asked[key_id] = InMemoryBucket([Rate(self._rate_limit, _WINDOW_MS)])
        now = int(monotonic() * 1000)
        bucket.leak(now)
        allowed = bucket.put(RateItem(key_id, now))
        oldest = cast("RateItem", bucket.peek(bucket.count() - 1))
        reset = str(max(1, -(-(oldest.timestamp + _WINDOW_MS - now) // 1000)))
        headers = {
            "ratelimit-limit": str(self._rate_limit),
            "ratelimit-remaining": str(self._rate_limit - bucket.count()),
            "ratelimit-reset": reset,
        }
        if not allowed:
            REFUSED.labels("rate_limit").inc()
            raise Problem(
                429, "too_many_requests", "This key asks too often.", headers={**headers, "retry-after": reset}
            )
        return headers

    async def _stored(self, ids: list[str], digest: bytes) -> Principal | None:
        async with self._database.reading() as tx:
            rows = await tx.pg.fetch(
                """
                SELECT id, tenant, scopes, secret_sha256 FROM common.api_keys
                WHERE id = ANY($1) AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)
                """,
                ids,
                self._clock.now(),
            )
        for row in rows:
            if hmac.compare_digest(row["secret_sha256"], digest):
                return Principal(Tenant(row["tenant"]), row["id"], frozenset(row["scopes"]))
        return None


_SCOPES_NEEDED: dict[object, str] = {}
"""By dependency, for the API's description."""


def require(scope: str) -> Callable[..., Awaitable[Principal]]:
    """A dependency: the caller's Principal, if his key holds `scope`. Problem 401, 403 or 429 otherwise."""
    if scope not in SCOPES:
        # A key could never be made for it.
        raise ValueError(f"not among SCOPES: {scope}")

    async def authorized(
        request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
    ) -> Principal:
        access = cast("Access", request.app.state.access)
        principal = await access.principal(credentials.credentials) if credentials else None
        if principal is None:
            REFUSED.labels("key").inc()
            raise Problem(
                401,
                "unauthorized",
                "The API key is missing, unknown, expired or revoked.",
                headers={"www-authenticate": 'Bearer realm="regulars"'},
            )
        request.state.answer_headers = access.count(principal.key_id)
        request.state.principal = principal
        if not principal.may(scope):
            REFUSED.labels("scope").inc()
            raise Problem(403, "forbidden", f"This needs a key with the scope {scope}.")
        return principal

    _SCOPES_NEEDED[authorized] = scope
    return authorized


def scope_of(dependency: object) -> str | None:
    """The scope that a dependency made by `require` asks for; None of any other."""
    return _SCOPES_NEEDED.get(dependency)


async def create_key(
    database: Database, tenant: str, scopes: Collection[str], name: str, expires_at: datetime | None = None
) -> str:
    """Stores a new key and returns it in plain: the only time that anybody sees it."""
    key_id = base64.b32encode(secrets.token_bytes(10)).decode().lower()
    key = f"rk_{key_id}_{secrets.token_urlsafe(32)}"
    async with database.transaction() as tx:
        await tx.pg.execute(
            """
            INSERT INTO common.api_keys (id, tenant, name, scopes, secret_sha256, expires_at)
            VALUES ($1, $2, $3, $4, $5, $6)
            """,
            key_id,
            tenant,
            name,
            sorted(scopes),
            sha256(key.encode()).digest(),
            expires_at,
        )
    return key


@dataclass(frozen=True, slots=True)
class StoredKey:
    """What is known of a key: never its secret."""

    id: str
    tenant: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


async def list_keys(database: Database, tenant: str) -> list[StoredKey]:
    """All keys that the tenant ever had, oldest first."""
    async with database.reading() as tx:
        rows = await tx.pg.fetch(
            """
            SELECT id, tenant, name, scopes, created_at, expires_at, revoked_at FROM common.api_keys
            WHERE tenant = $1 ORDER BY created_at, id
            """,
            tenant,
        )
    return [StoredKey(**{**row, "scopes": tuple(row["scopes"])}) for row in rows]


async def revoke_key(database: Database, tenant: str, key_id: str) -> bool:
    """Ends a key; False when the tenant has no such live key."""
    async with database.transaction() as tx:
        done = await tx.pg.execute(
            "UPDATE common.api_keys SET revoked_at = now() WHERE tenant = $1 AND id = $2 AND revoked_at IS NULL",
            tenant,
            key_id,
        )
    return done == "UPDATE 1"


async def any_key(database: Database) -> bool:
    """Whether there is a live key at all: if not, a first run has to make one."""
    async with database.reading() as tx:
        return bool(await tx.pg.fetchval("SELECT EXISTS (SELECT FROM common.api_keys WHERE revoked_at IS NULL)"))


async def set_admin_key(database: Database, key: str | None) -> None:
    """Makes `key` the administrator's, in place of the former one; None takes the administrator's key away.

    One that was revoked is never made anybody's again, whatever was the administrator's meanwhile.
    """
    digest = None if key is None else sha256(key.encode()).digest()
    async with database.transaction() as tx:
        # Out of the way, and kept, under a name that no key can have.
        await tx.pg.execute(
            """
            UPDATE common.api_keys SET id = id || ':' || encode(secret_sha256, 'hex')
            WHERE id = $1 AND revoked_at IS NOT NULL
            """,
            _ADMIN_ID,
        )
        if digest is None:
            await tx.pg.execute("DELETE FROM common.api_keys WHERE id = $1", _ADMIN_ID)
            return
        await tx.pg.execute(
            """
            INSERT INTO common.api_keys (id, tenant, name, scopes, secret_sha256)
            SELECT $1, $2, 'REGULARS_ADMIN_KEY', $3, $4
            WHERE NOT EXISTS (SELECT FROM common.api_keys WHERE id = $1 || ':' || encode($4, 'hex'))
            ON CONFLICT (id) DO UPDATE SET secret_sha256 = excluded.secret_sha256
            """,
            _ADMIN_ID,
            DEFAULT_TENANT,
            [EVERYTHING],
            digest,
        )

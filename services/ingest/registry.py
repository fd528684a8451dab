"""The stores, in memory: a webhook to a store that does not exist costs no query."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from libs.common.clock import Clock, monotonic
from libs.common.crypto import Keyring
from libs.common.db import Database, is_transient
from libs.common.telemetry import get_logger
from services.ingest import store
from services.ingest.signatures import signing_keys

REFRESH_SECONDS = 30.0
"""Between looks of our own at all stores: a notification can be lost with its connection."""
RETRY_SECONDS = 1.0

log = get_logger(__name__)


class Registered(NamedTuple):
    """What the routes that take deliveries must know of a store."""

    tenant: str
    key: str
    platform: str
    keys: tuple[bytes, ...]
    """Of all active secrets."""
    version: int
    ends_at: datetime | None = None
    """When the first of the secrets ends."""
    public_keys: tuple[store.PublicKey, ...] = ()


class Registry:
    """All registered stores of all tenants, kept up to date."""

    def __init__(self, database: Database, keyring: Keyring, clock: Clock) -> None:
        self._database = database
        self._keyring = keyring
        self._clock = clock
        self._stores: dict[str, Registered] = {}
        self._public: dict[str, tuple[Registered, frozenset[str]]] = {}
        """By public key: the store, and the origins of the pages that may use it."""
        self._deleted: set[str] = set()
        """Keys are never given out again: who reads late what a store was must not bring it back."""
        self._changed: set[str] = set()
        self._news = asyncio.Event()
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def find(self, key: str) -> Registered | None:
        """The store of a key."""
        return self._stores.get(key)

    def published(self, public_key: str) -> tuple[Registered, frozenset[str]] | None:
        """The store of a public key, and the origins that it is for."""
        return self._public.get(public_key)

    async def start(self) -> None:
        """Loads every store, and follows the changes from then on."""
        session = await self._listen()
        try:
            await self._load(None)
        except BaseException:
            session.terminate()
            raise
        self._task = asyncio.create_task(self._follow(session))

    @property
    def loaded(self) -> bool:
        """Whether it knows the stores: before, a store that it does not find may be there all the same."""
        return self._task is not None

    async def stop(self) -> None:
        """Stops following."""
        self._stop.set()
        self._news.set()
        if self._task is not None:
            await self._task

    async def reload(self, key: str) -> None:
        """Reads one store anew, for whoever just changed it: his next request must find it changed."""
        await self._load([key])

    def _remember(self, row: store.SealedStore) -> None:
        """Takes over a store as it was just read or written."""
        now = self._clock.now()
        known = self._stores.get(row.key)
        if row.deleted or row.key in self._deleted:
            self._deleted.add(row.key)
            self._stores.pop(row.key, None)
            self._withdraw(known)
            return
        if known is not None:
            ended = known.ends_at is not None and known.ends_at <= now
            if known.version > row.version or (known.version == row.version and not ended):
                return
        live = [each for each in row.secrets if each.signs(now)]
        secrets = (self._keyring.open(each.secret, store.context(row.tenant, row.key)) for each in live)
        keys = (key for secret in secrets for key in signing_keys(row.platform, secret.decode()))
        ends_at = min((each.ends_at for each in live if each.ends_at is not None), default=None)
        public = tuple(row.public_keys)
        found = Registered(row.tenant, row.key, row.platform, tuple(keys), row.version, ends_at, public)
        self._stores[row.key] = found
        self._withdraw(known)
        self._public |= {each.key: (found, frozenset(each.origins)) for each in public}

    def _withdraw(self, known: Registered | None) -> None:
        for each in known.public_keys if known is not None else ():
            self._public.pop(each.key, None)

    def _ended(self) -> set[str]:
        now = self._clock.now()
        return {key for key, each in self._stores.items() if each.ends_at is not None and each.ends_at <= now}

    def _until_an_end(self) -> float:
        """Seconds until the next secret ends, and a little at least."""
        ends = [each.ends_at for each in self._stores.values() if each.ends_at is not None]
        return max(0.1, (min(ends) - self._clock.now()).total_seconds()) if ends else REFRESH_SECONDS

    async def _load(self, keys: Iterable[str] | None) -> None:
        async with self._database.reading() as tx:
            rows = await store.sealed_stores(tx, keys)
        for row in rows:
            self._remember(row)

    async def _follow(self, session: "asyncpg.Connection[Any] | None") -> None:
        all_at = monotonic() + REFRESH_SECONDS
        while not self._stop.is_set():
            try:
                if session is None or session.is_closed():
                    session = await self._listen()
                    self._changed.clear()
                    await self._load(None)
                await _wait(self._news, min(max(0.0, all_at - monotonic()), self._until_an_end()))
                self._news.clear()
                changed, self._changed = self._changed | self._ended(), set()
                if monotonic() >= all_at:
                    await self._load(None)
                    all_at = monotonic() + REFRESH_SECONDS
                elif changed:
                    await self._load(changed)
            except Exception as error:
                if is_transient(error):
                    log.warning("stores not refreshed", error=type(error).__name__)
                else:
                    log.exception("stores not refreshed")
                if session is not None:
                    session.terminate()
                session = None
                await _wait(self._stop, RETRY_SECONDS)
        if session is not None:
            with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await session.close(timeout=1)

    async def _listen(self) -> "asyncpg.Connection[Any]":
        session = await self._database.session()
        await session.add_listener(store.CHANNEL, self._on_notify)
        session.add_termination_listener(lambda _: self._news.set())
        return session

    def _on_notify(self, _connection: object, _pid: int, _channel: str, key: object) -> None:
        self._changed.add(str(key))
        self._news.set()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()

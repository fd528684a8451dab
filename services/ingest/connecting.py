"""Having a store's platform send what is wanted: looking at its webhooks, making and mending them, trying the way.

Only what goes to the store's own address here is ours; nothing else is touched. Whoever asks a store holds its lease,
as a fetch does, so that it is asked by one at a time and not too often.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Literal, NamedTuple
from uuid import UUID

import msgspec

from libs.common.clock import monotonic
from libs.common.crypto import Keyring
from libs.common.db import Database
from libs.common.ids import new_id
from libs.common.telemetry import get_logger
from services.ingest import archive, credentials, fetches, headers, store, subscriptions, wanted
from services.ingest.credentials import Credentials
from services.ingest.normalise import TEST
from services.ingest.opening import Key, ShopifyKey, opened, sealed
from services.ingest.platforms.port import (
    Denied,
    Hopeless,
    NotAsked,
    Platform,
    Refused,
    Subscription,
    Unauthorized,
    Unavailable,
)
from services.ingest.registering import Change, change
from services.ingest.signatures import sign
from services.ingest.store import Store
from services.ingest.subscriptions import Kept
from services.ingest.wanted import Seen

SECONDS = 40.0
"""For all that is asked of a shop: with what comes before and behind, less than the minute that a gateway waits."""
CHECK_SECONDS = 20.0
PATIENCE = 8.0
"""Until a store is free that is just being asked for something else."""
LOOK_SECONDS = 0.1
LONGEST_WAIT = 5.0
TRIES = 3

Done = Literal["kept", "made", "moved", "switched_on", "signed"]
"""`signed`: it bears the store's secret from now on."""

log = get_logger(__name__)


class Busy(Exception):
    """The store is being asked for something else, or wants to be left alone."""


class NoSecret(Exception):
    """Nothing could sign the store's webhooks."""


class Topic(NamedTuple):
    """One webhook that is wanted."""

    kept: Kept
    done: Done | None


class Connection(NamedTuple):
    """What a platform has for a store."""

    used: Credentials
    topics: Sequence[Topic]
    others: int
    """Webhooks of other people's that may be seen."""
    app_signs: bool = False
    """Whether it is known that the store takes what the platform signs: the app's secret is here."""


class Trial(NamedTuple):
    """A delivery of our own, the way that a shop's go."""

    arrived: bool
    status: int | None
    reason: str | None


class Connecting:
    """Of one API process."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        open_platform: Callable[[Credentials], Platform],
        *,
        public_url: str,
        pause: timedelta,
    ) -> None:
        """`public_url`: where shops reach us, without a slash at the end. `pause`: between two requests to a store."""
        self._database = database
        self._keyring = keyring
        self._open = open_platform
        self._public_url = public_url
        self._pause = pause

    async def check(self, found: Store, url: str, key: Key, now: datetime) -> None:
        """Asks the platform with a key that is not kept yet. Raises Refused, Hopeless and Unavailable."""
        seal = sealed(self._keyring, found.tenant, found.key, key)
        given = Credentials(
            tenant=found.tenant,
            store=found.key,
            platform=found.platform,
            url=url,
            sealed=seal,
            set_at=now,
            state="unchecked",
            reason=None,
        )
        platform = self._open(given)
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await platform.subscriptions()
        except TimeoutError as error:
            raise Unavailable("the shop takes too long") from error
        except Denied as error:
            # To whom they belong may see no webhooks, and other things all the same.
            log.info("credentials that see no webhooks", tenant=found.tenant, store=found.key, reason=str(error))
        finally:
            await platform.aclose()

    async def look(self, found: Store, now: datetime) -> Connection:
        """What is there; changes nothing of it. Raises Busy, Refused, Hopeless and Unavailable."""
        async with self._asking(found) as (used, platform):
            seen = await look(self._database, used, platform, self._public_url, now)
        return seen._replace(app_signs=self._app_secret(used) is not None)

    async def connect(
        self, found: Store, topics: Sequence[str] | None, *, now: datetime, by: str, traceparent: str | None
    ) -> Connection:
        """Has the platform send these topics, all that are wanted unless they are named.

        What cannot be had says why; the next call goes on from there. Raises also NoSecret and TooManySecrets.
        """
        async with self._asking(found) as (used, platform):
            every = await platform.subscriptions()
            secrets = await self._lasting_secrets(found, now)
            app_secret = self._app_secret(used)
            if app_secret is not None and app_secret not in secrets:
                # It is what Shopify signs an app's webhooks with, whatever the store's secrets were.
                await change(
                    self._database,
                    self._keyring,
                    found.tenant,
                    found.key,
                    Change(signs_too=app_secret),
                    now=now,
                    by=by,
                    traceparent=traceparent,
                )
                secrets = [app_secret, *secrets]
            if not secrets:
                raise NoSecret
            async with self._database.reading() as tx:
                before = await subscriptions.of_store(tx, found.tenant, found.key)
            path = wanted.path_of(found.platform, found.key)
            mine = wanted.ours(every, path)
            righting = _Righting(self._keyring, platform, used, f"{self._public_url}{path}", secrets, self._pause)
            made = []
            for one in wanted.seen(mine, wanted.WANTED[found.platform], righting.address):
                if topics is not None and one.topic not in topics:
                    made.append(Topic(Kept(one.topic, "unwanted", None, None), None))
                else:
                    made.append(await righting.right(one, before.get(one.topic)))
            async with self._database.transaction() as tx:
                await credentials.note(tx, used, "good", None)
                await subscriptions.keep(tx, used, now, [each.kept for each in made])
        return Connection(used, made, len(every) - len(mine), app_signs=app_secret is not None)

    async def test(self, found: Store, now: datetime) -> Trial:
        """Sends a delivery the way that a shop's go, and looks for it in the journal."""
        from services.ingest.platforms.http import ShopHttp  # noqa: PLC0415 - as in `opening`

        body = msgspec.json.encode({"test": new_id()})
        secrets = await self._lasting_secrets(found, now)
        signature = sign(secrets[0].encode() if secrets else b"", body).decode()
        told = headers.signed(found.platform, TEST, new_id(), signature)
        # Where we are is the operator's word, and may be a name of his own network.
        http = ShopHttp(self._public_url, auth=None, inside=True)
        try:
            status, answered = await http.deliver(wanted.path_of(found.platform, found.key), body, told)
        except (Refused, Unavailable) as error:
            return Trial(arrived=False, status=None, reason=f"{self._public_url}: {error}")
        finally:
            await http.aclose()
        if status != HTTPStatus.OK:
            why = ": is it another installation's?" if status == HTTPStatus.UNAUTHORIZED else ""
            return Trial(arrived=False, status=status, reason=f"{self._public_url} answers {status}{why}")
        if not await self._is_here(found, answered.get("x-request-id", "")):
            return Trial(arrived=False, status=status, reason=f"what {self._public_url} takes does not arrive here")
        return Trial(arrived=True, status=status, reason=None)

    async def _is_here(self, found: Store, delivery: str) -> bool:
        try:
            id_ = str(UUID(delivery))
        except ValueError:
            return False
        async with self._database.reading() as tx:
            return await archive.one(tx, found.tenant, id_) is not None

    @asynccontextmanager
    async def _asking(self, found: Store) -> AsyncIterator[tuple[Credentials, Platform]]:
        lease = new_id()
        used = await self._claimed(found, lease)
        rest = 0.0
        try:
            platform = self._open(used)
            limit = asyncio.timeout(SECONDS)
            try:
                async with limit:
                    yield used, platform
            except TimeoutError as error:
                if not limit.expired():
                    raise
                raise Unavailable("the shop takes too long; what it did until now stays") from error
            finally:
                await platform.aclose()
        except (NotAsked, Unauthorized) as error:
            state = "unchecked" if isinstance(error, NotAsked) else "refused"
            async with self._database.transaction() as tx:
                await credentials.note(tx, used, state, str(error))
            raise
        except Unavailable as error:
            rest = error.retry_after or 0.0
            raise
        finally:
            async with self._database.transaction() as tx:
                await fetches.release(tx, used, lease, pause=self._pause, rest=timedelta(seconds=rest))

    async def _claimed(self, found: Store, lease: str) -> Credentials:
        until = monotonic() + PATIENCE
        while True:
            async with self._database.transaction() as tx:
                claimed = await fetches.claim_store(tx, found.tenant, found.key, lease)
            if claimed is not None:
                return claimed
            if monotonic() >= until:
                raise Busy
            await asyncio.sleep(LOOK_SECONDS)

    def _app_secret(self, used: Credentials) -> str | None:
        key = opened(self._keyring, used)
        return key.client_secret if isinstance(key, ShopifyKey) else None

    async def _lasting_secrets(self, found: Store, now: datetime) -> list[str]:
        """Those that sign and have no end, the newest first."""
        async with self._database.reading() as tx:
            [held] = await store.sealed_stores(tx, [found.key])
        lasting = [each for each in held.secrets if each.signs(now) and each.ends_at is None]
        sealed_for = store.context(found.tenant, found.key)
        newest = sorted(lasting, key=lambda each: each.added_at, reverse=True)
        return [self._keyring.open(each.secret, sealed_for).decode() for each in newest]


class _Righting:
    """One store's webhooks, one after the other."""

    def __init__(
        self,
        keyring: Keyring,
        platform: Platform,
        used: Credentials,
        address: str,
        secrets: Sequence[str],
        pause: timedelta,
    ) -> None:
        self.address = address
        self._keyring = keyring
        self._platform = platform
        self._context = subscriptions.context(used.tenant, used.store)
        self._chooses_secret = used.platform == "woocommerce"
        self._secrets = secrets
        self._pause = pause.total_seconds()
        self._away: str | None = None
        """Why the shop is asked for nothing more."""

    async def right(self, seen: Seen, before: Kept | None) -> Topic:
        """It as it is then, and what was done for that."""
        done = self._to_do(seen, before)
        if done == "kept":
            return Topic(Kept(seen.topic, seen.state, None, before.signed if before else None), done)
        if self._away is not None:
            return self._left(seen, before, f"not tried any more: {self._away}")
        try:
            now = await self._again_where_nothing_was_done(seen)
        except (Refused, Hopeless) as error:
            return self._left(seen, before, str(error))
        except Unavailable as error:
            self._away = str(error)
            return self._left(seen, before, self._away)
        state = wanted.state_of(now, self.address)
        signed = self._keyring.fingerprint(self._secrets[0].encode(), self._context) if self._chooses_secret else None
        if state != "active":
            return Topic(Kept(seen.topic, state, "the shop has not done it", signed), None)
        return Topic(Kept(seen.topic, state, None, signed), done)

    def _to_do(self, seen: Seen, before: Kept | None) -> Done:
        match seen.state:
            case "elsewhere":
                return "moved"
            case "disabled":
                return "switched_on"
            case "active":
                return "kept" if not self._chooses_secret or self._signs(before) else "signed"
            case _:
                return "made"

    def _signs(self, before: Kept | None) -> bool:
        """Whether we know that a secret of the store signs it: nobody can see which one does."""
        signed = before.signed if before is not None else None
        return signed is not None and any(
            self._keyring.is_of(signed, secret.encode(), self._context) for secret in self._secrets
        )

    async def _again_where_nothing_was_done(self, seen: Seen) -> Subscription:
        """Who wants us to come back in a moment has not done it; of all else nobody knows."""
        for _ in range(TRIES - 1):
            try:
                return await self._asked(seen)
            except Unavailable as error:
                if error.retry_after is None or error.retry_after > LONGEST_WAIT:
                    raise
                await asyncio.sleep(error.retry_after)
        return await self._asked(seen)

    async def _asked(self, seen: Seen) -> Subscription:
        await asyncio.sleep(self._pause)
        if seen.subscription is None:
            return await self._platform.subscribe(seen.topic, self.address, self._secrets[0])
        return await self._platform.mend(seen.subscription, self.address, self._secrets[0])

    @staticmethod
    def _left(seen: Seen, before: Kept | None, reason: str) -> Topic:
        state = wanted.known_as(seen.state, before.state if before else None)
        # Wanted it is by now, whatever it was.
        state = "missing" if state == "unwanted" else state
        return Topic(Kept(seen.topic, state, reason, before.signed if before else None), None)


async def look(database: Database, used: Credentials, platform: Platform, public_url: str, now: datetime) -> Connection:
    """What the platform has, kept for the store's health. The caller holds the store's lease."""
    every = await platform.subscriptions()
    path = wanted.path_of(used.platform, used.store)
    mine = wanted.ours(every, path)
    async with database.transaction() as tx:
        before = await subscriptions.of_store(tx, used.tenant, used.store)
        kept = [
            _kept(one, before.get(one.topic))
            for one in wanted.seen(mine, wanted.WANTED[used.platform], f"{public_url}{path}")
        ]
        await subscriptions.keep(tx, used, now, kept)
    return Connection(used, [Topic(each, None) for each in kept], len(every) - len(mine))


def _kept(seen: Seen, before: Kept | None) -> Kept:
    state = wanted.known_as(seen.state, before.state if before else None)
    if before is None:
        return Kept(seen.topic, state, None, None)
    return Kept(seen.topic, state, before.reason if state == before.state else None, before.signed)


def watcher(database: Database, public_url: str) -> Callable[[Credentials, Platform, datetime], Awaitable[None]]:
    """Looks as a part of a daily comparison, which does not fail because of it: missing rights are told as such."""

    async def watched(used: Credentials, platform: Platform, now: datetime) -> None:
        try:
            await look(database, used, platform, public_url, now)
        except (Refused, Hopeless, Unavailable) as error:
            log.warning("webhooks not seen", tenant=used.tenant, store=used.store, reason=str(error))
            async with database.transaction() as tx:
                await subscriptions.unseen(tx, used, str(error))

    return watched

"""The periodics `fetches`: asks the platforms themselves, for what happened before us and for what was never delivered.

What is fetched goes through the journal like a webhook, and from there on nothing is different. A step fetches one page
outside of any transaction; then one transaction holds what the page brought and how far that is. Whoever dies between
the two fetches the page once more, and publishes it once.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import NamedTuple

import msgspec
from msgspec.structs import replace
from prometheus_client import Counter as Metric

from libs.common.contracts.journal import Delivery
from libs.common.contracts.topics import JOURNAL
from libs.common.contracts.types import Origin
from libs.common.db import Database, Tx, is_transient
from libs.common.ids import new_id
from libs.common.log.base import Event
from libs.common.log.postgres import append_unique
from libs.common.telemetry import get_logger
from services.ingest import credentials, fetches, seen, sweeping
from services.ingest.credentials import Credentials
from services.ingest.fetches import Fetch, Purpose
from services.ingest.journal import digest_of, event_of
from services.ingest.platforms.port import (
    ALL,
    BY_DATE,
    Fetched,
    FetchedPage,
    Hopeless,
    Kind,
    NotAsked,
    Platform,
    Refused,
    Unavailable,
    named,
)
from services.ingest.seen import Known

FETCHES_SECONDS = 2.0
STEP_SECONDS = fetches.LEASE.total_seconds() - 10
"""A shop that is slow in each of its answers must not outlast the lease."""
SWEEP_EVERY = timedelta(hours=24)
"""Deletions, and what can only be read all of it, are looked for less often."""
BEHIND = timedelta(seconds=5)
"""The normaliser may be this late before nobody can say what was never delivered."""
MISSED_FOR = timedelta(days=30)
"""For so long it is looked whether what was found to be gone is there again: a plugin or a fault may have hidden it."""
MOST_REASONS = 20
"""Different reasons that a backfill tells of; further ones are counted as others."""
OTHERS = "other reasons"
LONGEST_BACKOFF = timedelta(minutes=15)
PATIENCE = 20
"""Failures in a row, some four hours, until a backfill is given up."""

GAPS = Metric("regulars_ingest_gaps_total", "Objects that no webhook had told of.", ["kind"])
for _kind in {kind for kinds in ALL.values() for kind in kinds}:
    # Shown as 0 from the start: an alert cannot see the first increment of a series that was not there.
    GAPS.labels(_kind)
FETCHED = Metric("regulars_ingest_fetched_total", "Objects fetched from the platforms.", ["purpose"])
FAILURES = Metric("regulars_ingest_fetch_failures_total", "Requests to platforms that failed.", ["reason"])

log = get_logger(__name__)


class _Lost(Exception):
    """The step took too long, or the backfill is not wanted any more: nothing of it counts."""


class _News(NamedTuple):
    """What is to be published."""

    fetched: Fetched
    state: str
    """What makes it the same news again."""
    not_before: datetime | None = None
    """See `Delivery`."""


class Rhythm(msgspec.Struct, frozen=True, kw_only=True):
    """When what is asked for."""

    every: timedelta
    """Between two reconciliations of a store."""
    overlap: timedelta
    """What is asked for again of the one before: clocks differ, and transactions of shops are slow."""
    grace: timedelta
    """A webhook may be on its way for so long."""
    pause: timedelta
    """Between two requests to one store."""


class Fetching:
    """Takes what is due, a page at a time. Any number of them may run."""

    def __init__(
        self,
        database: Database,
        rhythm: Rhythm,
        open_platform: Callable[[Credentials], Platform],
        *,
        at_one_time: int = 1,
        watch: Callable[[Credentials, Platform, datetime], Awaitable[None]] | None = None,
    ) -> None:
        """`at_one_time`: how many steps run at a time, half of one tenant at most. `watch`: also looks, in a sweep."""
        self._database = database
        self._rhythm = rhythm
        self._open, self._watch = open_platform, watch
        self._share = max(1, at_one_time // 2)
        self._under_way: Counter[str] = Counter()
        """Tenant -> steps; shops may be slow, and a tenant have many of them."""
        self._claiming = asyncio.Lock()

    async def run(self, now: datetime) -> bool:
        """One step of what has waited longest. Whether there was something to do."""
        lease = new_id()
        claimed = await self._claimed(lease)
        if claimed is None:
            return False
        fetch, used = claimed
        rest = 0.0
        try:
            rest = await self._tried(fetch, used, lease, now)
        finally:
            self._under_way[fetch.tenant] -= 1
            # Of a step whose job was paused or cancelled meanwhile, too.
            async with self._database.transaction() as tx:
                await fetches.release(tx, fetch, lease, pause=self._rhythm.pause, rest=timedelta(seconds=rest))
        return True

    async def _claimed(self, lease: str) -> tuple[Fetch, Credentials] | None:
        async with self._claiming:
            full = [tenant for tenant, steps in self._under_way.items() if steps >= self._share]
            async with self._database.transaction() as tx:
                claimed = await fetches.claim(tx, lease, full=full, busy=[*(+self._under_way)])
            if claimed is not None:
                self._under_way[claimed[0].tenant] += 1
            return claimed

    async def _tried(self, fetch: Fetch, used: Credentials, lease: str, now: datetime) -> float:
        """For how many seconds the store wants to be left alone."""
        try:
            if fetch.purpose != "backfill" and await self._behind():
                await self._put_off(replace(fetch, reason="the normaliser is behind"), lease, BEHIND)
                return 0.0
            platform = self._open(used)
            limit = asyncio.timeout(STEP_SECONDS)
            try:
                async with limit:
                    return await self._step(fetch, used, platform, lease, now)
            except TimeoutError as error:
                if not limit.expired():
                    raise
                raise Unavailable("the shop takes too long") from error
            finally:
                await platform.aclose()
        except _Lost:
            log.info("somebody else has gone on with it, or it was cancelled", tenant=fetch.tenant, fetch=fetch.id)
        except Refused as error:
            await self._refused(fetch, used, lease, error)
        except Hopeless as error:
            FAILURES.labels("hopeless").inc()
            log.warning("fetch given up", tenant=fetch.tenant, store=fetch.store, reason=str(error))
            await self._put_off(replace(fetch, state="failed", reason=str(error)), lease, timedelta(0))
        except Unavailable as error:
            await self._failed(fetch, lease, error)
            return error.retry_after or 0.0
        except Exception as error:
            if is_transient(error):
                raise
            # Whatever a shop answers, it is its own job that fails, and that says so.
            log.exception("fault in fetching", tenant=fetch.tenant, fetch=fetch.id)
            await self._failed(fetch, lease, Unavailable(f"{type(error).__name__} while its answer was read"))
        return 0.0

    async def plan(self, now: datetime) -> bool:
        """Has reconciled whose time has come."""
        until = now - self._rhythm.grace
        async with self._database.transaction() as tx:
            every = await fetches.due(tx, "reconcile", before=now - self._rhythm.every, until=until, limit=100)
            for due in every:
                since = due.reached - self._rhythm.overlap if due.ever else due.reached
                await fetches.ask(tx, _planned(due, "reconcile", [*BY_DATE[due.platform]], since, until, now))
            for due in await fetches.due(tx, "sweep", before=now - SWEEP_EVERY, until=until, limit=100):
                rest = [kind for kind in ALL[due.platform] if kind not in BY_DATE[due.platform]]
                await fetches.ask(tx, _planned(due, "sweep", rest, None, until, now))
            await fetches.prune(tx, now)
            # Whose credentials went while it was asked for.
            await credentials.give_up_unopened(tx)
        return False

    async def _behind(self) -> bool:
        async with self._database.reading() as tx:
            return await seen.lag(tx) > BEHIND

    async def _step(self, fetch: Fetch, used: Credentials, platform: Platform, lease: str, now: datetime) -> float:
        if fetch.step < len(fetch.kinds):
            kind = fetch.kinds[fetch.step]
            bulk = None
            if fetch.purpose == "backfill":
                async with self._database.reading() as tx:
                    bulk = await fetches.others(tx, fetch)
            page = await platform.page(kind, since=fetch.since, until=fetch.until, following=fetch.following, bulk=bulk)
            await self._take(fetch, used, kind, page, lease, now)
            return page.pause
        # Behind the last kind of a sweep: what we believe to be there, and is not; and the reverse.
        async with self._database.reading() as tx:
            known = await seen.known(tx, fetch.tenant, fetch.store, after=fetch.following, limit=100)
        if not known and self._watch is not None:
            await self._watch(used, platform, now)
        gone = await sweeping.gone(platform, [each for each in known if not each.gone], now)
        back = await sweeping.back(platform, [each for each in known if each.gone and each.heard_at > now - MISSED_FOR])
        told = [_News(platform.deleted(each.root), each.delivery) for each in gone]
        told += _news(fetch, back, {each.root: each for each in known})
        await self._settle(fetch, used, known, told, lease, now)
        return 0.0

    async def _take(
        self, fetch: Fetch, used: Credentials, kind: Kind, page: FetchedPage, lease: str, now: datetime
    ) -> None:
        async with self._database.transaction() as tx:
            objects = await _as_told(tx, fetch, page.objects)
            last = await seen.last(tx, fetch.tenant, fetch.store, [each.root for each in objects])
            published = await self._publish(tx, fetch, used, [*_news(fetch, objects, last)], now)
            counts, reasons = Counter(fetch.counts), Counter(fetch.reasons)
            counts.update({"fetched": len(page.objects), "published": published, "broken": len(page.broken)})
            for reason in page.broken:
                reasons[reason if reason in reasons or len(reasons) < MOST_REASONS else OTHERS] += 1
            further = replace(
                fetch,
                step=fetch.step + (page.following is None),
                following=page.following,
                counts=dict(counts),
                reasons=dict(reasons),
                bulk=fetch.bulk if page.bulk is None else {**fetch.bulk, kind: page.bulk},
                failures=0,
                reason=page.bulk.reason if page.bulk is not None and page.following is not None else None,
            )
            await self._save(tx, used, _ended(further, now), lease, wait=page.wait)
        if page.bulk is not None and page.bulk.state == "given_up":
            log.warning("bulk operation given up", tenant=fetch.tenant, store=fetch.store, reason=page.bulk.reason)
        FETCHED.labels(fetch.purpose).inc(len(page.objects))
        if fetch.purpose != "backfill":
            GAPS.labels(kind).inc(published)

    async def _settle(
        self,
        fetch: Fetch,
        used: Credentials,
        known: Sequence[Known],
        news: Sequence[_News],
        lease: str,
        now: datetime,
    ) -> None:
        counts = Counter(fetch.counts)
        async with self._database.transaction() as tx:
            published = await self._publish(tx, fetch, used, news, now)
            counts.update({"looked_for": len(known), "published": published})
            further = replace(fetch, following=known[-1].root if known else None, counts=dict(counts), failures=0)
            done = replace(further, state="done", reason=None, done_at=now)
            await self._save(tx, used, further if known else done, lease)
        for each in news:
            GAPS.labels(sweeping.ROOTS[each.fetched.root.partition(":")[0]]).inc()

    async def _publish(self, tx: Tx, fetch: Fetch, used: Credentials, news: Sequence[_News], now: datetime) -> int:
        """How many were news. One and the same state of an object is, once for each purpose."""
        if not news:
            return 0
        origin: Origin = "backfill" if fetch.purpose == "backfill" else "reconciled"
        events = [_event(fetch, used, each, origin, now) for each in news]
        digests = [digest_of(fetch.store, origin, each.fetched.topic, each.fetched.root, each.state) for each in news]
        appended = await append_unique(tx.pg, JOURNAL, events, digests)
        tx.appended.add(JOURNAL.name)
        return sum(appended)

    async def _save(self, tx: Tx, used: Credentials, further: Fetch, lease: str, *, wait: float = 0.0) -> None:
        # Before the fetch, as whoever sets other ones does, or the two deadlock.
        await credentials.note(tx, used, "good", None)
        pause = max(self._rhythm.pause, timedelta(seconds=wait))
        if not await fetches.save(tx, further, lease, pause=pause):
            raise _Lost
        if further.state == "done":
            log.info("fetched", tenant=further.tenant, store=further.store, purpose=further.purpose, **further.counts)

    async def _put_off(self, fetch: Fetch, lease: str, pause: timedelta) -> None:
        async with self._database.transaction() as tx:
            await fetches.save(
                tx, fetch if fetch.state == "failed" else replace(fetch, state="waiting"), lease, pause=pause
            )

    async def _failed(self, fetch: Fetch, lease: str, error: Unavailable) -> None:
        FAILURES.labels("unavailable").inc()
        failures = fetch.failures + 1
        told = timedelta(seconds=error.retry_after or 0)
        backoff = max(told, min(LONGEST_BACKOFF, self._rhythm.pause * 2 ** min(failures, 20)))
        state: fetches.State = "failed" if failures >= PATIENCE and fetch.purpose == "backfill" else "waiting"
        log.warning(
            "platform unavailable", tenant=fetch.tenant, store=fetch.store, reason=str(error), failures=failures
        )
        await self._put_off(replace(fetch, state=state, failures=failures, reason=str(error)), lease, backoff)

    async def _refused(self, fetch: Fetch, used: Credentials, lease: str, error: Refused) -> None:
        """It waits until somebody has set other credentials, and looks for itself now and then."""
        FAILURES.labels("refused").inc()
        reason = str(error)
        log.warning("platform refuses", tenant=fetch.tenant, store=fetch.store, reason=reason)
        async with self._database.transaction() as tx:
            state = "unchecked" if isinstance(error, NotAsked) else "refused"
            await credentials.note(tx, used, state, reason)
            await fetches.save(tx, replace(fetch, state="waiting", reason=reason), lease, pause=LONGEST_BACKOFF)


async def _as_told(tx: Tx, fetch: Fetch, objects: Sequence[Fetched]) -> list[Fetched]:
    """Checkouts that are told by their carts under the tokens that webhooks had for them, where any told of them.

    Of several the one under which `naming` files what is fetched.
    """
    carts = [seen.Cart(fetch.tenant, fetch.store, each.cart) for each in objects if each.cart is not None]
    tokens = {cart.token: min(of_it) for cart, of_it in (await seen.tokens(tx, carts)).items()}
    return [named(each, tokens[each.cart]) if each.cart in tokens else each for each in objects]


def _planned(
    due: fetches.Due, purpose: Purpose, kinds: list[Kind], since: datetime | None, until: datetime, now: datetime
) -> Fetch:
    return Fetch(
        tenant=due.tenant,
        id=new_id(),
        store=due.store,
        purpose=purpose,
        kinds=kinds,
        since=since,
        until=until,
        state="waiting",
        asked_at=now,
        asked_by="regulars",
    )


def _ended(fetch: Fetch, now: datetime) -> Fetch:
    if fetch.step < len(fetch.kinds) or fetch.purpose == "sweep":
        return replace(fetch, state="waiting")
    return replace(fetch, state="done", done_at=now)


def _news(fetch: Fetch, objects: Sequence[Fetched], last: Mapping[str, Known]) -> Iterator[_News]:
    """What is to be published of a page; of a comparison only what nobody told of."""
    for each in objects:
        known, state = last.get(each.root), blake2b(each.body, digest_size=16).hexdigest()
        if known is not None and not each.trashed and _is_back(known, fetch):
            # The same state as before it was gone, perhaps: it is news once more, and later than the deletion.
            yield _News(each, f"{state}:{known.delivery}", not_before=known.dated)
        elif (
            fetch.purpose == "backfill"
            or known is None
            or (each.changed_at is not None and known.dated < each.changed_at)
        ):
            yield _News(each, state)


def _is_back(known: Known, fetch: Fetch) -> bool:
    """Whether an object that the platform shows had been told to be gone, and not by what is newer than what it shows.

    Deletions are dated when we heard of them, objects when they last changed: so those dates cannot say which is newer.
    What a comparison of ours found is older, since a store is asked by one job at a time; a webhook, if it came before
    the time up to which is being asked.
    """
    return known.gone and (known.ours or known.heard_at < fetch.until)


def _event(fetch: Fetch, used: Credentials, news: _News, origin: Origin, now: datetime) -> Event:
    id_, fetched = new_id(), news.fetched
    delivery = Delivery(
        store=fetch.store,
        platform=used.platform,
        topic=fetched.topic,
        delivery_id=id_,
        headers=dict(fetched.headers),
        body=fetched.body,
        origin=origin,
        not_before=news.not_before,
    )
    return event_of(delivery, id=id_, tenant=fetch.tenant, root=fetched.root, time=now, traceparent=None)

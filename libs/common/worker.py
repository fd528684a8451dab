"""The consumer loop. There is no other.

One transaction holds a batch's effects, the events that follow from them, its dead letters and its position. What
that buys: a worker may die, hang or be doubled at any instant, and every record still takes effect exactly once.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any

import asyncpg

from libs.common import positions
from libs.common.batch import Batch, Reject, told
from libs.common.burst import Burst, Outcome, sender_of
from libs.common.clock import Clock, monotonic
from libs.common.consumer import Consumer
from libs.common.consuming import Consuming
from libs.common.db import Database, TookTooLong, Tx, is_lengthy, is_transient, was_ended
from libs.common.ids import new_id
from libs.common.limits import Limits
from libs.common.log import postgres
from libs.common.log.base import Halted, Log, Position, Record
from libs.common.lookout import AHEAD, Lookout, TooManyDead
from libs.common.openings import Openings, notice_growth
from libs.common.outage import Outage
from libs.common.periodic import Periodic
from libs.common.telemetry import get_logger
from libs.common.worker_metrics import BATCH, COMMIT, DEAD, FENCED, HALTED, RECORDS, RETRIES
from libs.common.worker_progress import Places, measure

__all__ = ["Batch", "Consumer", "Limits", "Periodic", "Reject", "Worker"]

log = get_logger(__name__)


class Worker:
    """Runs the consumers and periodics of one service until told to stop."""

    def __init__(
        self,
        database: Database,
        log: Log,
        clock: Clock,
        *,
        consumers: Sequence[Consumer] = (),
        periodics: Sequence[Periodic] = (),
        limits: Limits | None = None,
    ) -> None:
        self.name = new_id()
        self.joined = asyncio.Event()
        """Set once it has asked for its share of the partitions."""
        self._database = database
        self._log = log
        self._clock = clock
        self.limits = limits or Limits()
        self.consumers = consumers
        self._consuming = [Consuming(c, Burst(self.limits.burst), Openings(database, c, self.name)) for c in consumers]
        self._periodics = periodics
        self._stop = asyncio.Event()
        self._session: asyncpg.Connection[Any] | None = None
        self._beating = asyncio.Lock()
        self._beat_now = asyncio.Event()

    def problems(self) -> list[str]:
        """Why this worker is not ready; empty when it is."""
        return [f"{c.consumer.name} is {c.state}: {c.reason}" for c in self._consuming if c.state != "running"]

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set; then finishes the batches under way and gives the partitions back."""
        self._stop = stop
        async with asyncio.TaskGroup() as group:
            measuring = measure(self._log, self._places, self.limits.patience)
            widening = notice_growth(self._database, self._log, self.consumers, self._beat_now, self.limits.lease / 3)
            beside = [group.create_task(each) for each in (self._heartbeats(), measuring, widening)]
            group.create_task(self._end_waiting())
            working = [group.create_task(self._consume(c)) for c in self._consuming]
            working += [group.create_task(self._repeat(p)) for p in self._periodics]
            await asyncio.gather(*working)
            for task in beside:
                task.cancel()
        await self._leave()

    async def _heartbeats(self) -> None:
        while True:
            try:
                await self._beat()
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("heartbeat failed", worker=self.name, error=type(error).__name__)
            self._beat_now.clear()
            with suppress(TimeoutError):
                # Who has no partition of a topic looks more often for one that somebody has let go.
                share = 3 if all(c.owned for c in self._consuming) else 10
                async with asyncio.timeout(self.limits.lease / share):
                    await self._beat_now.wait()

    async def _beat(self) -> None:
        async with self._beating:
            if self._session is None or self._session.is_closed():
                self._session = await self._join()
            try:
                for c in self._consuming:
                    owned, c.surplus = await positions.heartbeat(
                        self._session, c.consumer.name, self.name, self.limits.lease, state=c.state, reason=c.reason
                    )
                    # Where a partition is in our hands already, memory is ahead of what this look saw.
                    c.owned = {place: max(offset, c.owned.get(place, 0)) for place, offset in owned.items()}
                    if owned:
                        c.given.set()
            except Exception:
                self._session.terminate()
                raise
        self.joined.set()

    async def _join(self) -> "asyncpg.Connection[Any]":
        session = await self._database.session()
        try:
            for c in self._consuming:
                await positions.begin(session, c.consumer.name, c.consumer.topics, self.name)
        except BaseException:
            session.terminate()
            raise
        return session

    async def _give_back(self, c: Consuming) -> None:
        """Between batches only: a batch under way would be fenced for nothing."""
        if c.surplus and self._session is not None and not self._session.is_closed():
            async with self._beating:
                await positions.release(self._session, c.consumer.name, self.name, c.surplus)
                for place in c.surplus:
                    c.owned.pop(place, None)
                c.surplus = []

    async def _leave(self) -> None:
        if self._session is None:
            return
        # The leases end anyway.
        with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            for c in self._consuming:
                await positions.release(self._session, c.consumer.name, self.name)
            await self._session.close(timeout=2)

    async def _consume(self, c: Consuming) -> None:
        looked = monotonic()
        outage = Outage(consumer=c.consumer.name)
        while not self._stop.is_set():
            try:
                if not c.owned or (c.state == "halted" and c.lookout is None):
                    c.tries_no_more()
                    c.given.clear()
                    await c.given.wait()
                    continue
                if c.lookout is not None:
                    await self._look_ahead(c, c.lookout)
                else:
                    await self._give_back(c)
                    if records := await self._read(c):
                        await self._process(c, records)
                    if monotonic() - looked >= self.limits.patience:
                        looked = monotonic()
                        await self._replay(c)
                outage.is_over()
                c.tries_no_more()
            except Halted as error:
                self._halt(c, error)
            except positions.Fenced as error:
                FENCED.labels(c.consumer.name).inc()
                log.warning("fenced", consumer=c.consumer.name, worker=self.name, detail=str(error))
                c.owned = {}
                self._beat_now.set()
            except Exception as error:
                if not is_transient(error):
                    raise
                RETRIES.labels(c.consumer.name).inc()
                if c.state != "halted":
                    c.state, c.reason = "retrying", type(error).__name__
                outage.goes_on(error)
                await self._pause(outage.pause(self.limits.backoff))

    async def _read(self, c: Consuming) -> list[Record]:
        """What comes next; Halted when it is not what comes next."""
        c.moved(await c.openings.due(c.owned))
        asked = c.awake(c.openings.readable(c.owned), monotonic())
        if not asked:
            await self._pause(0.05)
            return []
        records = await self._unless_stopped(self._log.read(asked, c.consumer.batch_size, self.limits.patience))
        begun = await c.openings.begun(asked, records)
        c.moved(begun)
        return c.openings.ready(asked | begun, records)

    async def _process(self, c: Consuming, records: Sequence[Record]) -> None:
        """One transaction for all; when something is wrong with the data, one for each, to find the poison."""
        alone = len(records) == 1
        if not alone and c.suspects.are_among(records):
            await self._singly(c, records)
            return
        try:
            if alone and c.suspects.is_guilty(records[0]):
                await self._bury(c, records[0], TookTooLong(self._database.idle))
            else:
                await self._attempt(c, records)
        except (positions.Fenced, Halted):
            raise
        except TookTooLong:
            c.suspects.took_too_long(records, c.owned)
            if alone:
                raise
            await self._singly(c, records)
        except Exception as error:
            if is_transient(error):
                if not was_ended(error):
                    c.suspects.are_cleared()
                raise
            if alone:
                await self._bury(c, records[0], error)
            else:
                await self._singly(c, records)
        c.suspects.are_done_with(records)

    async def _attempt(self, c: Consuming, records: Sequence[Record]) -> None:
        name = c.consumer.name
        started = monotonic()
        async with self._database.transaction() as tx:
            batch = Batch(tx, records, self._clock.now(), self._database.schema)
            await tx.own.of(c.consumer.handler(batch))
            try:
                await self._finish(c, tx, batch)
            except positions.Fenced:
                # Or its partitions pass from one worker to the next, and none gets through with it in its lease.
                if is_lengthy(tx.own, self.limits.lease):
                    c.suspects.took_too_long(records, c.owned)
                raise
        BATCH.labels(name).observe(len(records))
        COMMIT.labels(name).observe(monotonic() - started)

    async def _finish(self, c: Consuming, tx: Tx, batch: Batch, poison: str | None = None) -> None:
        """Dead letters, position, events out: in the batch's transaction, in this order."""
        name, records = c.consumer.name, batch.records
        died = batch.rejected
        outcomes = [
            Outcome(sender_of(r), c.consumer.kind(r), (r.topic, r.partition, r.offset) in died) for r in records
        ]
        if c.burst.is_ours(outcomes):
            raise TooManyDead(c.burst, outcomes)
        if batch.rejected:
            await positions.bury(tx, name, list(batch.rejected.values()), self._clock.arrival(), poison)
        # What is expected comes from the records, not from memory: a heartbeat may have refreshed that meanwhile.
        moves: dict[Position, tuple[int, int]] = {}
        for record in records:
            place = (record.topic, record.partition)
            first, _ = moves.get(place, (record.offset, 0))
            moves[place] = (first, record.offset + 1)
        if moves:
            await positions.advance(tx, name, self.name, moves)
        await self._append(tx, batch)
        tx.after_commit.append(lambda: self._committed(c, moves, outcomes, batch))

    def _committed(
        self, c: Consuming, moves: dict[Position, tuple[int, int]], outcomes: list[Outcome], batch: Batch
    ) -> None:
        c.moved({place: following for place, (_, following) in moves.items()})
        c.rest({**moves, **batch.put_off}, batch.put_off, monotonic(), self.limits.backoff)
        for (topic, partition), reason in batch.put_off.items():
            RETRIES.labels(c.consumer.name).inc()
            log.warning("waiting", consumer=c.consumer.name, topic=topic, partition=partition, detail=reason)
        c.burst.add(outcomes)
        RECORDS.labels(c.consumer.name).inc(len(outcomes))
        for record, reason in batch.rejected.values():
            DEAD.labels(c.consumer.name).inc()
            log.warning(
                "dead letter", consumer=c.consumer.name, event_id=record.id, tenant=record.tenant, reason=reason
            )

    async def _append(self, tx: Tx, batch: Batch) -> None:
        by_topic = sorted(batch.emitted, key=lambda emitted: emitted[0].name)
        for topic, emitted in groupby(by_topic, key=lambda emitted: emitted[0].name):
            events = list(emitted)
            await postgres.append(tx, events[0][0], [event for _, event in events])
            log.debug("appended", topic=topic, events=len(events))

    async def _bury(self, c: Consuming, record: Record, error: Exception) -> None:
        """The record alone failed: out of the way with it, its reason and where it broke."""
        reason, trace = told(error)
        async with self._database.transaction() as tx:
            batch = Batch(tx, [record], self._clock.now(), self._database.schema)
            batch.reject(record, reason)
            await self._finish(c, tx, batch, trace)

    async def _singly(self, c: Consuming, records: Sequence[Record]) -> None:
        for record in records:
            await self._process(c, [record])

    async def _replay(self, c: Consuming) -> None:
        """Dead letters that somebody asked to try again; one by one as soon as one of them fails."""
        limit = c.consumer.batch_size
        while not self._stop.is_set():
            records: list[Record] = []
            try:
                async with self._database.transaction() as tx:
                    records = await positions.to_replay(tx, c.consumer.name, self.name, limit)
                    if not records:
                        return
                    batch = Batch(tx, records, self._clock.now(), self._database.schema)
                    await tx.own.of(c.consumer.handler(batch))
                    await positions.replayed(tx, c.consumer.name, records)
                    if batch.rejected:
                        at = self._clock.arrival()
                        await positions.bury(tx, c.consumer.name, list(batch.rejected.values()), at)
                    await self._append(tx, batch)
            except Exception as error:
                if is_transient(error) and not (records and isinstance(error, TookTooLong)):
                    raise
                if len(records) == 1:
                    reason, trace = told(error)
                    async with self._database.transaction() as tx:
                        await positions.bury(tx, c.consumer.name, [(records[0], reason)], self._clock.arrival(), trace)
                limit = 1

    def _halt(self, c: Consuming, error: Halted) -> None:
        c.state, c.reason, c.lookout = "halted", str(error), None
        # Where effects lie elsewhere nothing can be tried.
        if isinstance(error, TooManyDead) and not c.consumer.copies:
            c.lookout = Lookout(self._database, c.consumer, c.burst, error.case)
        HALTED.labels(c.consumer.name).set(1)
        self._beat_now.set()
        log.error("consumer halted", consumer=c.consumer.name, worker=self.name, reason=c.reason)

    async def _look_ahead(self, c: Consuming, lookout: Lookout) -> None:
        """Of a halted consumer: goes on once somebody's records pass who is not to blame."""
        reading = self._log.read(lookout.places(c.owned), AHEAD, self.limits.patience, ahead=True)
        tried = await lookout.look(await self._unless_stopped(reading), self._clock.now())
        if lookout.is_over:
            c.state, c.reason, c.lookout = "running", None, None
            HALTED.labels(c.consumer.name).set(0)
            self._beat_now.set()
            log.warning("consumer goes on, others pass", consumer=c.consumer.name, worker=self.name)
        elif tried:
            await self._pause(self.limits.patience)

    def _places(self) -> list[Places]:
        return [(c.consumer.name, c.consumer.topics, dict(c.owned), c.shown) for c in self._consuming]

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    async def _unless_stopped(self, reading: Coroutine[Any, Any, list[Record]]) -> list[Record]:
        """A read that ends when the worker is to stop."""
        task = asyncio.create_task(reading)
        stopped = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            return []
        finally:
            stopped.cancel()
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _end_waiting(self) -> None:
        await self._stop.wait()
        for bell in (*(p.bell for p in self._periodics), *(c.given for c in self._consuming)):
            bell.set()

    async def _repeat(self, periodic: Periodic) -> None:
        outage = Outage(periodic=periodic.name)
        while not self._stop.is_set():
            try:
                again = await periodic.run(self._clock.now())
            except Exception as error:
                # Not a record's fault and not to be skipped: it is tried again, and louder when it is not the database.
                RETRIES.labels(periodic.name).inc()
                if is_transient(error):
                    outage.goes_on(error)
                else:
                    outage.counts()
                    log.exception("periodic failed", periodic=periodic.name)
                await self._pause(outage.pause(self.limits.backoff))
                continue
            outage.is_over()
            if not again:
                with suppress(TimeoutError):
                    async with asyncio.timeout(periodic.every):
                        await periodic.bell.wait()
                periodic.bell.clear()

"""The periodic `replays`: deliveries from the journal, read again by today's rules.

What is observed goes out marked `replayed`, and starts no message. Snapshots are ordered by their source's date and
their place in the journal, which a replay does not change: where nothing was wrong, nothing changes.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from msgspec.structs import replace

from libs.common.batch import Batch, Reject
from libs.common.clock import monotonic
from libs.common.contracts.journal import Delivery
from libs.common.contracts.topics import COMMERCE
from libs.common.db import Database, Tx
from libs.common.log.base import Record
from libs.common.log.postgres import append
from libs.common.telemetry import get_logger
from services.ingest import naming, replays, store
from services.ingest.handlers import act, emit, outcome_of, row_of
from services.ingest.naming import Read
from services.ingest.outcome import Outcome, StoreFacts, Unreadable
from services.ingest.replays import MOST_REASONS, OTHERS, Kept, Replay

REPLAYS_SECONDS = 1.0
"""Between two steps: with their size it is the pace. What comes in live has to get through beside it, here and in all
services behind."""
STEP_SECONDS = 0.5
"""Of reading, after which a step takes no further delivery: some of them cost thousands of others."""

log = get_logger(__name__)


class Replays:
    """Takes the open replays by turns, a step at a time: tenants first, then those of one tenant."""

    def __init__(self, database: Database, *, batch: int) -> None:
        """`batch`: deliveries of one step."""
        self._database = database
        self._batch = batch
        self._served = ""
        """Whose turn it was."""

    async def run(self, now: datetime) -> bool:
        """One step of one replay: its effects and how far it has come, in one transaction. Never again at once."""
        replay: Replay | None = None
        try:
            async with self._database.transaction() as tx:
                replay = await replays.claim(tx, after=self._served)
                if replay is not None:
                    self._served = replay.tenant
                    await replays.save(tx, await self._further(tx, replay, now))
        except Exception:
            if replay is not None:
                # One that fails at each step must not stand before all the others, of other tenants, too.
                async with self._database.transaction() as tx:
                    await replays.put_back(tx, replay)
            raise
        return False

    async def _further(self, tx: Tx, replay: Replay, now: datetime) -> Replay:
        if replay.total is None:
            total, left_out = await replays.count(tx, replay), await replays.count_left_out(tx, replay)
            replay = replace(replay, state="running", total=total, counts=replay.counts | {"left_out": left_out})
        kept, last = await replays.following(tx, replay, self._batch)
        if kept:
            replay = await self._step(tx, replay, kept, now)
        if last and (not kept or replay.reached == kept[-1].id):
            replay = replace(replay, state="done")
            log.info("replay done", tenant=replay.tenant, replay=replay.id, **replay.counts)
        return replay

    async def _step(self, tx: Tx, replay: Replay, kept: Sequence[Kept], now: datetime) -> Replay:
        facts = (await store.store_facts(tx, [(replay.tenant, replay.store)])).get((replay.tenant, replay.store))
        batch = Batch(tx, [one.record for one in kept if one.record is not None], now, self._database.schema)
        counts, reasons = Counter(replay.counts), Counter(replay.reasons)
        rows: list[store.DeliveryRow] = []
        revived: list[store.DeliveryRow] = []
        read: list[Read] = []
        kept_as: list[Kept] = []
        taken, reached = 0.0, replay.reached
        for one in kept:
            if taken > STEP_SECONDS:
                break
            # Others in this loop have their turn between any two.
            await asyncio.sleep(0)
            began, reached = monotonic(), one.id
            counts["looked_at"] += 1
            if one.record is None:
                counts["gone"] += 1
                continue
            try:
                read.append((one.record, *_read(batch, one.record, facts)))
                kept_as.append(one)
            except Unreadable as error:
                counts["unreadable"] += 1
                known = error.reason in reasons or len(reasons) < MOST_REASONS
                reasons[error.reason if known else OTHERS] += 1
            taken += monotonic() - began
        stores = {} if facts is None else {(replay.tenant, replay.store): facts}
        read, again = await naming.under_own_names(tx, read, stores, dry_run=replay.dry_run)
        for each in read:
            emit(batch, *each, replay=replay.id)
        for each in again:
            emit(batch, *each, replay=replay.id, again=True)
        for one, each in zip(kept_as, read, strict=True):
            row = row_of(*each)
            counts[row.outcome] += 1
            changed = (row.outcome, row.reason, row.object, row.cart) != (one.outcome, one.reason, one.object, one.cart)
            counts["changed"] += changed
            if one.outcome == "dead":
                revived.append(row)
            elif changed:
                rows.append(row)
        if not replay.dry_run:
            await replays.rewrite(tx, rows)
            await store.save_deliveries(tx, revived)
            await replays.revive(tx, replay.tenant, [row.id for row in revived])
            await act(batch, read)
            await append(tx, COMMERCE, [event for _, event in batch.emitted])
        return replace(replay, reached=reached, counts=dict(counts), reasons=dict(reasons))


def _read(batch: Batch, record: Record, facts: StoreFacts | None) -> tuple[Delivery, Outcome]:
    if facts is None:
        raise Unreadable("no such store")
    try:
        delivery = replace(batch.data(record), origin="replayed")
        return delivery, outcome_of(record, delivery, facts)
    except Reject as error:
        raise Unreadable(error.reason) from error
    except Unreadable:
        raise
    except Exception as error:
        # A fault of ours in reading one delivery must not keep a replay from all those behind it.
        log.exception("delivery cannot be read", event_id=record.id, tenant=record.tenant)
        raise Unreadable(f"{type(error).__name__} while it was read") from error

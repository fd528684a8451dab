"""All SQL of replays: what was asked for, how far it has come, and the deliveries that it is about."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

from msgspec import Struct

from libs.common.db import Tx
from libs.common.log.base import READ_BYTES, Record
from services.ingest import asking
from services.ingest.archive import CONSUMER
from services.ingest.seen import RECORD, record_of
from services.ingest.store import DeliveryRow, add_outcome_counts

Replayable = Literal["observed", "parked", "ignored", "dead"]
MOST_REASONS = 20
"""Different reasons that a replay tells of; further ones are counted as others."""
OTHERS = "other reasons"


class Replay(Struct, frozen=True, kw_only=True):
    """Deliveries of a store that are to be read again, and what has come of it so far.

    Of `delivery` alone, where it is named: store, topic and the instant between `since` and `until` are then its own.
    So a worker of before, which does not know of it, reads no more than what came from there at the same instant, and
    the journal's retention waits for no older table.
    """

    tenant: str
    id: str
    store: str
    delivery: str | None = None
    topic: str | None
    outcome: Replayable | None
    since: datetime | None
    until: datetime
    dry_run: bool
    state: str
    asked_at: datetime
    asked_by: str
    reached: str | None
    """Id of the last delivery that was looked at."""
    total: int | None
    """Deliveries that there were when it began."""
    counts: dict[str, int]
    reasons: dict[str, int]
    """Why deliveries could not be read -> how many."""

    @property
    def wanted(self) -> tuple[object, ...]:
        """What was asked for. Two that were asked for up to now, each at its time, are the same."""
        until = None if self.until == self.asked_at else self.until
        return self.store, self.delivery, self.topic, self.outcome, self.since, until, self.dry_run


class Kept(NamedTuple):
    """A delivery as it lies in the archive."""

    id: str
    outcome: str
    reason: str | None
    object: str | None
    cart: str | None
    record: Record | None
    """None: the journal's retention has passed, or its body was removed."""


_COLUMNS = """tenant, id::text, store, delivery::text, topic, outcome, since, until, dry_run, state, asked_at, asked_by,
    reached::text, total, counts, reasons"""
_OPEN = "state IN ('waiting', 'running')"
# $1 tenant, $2 store, $3 topic, $4 since, $5 until; $6 delivery: `_seen_by` and `_letter_by`.
_SEEN = """
    d.tenant = $1 AND d.store = $2 AND ($3::text IS NULL OR d.topic = $3)
    AND ($4::timestamptz IS NULL OR d.received_at >= $4) AND d.received_at < $5"""
_LETTER = f"""
    d.tenant = $1 AND d.consumer = '{CONSUMER}' AND split_part(d.event_source, '/', 4) = $2
    AND ($3::text IS NULL OR d.event_source = concat(split_part(d.event_source, '/' || $2 || '/', 1), '/', $2, '/', $3))
    AND ($4::timestamptz IS NULL OR d.event_time >= $4) AND d.event_time < $5"""
_EACH = "$6::uuid IS NULL"


def _seen_by(replay: Replay) -> str:
    # By its key: in one clause for both a plan could go through all that the store has.
    return f"{_SEEN} AND {_EACH if replay.delivery is None else 'd.id = $6::uuid'}"


def _letter_by(replay: Replay) -> str:
    one = 'd.event_id COLLATE "C" = $6::uuid::text'
    return f"{_LETTER} AND {_EACH if replay.delivery is None else one}"


async def ask(tx: Tx, replay: Replay) -> Replay:
    """Leaves it for a worker; where one is open that wants the same, it is that one. Problem 409 for too many."""
    await asking.alone(tx, "replays", replay.tenant)
    rows = await tx.pg.fetch(f"SELECT {_COLUMNS} FROM replays WHERE tenant = $1 AND {_OPEN}", replay.tenant)
    those = [Replay(**dict(row)) for row in rows]
    for each in those:
        if each.wanted == replay.wanted:
            return each
    asking.admit("replays", [each.store for each in those], replay.store)
    await tx.pg.execute(
        """
        INSERT INTO replays (tenant, id, store, topic, outcome, since, until, dry_run, state, asked_at, asked_by,
                             delivery, worked_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, clock_timestamp())
        """,
        replay.tenant,
        replay.id,
        replay.store,
        replay.topic,
        replay.outcome,
        replay.since,
        replay.until,
        replay.dry_run,
        replay.state,
        replay.asked_at,
        replay.asked_by,
        replay.delivery,
    )
    return replay


async def one(tx: Tx, tenant: str, id_: str) -> Replay | None:
    """A replay of the tenant."""
    row = await tx.pg.fetchrow(f"SELECT {_COLUMNS} FROM replays WHERE tenant = $1 AND id = $2", tenant, id_)
    return Replay(**dict(row)) if row else None


async def newest(tx: Tx, tenant: str, *, limit: int, before: str | None) -> list[Replay]:
    """Newest first; ids lower than `before`."""
    rows = await tx.pg.fetch(
        f"""
        SELECT {_COLUMNS} FROM replays WHERE tenant = $1 AND ($2::uuid IS NULL OR id < $2)
        ORDER BY replays.id DESC LIMIT $3
        """,
        tenant,
        before,
        limit,
    )
    return [Replay(**dict(row)) for row in rows]


async def cancel(tx: Tx, tenant: str, id_: str) -> None:
    """What it has done by then stays done."""
    await tx.pg.execute(
        f"UPDATE replays SET state = 'cancelled' WHERE tenant = $1 AND id = $2 AND {_OPEN}",
        tenant,
        id_,
    )


async def cancel_of(tx: Tx, tenant: str, store: str) -> None:
    """All of a store that are not at their end."""
    await tx.pg.execute(
        f"UPDATE replays SET state = 'cancelled' WHERE tenant = $1 AND store = $2 AND {_OPEN}",
        tenant,
        store,
    )


async def open_of(tx: Tx, tenant: str, store: str) -> int:
    """How many of a store are not at their end."""
    return int(
        await tx.pg.fetchval(
            f"SELECT count(*) FROM replays WHERE tenant = $1 AND store = $2 AND {_OPEN}",
            tenant,
            store,
        )
    )


async def open_count(tx: Tx) -> int:
    """How many of all tenants are not at their end."""
    return int(await tx.pg.fetchval(f"SELECT count(*) FROM replays WHERE {_OPEN}"))


async def claim(tx: Tx, *, after: str) -> Replay | None:
    """Of the next tenant by name, after this one, what has waited longest for its next step.

    It is locked until the end of the transaction.
    """
    row = await tx.pg.fetchrow(
        f"""
        SELECT {_COLUMNS} FROM replays WHERE {_OPEN}
        ORDER BY tenant <= $1, tenant, worked_at, replays.id LIMIT 1 FOR UPDATE SKIP LOCKED
        """,
        after,
    )
    return Replay(**dict(row)) if row else None


async def save(tx: Tx, replay: Replay) -> None:
    """How far it has come."""
    await tx.pg.execute(
        """
        UPDATE replays
        SET state = $3, worked_at = clock_timestamp(), reached = $4, total = $5, counts = $6, reasons = $7
        WHERE tenant = $1 AND id = $2
        """,
        replay.tenant,
        replay.id,
        replay.state,
        replay.reached,
        replay.total,
        json.dumps(replay.counts),
        json.dumps(replay.reasons),
    )


async def put_back(tx: Tx, replay: Replay) -> None:
    """Behind all others that are open."""
    await tx.pg.execute(
        "UPDATE replays SET worked_at = clock_timestamp() WHERE tenant = $1 AND id = $2", replay.tenant, replay.id
    )


async def count(tx: Tx, replay: Replay) -> int:
    """How many deliveries it is about."""
    total = 0
    if replay.outcome != "dead":
        total += await tx.pg.fetchval(
            f"SELECT count(*) FROM deliveries d WHERE {_seen_by(replay)} AND ($7::text IS NULL OR d.outcome = $7)",
            *_filters(replay),
            replay.outcome,
        )
    if replay.outcome in {None, "dead"}:
        query = f"SELECT count(*) FROM dead_letters d WHERE d.state = 'dead' AND {_letter_by(replay)}"
        total += await tx.pg.fetchval(query, *_filters(replay))
    return total


async def count_left_out(tx: Tx, replay: Replay) -> int:
    """How many dead ones it would be about, had nobody discarded them or asked for them as dead letters."""
    if replay.outcome not in {None, "dead"}:
        return 0
    query = f"SELECT count(*) FROM dead_letters d WHERE d.state IN ('discarded', 'replay') AND {_letter_by(replay)}"
    return int(await tx.pg.fetchval(query, *_filters(replay)))


async def following(tx: Tx, replay: Replay, limit: int) -> tuple[list[Kept], bool]:
    """The next deliveries by id, each with its record, and whether these are the last.

    At most `limit`, and no more once READ_BYTES of them are there.
    """
    parts: list[_Part] = []
    if replay.outcome != "dead":
        parts.append(await _seen(tx, replay, limit))
    if replay.outcome in {None, "dead"}:
        parts.append(await _dead(tx, replay, limit))
    # Behind the end of a part that goes on, some of it may be missing.
    ends = [part.kept[-1].id for part in parts if part.goes_on]
    kept = sorted((one for part in parts for one in part.kept), key=lambda one: one.id)
    within = [one for one in kept if all(one.id <= end for end in ends)][:limit]
    return within, not ends and len(within) == len(kept)


async def rewrite(tx: Tx, rows: Sequence[DeliveryRow]) -> None:
    """What deliveries turn out to be now."""
    if not rows:
        return
    # As they are by now: another replay may have rewritten them since this one looked, and counted them over.
    held = await tx.pg.fetch(
        """
        SELECT d.id::text, d.outcome FROM deliveries d
        JOIN unnest($1::text[], $2::uuid[]) AS u(tenant, id) ON d.tenant = u.tenant AND d.id = u.id
        ORDER BY d.tenant, d.id FOR UPDATE OF d
        """,
        [row.tenant for row in rows],
        [row.id for row in rows],
    )
    before = {row["id"]: row["outcome"] for row in held}
    await tx.pg.execute(
        """
        UPDATE deliveries d SET outcome = u.outcome, reason = u.reason, object = u.object, dated = u.dated,
            cart = u.cart
        FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::text[])
            AS u(tenant, id, outcome, reason, object, dated, cart)
        WHERE d.tenant = u.tenant AND d.id = u.id
        """,
        [row.tenant for row in rows],
        [row.id for row in rows],
        [row.outcome for row in rows],
        [row.reason for row in rows],
        [row.object for row in rows],
        [row.dated for row in rows],
        [row.cart for row in rows],
    )
    moved: Counter[tuple[str, str, str, int]] = Counter()
    for row in rows:
        if row.id not in before:
            continue
        moved[row.tenant, row.store, before[row.id], row.journal_partition] -= 1
        moved[row.tenant, row.store, row.outcome, row.journal_partition] += 1
    await add_outcome_counts(tx, {place: n for place, n in moved.items() if n})


async def revive(tx: Tx, tenant: str, ids: Sequence[str]) -> None:
    """These deliveries are dead no longer."""
    await tx.pg.execute(
        f"""
        UPDATE dead_letters SET state = 'replayed'
        WHERE tenant = $1 AND consumer = '{CONSUMER}' AND event_id COLLATE "C" = ANY($2) AND state = 'dead'
        """,
        tenant,
        list(ids),
    )


class _Part(NamedTuple):
    kept: list[Kept]
    goes_on: bool


async def _seen(tx: Tx, replay: Replay, limit: int) -> _Part:
    rows = await tx.pg.fetch(
        f"""
        WITH chosen AS MATERIALIZED (
            SELECT d.id, d.outcome, d.reason, d.object, d.cart, d.journal_partition, d.journal_offset
            FROM deliveries d
            WHERE {_seen_by(replay)} AND ($7::text IS NULL OR d.outcome = $7) AND ($8::uuid IS NULL OR d.id > $8)
            ORDER BY d.id LIMIT $9
        ), kept AS (
            SELECT c.id::text AS delivery, c.outcome, c.reason, c.object, c.cart,
                   {", ".join(f'j."{n}"' for n in RECORD)}
            FROM chosen c
            LEFT JOIN log_journal j ON j.partition = c.journal_partition AND j."offset" = c.journal_offset
        )
        {_bounded(10)}
        """,
        *_filters(replay),
        replay.outcome,
        replay.reached,
        limit,
        READ_BYTES,
    )
    return _part(rows, limit)


async def _dead(tx: Tx, replay: Replay, limit: int) -> _Part:
    rows = await tx.pg.fetch(
        f"""
        WITH kept AS MATERIALIZED (
            SELECT d.event_id AS delivery, 'dead' AS outcome, d.reason, NULL AS object, NULL AS cart,
                   d.partition, d.record_offset AS "offset", d.appended_at, d.event_id AS id, d.event_type AS type,
                   d.event_source AS source, d.tenant, d.event_key AS key, d.event_time AS "time", d.traceparent, d.data
            FROM dead_letters d
            WHERE d.state = 'dead' AND {_letter_by(replay)} AND ($7::text IS NULL OR d.event_id COLLATE "C" > $7)
            ORDER BY d.event_id COLLATE "C" LIMIT $8 FOR UPDATE
        )
        {_bounded(9)}
        """,
        *_filters(replay),
        replay.reached,
        limit,
        READ_BYTES,
    )
    return _part(rows, limit)


def _bounded(parameter: int) -> str:
    """Of the rows `kept` those before which there are not so many bytes, with how many they all are."""
    return f"""
        SELECT * FROM (
            SELECT *, count(*) OVER () AS chosen, coalesce(sum(octet_length(data)) OVER (
                ORDER BY delivery COLLATE "C" ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
            FROM kept
        ) k WHERE before < ${parameter} ORDER BY delivery COLLATE "C"
        """


def _part(rows: Sequence[Mapping[str, Any]], limit: int) -> _Part:
    kept = [
        Kept(row["delivery"], row["outcome"], row["reason"], row["object"], row["cart"], record_of(row)) for row in rows
    ]
    return _Part(kept, bool(rows) and (rows[0]["chosen"] == limit or len(rows) < rows[0]["chosen"]))


def _filters(replay: Replay) -> list[Any]:
    return [replay.tenant, replay.store, replay.topic, replay.since, replay.until, replay.delivery]

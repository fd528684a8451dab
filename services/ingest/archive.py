"""Where a delivery is to be found: looked at (`deliveries`), dead (`dead_letters`), or still pending in the journal.

The three are disjoint at any one moment, so all of it is read in one snapshot (`Database.reading`).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, get_args

from msgspec import Struct
from sqlalchemy import ColumnElement, RowMapping, Select, and_, func, literal_column, or_, select

from libs.common.contracts import codec
from libs.common.contracts.journal import Delivery, Removal, removal_of
from libs.common.contracts.topics import JOURNAL
from libs.common.db import Tx
from services.ingest.journal import SOURCE, origin_of
from services.ingest.tables import dead_letters, deliveries, log_journal, log_partitions, positions

CONSUMER = "normalise"
"""The consumer whose position parts the journal into what was looked at and what is pending."""

OutcomeName = Literal["pending", "observed", "parked", "dead", "ignored"]
OUTCOMES: tuple[OutcomeName, ...] = get_args(OutcomeName)
_DEAD_STATES = ("dead", "replay", "discarded")


class Found(Struct, frozen=True, kw_only=True):
    """One delivery and what became of it."""

    id: str
    store: str
    platform: str
    topic: str
    delivery_id: str
    received_at: datetime
    origin: str
    outcome: str
    reason: str | None = None
    object: str | None = None


class Wanted(Struct, frozen=True, kw_only=True):
    """Which deliveries."""

    tenant: str
    store: str | None = None
    topic: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    reason: str | None = None
    """Beginning of the reason."""
    object: str | None = None
    """As in `Found.object`."""
    before: str | None = None
    """Only ids lower than this one."""


async def newest(tx: Tx, wanted: Wanted, outcome: OutcomeName | None, limit: int) -> list[Found]:
    """Newest first (ids grow with arrival), at most `limit`."""
    found: list[Found] = []
    if outcome in {None, "pending"} and (pending := await _pending(tx, wanted)) is not None:
        found += [_journalled(row, "pending") for row in await _rows(tx, pending, log_journal.c.id, limit)]
    if outcome in {None, "dead"}:
        found += [_journalled(row, "dead") for row in await _rows(tx, _dead(wanted), dead_letters.c.event_id, limit)]
    if outcome not in {"pending", "dead"}:
        seen = _seen(wanted)
        if outcome is not None:
            seen = seen.where(deliveries.c.outcome == outcome)
        found += [_found(row) for row in await _rows(tx, seen, deliveries.c.id, limit)]
    return sorted(found, key=lambda one: one.id, reverse=True)[:limit]


async def one(tx: Tx, tenant: str, delivery: str) -> tuple[Found, Delivery | Removal] | None:
    """A delivery with what was sent, or why that cannot be read."""
    wanted = Wanted(tenant=tenant)
    row = await _first(tx, _seen(wanted).where(deliveries.c.id == delivery))
    if row is not None:
        place = and_(log_journal.c.partition == row["journal_partition"], log_journal.c.offset == row["journal_offset"])
        raw = await _first(tx, select(log_journal.c.data).where(place, log_journal.c.tenant == tenant))
        return _found(row), _sent(raw["data"]) if raw is not None else "retention"
    row = await _first(tx, _dead(wanted).where(dead_letters.c.event_id.collate("C") == delivery))
    if row is not None:
        return _journalled(row, "dead"), _sent(row["data"])
    pending = await _pending(tx, wanted)
    row = None if pending is None else await _first(tx, pending.where(log_journal.c.id == delivery))
    return None if row is None else (_journalled(row, "pending"), _sent(row["data"]))


async def sent(tx: Tx, tenant: str, ids: Sequence[str]) -> dict[str, Delivery | Removal]:
    """What was sent, by delivery; without those whose journal is past its retention."""
    wanted = Wanted(tenant=tenant)
    seen = (
        select(deliveries.c.id, log_journal.c.data)
        .join(
            log_journal,
            and_(
                log_journal.c.partition == deliveries.c.journal_partition,
                log_journal.c.offset == deliveries.c.journal_offset,
                log_journal.c.tenant == deliveries.c.tenant,
            ),
        )
        .where(deliveries.c.tenant == tenant, deliveries.c.id.in_(ids))
    )
    queries = [seen, _dead(wanted).where(dead_letters.c.event_id.in_(ids))]
    if (pending := await _pending(tx, wanted)) is not None:
        queries.append(pending.where(log_journal.c.id.in_(ids)))
    return {
        row["id"]: _sent(row["data"]) for query in queries for row in (await tx.sql.execute(query)).mappings().all()
    }


async def dead_and_pending(tx: Tx, tenant: str, store: str | None) -> dict[str, int]:
    """How many lie there."""
    wanted = Wanted(tenant=tenant, store=store)
    counts = {}
    for name, query in (("dead", _dead(wanted)), ("pending", await _pending(tx, wanted))):
        if query is not None:
            counts[name] = int(await tx.sql.scalar(query.with_only_columns(func.count())) or 0)
    return counts


def _seen(wanted: Wanted) -> Select[Any]:
    d = deliveries.c
    query = select(deliveries).where(d.tenant == wanted.tenant, *_received(wanted, d.received_at))
    for column, value in ((d.store, wanted.store), (d.topic, wanted.topic), (d.object, wanted.object)):
        if value is not None:
            query = query.where(column == value)
    if wanted.reason is not None:
        query = query.where(func.starts_with(d.reason, wanted.reason))
    return query if wanted.before is None else query.where(d.id < wanted.before)


def _dead(wanted: Wanted) -> Select[Any]:
    d = dead_letters.c
    query = select(d.event_id.label("id"), d.event_source.label("source"), d.event_time.label("time"), d.data, d.reason)
    return query.where(
        d.tenant == wanted.tenant,
        d.consumer == CONSUMER,
        d.state.in_(_DEAD_STATES),
        *_filters(wanted, d.event_id, d.event_source, d.event_key),
        *_received(wanted, d.event_time),
        *([] if wanted.reason is None else [func.starts_with(d.reason, wanted.reason)]),
    )


async def _pending(tx: Tx, wanted: Wanted) -> Select[Any] | None:
    """None when there is nothing: asking the whole journal for it would take long."""
    if wanted.reason is not None:
        return None
    j = log_journal.c
    unread = [
        and_(j.partition == partition, j.offset >= first, j.offset < end)
        for partition, first, end in await tx.sql.execute(_UNREAD)
    ]
    if not unread:
        return None
    query = select(j.id, j.source, j.time, j.data, literal_column("NULL").label("reason"))
    return query.where(
        or_(*unread),
        j.tenant == wanted.tenant,
        *_filters(wanted, j.id, j.source, j.key),
        *_received(wanted, j.time),
    )


_FIRST = func.coalesce(positions.c.next_offset, 0)
_UNREAD = (
    select(log_partitions.c.partition, _FIRST, log_partitions.c.next_offset)
    .select_from(
        log_partitions.outerjoin(
            positions,
            and_(
                positions.c.consumer == CONSUMER,
                positions.c.topic == log_partitions.c.topic,
                positions.c.partition == log_partitions.c.partition,
            ),
        )
    )
    .where(log_partitions.c.topic == JOURNAL.name, log_partitions.c.next_offset > _FIRST)
)
"""Of each partition that is not read to its end: where the pending deliveries begin and end."""


def _received(wanted: Wanted, time: ColumnElement[datetime]) -> list[ColumnElement[bool]]:
    since = [] if wanted.since is None else [time >= wanted.since]
    return since if wanted.until is None else [*since, time < wanted.until]


def _filters(
    wanted: Wanted, id_: ColumnElement[str], source: ColumnElement[str], key: ColumnElement[str]
) -> list[ColumnElement[bool]]:
    filters = []
    platform, store = func.split_part(source, "/", 3), func.split_part(source, "/", 4)
    if wanted.store is not None:
        filters.append(store == wanted.store)
    if wanted.topic is not None:
        filters.append(source == func.concat(SOURCE, "/", platform, "/", store, "/", wanted.topic))
    if wanted.object is not None:
        # What has not been read is known by its root object alone: the key, behind its store.
        filters.append(func.substr(key, func.strpos(key, ":") + 1) == wanted.object)
    if wanted.before is not None:
        filters.append(id_.collate("C") < wanted.before)
    return filters


async def _rows(tx: Tx, query: Select[Any], newest_by: ColumnElement[Any], limit: int) -> list[RowMapping]:
    # Ids are hexadecimal text in the log: the order of their bytes is the order of time.
    order = newest_by if newest_by is deliveries.c.id else newest_by.collate("C")
    return list((await tx.sql.execute(query.order_by(order.desc()).limit(limit))).mappings())


async def _first(tx: Tx, query: Select[Any]) -> RowMapping | None:
    row: RowMapping | None = (await tx.sql.execute(query.limit(1))).mappings().first()
    return row


def _found(row: RowMapping) -> Found:
    return Found(**{name: row[name] for name in Found.__struct_fields__})


def _journalled(row: RowMapping, outcome: OutcomeName) -> Found:
    platform, store, topic = origin_of(row["source"])
    sent = _sent(row["data"])
    known = sent if isinstance(sent, Delivery) else None
    return Found(
        id=row["id"],
        store=store,
        platform=platform,
        topic=topic,
        delivery_id=known.delivery_id if known else "",
        received_at=row["time"],
        origin=known.origin if known else "live",
        outcome=outcome,
        reason=row["reason"],
    )


def _sent(data: bytes) -> Delivery | Removal:
    delivery: Delivery | Removal = removal_of(data) or codec.decode(JOURNAL.name, "delivery.received", data)
    return delivery

"""All SQL of privacy requests: what was asked for, how far it has come, and the deliveries that it is about."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import Struct

from libs.common.contracts import codec
from libs.common.contracts.commerce import Identifiers, PrivacyRequested
from libs.common.contracts.journal import Delivery, readable
from libs.common.contracts.topics import JOURNAL
from libs.common.contracts.types import PrivacyKind
from libs.common.db import Tx
from services.ingest.archive import CONSUMER
from services.ingest.learning import Learning
from services.ingest.statements import Told, asked_for, told
from services.ingest.subjects import Subject

State = Literal["waiting", "running", "done"]
STEP_BYTES = 8 * 1024 * 1024
"""Of bodies, compressed, that are looked at in one step: some may have some MB."""
SERVICE = "ingest"


class Receipt(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What has come of a request in one service. Counts are of deliveries, in the step or turn that is under way."""

    state: State = "waiting"
    looked_at: int = 0
    found: int = 0
    """Of them: the person's. Of a redaction they are unreadable by now."""
    at: datetime | None = None
    """When it was done."""


class Request(Struct, frozen=True, kw_only=True):
    """A privacy request. It is about what was received until `received_at`."""

    tenant: str
    id: str
    store: str
    kind: PrivacyKind
    who: Identifiers
    orders: list[str]
    received_at: datetime
    due_at: datetime
    asked_by: str
    """Id of the API key; of a webhook its platform."""
    taken_at: datetime | None = None
    """By the database's clock."""
    state: State = "waiting"
    step: Literal["look", "act"] = "look"
    """First who he is, in turns, then what was asked for."""
    reached: str | None = None
    """Id of the last delivery of the step that was looked at; of the first step, of its turn."""
    roots: list[str] = []
    """Objects that are the person's."""
    names: list[str] = []
    """What he is known by beside what `who` says, as `services.ingest.statements` has them."""
    learning: Learning | None = None
    """How far the first step has come."""
    marks: list[bytes] = []
    """What redactions before it left of him (`services.ingest.marks`); and this one, once it is done."""
    receipts: dict[str, Receipt] = {}
    """By service."""

    @property
    def subject(self) -> Subject:
        """Him, as far as he is known."""
        return Subject(asked_for(self.who).union(self.names), self.roots)

    @property
    def receipt(self) -> Receipt:
        """Ingest's own."""
        return self.receipts.get(SERVICE, Receipt())


class Held(NamedTuple):
    """A delivery of the store, at its place in the journal."""

    id: str
    partition: int
    offset: int
    key: str | None
    """As the journal has it; None: its record is gone."""
    source: str | None
    data: bytes | None
    """None: it is past its retention, or was made unreadable."""

    @property
    def told(self) -> Told | None:
        """What was sent, read."""
        if self.data is None:
            return None
        sent: Delivery = codec.decode(JOURNAL.name, "delivery.received", self.data)
        return told(sent, (self.key or "").removeprefix(f"{sent.store}:"))


_COLUMNS = """tenant, id::text, store, kind, subject, received_at, due_at, asked_by, taken_at, state, step,
    reached::text, roots, names, learning, marks, receipts"""
_OPEN = "r.state <> 'done'"


async def take(tx: Tx, requests: Sequence[Request]) -> None:
    """Leaves them for a worker; those that came before are as they were."""
    ordered = sorted({(each.tenant, each.id): each for each in requests}.items())
    for _, each in ordered:
        await tx.pg.execute(
            """
            INSERT INTO privacy_requests (tenant, id, store, kind, subject, received_at, due_at, asked_by, step, roots)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (tenant, id) DO NOTHING
            """,
            each.tenant,
            each.id,
            each.store,
            each.kind,
            json.dumps(msgspec.to_builtins(each.who) | {"orders": each.orders}),
            each.received_at,
            each.due_at,
            each.asked_by,
            # All of a store needs no looking for.
            "act" if each.kind == "redact_store" else "look",
            [f"order:{order}" for order in each.orders],
        )


def of_observed(observed: PrivacyRequested, tenant: str, asked_by: str) -> Request:
    """The request that an event tells of."""
    return Request(
        tenant=tenant,
        id=observed.source_id,
        store=observed.store,
        kind=observed.kind,
        who=observed.identifiers,
        orders=observed.orders,
        received_at=observed.updated_at,
        due_at=observed.due_at,
        asked_by=asked_by,
    )


async def one(tx: Tx, tenant: str, id_: str) -> Request | None:
    """A request of the tenant."""
    row = await tx.pg.fetchrow(f"SELECT {_COLUMNS} FROM privacy_requests WHERE tenant = $1 AND id = $2", tenant, id_)
    return _request(row) if row else None


async def newest(
    tx: Tx,
    tenant: str,
    *,
    limit: int,
    store: str | None = None,
    kind: PrivacyKind | None = None,
    state: State | None = None,
    before: tuple[datetime, str] | None = None,
) -> list[Request]:
    """Newest first, from behind `(received_at, id)`."""
    rows = await tx.pg.fetch(
        f"""
        SELECT {_COLUMNS} FROM privacy_requests r
        WHERE tenant = $1 AND ($2::text IS NULL OR store = $2) AND ($3::text IS NULL OR kind = $3)
            AND ($4::text IS NULL OR state = $4) AND ($5::timestamptz IS NULL OR (received_at, id) < ($5, $6::uuid))
        ORDER BY received_at DESC, r.id DESC LIMIT $7
        """,
        tenant,
        store,
        kind,
        state,
        *(before or (None, None)),
        limit,
    )
    return [_request(row) for row in rows]


async def open_count(tx: Tx) -> int:
    """How many of all tenants are not at their end."""
    return int(await tx.pg.fetchval(f"SELECT count(*) FROM privacy_requests r WHERE {_OPEN}"))


async def longest_wait(tx: Tx) -> timedelta:
    """For how long the oldest of all tenants has not been at its end; zero when all are."""
    waited: timedelta | None = await tx.pg.fetchval(
        f"SELECT clock_timestamp() - min(taken_at) FROM privacy_requests r WHERE {_OPEN}"
    )
    return waited or timedelta(0)


async def claim(tx: Tx, *, after: str) -> Request | None:
    """Of the next tenant by name, after this one, what has waited longest for its next step.

    It is locked until the end of the transaction. Those of one store one after the other, as they came: what somebody
    asked for is not to be gone when it is looked for.
    """
    row = await tx.pg.fetchrow(
        f"""
        SELECT {_COLUMNS} FROM privacy_requests r WHERE {_OPEN} AND NOT EXISTS (
            SELECT FROM privacy_requests o WHERE o.tenant = r.tenant AND o.store = r.store AND o.state <> 'done'
                AND (o.received_at, o.id) < (r.received_at, r.id)
        )
        ORDER BY r.tenant <= $1, r.tenant, worked_at, r.id LIMIT 1 FOR UPDATE SKIP LOCKED
        """,
        after,
    )
    return _request(row) if row else None


async def save(tx: Tx, request: Request) -> None:
    """How far it has come."""
    await tx.pg.execute(
        """
        UPDATE privacy_requests
        SET state = $3, worked_at = clock_timestamp(), step = $4, reached = $5, roots = $6, names = $7, learning = $8,
            receipts = $9, marks = $10
        WHERE tenant = $1 AND id = $2
        """,
        request.tenant,
        request.id,
        request.state,
        request.step,
        request.reached,
        request.roots,
        request.names,
        msgspec.json.encode(request.learning).decode(),
        msgspec.json.encode(request.receipts).decode(),
        request.marks,
    )


async def earlier(tx: Tx, request: Request, marks: Collection[bytes]) -> tuple[set[str], set[bytes]]:
    """Roots and marks of the redactions of its store that are done and left one of these, or one that such a one left.

    All of them are about one person, as far as anybody knows.
    """
    met: set[bytes] = set()
    while True:
        rows = await tx.pg.fetch(
            """
            SELECT roots, marks FROM privacy_requests
            WHERE tenant = $1 AND store = $2 AND state = 'done' AND kind = 'redact' AND marks <> '{}' AND marks && $3
            """,
            request.tenant,
            request.store,
            [*met.union(marks)],
        )
        found = {mark for row in rows for mark in row["marks"]}
        if found <= met:
            return {root for row in rows for root in row["roots"]}, met
        met |= found


async def put_back(tx: Tx, request: Request) -> None:
    """Behind all others that are open."""
    await tx.pg.execute(
        "UPDATE privacy_requests SET worked_at = clock_timestamp() WHERE tenant = $1 AND id = $2",
        request.tenant,
        request.id,
    )


# Deliveries ----------------------------------------------------------------------------------------------------------


async def following(tx: Tx, request: Request, limit: int) -> tuple[list[Held], bool]:
    """The next deliveries of its store by id, at most `limit`, and whether these are the last."""
    rows = await tx.pg.fetch(_FOLLOWING, *_place(request), request.reached, limit, STEP_BYTES)
    held = [Held(*(row[name] for name in Held._fields)) for row in rows]
    return held, not rows or (rows[0]["chosen"] < limit and len(rows) == rows[0]["chosen"])


def persons(request: Request, held: Sequence[Held]) -> list[Held]:
    """Those that it is about and that can still be read."""
    left = [each for each in held if each.data is not None]
    if request.kind == "redact_store":
        return left
    subject = request.subject
    return [each for each in left if (sent := each.told) is not None and subject.is_in(sent)]


# $1 tenant, $2 store, $3 until, $4 reached, $5 limit, $6 bytes. A delivery that was dead once may lie in two places.
_FOLLOWING = f"""
    WITH chosen AS MATERIALIZED (
        SELECT id, partition, "offset" FROM (
            (
                SELECT d.id, d.journal_partition AS partition, d.journal_offset AS "offset" FROM deliveries d
                WHERE d.tenant = $1 AND d.store = $2 AND d.received_at <= $3 AND ($4::uuid IS NULL OR d.id > $4)
                ORDER BY d.id LIMIT $5
            ) UNION (
                SELECT l.event_id::uuid, l.partition, l.record_offset FROM dead_letters l
                WHERE l.tenant = $1 AND l.consumer = '{CONSUMER}' AND split_part(l.event_source, '/', 4) = $2
                    AND l.event_time <= $3 AND ($4::uuid IS NULL OR l.event_id COLLATE "C" > $4::uuid::text)
                ORDER BY l.event_id COLLATE "C" LIMIT $5
            )
        ) u ORDER BY id LIMIT $5
    ), held AS (
        SELECT c.id, c.partition, c."offset", coalesce(j.key, l.event_key) AS key,
            coalesce(j.source, l.event_source) AS source, count(*) OVER () AS chosen,
            CASE WHEN {readable("j.data")} THEN j.data WHEN {readable("l.data")} THEN l.data END AS data
        FROM chosen c
        LEFT JOIN log_journal j ON j.partition = c.partition AND j."offset" = c."offset" AND j.tenant = $1
        LEFT JOIN dead_letters l ON l.consumer = '{CONSUMER}' AND l.topic = '{JOURNAL.name}' AND l.tenant = $1
            AND l.partition = c.partition AND l.record_offset = c."offset"
    )
    SELECT id::text, partition, "offset", key, source, chosen, data FROM (
        SELECT *, coalesce(sum(octet_length(data))
            OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
        FROM held
    ) h WHERE before < $6 ORDER BY h.id
    """


def _place(request: Request) -> tuple[str, str, datetime]:
    return request.tenant, request.store, request.received_at


def _request(row: Mapping[str, Any]) -> Request:
    kept = dict(row)
    subject = kept.pop("subject")
    orders = subject.pop("orders", [])
    receipts = msgspec.convert(kept.pop("receipts"), dict[str, Receipt])
    learning = msgspec.convert(kept.pop("learning"), Learning | None)
    who = msgspec.convert(subject, Identifiers)
    return Request(who=who, orders=orders, receipts=receipts, learning=learning, **kept)

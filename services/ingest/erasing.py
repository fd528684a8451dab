"""All SQL of what a redaction takes away: bodies, what things are called by a person's name, and who asked.

Where an e-mail or a phone is what an order, a customer or a delivery is called, a pseudonym takes its place: the same
for the same, so that what was told of an object still is. A partition is chosen when a record is appended, and a
delivery that comes again is known by its digest: neither asks what it is called by now.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from msgspec.structs import replace

from libs.common.contracts.journal import readable, removed
from libs.common.contracts.topics import JOURNAL
from libs.common.db import Tx
from services.ingest.archive import CONSUMER
from services.ingest.journal import SOURCE, origin_of
from services.ingest.marks import Marks
from services.ingest.privacy import Held, Request
from services.ingest.statements import asked_for, kind, value

CACHED = 4096
"""Names of one step: of each delivery a few."""
_LETTER = f"""l.consumer = '{CONSUMER}' AND l.topic = '{JOURNAL.name}' AND l.partition = u.partition
            AND l.record_offset = u."offset" AND l.tenant = $1"""
_COLUMNS = ("object", "delivery_id", "topic", "cart")


async def remove(tx: Tx, tenant: str, held: Sequence[Held]) -> None:
    """Leaves the digests of these deliveries, wherever they lie."""
    places = [each.partition for each in held], [each.offset for each in held]
    await tx.pg.execute(
        f"""
        UPDATE log_journal j SET data = {removed("j.data", "redacted")}
        FROM unnest($2::int[], $3::bigint[]) AS u(partition, "offset")
        WHERE j.partition = u.partition AND j."offset" = u."offset" AND j.tenant = $1 AND {readable("j.data")}
        """,
        tenant,
        *places,
    )
    await tx.pg.execute(
        f"""
        UPDATE dead_letters l SET data = {removed("l.data", "redacted")}, traceback = NULL,
            -- What a fault of ours says may quote what it met.
            reason = CASE WHEN l.traceback IS NULL THEN l.reason ELSE split_part(l.reason, ':', 1) END
        FROM unnest($2::int[], $3::bigint[]) AS u(partition, "offset")
        WHERE {_LETTER} AND {readable("l.data")}
        """,
        tenant,
        *places,
    )


async def rename(tx: Tx, request: Request, held: Sequence[Held], marks: Marks) -> None:
    """Puts pseudonyms in place of what these deliveries, readable or not, are called by the person's name."""
    called = _Called(request, marks)
    records = [
        (each.partition, each.offset, key, source)
        for each in held
        if each.key is not None and each.source is not None
        for key, source in [(called.key(each.key), called.source(each.source))]
        if (key, source) != (each.key, each.source)
    ]
    if records:
        columns = [[*column] for column in zip(*records, strict=True)]
        given = 'unnest($2::int[], $3::bigint[], $4::text[], $5::text[]) AS u(partition, "offset", key, source)'
        await tx.pg.execute(
            f"""
            UPDATE log_journal j SET key = u.key, source = u.source FROM {given}
            WHERE j.partition = u.partition AND j."offset" = u."offset" AND j.tenant = $1
            """,
            request.tenant,
            *columns,
        )
        await tx.pg.execute(
            f"UPDATE dead_letters l SET event_key = u.key, event_source = u.source FROM {given} WHERE {_LETTER}",
            request.tenant,
            *columns,
        )
    found = await tx.pg.fetch(
        f"SELECT id, {', '.join(_COLUMNS)} FROM deliveries WHERE tenant = $1 AND id = ANY($2::uuid[])",
        request.tenant,
        [each.id for each in held],
    )
    before = [tuple(row) for row in found]
    rows = [row for row in before if (row[0], *map(called.name, row[1:])) != row]
    if rows:
        await tx.pg.execute(
            f"""
            UPDATE deliveries d SET {", ".join(f"{name} = u.{name}" for name in _COLUMNS)}
            FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[]) AS u(id, {", ".join(_COLUMNS)})
            WHERE d.tenant = $1 AND d.id = u.id
            """,
            request.tenant,
            [row[0] for row in rows],
            *([*map(called.name, column)] for column in list(zip(*rows, strict=True))[1:]),
        )


async def forget(tx: Tx, request: Request, marks: Marks) -> Request:
    """Takes who he is out of it, and out of requests about the same person before it. What is left of it."""
    called = _Called(request, marks)
    known = asked_for(request.who).union(request.names)
    # A phone that was learned may be of several, in other requests.
    names = {name for name in known if kind(name) != "phone"}
    rows = await tx.pg.fetch(
        """
        SELECT id, subject, roots FROM privacy_requests
        WHERE tenant = $1 AND store = $2 AND (id = $3 OR (received_at <= $4 AND (
            $5 = 'redact_store' OR subject->>'customer_id' = ANY($6) OR lower(btrim(subject->>'email')) = ANY($7)
            OR subject->>'phone' = $8 OR names && $9)))
        ORDER BY id FOR UPDATE
        """,
        request.tenant,
        request.store,
        request.id,
        request.received_at,
        request.kind,
        [value(name) for name in names if kind(name) == "customer"],
        [value(name) for name in names if kind(name) == "email"],
        request.who.phone,
        sorted(names),
    )
    await tx.pg.executemany(
        "UPDATE privacy_requests SET subject = $3, roots = $4, names = '{}' WHERE tenant = $1 AND id = $2",
        [
            (request.tenant, row["id"], json.dumps(called.subject(row["subject"])), called.not_by_him(row["roots"]))
            for row in rows
        ],
    )
    roots = called.not_by_him(request.roots)
    left = marks.left({*known, *set(request.roots).difference(roots)}, request.marks)
    return replace(request, names=[], roots=roots, marks=left)


class _Called:
    """What things are called once nobody is to know the person by it."""

    def __init__(self, request: Request, marks: Marks) -> None:
        self._whole = request.kind == "redact_store"
        self._store = f"{request.store}:"
        self._subject = request.subject
        self._marks = marks
        # Keys and objects are called the same, and topics again and again.
        self._is_his = lru_cache(CACHED)(self._says_who)

    def _says_who(self, name: str) -> bool:
        return "@" in name or "%40" in name if self._whole else self._subject.is_called(name)

    def name(self, name: str | None) -> str | None:
        """Of an object, a topic, a delivery."""
        return self._marks.pseudonym(name) if name and self._is_his(name) else name

    def key(self, key: str) -> str:
        """Of a record: the root object behind its store."""
        return f"{self._store}{self.name(key.removeprefix(self._store))}"

    def source(self, source: str) -> str:
        """Of a record: the topic is its end."""
        platform, store, topic = origin_of(source)
        return f"{SOURCE}/{platform}/{store}/{self.name(topic)}"

    def not_by_him(self, roots: Sequence[str]) -> list[str]:
        """Those that say nothing of who he is."""
        return [root for root in roots if not self._is_his(root)]

    def subject(self, subject: Mapping[str, Any]) -> dict[str, Any]:
        """Of a request, as it is kept."""
        number = subject.get("customer_id")
        gone = {"email", "phone", *(["customer_id"] if number and self._is_his(number) else [])}
        left = {name: each for name, each in subject.items() if name not in gone}
        return left | {"orders": [self.name(order) for order in subject.get("orders", [])]}

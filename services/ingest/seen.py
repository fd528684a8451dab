"""All SQL of what was seen already: what deliveries told of each object last, of each topic, and when any came."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import asyncpg

from libs.common.contracts.journal import removal_of
from libs.common.contracts.topics import JOURNAL
from libs.common.db import Tx
from libs.common.log.base import Record
from libs.common.log.schema import mine
from services.ingest.silence import HISTORY


class Topic(NamedTuple):
    """What has come of one topic of a store."""

    topic: str
    last_at: datetime | None
    """By itself: we fetched none of these."""
    deliveries: int
    """The same."""
    backfilled: int
    reconciled: int
    longest_delay_seconds: float | None


class Arrival(NamedTuple):
    """Where a minute is noted in which something came. The order is that of the key."""

    tenant: str
    store: str
    hour: datetime
    partition: int
    """Of the journal."""
    platform: str
    """That it came from: what a Shopify store's own site tells by the API says nothing of its webhooks."""


class Heard(NamedTuple):
    """A store, and when anything came of it."""

    tenant: str
    store: str
    zone: str
    hours: dict[datetime, int]
    """As `silence` takes them."""


class Cart(NamedTuple):
    """That a checkout was made of."""

    tenant: str
    store: str
    token: str


class Fetched(NamedTuple):
    """What was fetched by a cart."""

    record: Record | None
    """The latest; None when its body is not kept any more."""
    stood_in: bool
    """Some stood under the cart's own token up to now."""


class Known(NamedTuple):
    """What we were last told of an object."""

    root: str
    delivery: str
    """That told it."""
    dated: datetime
    heard_at: datetime
    gone: bool
    ours: bool
    """It was no webhook that told it: a comparison with the platform found it."""


# The latest version as everybody orders them: by the source's date, then by the place in the journal.
_LAST = """
    object AS root, id::text AS delivery, coalesce(dated, received_at) AS dated, received_at AS heard_at,
    topic LIKE '%.deleted' OR topic LIKE '%/delete' AS gone, origin = 'reconciled' AS ours
"""
# Who heard of a part of an object alone, as of a refund, may have missed the order that it made.
_WHOLE = """
    {0}.outcome = 'observed' AND {0}.topic NOT IN ('refunds/create', 'customers_email_marketing_consent/update',
        'customers_marketing_consent/update')
"""
_LATEST_FIRST = "coalesce(dated, received_at) DESC, journal_offset DESC"


RECORD = ("partition", "offset", "appended_at", "id", "type", "source", "tenant", "key", "time", "traceparent", "data")
"""Columns of the journal."""


async def last(tx: Tx, tenant: str, store: str, roots: Sequence[str]) -> dict[str, Known]:
    """By root, those of which anything is known."""
    rows = await tx.pg.fetch(
        f"""
        SELECT d.* FROM unnest($3::text[]) AS u(root) CROSS JOIN LATERAL (
            SELECT {_LAST} FROM deliveries
            WHERE tenant = $1 AND store = $2 AND object = u.root AND {_WHOLE.format("deliveries")}
            ORDER BY {_LATEST_FIRST} LIMIT 1
        ) d
        """,
        tenant,
        store,
        list(dict.fromkeys(roots)),
    )
    return {row["root"]: Known(**dict(row)) for row in rows}


async def known(tx: Tx, tenant: str, store: str, *, after: str | None, limit: int) -> list[Known]:
    """Orders, customers and products, by root."""
    rows = await tx.pg.fetch(
        f"""
        SELECT DISTINCT ON (object) {_LAST} FROM deliveries
        WHERE tenant = $1 AND store = $2 AND {_WHOLE.format("deliveries")} AND object > $3
            AND split_part(object, ':', 1) IN ('order', 'customer', 'product')
        ORDER BY object, {_LATEST_FIRST} LIMIT $4
        """,
        tenant,
        store,
        after or "",
        limit,
    )
    return [Known(**dict(row)) for row in rows]


async def hold(tx: Tx, *, alone: AbstractSet[tuple[str, str]], together: AbstractSet[tuple[str, str]]) -> None:
    """Waits for whoever holds one of these stores (tenant, key), and holds them: `alone`, or `together` with others."""
    stores = sorted(alone | together)
    await tx.pg.execute(
        """
        SELECT CASE WHEN alone THEN pg_advisory_xact_lock(lock) ELSE pg_advisory_xact_lock_shared(lock) END
        FROM (
            SELECT hashtextextended(key, 0) AS lock, bool_or(alone) AS alone
            FROM unnest($1::text[], $2::bool[]) AS u(key, alone) GROUP BY lock ORDER BY lock
        ) locks
        """,
        [f"checkouts/{tenant}/{store}" for tenant, store in stores],
        [each in alone for each in stores],
    )


async def tokens(tx: Tx, carts: Iterable[Cart]) -> dict[Cart, set[str]]:
    """By cart, the tokens of all checkouts that webhooks told to be made of it; carts that have none are left out."""
    wanted = list(dict.fromkeys(carts))
    if not wanted:
        return {}
    rows = await tx.pg.fetch(
        """
        SELECT DISTINCT u.*, d.object FROM unnest($1::text[], $2::text[], $3::text[]) AS u(tenant, store, cart)
        JOIN deliveries d ON d.tenant = u.tenant AND d.store = u.store AND d.cart = u.cart
        -- What we fetch is a delivery of our own.
        WHERE d.object LIKE 'checkout:%' AND d.object <> 'checkout:' || u.cart AND d.delivery_id <> d.id::text
        """,
        *(list(column) for column in zip(*wanted, strict=True)),
    )
    found: dict[Cart, set[str]] = {}
    for row in rows:
        found.setdefault(Cart(row["tenant"], row["store"], row["cart"]), set()).add(row["object"].partition(":")[2])
    return found


async def rename(tx: Tx, names: Mapping[Cart, tuple[str, bool]]) -> dict[Cart, Fetched]:
    """Files the checkouts that were fetched by these carts under these tokens: of a cart the least that is known.

    Of the carts whose checkouts stood under their carts' tokens, and of those for which it is asked by True, what was
    fetched; carts of which nothing was are left out.
    """
    if not names:
        return {}
    rows = await tx.pg.fetch(
        f"""
        WITH fetched AS MATERIALIZED (
            SELECT u.token, u.asked, d.tenant, d.id, d.store, d.cart, d.object, d.dated, d.received_at,
                   d.journal_partition, d.journal_offset
            FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bool[])
                AS u(tenant, store, cart, token, asked)
            JOIN deliveries d ON d.tenant = u.tenant AND d.store = u.store AND d.cart = u.cart
            WHERE d.delivery_id = d.id::text AND d.object LIKE 'checkout:%'
                AND (u.asked OR d.object <> 'checkout:' || u.token)
            ORDER BY d.tenant, d.id FOR UPDATE OF d
        ), renamed AS (
            -- The least of them all: others may name one meanwhile that was not known here.
            UPDATE deliveries d SET object = 'checkout:' || f.token FROM fetched f
            WHERE d.tenant = f.tenant AND d.id = f.id
                AND (f.object = 'checkout:' || f.cart OR f.object > 'checkout:' || f.token COLLATE "C")
        ), latest AS (
            SELECT DISTINCT ON (tenant, store, cart) *,
                   bool_or(object = 'checkout:' || cart) OVER (PARTITION BY tenant, store, cart) AS stood_in
            FROM fetched ORDER BY tenant, store, cart, {_LATEST_FIRST}
        )
        SELECT l.store, l.cart, l.tenant AS owner, l.stood_in, {", ".join(f'j."{name}"' for name in RECORD)}
        FROM latest l
        LEFT JOIN log_journal j ON j.partition = l.journal_partition AND j."offset" = l.journal_offset
        WHERE l.asked OR l.stood_in
        """,
        *(list(column) for column in zip(*((*cart, *asked) for cart, asked in names.items()), strict=True)),
    )
    return {Cart(row["owner"], row["store"], row["cart"]): Fetched(record_of(row), row["stood_in"]) for row in rows}


def record_of(row: Mapping[str, Any]) -> Record | None:
    """A record of the journal; None when it is not there, or its body was removed."""
    if row["id"] is None or removal_of(row["data"]):
        return None
    return Record(topic=JOURNAL.name, **{name: row[name] for name in RECORD})


async def topics(tx: Tx, tenant: str, store: str, *, now: datetime, span: timedelta) -> list[Topic]:
    """What has come of each topic in so long a time."""
    rows = await tx.pg.fetch(
        """
        SELECT topic, max(received_at) FILTER (WHERE origin NOT IN ('backfill', 'reconciled')) AS last_at,
               count(*) FILTER (WHERE origin NOT IN ('backfill', 'reconciled')) AS deliveries,
               count(*) FILTER (WHERE origin = 'backfill') AS backfilled,
               count(*) FILTER (WHERE origin = 'reconciled') AS reconciled,
               extract(epoch FROM max(received_at - dated) FILTER (WHERE origin = 'reconciled'))::float8
                   AS longest_delay_seconds
        FROM deliveries WHERE tenant = $1 AND store = $2 AND received_at >= $3 AND id >= (
            -- Ids begin with the milliseconds of their making, by the real clock: all before need not be looked at.
            lpad(to_hex((extract(epoch FROM least($3, clock_timestamp() - $4::interval)) * 1000)::bigint), 12, '0')
                || '70008000000000000000'
        )::uuid
        GROUP BY topic ORDER BY topic
        """,
        tenant,
        store,
        now - span,
        span,
    )
    return [Topic(**dict(row)) for row in rows]


async def note_arrivals(tx: Tx, minutes: Mapping[Arrival, int]) -> None:
    """Bit n for minute n of each hour; those noted before stay."""
    if not minutes:
        return
    noted = sorted(minutes.items())
    await tx.pg.execute(
        """
        INSERT INTO arrivals AS a (tenant, store, hour, journal_partition, minutes)
        SELECT u.tenant, u.store, u.hour, u.journal_partition, bit_or(u.minutes)
        FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::int[], $5::text[], $6::bigint[])
            AS u(tenant, store, hour, journal_partition, platform, minutes)
        JOIN stores s ON s.tenant = u.tenant AND s.key = u.store
        WHERE s.platform IN (u.platform, 'events')
        GROUP BY u.tenant, u.store, u.hour, u.journal_partition ORDER BY 1, 2, 3, 4
        ON CONFLICT (tenant, store, hour, journal_partition) DO UPDATE SET minutes = a.minutes | excluded.minutes
        WHERE a.minutes <> a.minutes | excluded.minutes
        """,
        *(list(column) for column in zip(*(place for place, _ in noted), strict=True)),
        [bits for _, bits in noted],
    )


async def heard(tx: Tx, tenant: str, store: str) -> Heard:
    """When anything came of a store."""
    [found] = await _heard(tx, "s.tenant = $1 AND s.key = $2", tenant, store)
    return found


async def not_heard_since(tx: Tx, moment: datetime) -> list[Heard]:
    """The stores of all tenants, neither paused nor deleted, of which nothing came in that minute or after it."""
    return await _heard(
        tx,
        """
        s.deleted_at IS NULL AND (s.paused_at IS NULL OR s.resumed_at IS NOT NULL) AND NOT EXISTS (
            SELECT FROM arrivals l WHERE l.tenant = s.tenant AND l.store = s.key
                AND l.hour >= date_trunc('hour', $1::timestamptz, 'UTC')
                AND (l.hour > $1::timestamptz OR l.minutes >> extract(minute FROM $1::timestamptz)::int <> 0))
        """,
        moment,
    )


async def _heard(tx: Tx, which: str, *parameters: object) -> list[Heard]:
    rows = await tx.pg.fetch(
        f"""
        SELECT s.tenant, s.key, s.timezone, a.hour, bit_or(a.minutes) AS minutes
        FROM stores s LEFT JOIN arrivals a ON a.tenant = s.tenant AND a.store = s.key
        WHERE {which} GROUP BY s.tenant, s.key, a.hour ORDER BY s.tenant, s.key
        """,
        *parameters,
    )
    found: dict[tuple[str, str], Heard] = {}
    for tenant, store, zone, hour, minutes in rows:
        one = found.setdefault((tenant, store), Heard(tenant, store, zone, {}))
        if hour is not None:
            one.hours[hour] = minutes
    return [*found.values()]


async def prune_arrivals(tx: Tx) -> None:
    """Drops what lies too far before the last that came of its store."""
    await tx.pg.execute(
        """
        DELETE FROM arrivals a USING (
            SELECT s.tenant, s.key, n.hour FROM stores s CROSS JOIN LATERAL (
                SELECT hour FROM arrivals WHERE tenant = s.tenant AND store = s.key ORDER BY hour DESC LIMIT 1) n
        ) k WHERE a.tenant = k.tenant AND a.store = k.key AND a.hour < k.hour - $1::interval
        """,
        HISTORY,
    )


_OLDEST = """
    SELECT min(j.appended_at) FROM log_partitions l
    LEFT JOIN positions p ON p.consumer = 'normalise' AND p.topic = l.topic AND p.partition = l.partition
    JOIN log_journal j ON j.partition = l.partition AND j."offset" = coalesce(p.next_offset, 0)
    WHERE l.topic = 'journal' AND l.next_offset > coalesce(p.next_offset, 0)"""


async def oldest_unread(tx: Tx) -> datetime | None:
    """When the oldest delivery was appended that the normaliser has not come to; None when it is through."""
    at: datetime | None = await tx.pg.fetchval(_OLDEST)
    return at


async def lag(tx: Tx) -> timedelta:
    """For how long it has waited; zero when the normaliser is through."""
    waited: timedelta | None = await tx.pg.fetchval(f"SELECT clock_timestamp() - ({_OLDEST})")
    return waited or timedelta(0)


FORGOTTEN_BLOCKS = 128
"""Of the journal's table whose deliveries go in one statement (1 MiB)."""


async def forget(pg: "asyncpg.Connection[Any]", table: str) -> bool:
    """Deletes the deliveries whose records lie in this table of the journal, but the last of each object.

    `last` and `known` go on to tell what they told. How many there were of each outcome is kept elsewhere, and stays.
    False when another worker is at it.
    """
    blocks: int | None = await pg.fetchval(
        "SELECT pg_relation_size($1::text::regclass) / current_setting('block_size')::int", table
    )
    # None: another worker has dropped it at this moment.
    for first in range(0, blocks or 0, FORGOTTEN_BLOCKS):
        async with pg.transaction():
            if not await mine(pg, JOURNAL):
                return False
            await pg.execute(
                f"""
                DELETE FROM deliveries d USING {table} l
                WHERE l.ctid >= '({first},0)' AND l.ctid < '({first + FORGOTTEN_BLOCKS},0)'
                  AND d.tenant = l.tenant AND d.id = l.id::uuid
                  AND (d.object IS NULL OR NOT ({_WHOLE.format("d")}) OR EXISTS (
                      SELECT FROM deliveries e
                      WHERE e.tenant = d.tenant AND e.store = d.store AND e.object = d.object AND {_WHOLE.format("e")}
                        AND (coalesce(e.dated, e.received_at), e.journal_offset)
                            > (coalesce(d.dated, d.received_at), d.journal_offset)))
                """
            )
    return True

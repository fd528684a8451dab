"""All SQL of the facts: what is known of orders, checkouts, carts and accounts.

Lookups by many keys are LATERAL with LIMIT 1 or OFFSET 0: one look into an index for each key, whatever the planner
believes of tables that were empty a minute ago.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from msgspec import Struct
from sqlalchemy import BigInteger, Boolean, DateTime, Table, Text

from libs.common.db import Tx
from services.metrics import tables
from services.metrics.algebra import RECOVERY
from services.metrics.facts import EPOCH, Cart, Checkout, CheckoutState, Order, micros

Key = tuple[str, str, str]
"""Tenant, store, id."""

T = TypeVar("T", bound=Struct)

_PG_TYPES: dict[type[Any], str] = {Text: "text", BigInteger: "bigint", Boolean: "boolean", DateTime: "timestamptz"}


class Account(NamedTuple):
    """Whose an account is."""

    profile: str
    revision: int


class Segment(NamedTuple):
    """A part of one profile's orders in one scope."""

    tenant: str
    store: str
    """A store, or ALL_STORES."""
    profile: str
    currency: str
    first: int
    last: int


async def lock(tx: Tx, tenants: Collection[str]) -> None:
    """Waits until no other batch of these tenants is under way.

    What a batch folds is a difference to what it read: of orders, of their neighbours in a profile, of checkouts that
    orders of any account may concern. Two at once for one tenant would each miss what the other adds. They would wait
    for each other all the same, for the row of the current hour.
    """
    asked = sorted(tenants)
    locked = await tx.pg.fetch("SELECT FROM tenants WHERE tenant = ANY($1) ORDER BY tenant FOR UPDATE", asked)
    if len(locked) < len(asked):
        # Lowest first, or two workers that both meet new tenants deadlock.
        await tx.pg.execute("INSERT INTO tenants SELECT unnest($1::text[]) ON CONFLICT DO NOTHING", asked)
        await tx.pg.fetch("SELECT FROM tenants WHERE tenant = ANY($1) ORDER BY tenant FOR UPDATE", asked)


async def accounts(tx: Tx, keys: Collection[tuple[str, str]]) -> dict[tuple[str, str], Account]:
    """(tenant, account) -> whose it is, where known."""
    if not keys:
        return {}
    rows = await tx.pg.fetch(
        """
        SELECT a.*
        FROM unnest($1::text[], $2::text[]) AS k(tenant, account)
        CROSS JOIN LATERAL (
            SELECT a.tenant, a.account, a.profile, a.revision FROM accounts a
            WHERE a.tenant = k.tenant AND a.account = k.account LIMIT 1
        ) AS a
        """,
        *zip(*keys, strict=True),
    )
    return {(row[0], row[1]): Account(row[2], row[3]) for row in rows}


async def orders(tx: Tx, keys: Collection[Key], moved: Collection[tuple[str, str]]) -> dict[Key, Order]:
    """The stored orders among `keys`, and all of the accounts `moved`."""
    found: dict[Key, Order] = {}
    if keys:
        rows = await tx.pg.fetch(
            """
            SELECT o.* FROM unnest($1::text[], $2::text[], $3::text[]) AS k(tenant, store, source_id)
            CROSS JOIN LATERAL (
                SELECT * FROM orders o
                WHERE o.tenant = k.tenant AND o.store = k.store AND o.source_id = k.source_id LIMIT 1
            ) AS o
            """,
            *zip(*keys, strict=True),
        )
        found = {order.key: order for order in (_fact(Order, row) for row in rows)}
    if moved:
        rows = await tx.pg.fetch(
            """
            SELECT o.* FROM unnest($1::text[], $2::text[]) AS k(tenant, account)
            CROSS JOIN LATERAL (
                SELECT * FROM orders o WHERE o.tenant = k.tenant AND o.account = k.account OFFSET 0
            ) AS o
            """,
            *zip(*moved, strict=True),
        )
        found |= {order.key: order for order in (_fact(Order, row) for row in rows)}
    return found


async def placed(tx: Tx, segments: Sequence[Segment]) -> list[list[int]]:
    """For each segment when its counted orders were placed, with two orders before it and two after it."""
    found: list[list[int]] = [[] for _ in segments]
    if not segments:
        return found
    rows = await tx.pg.fetch(
        _PLACED,
        [s.tenant for s in segments],
        [s.store for s in segments],
        [s.profile for s in segments],
        [s.currency for s in segments],
        [_moment(s.first) for s in segments],
        [_moment(s.last) for s in segments],
    )
    for n, at in rows:
        found[n - 1].append(micros(at))
    return found


_THEIRS = """
    SELECT o.placed_at FROM orders o
    WHERE o.tenant = s.tenant AND o.profile = s.profile AND o.currency = s.currency AND o.counted
      AND (s.store = '*' OR o.store = s.store)"""

_PLACED = f"""
    SELECT s.n, found.placed_at
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[])
         WITH ORDINALITY AS s(tenant, store, profile, currency, first, last, n)
    CROSS JOIN LATERAL (
        ({_THEIRS} AND o.placed_at < s.first ORDER BY o.placed_at DESC LIMIT 2)
        UNION ALL
        ({_THEIRS} AND o.placed_at BETWEEN s.first AND s.last)
        UNION ALL
        ({_THEIRS} AND o.placed_at > s.last ORDER BY o.placed_at LIMIT 2)
    ) AS found
    """


async def messaged_checkouts(tx: Tx, bought: Collection[tuple[str, str, int]]) -> list[Key]:
    """Checkouts that an order (tenant, profile, placed_at) may recover, as their profile's."""
    if not bought:
        return []
    tenants, profiles, instants = zip(*bought, strict=True)
    rows = await tx.pg.fetch(
        """
        SELECT DISTINCT c.tenant, c.store, c.token
        FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS k(tenant, profile, placed_at)
        CROSS JOIN LATERAL (
            SELECT a.account FROM accounts a WHERE a.tenant = k.tenant AND a.profile = k.profile OFFSET 0
        ) AS a
        CROSS JOIN LATERAL (
            SELECT c.* FROM checkouts c WHERE c.tenant = k.tenant AND c.account = a.account OFFSET 0
        ) AS c
        CROSS JOIN LATERAL (
            SELECT FROM recoveries r
            WHERE r.tenant = c.tenant AND r.store = c.store AND r.token = c.token
              AND r.messaged_at < k.placed_at AND k.placed_at <= r.messaged_at + $4
            LIMIT 1
        ) AS r
        """,
        tenants,
        profiles,
        [_moment(at) for at in instants],
        timedelta(microseconds=RECOVERY),
    )
    return [tuple(row) for row in rows]


async def checkouts_of(tx: Tx, moved: Collection[tuple[str, str]]) -> list[Key]:
    """The messaged checkouts of some accounts."""
    if not moved:
        return []
    rows = await tx.pg.fetch(
        """
        SELECT c.tenant, c.store, c.token FROM unnest($1::text[], $2::text[]) AS k(tenant, account)
        CROSS JOIN LATERAL (
            SELECT c.* FROM checkouts c WHERE c.tenant = k.tenant AND c.account = k.account OFFSET 0
        ) AS c
        CROSS JOIN LATERAL (
            SELECT FROM recoveries r WHERE r.tenant = c.tenant AND r.store = c.store AND r.token = c.token LIMIT 1
        ) AS r
        """,
        *zip(*moved, strict=True),
    )
    return [tuple(row) for row in rows]


async def checkouts(tx: Tx, keys: Collection[Key]) -> list[Checkout]:
    """The known checkouts among `keys`, with what has come of them."""
    if not keys:
        return []
    rows = await tx.pg.fetch(_CHECKOUTS, *zip(*keys, strict=True), timedelta(microseconds=RECOVERY))
    return [_fact(Checkout, row) for row in rows]


_CHECKOUTS = """
    SELECT c.tenant, c.store, c.token, c.started_at, c.changed_at, c.currency, c.held, ordered.ordered_at,
           r.messaged_at, first.placed_at AS recovered_at, first.net AS recovered_net
    FROM unnest($1::text[], $2::text[], $3::text[]) AS k(tenant, store, token)
    CROSS JOIN LATERAL (
        SELECT * FROM checkouts c WHERE c.tenant = k.tenant AND c.store = k.store AND c.token = k.token LIMIT 1
    ) AS c
    LEFT JOIN LATERAL (
        SELECT a.profile FROM accounts a WHERE a.tenant = c.tenant AND a.account = c.account LIMIT 1
    ) AS a ON true
    LEFT JOIN LATERAL (
        SELECT r.messaged_at FROM recoveries r
        WHERE r.tenant = c.tenant AND r.store = c.store AND r.token = c.token LIMIT 1
    ) AS r ON true
    LEFT JOIN LATERAL (
        SELECT min(o.placed_at) AS ordered_at FROM orders o
        WHERE o.tenant = c.tenant AND o.store = c.store AND o.checkout = c.token AND o.counted
    ) AS ordered ON true
    LEFT JOIN LATERAL (
        SELECT either.placed_at, either.net
        FROM (
            (SELECT o.placed_at, o.store, o.source_id, o.gross - o.discounts - o.returns AS net FROM orders o
             WHERE o.tenant = c.tenant AND o.store = c.store AND o.checkout = c.token AND o.currency = c.currency
               AND o.counted AND o.placed_at > r.messaged_at
             ORDER BY o.placed_at, o.store, o.source_id LIMIT 1)
            UNION ALL
            (SELECT o.placed_at, o.store, o.source_id, o.gross - o.discounts - o.returns AS net FROM orders o
             WHERE o.tenant = c.tenant AND o.profile = a.profile AND o.currency = c.currency
               AND o.counted AND o.placed_at > r.messaged_at AND o.placed_at <= r.messaged_at + $4
             ORDER BY o.placed_at, o.store, o.source_id LIMIT 1)
        ) AS either
        ORDER BY either.placed_at, either.store, either.source_id LIMIT 1
    ) AS first ON r.messaged_at IS NOT NULL
    """


async def carts(tx: Tx, keys: Collection[Key]) -> dict[Key, Cart]:
    """The stored carts among `keys`."""
    if not keys:
        return {}
    rows = await tx.pg.fetch(
        """
        SELECT c.* FROM unnest($1::text[], $2::text[], $3::text[]) AS k(tenant, store, token)
        CROSS JOIN LATERAL (
            SELECT * FROM carts c WHERE c.tenant = k.tenant AND c.store = k.store AND c.token = k.token LIMIT 1
        ) AS c
        """,
        *zip(*keys, strict=True),
    )
    return {(row["tenant"], row["store"], row["token"]): _fact(Cart, row) for row in rows}


async def save_accounts(tx: Tx, moved: dict[tuple[str, str], Account]) -> None:
    """Whose each account is now."""
    await _save(tx, tables.accounts, [(*key, *account) for key, account in moved.items()])


async def save_orders(tx: Tx, changed: Iterable[Order]) -> None:
    """The orders as they are now; their profiles included."""
    await _save(tx, tables.orders, _rows(tables.orders, changed))


async def save_checkouts(tx: Tx, told: Iterable[CheckoutState]) -> None:
    """Checkouts as the platform tells them; one that is known in a later revision stays."""
    await _save(tx, tables.checkouts, _rows(tables.checkouts, told), only_newer=True)


async def save_carts(tx: Tx, changed: Iterable[Cart]) -> None:
    """Carts as they are now."""
    await _save(tx, tables.carts, _rows(tables.carts, changed))


async def save_messages(tx: Tx, sent: dict[Key, int]) -> None:
    """When the first recovery message of each checkout was sent."""
    if sent:
        await tx.pg.execute(
            """
            INSERT INTO recoveries AS r SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[])
            ON CONFLICT (tenant, store, token) DO UPDATE SET messaged_at = excluded.messaged_at
            WHERE excluded.messaged_at < r.messaged_at
            """,
            *zip(*sent, strict=True),
            [_moment(at) for at in sent.values()],
        )


async def save_stores(tx: Tx, told: Collection[tuple[str, str]]) -> None:
    """The tenants' stores, by their keys."""
    if told:
        await tx.pg.execute(
            "INSERT INTO stores SELECT * FROM unnest($1::text[], $2::text[]) ON CONFLICT DO NOTHING",
            *zip(*sorted(told), strict=True),
        )


async def knows_store(tx: Tx, tenant: str, key: str) -> bool:
    """Whether the tenant has such a store."""
    return bool(
        await tx.pg.fetchval("SELECT EXISTS (SELECT FROM stores WHERE tenant = $1 AND store = $2)", tenant, key)
    )


async def _save(tx: Tx, table: Table, rows: Sequence[tuple[Any, ...]], *, only_newer: bool = False) -> None:
    if rows:
        await tx.pg.execute(_upsert(table, only_newer=only_newer), *zip(*rows, strict=True))


def _upsert(table: Table, *, only_newer: bool) -> str:
    names = [column.name for column in table.columns]
    key = [column.name for column in table.primary_key]
    arrays = ", ".join(f"${n}::{_PG_TYPES[type(c.type)]}[]" for n, c in enumerate(table.columns, 1))
    changes = ", ".join(f"{name} = excluded.{name}" for name in names if name not in key)
    newer = " WHERE excluded.revision > t.revision" if only_newer else ""
    return (
        f"INSERT INTO {table.name} AS t ({', '.join(names)}) SELECT * FROM unnest({arrays})"
        f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}{newer}"
    )


def _rows(table: Table, facts: Iterable[Struct]) -> list[tuple[Any, ...]]:
    columns = [(column.name, isinstance(column.type, DateTime)) for column in table.columns]
    return [
        tuple(_moment(getattr(fact, name)) if is_moment else getattr(fact, name) for name, is_moment in columns)
        for fact in facts
    ]


def _fact(kind: type[T], row: Any) -> T:
    return kind(**{name: micros(value) if isinstance(value, datetime) else value for name, value in row.items()})


def _moment(at: int) -> datetime:
    return EPOCH + timedelta(microseconds=at)

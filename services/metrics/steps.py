"""All SQL of the sums: points are added to every tier at once, and read back as values at instants."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from libs.common.db import Tx
from services.metrics.algebra import INTERVALS, PAIRS, TOTAL, TOTALS, Points, Scope
from services.metrics.facts import EPOCH, HOUR, MICROSECOND
from services.metrics.kpis import Values
from services.metrics.tiers import COARSEST, SIZES, spans


async def fold(tx: Tx, points: Points) -> None:
    """Adds points to the sums."""
    totals: list[tuple[tuple[Any, ...], dict[int, int]]] = []
    longer: list[tuple[tuple[Any, ...], dict[int, int]]] = []
    for ((tenant, store, currency), hours, at), values in points.steps().items():
        if hours == TOTAL:
            totals.append(((tenant, store, currency, at), values))
        else:
            longer.append(((tenant, store, currency, hours, at), values))
    if totals:
        await tx.pg.execute(_FOLD_TOTALS, *_columns(totals, range(len(TOTALS))))
    if longer:
        await tx.pg.execute(_FOLD_LONG, *_columns(longer, _LONG))


async def read(
    tx: Tx, scope: Scope, length: int, instants: Sequence[int]
) -> tuple[dict[int, Values], dict[int, Values]]:
    """By instant: all totals, and the intervals that are no shorter than `length`, with its distant pairs."""
    asked = [(n, *span) for n, at in enumerate(instants) for span in spans(at)]
    columns = [list(column) for column in zip(*asked, strict=True)]
    totals = await tx.pg.fetch(_READ_TOTALS, *scope, *columns)
    longer = await tx.pg.fetch(_READ_LONG, *scope, *columns, length // HOUR)
    return _values(instants, totals), _values(instants, longer, PAIRS)


async def currencies(tx: Tx, tenant: str, store: str) -> list[str]:
    """Currencies in which there is anything in a scope."""
    # A row that came to nothing stays: what was there and went must not be told from what never was.
    rows = await tx.pg.fetch(
        """
        SELECT DISTINCT currency FROM totals
        WHERE tenant = $1 AND store = $2 AND tier = $3 AND (orders <> 0 OR checkouts <> 0 OR carts <> 0)
        ORDER BY currency
        """,
        tenant,
        store,
        COARSEST,
    )
    return [row[0] for row in rows]


async def tenants(tx: Tx) -> list[str]:
    """Everybody of whom there are facts."""
    return [row[0] for row in await tx.pg.fetch("SELECT tenant FROM tenants ORDER BY tenant")]


async def scopes(tx: Tx, tenant: str) -> list[Scope]:
    """Every scope of a tenant with anything in it."""
    rows = await tx.pg.fetch(
        """
        SELECT DISTINCT tenant, store, currency FROM totals
        WHERE tenant = $1 AND tier = $2 AND (orders <> 0 OR checkouts <> 0 OR carts <> 0)
        ORDER BY store, currency
        """,
        tenant,
        COARSEST,
    )
    return [tuple(row) for row in rows]


async def uneven(tx: Tx, tenant: str) -> list[tuple[str, str, str, int, datetime]]:
    """Rows of coarser tiers that are not the sum of their points: table, store, currency, tier, start of the block."""
    found = []
    for table, sql in _UNEVEN.items():
        rows = await tx.pg.fetch(sql, tenant, list(range(1, len(SIZES))), list(SIZES[1:]))
        found += [(table, row[0], row[1], row[2], EPOCH + row[3] * MICROSECOND) for row in rows]
    return found


def _columns(rows: Sequence[tuple[tuple[Any, ...], dict[int, int]]], measures: range) -> list[Any]:
    keys = list(zip(*(key for key, _ in rows), strict=True))
    there = {measure for _, values in rows for measure in values}
    # None for a column of noughts: most of what a batch of orders has in those of checkouts.
    return [*keys, *([v.get(n, 0) for _, v in rows] if n in there else None for n in measures)]


def _values(instants: Sequence[int], rows: Sequence[Any], first: int = 0) -> dict[int, Values]:
    read: dict[int, Values] = {at: {} for at in instants}
    for n, *sums in rows:
        read[instants[n]] = {measure: int(value) for measure, value in enumerate(sums, first) if value}
    return read


def _fold_sql(table: str, keys: dict[str, str], measures: Sequence[str]) -> str:
    names = [*keys, *measures]
    types = [*keys.values(), *("bigint" for _ in measures)]
    arrays = ", ".join(f"${n}::{kind}[]" for n, kind in enumerate(types, 1))
    grouped = ", ".join(name for name in keys if name != "at")
    sums = ", ".join(f"sum({name}) AS {name}" for name in measures)
    # Each tier out of the one before, which has fewer rows than there are points.
    given = ", ".join(f"coalesce({name}, 0) AS {name}" for name in measures)
    tiers = [f"tier0 AS (SELECT at, {grouped}, {given} FROM unnest({arrays}) AS p({', '.join(names)}))"]
    for tier, size in enumerate(SIZES[1:], 1):
        # Rounded down, before 1970 too.
        block = f"at - ((at % {size}) + {size}) % {size}"
        tiers.append(
            f"tier{tier} AS (SELECT {block} AS at, {grouped}, {sums} FROM tier{tier - 1} GROUP BY {block}, {grouped})"
        )
    columns = f"at, {grouped}, {', '.join(measures)}"
    rows = " UNION ALL ".join(f"SELECT {tier} AS tier, {columns} FROM tier{tier}" for tier in range(len(SIZES)))
    return f"""
        WITH {", ".join(tiers)}
        INSERT INTO {table} AS t (tier, {columns})
        SELECT tier, {columns} FROM ({rows}) AS news ORDER BY tier, at, {grouped}
        ON CONFLICT (tier, at, {grouped}) DO UPDATE
        SET {", ".join(f"{name} = t.{name} + excluded.{name}" for name in measures)}
        """


def _uneven_sql(table: str, keys: Sequence[str], measures: Sequence[str]) -> str:
    names = ", ".join(f"p.{name}" for name in keys)
    sums = ", ".join(f"sum(p.{name})" for name in measures)
    something = " OR ".join(f"sum(p.{name}) <> 0" for name in measures)
    block = "p.at - ((p.at % b.size) + b.size) % b.size"
    points = f"""
        SELECT {names}, b.tier, {block} AS at, {sums}
        FROM {table} p CROSS JOIN unnest($2::smallint[], $3::bigint[]) AS b(tier, size)
        WHERE p.tenant = $1 AND p.tier = 0 GROUP BY {names}, b.tier, {block} HAVING {something}"""
    blocks = f"""
        SELECT {names}, p.tier, p.at, {sums} FROM {table} p
        WHERE p.tenant = $1 AND p.tier > 0 GROUP BY {names}, p.tier, p.at HAVING {something}"""
    return f"""
        SELECT DISTINCT store, currency, tier, at
        FROM (({points} EXCEPT {blocks}) UNION ALL ({blocks} EXCEPT {points})) AS different
        ORDER BY store, currency, tier, at LIMIT 1000
        """


def _read_sql(table: str, sums: dict[str, str], condition: str = "") -> str:
    # Summed up span by span: a join of all would be planned as a scan of the whole scope.
    return f"""
        SELECT a.n, {", ".join(f"sum(t.{name})" for name in sums)}
        FROM unnest($4::int[], $5::smallint[], $6::bigint[], $7::bigint[]) AS a(n, tier, since, until)
        CROSS JOIN LATERAL (
            SELECT {", ".join(f"{each} AS {name}" for name, each in sums.items())}
            FROM {table} s
            WHERE s.tenant = $1 AND s.store = $2 AND s.currency = $3 AND s.tier = a.tier
              AND s.at >= a.since AND s.at < a.until {condition}
        ) AS t
        GROUP BY a.n
        """


_KEYS = {"tenant": "text", "store": "text", "currency": "text"}
_FOLD_TOTALS = _fold_sql("totals", {**_KEYS, "at": "bigint"}, TOTALS)
_FOLD_LONG = _fold_sql("long_intervals", {**_KEYS, "hours": "smallint", "at": "bigint"}, INTERVALS)
_LONG = range(PAIRS, len(TOTALS))
_READ_TOTALS = _read_sql("totals", {name: f"sum(s.{name})" for name in TOTALS})
_READ_LONG = _read_sql(
    "long_intervals",
    {name: f"sum(s.{name})" for name in INTERVALS}
    | {f"distant_{n}": f"sum(s.{name}) FILTER (WHERE s.hours <= 2 * $8)" for n, name in enumerate(INTERVALS[:2])},
    "AND s.hours > $8",
)
_UNEVEN = {
    "totals": _uneven_sql("totals", ("store", "currency"), TOTALS),
    "long_intervals": _uneven_sql("long_intervals", ("store", "currency", "hours"), INTERVALS),
}

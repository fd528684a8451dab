"""Whom accounts hang together with, in SQL: the walks over edges, and what they find.

Each looks up what it passes by its index, once, and goes no further than it has to: LATERAL with LIMIT or OFFSET 0
keeps it so, whatever the planner expects.
"""

from collections.abc import Sequence
from typing import Any

from libs.common.db import Tx
from services.profiles.identity import resolve

Key = tuple[str, str]
"""(tenant, account) or (tenant, identifier)."""
Place = tuple[str, str, str]
"""(tenant, account, identifier) of an edge."""

_QUARANTINED = """
    (SELECT e.identifier FROM edges e CROSS JOIN LATERAL (
         SELECT FROM identifiers i
         WHERE i.tenant = e.tenant AND i.identifier = e.identifier AND i.quarantined LIMIT 1) i
     WHERE e.tenant = {0}.tenant AND e.account = {0}.account AND e.shared AND e.identifier <> ALL ($3::text[])
     LIMIT 1)"""
"""A quarantined identifier of the account of a row {0}, but for $3, or null."""
_WALK = """
    WITH RECURSIVE reached (tenant, node, is_account) AS (
        SELECT u.tenant, u.account, true FROM unnest($1::text[], $2::text[]) AS u(tenant, account)
        UNION
        SELECT r.tenant, n.node, NOT r.is_account FROM reached r CROSS JOIN LATERAL (
            (SELECT e.identifier AS node FROM (
                 SELECT FROM accounts a
                 WHERE r.is_account AND a.tenant = r.tenant AND a.account = r.node AND CASE
                     WHEN starts_with(a.account, 'cart:') THEN {token} IS NULL ELSE {goes_on} END LIMIT 1) a
             CROSS JOIN edges e CROSS JOIN LATERAL (
                 SELECT FROM identifiers i
                 WHERE i.tenant = e.tenant AND i.identifier = e.identifier AND NOT i.quarantined LIMIT 1) i
             WHERE r.is_account AND e.tenant = r.tenant AND e.account = r.node AND e.shared OFFSET 0)
            UNION ALL
            (SELECT e.account FROM edges e
             WHERE NOT r.is_account AND e.tenant = r.tenant AND e.identifier = r.node OFFSET 0)
        ) n
    )"""
"""The accounts $1, $2 and all that their shared edges lead to, by identifiers that are not quarantined. {goes_on}: from
which accounts. Nameless ones, since they tie tokens together, until one of their tokens but $3 is quarantined."""
_UP_TO_CROWDS = _WALK.format(token=_QUARANTINED.format("a"), goes_on="NOT a.crowded")
_THROUGH_CROWDS = _WALK.format(token=_QUARANTINED.format("a"), goes_on="true")


def columns(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    """Rows as columns, for unnest."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


async def homes(tx: Tx, places: Sequence[Place]) -> dict[Place, Key]:
    """The profiles of the accounts of these edges, but for those whose identifier names another profile's, too.

    What is quarantined ties nobody to others; but a nameless account's other tokens are then to be quarantined.
    """
    rows = await tx.pg.fetch(
        """
        SELECT u.tenant, u.account, u.identifier, a.profile::text AS profile
        FROM unnest($1::text[], $2::text[], $3::text[]) AS u(tenant, account, identifier)
        CROSS JOIN LATERAL (
            SELECT a.profile FROM accounts a WHERE a.tenant = u.tenant AND a.account = u.account AND NOT a.crowded
              AND a.profile IS NOT NULL LIMIT 1) a
        CROSS JOIN LATERAL (
            SELECT i.quarantined FROM identifiers i
            WHERE i.tenant = u.tenant AND i.identifier = u.identifier LIMIT 1) i
        WHERE CASE WHEN i.quarantined THEN NOT starts_with(u.account, 'cart:') ELSE (
            SELECT true FROM edges e CROSS JOIN LATERAL (
                SELECT FROM accounts o WHERE o.tenant = e.tenant AND o.account = e.account
                  AND o.profile IS DISTINCT FROM a.profile LIMIT 1) o
            WHERE e.tenant = u.tenant AND e.identifier = u.identifier LIMIT 1) IS NULL END
        """,
        *columns(places, 3),
    )
    return {(row["tenant"], row["account"], row["identifier"]): (row["tenant"], row["profile"]) for row in rows}


async def whole(tx: Tx, profiles: Sequence[Key], most: int) -> set[Key]:
    """Those profiles (tenant, id) whose accounts hang together with nobody else, and may as they are.

    No two of them are registered in one store, and neither they nor their shared edges, each of which may be a tie, are
    too many: `resolve.too_many`.
    """
    rows = await tx.pg.fetch(
        """
        SELECT u.tenant, u.profile::text AS profile
        FROM unnest($1::text[], $2::uuid[]) AS u(tenant, profile)
        CROSS JOIN LATERAL (
            SELECT count(*) AS accounts, bool_or(a.crowded) AS crowded,
                   count(*) FILTER (WHERE starts_with(a.account, 'customer:')) AS customers,
                   count(DISTINCT a.store) FILTER (WHERE starts_with(a.account, 'customer:')) AS stores
            FROM accounts a WHERE a.tenant = u.tenant AND a.profile = u.profile) s
        CROSS JOIN LATERAL (
            WITH mine AS MATERIALIZED (
                SELECT e.identifier FROM accounts a CROSS JOIN LATERAL (
                    SELECT e.identifier FROM edges e
                    WHERE e.tenant = a.tenant AND e.account = a.account AND e.shared OFFSET 0) e
                WHERE s.accounts <= $3 AND a.tenant = u.tenant AND a.profile = u.profile LIMIT $4)
            SELECT (SELECT count(*) FROM mine) AS ties, (
                SELECT true FROM (SELECT identifier, count(*) AS accounts FROM mine GROUP BY identifier) m
                CROSS JOIN LATERAL (
                    SELECT FROM identifiers i
                    WHERE i.tenant = u.tenant AND i.identifier = m.identifier AND NOT i.quarantined LIMIT 1) i
                CROSS JOIN LATERAL (
                    SELECT count(*) AS accounts FROM edges e
                    WHERE e.tenant = u.tenant AND e.identifier = m.identifier) named
                WHERE named.accounts > m.accounts LIMIT 1) AS leads_on) t
        WHERE s.accounts <= $3 AND NOT s.crowded AND s.customers = s.stores AND t.ties < $4 AND t.leads_on IS NULL
        """,
        *columns(profiles, 2),
        most,
        most * resolve.TIES + 1,
    )
    return {(row["tenant"], row["profile"]) for row in rows}


async def reach(tx: Tx, keys: Sequence[Key], added: Sequence[str]) -> set[Key]:
    """These accounts and all that their shared edges lead to, up to crowded ones. `added`: see `quarantined_tokens`."""
    rows = await tx.pg.fetch(
        f"{_UP_TO_CROWDS} SELECT tenant, node FROM reached WHERE is_account", *columns(keys, 2), added
    )
    return {(row["tenant"], row["node"]) for row in rows}


async def together(tx: Tx, key: Key, most: int) -> tuple[set[Key], int]:
    """Who hangs together with this account, and by how many ties: `resolve.crowded`. No more than are too many."""
    rows = await tx.pg.fetch(
        f"""
        {_THROUGH_CROWDS}
        SELECT r.tenant, r.node, t.tie FROM (SELECT * FROM reached WHERE is_account LIMIT $4) r
        LEFT JOIN LATERAL (
            SELECT true AS tie FROM edges e
            CROSS JOIN LATERAL (
                SELECT FROM identifiers i WHERE i.tenant = e.tenant AND i.identifier = e.identifier
                  AND NOT (i.quarantined AND starts_with(e.account, 'cart:')) LIMIT 1) i
            CROSS JOIN LATERAL (
                SELECT FROM edges o WHERE o.tenant = e.tenant AND o.identifier = e.identifier
                  AND o.account <> e.account LIMIT 1) o
            WHERE e.tenant = r.tenant AND e.account = r.node AND e.shared OFFSET 0) t ON true
        LIMIT $5
        """,
        *columns([key], 2),
        [],
        most + 1,
        most + most * resolve.TIES + 1,
    )
    return {(row["tenant"], row["node"]) for row in rows}, sum(row["tie"] is not None for row in rows)


async def quarantined_tokens(tx: Tx, keys: Sequence[Key], added: Sequence[str]) -> list[Place]:
    """One quarantined token of each of these nameless accounts that has any: all that are shared are quarantined then.

    But for identifiers of edges that are `added` only now: these have still to bring the others there.
    """
    if not keys:
        return []
    rows = await tx.pg.fetch(
        f"""
        SELECT * FROM (
            SELECT u.tenant, u.account, {_QUARANTINED.format("u")} AS identifier
            FROM unnest($1::text[], $2::text[]) AS u(tenant, account)
        ) AS u WHERE identifier IS NOT NULL
        """,
        *columns(keys, 2),
        added,
    )
    return [(row["tenant"], row["account"], row["identifier"]) for row in rows]


async def around(tx: Tx, keys: Sequence[Key], places: Sequence[Place]) -> list[Any]:
    """The shared edges of these accounts and places, and every edge of the identifiers that they lead to.

    Not beyond a quarantine. Tokens and addresses that name this account alone, by far the most of them, decide nothing
    and are not read.
    """
    return await tx.pg.fetch(
        """
        WITH mine AS MATERIALIZED (
            SELECT e.tenant, e.identifier, e.account, e.tier, i.quarantined
            FROM unnest($1::text[], $2::text[]) AS u(tenant, account)
            JOIN edges e USING (tenant, account) JOIN identifiers i USING (tenant, identifier)
            WHERE e.shared
            UNION ALL
            SELECT e.tenant, e.identifier, e.account, e.tier, i.quarantined
            FROM unnest($3::text[], $4::text[], $5::text[]) AS u(tenant, account, identifier)
            JOIN edges e USING (tenant, account, identifier) JOIN identifiers i USING (tenant, identifier)
            WHERE e.shared
        )
        SELECT tenant, identifier, account, tier, quarantined FROM mine
        UNION
        SELECT e.tenant, e.identifier, e.account, e.tier, false
        FROM (SELECT DISTINCT tenant, identifier FROM mine WHERE NOT quarantined) AS open
        JOIN edges e USING (tenant, identifier)
        """,
        *columns(keys, 2),
        *columns(places, 3),
    )

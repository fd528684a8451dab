"""The identity graph in SQL: accounts, identifiers, the edges between them, and who is one person.

How two workers that touch one person at once stay right: whoever adds an edge holds, before he reads the edges that
decide, a lock on every account that the edge connects, directly or through others. So one of the two waits, and then
reads what the other wrote (READ COMMITTED: each statement sees what was committed before it). Two that insert one
new account or identifier meet in its primary key. Rounds may lock in different orders: PostgreSQL then aborts one
of the two, and the loop runs it again.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from libs.common.db import Tx
from services.profiles.identity import resolve
from services.profiles.identity.accounts import Claim
from services.profiles.identity.resolve import Edge

Key = tuple[str, str]
"""(tenant, account) or (tenant, identifier)."""


class Move(NamedTuple):
    """An account that belongs to another profile than before."""

    tenant: str
    store: str
    account: str
    previous: str | None
    profile: str
    revision: int


class Admission(NamedTuple):
    """What a batch's claims did to the graph."""

    fresh: set[Key]
    """Accounts that this transaction made."""
    moves: list[Move]
    homes: dict[Key, str]
    """The profile of every account that was looked at again."""


class _Account(NamedTuple):
    store: str
    profile: str | None
    revision: int


async def admit(tx: Tx, claims: Iterable[tuple[str, Claim]], limits: Mapping[str, int]) -> Admission:
    """Adds what is new of `claims` (tenant, claim) and brings the profiles of all whom it concerns up to date.

    `limits`: kind of identifier -> most accounts that one may name before it is quarantined. When nothing is new,
    nothing is locked or written.
    """
    accounts: dict[Key, str] = {}
    edges: dict[tuple[str, str, str], int] = {}
    for tenant, claim in claims:
        accounts[tenant, claim.account] = claim.store
        for identifier, tier in claim.edges:
            edge = (tenant, claim.account, identifier)
            edges[edge] = min(tier, edges.get(edge, tier))
    if not accounts:
        return Admission(set(), [], {})
    unknown = sorted(set(accounts) - await _known_accounts(tx, list(accounts)))
    missing = sorted(set(edges) - await _known_edges(tx, edges))
    if not unknown and not missing:
        return Admission(set(), [], {})
    fresh = await _insert_accounts(tx, [(key, accounts[key]) for key in unknown])
    await _insert_edges(tx, [(edge, edges[edge]) for edge in missing])
    return await _resolve(tx, {*unknown, *((tenant, account) for tenant, account, _ in missing)}, fresh, limits)


async def _resolve(tx: Tx, start: set[Key], fresh: set[Key], limits: Mapping[str, int]) -> Admission:
    locked: dict[Key, _Account] = {}
    rows: Sequence[Any] = ()
    missing = start
    while missing:
        # Once, but for those that others bring while we wait for them.
        locked |= await _lock(tx, sorted(await _reach(tx, sorted(missing)) - locked.keys()))
        rows = await _around(tx, sorted(locked))
        missing = {(row["tenant"], row["account"]) for row in rows} - locked.keys()
    edges: dict[str, set[Edge]] = {}
    quarantined: dict[str, set[str]] = {}
    for row in rows:
        edges.setdefault(row["tenant"], set()).add(Edge(row["account"], row["identifier"], row["tier"]))
        if row["quarantined"]:
            quarantined.setdefault(row["tenant"], set()).add(row["identifier"])
    members: dict[str, list[str]] = {}
    for tenant, account in locked:
        members.setdefault(tenant, []).append(account)
    homes: dict[Key, str] = {}
    for tenant, accounts in members.items():
        found, known = edges.get(tenant, set()), quarantined.get(tenant, set())
        excessive = resolve.shared_by_too_many(found, limits, known) - known
        if excessive:
            await _quarantine(tx, tenant, sorted(excessive))
        for group in resolve.partition(accounts, found, known | excessive):
            profile = min(resolve.alias(tenant, account) for account in group)
            homes.update(((tenant, account), profile) for account in group)
    moves = [
        Move(key[0], locked[key].store, key[1], locked[key].profile, profile, locked[key].revision + 1)
        for key, profile in sorted(homes.items())
        if locked[key].profile != profile
    ]
    await _move(tx, moves)
    return Admission(fresh, moves, homes)


def _columns(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    """Rows as columns, for unnest."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


async def _known_accounts(tx: Tx, keys: Sequence[Key]) -> set[Key]:
    rows = await tx.pg.fetch(
        "SELECT tenant, account FROM accounts JOIN unnest($1::text[], $2::text[]) AS u(tenant, account)"
        " USING (tenant, account)",
        *_columns(keys, 2),
    )
    return {(row["tenant"], row["account"]) for row in rows}


async def _known_edges(tx: Tx, edges: Mapping[tuple[str, str, str], int]) -> set[tuple[str, str, str]]:
    """Those that are there already, at least as strong."""
    rows = await tx.pg.fetch(
        """
        SELECT e.tenant, e.account, e.identifier
        FROM unnest($1::text[], $2::text[], $3::text[], $4::smallint[]) AS u(tenant, account, identifier, tier)
        JOIN edges e USING (tenant, account, identifier) WHERE e.tier <= u.tier
        """,
        *_columns([(*edge, tier) for edge, tier in edges.items()], 4),
    )
    return {(row["tenant"], row["account"], row["identifier"]) for row in rows}


async def _insert_accounts(tx: Tx, accounts: Sequence[tuple[Key, str]]) -> set[Key]:
    """Those that are ours: a worker who inserts the same one makes us wait here, and then it is his."""
    if not accounts:
        return set()
    rows = await tx.pg.fetch(
        """
        INSERT INTO accounts (tenant, account, store, alias)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[]) AS u(t, a, s, p) ORDER BY t, a
        ON CONFLICT DO NOTHING RETURNING tenant, account
        """,
        *_columns([(*key, store, resolve.alias(*key)) for key, store in accounts], 4),
    )
    return {(row["tenant"], row["account"]) for row in rows}


async def _insert_edges(tx: Tx, edges: Sequence[tuple[tuple[str, str, str], int]]) -> None:
    """Adds edges, and marks those of identifiers that name more than one account: only these can join anybody."""
    if not edges:
        return
    fanout = Counter((tenant, identifier) for (tenant, _, identifier), _ in edges)
    rows = await tx.pg.fetch(
        """
        INSERT INTO identifiers (tenant, identifier)
        SELECT * FROM unnest($1::text[], $2::text[]) AS u(t, i) ORDER BY t, i
        ON CONFLICT DO NOTHING RETURNING tenant, identifier
        """,
        *_columns(sorted(fanout), 2),
    )
    fresh = {(row["tenant"], row["identifier"]) for row in rows}
    known = sorted(fanout.keys() - fresh)
    shared = {place for place, n in fanout.items() if n > 1}.union(known)
    await tx.pg.execute(
        """
        INSERT INTO edges (tenant, account, identifier, tier, shared)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::smallint[], $5::boolean[]) AS u(t, a, i, r, s)
        ORDER BY t, a, i
        ON CONFLICT (tenant, account, identifier) DO UPDATE SET tier = excluded.tier WHERE excluded.tier < edges.tier
        """,
        *_columns([(*edge, tier, (edge[0], edge[2]) in shared) for edge, tier in edges], 5),
    )
    if known:
        await tx.pg.execute(
            """
            UPDATE edges e SET shared = true FROM unnest($1::text[], $2::text[]) AS u(tenant, identifier)
            WHERE e.tenant = u.tenant AND e.identifier = u.identifier AND NOT e.shared
            """,
            *_columns(known, 2),
        )


async def _lock(tx: Tx, keys: Sequence[Key]) -> dict[Key, _Account]:
    rows = await tx.pg.fetch(
        """
        SELECT a.tenant, a.account, a.store, a.profile::text AS profile, a.revision
        FROM accounts a JOIN unnest($1::text[], $2::text[]) AS u(tenant, account) USING (tenant, account)
        ORDER BY a.tenant, a.account FOR UPDATE OF a
        """,
        *_columns(keys, 2),
    )
    return {(row["tenant"], row["account"]): _Account(row["store"], row["profile"], row["revision"]) for row in rows}


async def _reach(tx: Tx, keys: Sequence[Key]) -> set[Key]:
    """These accounts and all that their shared edges lead to, however far; not beyond a quarantine.

    One statement, which looks up each account and each identifier once: the way may be as long as somebody likes.
    """
    # LATERAL with LIMIT or OFFSET 0: each by its index, whatever the planner expects of the recursion.
    rows = await tx.pg.fetch(
        """
        WITH RECURSIVE reached (tenant, node, is_account) AS (
            SELECT u.tenant, u.account, true FROM unnest($1::text[], $2::text[]) AS u(tenant, account)
            UNION
            SELECT r.tenant, n.node, NOT r.is_account FROM reached r CROSS JOIN LATERAL (
                (SELECT e.identifier AS node FROM edges e CROSS JOIN LATERAL (
                     SELECT FROM identifiers i
                     WHERE i.tenant = e.tenant AND i.identifier = e.identifier AND NOT i.quarantined LIMIT 1) i
                 WHERE r.is_account AND e.tenant = r.tenant AND e.account = r.node AND e.shared OFFSET 0)
                UNION ALL
                (SELECT e.account FROM edges e
                 WHERE NOT r.is_account AND e.tenant = r.tenant AND e.identifier = r.node OFFSET 0)
            ) n
        )
        SELECT tenant, node FROM reached WHERE is_account
        """,
        *_columns(keys, 2),
    )
    return {(row["tenant"], row["node"]) for row in rows}


async def _around(tx: Tx, keys: Sequence[Key]) -> list[Any]:
    """The shared edges of these accounts, and every edge of the identifiers that they lead to; not beyond a quarantine.

    Tokens and addresses that name this account alone, by far the most of them, decide nothing and are not read.
    """
    return await tx.pg.fetch(
        """
        WITH mine AS MATERIALIZED (
            SELECT e.tenant, e.identifier, e.account, e.tier, i.quarantined
            FROM unnest($1::text[], $2::text[]) AS u(tenant, account)
            JOIN edges e USING (tenant, account) JOIN identifiers i USING (tenant, identifier)
            WHERE e.shared
        )
        SELECT tenant, identifier, account, tier, quarantined FROM mine
        UNION
        SELECT e.tenant, e.identifier, e.account, e.tier, false
        FROM (SELECT DISTINCT tenant, identifier FROM mine WHERE NOT quarantined) AS open
        JOIN edges e USING (tenant, identifier)
        """,
        *_columns(keys, 2),
    )


async def _quarantine(tx: Tx, tenant: str, identifiers: Sequence[str]) -> None:
    await tx.pg.execute(
        "UPDATE identifiers SET quarantined = true WHERE tenant = $1 AND identifier = ANY($2::text[])",
        tenant,
        identifiers,
    )


async def _move(tx: Tx, moves: Sequence[Move]) -> None:
    if moves:
        await tx.pg.execute(
            """
            UPDATE accounts a SET profile = u.profile, revision = u.revision
            FROM unnest($1::text[], $2::text[], $3::uuid[], $4::bigint[]) AS u(tenant, account, profile, revision)
            WHERE a.tenant = u.tenant AND a.account = u.account
            """,
            *_columns([(m.tenant, m.account, m.profile, m.revision) for m in moves], 4),
        )

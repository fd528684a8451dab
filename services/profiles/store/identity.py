"""The identity graph in SQL: accounts, identifiers, the edges between them, and who is one person.

How two workers that touch one person at once stay right: whoever adds an edge holds, before he reads the edges that
decide, a lock on every account that the edge connects, directly or through others. So one of the two waits, and then
reads what the other wrote (READ COMMITTED: each statement sees what was committed before it). Of a profile that is all
that hangs together one account does, the one whose alias its id is: whoever locks all of them needs that one, too. Two
that insert one new account or identifier meet in its primary key. Rounds may lock in different orders: PostgreSQL then
aborts one of the two, and the loop runs it again.

Too many accounts that hang together, or by too many ties, are crowded, and marked so: walks end at them. They are
locked where a walk ends, since that they are crowded decides, and since an identifier's accounts are counted under
their locks. The mark of an account changes only under the lock of all that hang together: when they become too many,
none was crowded before but those that the new edges lead to; when a quarantine has torn a crowd, each account that the
quarantined named is asked for as many others as are too many. That they still are is likewise decided under the locks
of those that show it: two who tear one crowd at once hold the accounts of what each quarantines, and meet there.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from libs.common.db import Tx
from services.profiles.identity import resolve
from services.profiles.identity.accounts import Claim, is_nameless
from services.profiles.identity.resolve import Edge
from services.profiles.store import walks
from services.profiles.store.walks import Key, Place, columns


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
    crowded: bool


class _Graph(NamedTuple):
    """A tenant's accounts that are locked, and the edges among them."""

    accounts: list[str]
    edges: set[Edge]
    quarantined: set[str]


async def admit(
    tx: Tx, claims: Iterable[tuple[str, Claim]], limits: Mapping[str, int], most: int = resolve.MOST_TOGETHER
) -> Admission:
    """Adds what is new of `claims` (tenant, claim) and brings the profiles of all whom it concerns up to date.

    `limits`: kind of identifier -> most accounts that one may name before it is quarantined. `most`: accounts that may
    hang together, by `TIES` ties each, before each of them stands alone. When nothing is new, nothing is locked or
    written.
    """
    accounts: dict[Key, str] = {}
    edges: dict[Place, int] = {}
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
    tied = await _insert_edges(tx, [(edge, edges[edge]) for edge in missing])
    settled = await _settled(tx, [place for place in tied if place[:2] not in fresh], limits, most)
    start = {*unknown, *(place[:2] for place in tied if place not in settled)}
    if not start:
        return Admission(fresh, [], {})
    locked: dict[Key, _Account] = {}
    graphs = await _settle(tx, start, missing, locked, limits, most)
    return Admission(fresh, *await _resolve(tx, graphs, locked, most))


async def _settled(tx: Tx, tied: Sequence[Place], limits: Mapping[str, int], most: int) -> set[Place]:
    """Those of the new edges `tied` that change nothing, found without a look at every edge around them.

    They are between accounts of one profile, which is all that hangs together, has nobody whom weak edges must keep
    apart, and is no crowd, however its ties are counted; and their identifiers still name few.
    """
    profiles = sorted(set((await walks.homes(tx, tied)).values())) if tied else []
    if not profiles:
        return set()
    await _lock_profiles(tx, profiles)
    # Only now it is certain who they are.
    whole = await walks.whole(tx, profiles, most)
    inner = [place for place, profile in (await walks.homes(tx, tied)).items() if profile in whole]
    rows = await walks.around(tx, [], inner)
    looked_at: set[Key] = set()
    # Tokens that nameless ones tie together are counted as one.
    while nameless := {(row["tenant"], row["account"]) for row in rows if is_nameless(row["account"])} - looked_at:
        rows += await walks.around(tx, sorted(nameless), [])
        looked_at |= nameless
    few: set[Place] = set()
    for tenant in {tenant for tenant, _, _ in inner}:
        mine = [row for row in rows if row["tenant"] == tenant]
        edges = {Edge(row["account"], row["identifier"], row["tier"]) for row in mine}
        known = {row["identifier"] for row in mine if row["quarantined"] and is_nameless(row["account"])}
        excessive = resolve.shared_by_too_many(edges, limits, known, most)
        few.update(place for place in inner if place[0] == tenant and place[2] not in excessive)
    return few


async def _settle(
    tx: Tx,
    start: set[Key],
    added: Sequence[Place],
    locked: dict[Key, _Account],
    limits: Mapping[str, int],
    most: int,
) -> dict[str, _Graph]:
    """Locks all whom the edges `added` may concern, and quarantines what now names too many."""
    missing = start
    while True:
        graphs = await _close(tx, missing, added, locked)
        torn: set[str] = set()
        for tenant, graph in graphs.items():
            excessive = resolve.shared_by_too_many(graph.edges, limits, graph.quarantined, most)
            excessive -= graph.quarantined
            if excessive:
                await _quarantine(tx, tenant, sorted(excessive))
                graph.quarantined.update(excessive)
                if any(locked[tenant, e.account].crowded for e in graph.edges if e.identifier in excessive):
                    torn.add(tenant)
        if not torn:
            return graphs
        missing = await _fallen_apart(tx, torn, locked, most)


async def _resolve(
    tx: Tx, graphs: Mapping[str, _Graph], locked: Mapping[Key, _Account], most: int
) -> tuple[list[Move], dict[Key, str]]:
    """Writes who is one person now: the moves, and every home."""
    homes: dict[Key, str] = {}
    crowd: set[Key] = set()
    for tenant, (accounts, edges, quarantined) in graphs.items():
        known = {account for account in accounts if locked[tenant, account].crowded}
        alone = resolve.crowded(edges, quarantined, most, known)
        crowd.update((tenant, account) for account in alone - known)
        for group in resolve.partition(accounts, edges, quarantined, alone):
            profile = min(resolve.alias(tenant, account) for account in group)
            homes.update(((tenant, account), profile) for account in group)
    moves = [
        Move(key[0], locked[key].store, key[1], locked[key].profile, profile, locked[key].revision + 1)
        for key, profile in sorted(homes.items())
        if locked[key].profile != profile
    ]
    await _move(tx, moves)
    await _mark(tx, sorted(crowd), crowded=True)
    return moves, homes


async def _close(tx: Tx, missing: set[Key], added: Sequence[Place], locked: dict[Key, _Account]) -> dict[str, _Graph]:
    """Adds to `locked` these accounts and all whom their edges lead to, up to those that are crowded."""
    identifiers = sorted({identifier for _, _, identifier in added})
    while True:
        if missing:
            reached = await walks.reach(tx, sorted(missing), identifiers)
            locked.update(await _lock(tx, sorted(reached - locked.keys())))
        # Only now it is certain who is crowded. Of these the new edges alone lead on; but for the nameless ones, which
        # tie tokens together. Once one of their tokens is quarantined, they all are: that one tells of the new ones.
        spent = await walks.quarantined_tokens(tx, [key for key in locked if is_nameless(key[1])], identifiers)
        ends = {key for key, account in locked.items() if account.crowded and not is_nameless(key[1])}
        ends.update(place[:2] for place in spent)
        places = [*spent, *(place for place in added if place[:2] in ends)]
        rows = await walks.around(tx, sorted(locked.keys() - ends), places)
        # Once, but for those that others bring while we wait for them.
        missing = {(row["tenant"], row["account"]) for row in rows} - locked.keys()
        if not missing:
            break
    graphs: dict[str, _Graph] = {}
    for tenant, account in locked:
        graphs.setdefault(tenant, _Graph([], set(), set())).accounts.append(account)
    for row in rows:
        graph = graphs[row["tenant"]]
        graph.edges.add(Edge(row["account"], row["identifier"], row["tier"]))
        if row["quarantined"]:
            graph.quarantined.add(row["identifier"])
    return graphs


async def _fallen_apart(tx: Tx, tenants: set[str], locked: dict[Key, _Account], most: int) -> set[Key]:
    """Takes the mark off the crowded accounts that no longer hang together with too many.

    What a quarantine cuts off a crowd holds an account that the quarantined named, and that is locked. Returns the
    accounts that have to be looked at again.
    """
    looked_at = set(locked)
    loose: set[Key] = set()
    sure: set[Key] = set()
    for key in sorted(key for key, account in locked.items() if account.crowded and key[0] in tenants):
        if key in sure:
            continue
        reached, ties = await walks.together(tx, key, most)
        while not reached <= locked.keys():
            locked.update(await _lock(tx, sorted(reached - locked.keys())))
            reached, ties = await walks.together(tx, key, most)
        sure |= reached
        if not resolve.too_many(len(reached), ties, most):
            loose |= {each for each in reached if locked[each].crowded}
    await _mark(tx, sorted(loose), crowded=False)
    locked.update((key, locked[key]._replace(crowded=False)) for key in loose)
    return loose | {key for key in locked.keys() - looked_at if not locked[key].crowded}


async def _known_accounts(tx: Tx, keys: Sequence[Key]) -> set[Key]:
    rows = await tx.pg.fetch(
        "SELECT tenant, account FROM accounts JOIN unnest($1::text[], $2::text[]) AS u(tenant, account)"
        " USING (tenant, account)",
        *columns(keys, 2),
    )
    return {(row["tenant"], row["account"]) for row in rows}


async def _known_edges(tx: Tx, edges: Mapping[Place, int]) -> set[Place]:
    """Those that are there already, at least as strong."""
    rows = await tx.pg.fetch(
        """
        SELECT e.tenant, e.account, e.identifier
        FROM unnest($1::text[], $2::text[], $3::text[], $4::smallint[]) AS u(tenant, account, identifier, tier)
        JOIN edges e USING (tenant, account, identifier) WHERE e.tier <= u.tier
        """,
        *columns([(*edge, tier) for edge, tier in edges.items()], 4),
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
        *columns([(*key, store, resolve.alias(*key)) for key, store in accounts], 4),
    )
    return {(row["tenant"], row["account"]) for row in rows}


async def _insert_edges(tx: Tx, edges: Sequence[tuple[Place, int]]) -> list[Place]:
    """Adds edges, and marks those of identifiers that name more than one account: only these can join anybody.

    Returns these.
    """
    if not edges:
        return []
    fanout = Counter((tenant, identifier) for (tenant, _, identifier), _ in edges)
    rows = await tx.pg.fetch(
        """
        INSERT INTO identifiers (tenant, identifier)
        SELECT * FROM unnest($1::text[], $2::text[]) AS u(t, i) ORDER BY t, i
        ON CONFLICT DO NOTHING RETURNING tenant, identifier
        """,
        *columns(sorted(fanout), 2),
    )
    fresh = {(row["tenant"], row["identifier"]) for row in rows}
    known = sorted(fanout.keys() - fresh)
    # What was known names somebody whom everybody sees: who comes with it waited for whoever came with it first.
    shared = "(SELECT true FROM edges o WHERE o.tenant = {} AND o.identifier = {} AND o.account <> {} LIMIT 1)"
    rows = await tx.pg.fetch(
        f"""
        INSERT INTO edges (tenant, account, identifier, tier, shared)
        SELECT t, a, i, r, CASE WHEN k THEN coalesce({shared.format("t", "i", "a")}, s) ELSE s END
        FROM unnest($1::text[], $2::text[], $3::text[], $4::smallint[], $5::boolean[], $6::boolean[])
            AS u(t, a, i, r, s, k)
        ORDER BY t, a, i
        ON CONFLICT (tenant, account, identifier) DO UPDATE SET tier = excluded.tier WHERE excluded.tier < edges.tier
        RETURNING tenant, account, identifier, shared
        """,
        *columns(
            [(*edge, tier, fanout[edge[0], edge[2]] > 1, (edge[0], edge[2]) not in fresh) for edge, tier in edges],
            6,
        ),
    )
    if known:
        await tx.pg.execute(
            f"""
            UPDATE edges e SET shared = true FROM unnest($1::text[], $2::text[]) AS u(tenant, identifier)
            WHERE e.tenant = u.tenant AND e.identifier = u.identifier AND NOT e.shared
              AND {shared.format("e.tenant", "e.identifier", "e.account")}
            """,
            *columns(known, 2),
        )
    # What another has brought meanwhile is not among the rows, and counts as shared.
    own = {(row["tenant"], row["account"], row["identifier"]) for row in rows if not row["shared"]}
    return [edge for edge, _ in edges if edge not in own]


async def _lock_profiles(tx: Tx, profiles: Sequence[Key]) -> None:
    await tx.pg.execute(
        """
        SELECT FROM accounts a JOIN unnest($1::text[], $2::uuid[]) AS u(tenant, alias) USING (tenant, alias)
        ORDER BY a.tenant, a.account FOR UPDATE OF a
        """,
        *columns(profiles, 2),
    )


async def _lock(tx: Tx, keys: Sequence[Key]) -> dict[Key, _Account]:
    rows = await tx.pg.fetch(
        """
        SELECT a.tenant, a.account, a.store, a.profile::text AS profile, a.revision, a.crowded
        FROM accounts a JOIN unnest($1::text[], $2::text[]) AS u(tenant, account) USING (tenant, account)
        ORDER BY a.tenant, a.account FOR UPDATE OF a
        """,
        *columns(keys, 2),
    )
    return {(row["tenant"], row["account"]): _Account(*row[2:]) for row in rows}


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
            *columns([(m.tenant, m.account, m.profile, m.revision) for m in moves], 4),
        )


async def _mark(tx: Tx, keys: Sequence[Key], *, crowded: bool) -> None:
    if keys:
        await tx.pg.execute(
            "UPDATE accounts a SET crowded = $3 FROM unnest($1::text[], $2::text[]) AS u(tenant, account)"
            " WHERE a.tenant = u.tenant AND a.account = u.account",
            *columns(keys, 2),
            crowded,
        )

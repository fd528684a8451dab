"""What the API asks of the rows. Every function takes the tenant first and sees nothing of another's."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import msgspec
from sqlalchemy import and_, exists, or_, select, tuple_

from libs.common.db import Tx
from services.profiles import tables
from services.profiles.ledger import OrderState
from services.profiles.people import PersonState
from services.profiles.store.subjects import ORDERS, PEOPLE, Subject, decode

S = TypeVar("S", bound=msgspec.Struct)


@dataclass(slots=True)
class Account:
    """One account of a profile, with its person."""

    account: str
    store: str
    crowded: bool
    person: PersonState


class Tie(NamedTuple):
    """An account is known by an identifier."""

    account: str
    identifier: str
    tier: int
    quarantined: bool


class Total(NamedTuple):
    """Counted orders in one currency."""

    currency: str
    orders: int
    net: int
    first: datetime
    last: datetime


@dataclass(slots=True)
class Profile:
    """All rows of a profile."""

    id: str
    accounts: list[Account] = field(default_factory=list)
    ties: list[Tie] = field(default_factory=list)
    totals: list[Total] = field(default_factory=list)


class Entry(NamedTuple):
    """A row of a timeline."""

    key: str
    at: datetime
    kind: str
    store: str
    account: str
    subject: str
    summary: dict[str, Any]


async def subject(tx: Tx, kind: Subject[S], tenant: str, store: str, source_id: str) -> S | None:
    """What is known of one order, checkout, cart or product; None when there is no such row."""
    state = await tx.pg.fetchval(
        f"SELECT state FROM {kind.table} WHERE tenant = $1 AND store = $2 AND source_id = $3",
        tenant,
        store,
        source_id,
    )
    return None if state is None else decode(kind, state)


async def homes(tx: Tx, tenant: str, accounts: Sequence[str]) -> dict[str, str]:
    """The profile of each account."""
    rows = await tx.pg.fetch(
        "SELECT account, profile::text AS profile FROM accounts WHERE tenant = $1 AND account = ANY($2::text[])",
        tenant,
        accounts,
    )
    return {row["account"]: row["profile"] for row in rows}


async def orders(
    tx: Tx,
    tenant: str,
    *,
    store: str | None,
    profile: str | None,
    status: str | None,
    after: tuple[datetime, str, str] | None,
    limit: int,
) -> list[tuple[OrderState, str | None]]:
    """Orders with their profile, latest first. `profile`: a current id. `after`: the last one's (placed, store, id)."""
    o, a = tables.orders.c, tables.accounts.c
    query = (
        select(o.state, a.profile)
        .select_from(tables.orders.outerjoin(tables.accounts, and_(a.tenant == o.tenant, a.account == o.account)))
        .where(o.tenant == tenant, o.placed_at.is_not(None))
        .order_by(o.placed_at.desc(), o.store, o.source_id)
        .limit(limit)
    )
    if store is not None:
        query = query.where(o.store == store)
    if status is not None:
        query = query.where(o.status == status)
    if profile is not None:
        query = query.where(a.profile == profile)
    if after is not None:
        placed, after_store, after_id = after
        query = query.where(
            or_(
                o.placed_at < placed,
                and_(o.placed_at == placed, tuple_(o.store, o.source_id) > tuple_(after_store, after_id)),
            )
        )
    rows = (await tx.sql.execute(query)).all()
    return [(decode(ORDERS, state), home) for state, home in rows]


async def knows_store(tx: Tx, tenant: str, store: str) -> bool:
    """Whether ingest has told of such a store."""
    return bool(
        await tx.pg.fetchval("SELECT EXISTS (SELECT FROM stores WHERE tenant = $1 AND store = $2)", tenant, store)
    )


async def profile_by_id(tx: Tx, tenant: str, profile_id: str) -> str | None:
    """The current id of a profile by an id that it has or ever had."""
    found: str | None = await tx.pg.fetchval(
        "SELECT profile::text FROM accounts WHERE tenant = $1 AND alias = $2::uuid", tenant, profile_id
    )
    return found


async def profile_by_account(tx: Tx, tenant: str, account: str) -> str | None:
    """The profile of an account."""
    return (await homes(tx, tenant, [account])).get(account)


async def profiles_by_identifier(tx: Tx, tenant: str, identifier: str) -> list[str]:
    """The profiles that an e-mail or phone names. More than one when it is shared, and so names nobody.

    Strong edges come first, as they do in `identity.resolve`: what is somebody's own is not shared by being mentioned.
    """
    rows = await tx.pg.fetch(
        """
        SELECT DISTINCT profile::text AS profile FROM (
            SELECT a.profile, e.tier, min(e.tier) OVER () AS strongest
            FROM edges e JOIN accounts a USING (tenant, account) WHERE e.tenant = $1 AND e.identifier = $2
        ) AS named WHERE tier = strongest
        """,
        tenant,
        identifier,
    )
    return [row["profile"] for row in rows]


async def platform_of(tx: Tx, tenant: str, account: str) -> str | None:
    """The platform of an account; None when there is no such account or only first-party events spoke of it."""
    state = await tx.pg.fetchval("SELECT state FROM people WHERE tenant = $1 AND account = $2", tenant, account)
    return None if state is None else decode(PEOPLE, state).platform


async def profile_ids(
    tx: Tx, tenant: str, *, identifiers: Sequence[str], store: str | None, after: str | None, limit: int
) -> list[str]:
    """Profiles by id that are known by every one of `identifiers` and, if given, in `store`."""
    a = tables.accounts.c
    query = (
        select(a.profile).where(a.tenant == tenant, a.profile.is_not(None)).distinct().order_by(a.profile).limit(limit)
    )
    if after is not None:
        query = query.where(a.profile > after)
    if store is not None:
        query = query.where(a.store == store)
    for identifier in identifiers:
        other, edge = tables.accounts.alias(), tables.edges.alias()
        query = query.where(
            exists(
                select(1)
                .select_from(edge.join(other, and_(other.c.tenant == edge.c.tenant, other.c.account == edge.c.account)))
                .where(edge.c.tenant == tenant, edge.c.identifier == identifier, other.c.profile == a.profile)
            )
        )
    return list((await tx.sql.scalars(query)).all())


async def profiles(tx: Tx, tenant: str, ids: Sequence[str]) -> list[Profile]:
    """Whole profiles, in the order of `ids`: one query a table."""
    found = {profile_id: Profile(profile_id) for profile_id in ids}
    home: dict[str, Profile] = {}
    for row in await tx.pg.fetch(
        """
        SELECT a.profile::text AS profile, a.account, a.store, a.crowded, p.state
        FROM accounts a JOIN people p USING (tenant, account)
        WHERE a.tenant = $1 AND a.profile = ANY($2::uuid[]) ORDER BY a.account COLLATE "C"
        """,
        tenant,
        ids,
    ):
        profile = home[row["account"]] = found[row["profile"]]
        profile.accounts.append(Account(row["account"], row["store"], row["crowded"], decode(PEOPLE, row["state"])))
    accounts = list(home)
    for row in await tx.pg.fetch(
        """
        SELECT e.account, e.identifier, e.tier, i.quarantined FROM edges e JOIN identifiers i USING (tenant, identifier)
        WHERE e.tenant = $1 AND e.account = ANY($2::text[]) ORDER BY e.identifier COLLATE "C", e.account COLLATE "C"
        """,
        tenant,
        accounts,
    ):
        home[row["account"]].ties.append(Tie(*row))
    for row in await tx.pg.fetch(
        """
        SELECT a.profile::text AS profile, o.currency, count(*) AS orders, sum(o.net)::bigint AS net,
               min(o.placed_at) AS first, max(o.placed_at) AS last
        FROM orders o JOIN accounts a USING (tenant, account)
        WHERE o.tenant = $1 AND o.account = ANY($2::text[]) AND o.counted
        GROUP BY a.profile, o.currency ORDER BY o.currency
        """,
        tenant,
        accounts,
    ):
        found[row["profile"]].totals.append(Total(*row[1:]))
    return [found[profile_id] for profile_id in ids]


async def timeline(tx: Tx, tenant: str, profile: str, *, after: tuple[datetime, str] | None, limit: int) -> list[Entry]:
    """What happened to a person, latest first. `after`: (at, key) of the last entry seen."""
    t, a = tables.timeline.c, tables.accounts.c
    query = (
        select(t.key, t.at, t.kind, t.store, t.account, t.subject, t.summary)
        .select_from(tables.timeline.join(tables.accounts, and_(a.tenant == t.tenant, a.account == t.account)))
        .where(t.tenant == tenant, a.profile == profile)
        .order_by(t.at.desc(), t.key)
        .limit(limit)
    )
    if after is not None:
        query = query.where(or_(t.at < after[0], and_(t.at == after[0], t.key > after[1])))
    rows = (await tx.sql.execute(query)).all()
    return [Entry(*row[:6], msgspec.json.decode(row[6])) for row in rows]

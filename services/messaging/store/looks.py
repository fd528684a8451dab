"""Loads what timers and the gate look at: one query a table for a whole batch of subjects."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from libs.common.db import Tx
from services.messaging.ledger import DELIVERED
from services.messaging.mail import Shop
from services.messaging.person import AccountFacts, Person
from services.messaging.rules import Basket, Look, Run, TokenOrder, chosen_basket

PersonKey = tuple[str, str]
"""Tenant and profile."""
CartKey = tuple[str, str, str]
"""Tenant, store and token."""


class Subject(NamedTuple):
    """What a timer stands for: a cart's or checkout's token in a store, or an account (and no store)."""

    tenant: str
    flow: str
    store: str
    subject: str


async def load(tx: Tx, subjects: Sequence[Subject], baskets_of: frozenset[str]) -> dict[Subject, Look]:
    """A look at each subject, with its person locked until the transaction ends.

    `baskets_of`: keys of the flows whose subjects are carts and checkouts. Two workers never decide about one person
    at a time: that is what the cap and the re-entry rules stand on.
    """
    carts = sorted({(s.tenant, s.store, s.subject) for s in subjects if s.flow in baskets_of})
    baskets = await _baskets(tx, carts)
    accounts = {(s.tenant, account) for s in subjects if (account := _account(s, baskets, baskets_of)) is not None}
    profiles = await _lock(tx, sorted(accounts))
    # What follows is read after the lock, so it includes all that the former holder decided.
    people = await _people(tx, sorted(set(profiles.values())))
    orders = await _orders(tx, carts, baskets)
    runs = await _runs(tx, subjects, baskets, people)
    deleted = await _deleted_stores(tx, {s.tenant for s in subjects})
    looks = {}
    for s in subjects:
        account = _account(s, baskets, baskets_of)
        profile = profiles.get((s.tenant, account)) if account is not None else None
        person = people.get(profile) if profile is not None else None
        mine = baskets.get((s.tenant, s.store, s.subject), ()) if s.flow in baskets_of else ()
        looks[s] = Look(
            tenant=s.tenant,
            store=s.store,
            subject=s.subject,
            person=person,
            baskets=tuple(mine),
            orders=tuple(order for token in _tokens(s, mine) for order in orders.get((s.tenant, s.store, token), ())),
            runs=runs.of(s, mine, person),
            deleted_stores=deleted.get(s.tenant, frozenset()),
        )
    return looks


async def shops(tx: Tx, stores: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Shop]:
    """The stores that are known, by tenant and key."""
    wanted = sorted(set(stores))
    rows = await tx.pg.fetch(
        "SELECT s.* FROM stores s JOIN unnest($1::text[], $2::text[]) u(tenant, store) USING (tenant, store)",
        [tenant for tenant, _ in wanted],
        [store for _, store in wanted],
    )
    return {(row["tenant"], row["store"]): Shop(**{name: row[name] for name in Shop.__struct_fields__}) for row in rows}


async def _deleted_stores(tx: Tx, tenants: Iterable[str]) -> dict[str, frozenset[str]]:
    rows = await tx.pg.fetch(
        "SELECT tenant, array_agg(store) AS stores FROM stores"
        " WHERE tenant = ANY($1::text[]) AND deleted_at IS NOT NULL GROUP BY tenant",
        [*tenants],
    )
    return {row["tenant"]: frozenset(row["stores"]) for row in rows}


async def has_sisters(tx: Tx, tenant: str, store: str) -> bool:
    """Whether the tenant has other stores besides this one, that are not deleted."""
    return bool(
        await tx.pg.fetchval(
            "SELECT EXISTS (SELECT FROM stores WHERE tenant = $1 AND store <> $2 AND deleted_at IS NULL)", tenant, store
        )
    )


async def last_messages(tx: Tx, people: Mapping[PersonKey, Person]) -> dict[tuple[str, str, str], datetime]:
    """When each person was last written to, or may have been, by any flow: by tenant, profile and channel."""
    owners = {(tenant, a.account): profile for (tenant, profile), p in people.items() for a in p.accounts}
    rows = await tx.pg.fetch(
        """
        SELECT u.tenant, u.account, m.channel, m.at FROM unnest($1::text[], $2::text[]) u(tenant, account)
        CROSS JOIN LATERAL (
            SELECT channel, max(claimed_at) AS at FROM messages m
            WHERE m.tenant = u.tenant AND m.account = u.account AND m.state = ANY($3::text[]) AND NOT m.transactional
            GROUP BY channel) m
        """,
        [tenant for tenant, _ in owners],
        [account for _, account in owners],
        DELIVERED,
    )
    last: dict[tuple[str, str, str], datetime] = {}
    for row in rows:
        key = (row["tenant"], owners[row["tenant"], row["account"]], row["channel"])
        last[key] = max(row["at"], last.get(key, row["at"]))
    return last


def _tokens(s: Subject, baskets: Sequence[Basket]) -> set[str]:
    return {s.subject, *(token for b in baskets for token in (b.token, b.cart_token) if token is not None)}


def _account(s: Subject, baskets: Mapping[CartKey, Sequence[Basket]], baskets_of: frozenset[str]) -> str | None:
    if s.flow not in baskets_of:
        return s.subject
    basket = chosen_basket(s.subject, baskets.get((s.tenant, s.store, s.subject), ()))
    return basket.account if basket else None


async def _baskets(tx: Tx, carts: Sequence[CartKey]) -> dict[CartKey, list[Basket]]:
    found: dict[CartKey, list[Basket]] = defaultdict(list)
    if not carts:
        return found
    rows = await tx.pg.fetch(
        """
        SELECT u.subject, b.*, b.lines::text AS as_json
        FROM unnest($1::text[], $2::text[], $3::text[]) u(tenant, store, subject)
        CROSS JOIN LATERAL (
            SELECT * FROM baskets b WHERE b.tenant = u.tenant AND b.store = u.store
                AND b.kind IN ('cart', 'checkout') AND b.token = u.subject
            UNION ALL
            SELECT * FROM baskets b WHERE b.tenant = u.tenant AND b.store = u.store
                AND b.kind = 'checkout' AND b.cart_token = u.subject AND b.token <> u.subject) b
        """,
        *zip(*carts, strict=True),
    )
    for row in rows:
        values = {name: row[name] for name in Basket.__struct_fields__} | {"lines": row["as_json"]}
        found[row["tenant"], row["store"], row["subject"]].append(Basket(**values))
    return found


async def _lock(tx: Tx, accounts: Sequence[tuple[str, str]]) -> dict[tuple[str, str], PersonKey]:
    """Each account's profile, locked. By advisory locks, since facts about the person need not wait for us.

    Lowest first, or two workers deadlock.
    """
    rows = await tx.pg.fetch(
        """
        SELECT u.tenant, u.account, a.profile FROM unnest($1::text[], $2::text[]) u(tenant, account)
        CROSS JOIN LATERAL (
            SELECT profile FROM accounts a WHERE a.tenant = u.tenant AND a.account = u.account LIMIT 1) a
        WHERE a.profile IS NOT NULL
        """,
        [tenant for tenant, _ in accounts],
        [account for _, account in accounts],
    )
    profiles = {(row["tenant"], row["account"]): (row["tenant"], row["profile"]) for row in rows}
    await tx.pg.execute(
        "SELECT pg_advisory_xact_lock(lock) FROM (SELECT DISTINCT hashtextextended(key, 0) AS lock"
        " FROM unnest($1::text[]) key ORDER BY lock) locks",
        [f"{tenant}/{profile}" for tenant, profile in set(profiles.values())],
    )
    return profiles


_PEOPLE = """
    SELECT u.tenant, u.profile, a.account, a.store, a.email, a.email_verified, a.first_name, a.timezone, a.deleted,
           s.reason AS suppressed, o.ordered_at, o.ordered_live_at, c.channels, c.states,
           EXISTS (
               SELECT FROM accounts t WHERE t.tenant = a.tenant AND t.email = a.email AND 'unsubscribed' = (
                   -- Not a join: before the tables are analysed it would be made by reading all consents each time.
                   SELECT state FROM consents w
                   WHERE w.tenant = t.tenant AND w.account = t.account AND w.channel = 'email'
               )
           ) AS withdrawn,
           greatest(a.active_at, b.changed_at) AS active_at,
           greatest(a.active_live_at, b.changed_live_at) AS active_live_at
    FROM unnest($1::text[], $2::text[]) u(tenant, profile)
    CROSS JOIN LATERAL (
        SELECT * FROM accounts a WHERE a.tenant = u.tenant AND a.profile = u.profile OFFSET 0) a
    LEFT JOIN LATERAL (
        SELECT reason FROM suppressions s
        WHERE s.tenant = a.tenant AND s.channel = 'email' AND s.address = a.email LIMIT 1) s ON true
    CROSS JOIN LATERAL (
        SELECT max(placed_at) AS ordered_at, max(placed_at) FILTER (WHERE live) AS ordered_live_at
        FROM orders r WHERE r.tenant = a.tenant AND r.account = a.account AND r.counted) o
    CROSS JOIN LATERAL (
        SELECT max(changed_at) AS changed_at, max(changed_at) FILTER (WHERE live) AS changed_live_at
        FROM baskets k WHERE k.tenant = a.tenant AND k.account = a.account AND NOT k.deleted) b
    CROSS JOIN LATERAL (
        SELECT array_agg(channel) AS channels, array_agg(state) AS states
        FROM consents n WHERE n.tenant = a.tenant AND n.account = a.account) c
    ORDER BY u.tenant, u.profile, a.account
    """


async def _people(tx: Tx, profiles: Sequence[PersonKey]) -> dict[PersonKey, Person]:
    rows = await tx.pg.fetch(_PEOPLE, [tenant for tenant, _ in profiles], [profile for _, profile in profiles])
    accounts: dict[PersonKey, list[AccountFacts]] = defaultdict(list)
    for row in rows:
        accounts[row["tenant"], row["profile"]].append(
            AccountFacts(
                account=row["account"],
                store=row["store"],
                email=row["email"],
                email_verified=row["email_verified"],
                first_name=row["first_name"],
                timezone=row["timezone"],
                deleted=row["deleted"],
                consents=dict(zip(row["channels"] or (), row["states"] or (), strict=True)),
                suppressed=row["suppressed"],
                withdrawn=row["withdrawn"],
                ordered_at=row["ordered_at"],
                ordered_live_at=row["ordered_live_at"],
                active_at=row["active_at"],
                active_live_at=row["active_live_at"],
            )
        )
    return {key: Person(profile=key[1], accounts=tuple(facts)) for key, facts in accounts.items()}


async def _orders(
    tx: Tx, carts: Sequence[CartKey], baskets: Mapping[CartKey, Sequence[Basket]]
) -> dict[CartKey, list[TokenOrder]]:
    """Counted orders that name one of the tokens, by tenant, store and token."""
    tokens = set(carts)
    for (tenant, store, _), found in baskets.items():
        tokens |= {(tenant, store, token) for b in found for token in (b.token, b.cart_token) if token is not None}
    orders: dict[CartKey, list[TokenOrder]] = defaultdict(list)
    if not tokens:
        return orders
    rows = await tx.pg.fetch(
        """
        SELECT u.tenant, u.store, u.token, o.placed_at, o.checkout_token, o.cart_token
        FROM unnest($1::text[], $2::text[], $3::text[]) u(tenant, store, token)
        CROSS JOIN LATERAL (
            SELECT * FROM orders o WHERE o.tenant = u.tenant AND o.store = u.store
                AND o.checkout_token = u.token AND o.counted
            UNION ALL
            SELECT * FROM orders o WHERE o.tenant = u.tenant AND o.store = u.store
                AND o.cart_token = u.token AND o.counted) o
        """,
        *zip(*sorted(tokens), strict=True),
    )
    for row in rows:
        orders[row["tenant"], row["store"], row["token"]].append(
            TokenOrder(placed_at=row["placed_at"], checkout_token=row["checkout_token"], cart_token=row["cart_token"])
        )
    return orders


class _Runs(NamedTuple):
    """Runs by tenant, flow, store and subject, and by tenant, flow and account."""

    by_subject: dict[Subject, list[Run]]
    by_account: dict[tuple[str, str, str], list[Run]]

    def of(self, s: Subject, baskets: Sequence[Basket], person: Person | None) -> tuple[Run, ...]:
        """The subject's own, that of the cart that it came from, and those of the person."""
        subjects = {s.subject, *(b.cart_token for b in baskets if b.cart_token is not None)}
        runs = {r.run_key: r for token in subjects for r in self.by_subject.get(s._replace(subject=token), ())}
        for facts in person.accounts if person else ():
            runs |= {r.run_key: r for r in self.by_account.get((s.tenant, s.flow, facts.account), ())}
        return tuple(runs.values())


async def _runs(
    tx: Tx,
    subjects: Sequence[Subject],
    baskets: Mapping[CartKey, Sequence[Basket]],
    people: Mapping[PersonKey, Person],
) -> _Runs:
    wanted = set(subjects)
    for s in subjects:
        carts = {b.cart_token for b in baskets.get((s.tenant, s.store, s.subject), ())}
        wanted |= {s._replace(subject=token) for token in carts if token is not None}
    accounts = sorted({(tenant, a.account) for (tenant, _), person in people.items() for a in person.accounts})
    rows = await tx.pg.fetch(
        """
        SELECT r.* FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) u(tenant, flow, store, subject)
        CROSS JOIN LATERAL (
            SELECT * FROM runs r WHERE r.tenant = u.tenant AND r.flow = u.flow AND r.store = u.store
                AND r.subject = u.subject OFFSET 0) r
        UNION
        SELECT r.* FROM unnest($5::text[], $6::text[]) u(tenant, account)
        CROSS JOIN LATERAL (
            SELECT * FROM runs r WHERE r.tenant = u.tenant AND r.account = u.account OFFSET 0) r
        """,
        *zip(*sorted(wanted), strict=True),
        [tenant for tenant, _ in accounts],
        [account for _, account in accounts],
    )
    runs = _Runs(defaultdict(list), defaultdict(list))
    for row in rows:
        run = Run(
            run_key=row["run_key"],
            version=row["version"],
            subject=row["subject"],
            account=row["account"],
            began_at=row["began_at"],
            step=row["step"],
            ended=row["ended_at"] is not None,
        )
        runs.by_subject[Subject(row["tenant"], row["flow"], row["store"], row["subject"])].append(run)
        runs.by_account[row["tenant"], row["flow"], row["account"]].append(run)
    return runs

"""What is known: accounts, consents, orders, carts and checkouts, stores. Newest revision wins, in SQL."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from libs.common.db import Tx
from services.messaging.facts import Facts, Key
from services.messaging.rules import Basket


async def save(tx: Tx, facts: Facts) -> None:
    """One statement a table. Rows go in key order, or two workers deadlock."""
    await _save_accounts(tx, facts)
    await _save_consents(tx, facts)
    await _save_stores(tx, facts)
    await _save_orders(tx, facts)
    await _save_baskets(tx, facts)


async def _save_accounts(tx: Tx, facts: Facts) -> None:
    if facts.moved:
        moved = [(key[0], fact) for key, fact in sorted(facts.moved.items())]
        await tx.pg.execute(
            """
            INSERT INTO accounts (tenant, account, store, profile, moved_revision)
            SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])
            ON CONFLICT (tenant, account) DO UPDATE
            SET store = excluded.store, profile = excluded.profile, moved_revision = excluded.moved_revision
            WHERE excluded.moved_revision > accounts.moved_revision
            """,
            [tenant for tenant, _ in moved],
            [f.account for _, f in moved],
            [f.store for _, f in moved],
            [f.profile for _, f in moved],
            [f.revision for _, f in moved],
        )
    if facts.people:
        people = [(key[0], fact) for key, fact in sorted(facts.people.items())]
        await tx.pg.execute(
            """
            INSERT INTO accounts (tenant, account, store, email, email_verified, first_name, timezone, deleted,
                                  profile_revision)
            SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bool[], $6::text[], $7::text[],
                                 $8::bool[], $9::bigint[])
            ON CONFLICT (tenant, account) DO UPDATE
            SET email = excluded.email, email_verified = excluded.email_verified, first_name = excluded.first_name,
                timezone = excluded.timezone, deleted = excluded.deleted, profile_revision = excluded.profile_revision
            WHERE excluded.profile_revision > accounts.profile_revision
            """,
            [tenant for tenant, _ in people],
            [f.account for _, f in people],
            [f.store for _, f in people],
            [f.email for _, f in people],
            [f.email_verified for _, f in people],
            [f.first_name for _, f in people],
            [f.timezone for _, f in people],
            [f.deleted for _, f in people],
            [f.revision for _, f in people],
        )
    if facts.activities:
        activities = sorted(facts.activities.items())
        await tx.pg.execute(
            """
            INSERT INTO accounts (tenant, account, store, active_at, active_live_at)
            SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[])
            ON CONFLICT (tenant, account) DO UPDATE
            SET active_at = greatest(accounts.active_at, excluded.active_at),
                active_live_at = greatest(accounts.active_live_at, excluded.active_live_at)
            WHERE greatest(accounts.active_at, excluded.active_at) IS DISTINCT FROM accounts.active_at
               OR greatest(accounts.active_live_at, excluded.active_live_at) IS DISTINCT FROM accounts.active_live_at
            """,
            [tenant for (tenant, _), _ in activities],
            [account for (_, account), _ in activities],
            [a.store for _, a in activities],
            [a.at for _, a in activities],
            [a.live_at for _, a in activities],
        )


async def _save_consents(tx: Tx, facts: Facts) -> None:
    if not facts.consents:
        return
    consents = [(key[0], fact) for key, fact in sorted(facts.consents.items())]
    await tx.pg.execute(
        """
        INSERT INTO consents (tenant, account, channel, state, at, revision)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::bigint[])
        ON CONFLICT (tenant, account, channel) DO UPDATE
        SET state = excluded.state, at = excluded.at, revision = excluded.revision
        WHERE excluded.revision > consents.revision
        """,
        [tenant for tenant, _ in consents],
        [f.account for _, f in consents],
        [f.channel for _, f in consents],
        [f.state for _, f in consents],
        [f.at for _, f in consents],
        [f.revision for _, f in consents],
    )


async def _save_stores(tx: Tx, facts: Facts) -> None:
    if not facts.stores:
        return
    stores = [(key[0], fact) for key, fact in sorted(facts.stores.items())]
    await tx.pg.execute(
        """
        INSERT INTO stores (tenant, store, name, domain, timezone, consent_policy, email, postal_address, paused_at,
                            resumed_at, deleted_at, revision)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                             $8::text[], $9::timestamptz[], $10::timestamptz[], $11::timestamptz[], $12::bigint[])
        ON CONFLICT (tenant, store) DO UPDATE
        SET name = excluded.name, domain = excluded.domain, timezone = excluded.timezone,
            consent_policy = excluded.consent_policy, email = excluded.email,
            postal_address = excluded.postal_address, paused_at = excluded.paused_at,
            resumed_at = excluded.resumed_at, deleted_at = excluded.deleted_at, revision = excluded.revision
        WHERE excluded.revision > stores.revision
        """,
        [tenant for tenant, _ in stores],
        [f.store for _, f in stores],
        [f.name for _, f in stores],
        [f.domain for _, f in stores],
        [f.timezone for _, f in stores],
        [f.consent_policy for _, f in stores],
        [f.email for _, f in stores],
        [f.postal_address for _, f in stores],
        [f.paused_at for _, f in stores],
        [f.resumed_at for _, f in stores],
        [f.deleted_at for _, f in stores],
        [f.revision for _, f in stores],
    )


async def _save_orders(tx: Tx, facts: Facts) -> None:
    if not facts.orders:
        return
    orders = [(key[0], order) for key, order in sorted(facts.orders.items())]
    await tx.pg.execute(
        """
        INSERT INTO orders AS o (tenant, store, source_id, account, counted, placed_at, checkout_token, cart_token,
                                 live, revision)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bool[], $6::timestamptz[], $7::text[],
                             $8::text[], $9::bool[], $10::bigint[])
        ON CONFLICT (tenant, store, source_id) DO UPDATE
        SET (account, counted, placed_at, checkout_token, cart_token, revision) = (
                SELECT n.* FROM (VALUES
                    (excluded.account, excluded.counted, excluded.placed_at, excluded.checkout_token,
                     excluded.cart_token, excluded.revision),
                    (o.account, o.counted, o.placed_at, o.checkout_token, o.cart_token, o.revision)
                ) AS n(account, counted, placed_at, checkout_token, cart_token, revision)
                ORDER BY n.revision DESC LIMIT 1),
            live = o.live OR excluded.live
        WHERE excluded.revision > o.revision OR excluded.live AND NOT o.live
        """,
        [tenant for tenant, _ in orders],
        [o.view.store for _, o in orders],
        [o.view.source_id for _, o in orders],
        [o.view.account for _, o in orders],
        [o.view.counted for _, o in orders],
        [o.view.placed_at for _, o in orders],
        [o.view.checkout_token for _, o in orders],
        [o.view.cart_token for _, o in orders],
        [o.live for _, o in orders],
        [o.revision for _, o in orders],
    )


_BASKET = (
    "account",
    "started_at",
    "changed_at",
    "items",
    "currency",
    "total",
    "lines",
    "cart_token",
    "completed_at",
    "recovery_url",
    "recovery_ends_at",
    "deleted",
)
_NEWER = "excluded.revision > b.revision"
_SAVE_BASKETS = f"""
    INSERT INTO baskets AS b (tenant, store, kind, token, {", ".join(_BASKET)}, live, revision)
    SELECT tenant, store, kind, token, {", ".join(_BASKET)}, live, revision
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[],
                $8::int[], $9::text[], $10::bigint[], $11::jsonb[], $12::text[], $13::timestamptz[], $14::text[],
                $15::timestamptz[], $16::bool[], $17::bool[], $18::bigint[])
         AS u(tenant, store, kind, token, {", ".join(_BASKET)}, live, revision)
    ON CONFLICT (tenant, store, kind, token) DO UPDATE
    SET {", ".join(f"{c} = CASE WHEN {_NEWER} THEN excluded.{c} ELSE b.{c} END" for c in _BASKET)},
        live = b.live OR excluded.live, revision = greatest(b.revision, excluded.revision)
    WHERE {_NEWER} OR excluded.live AND NOT b.live
    """


async def _save_baskets(tx: Tx, facts: Facts) -> None:
    if not facts.baskets:
        return
    kept = [(key[0], newest.basket, newest.revision) for key, newest in sorted(facts.baskets.items())]
    baskets = [basket for _, basket, _ in kept]
    await tx.pg.execute(
        _SAVE_BASKETS,
        [tenant for tenant, _, _ in kept],
        [b.store for b in baskets],
        [b.kind for b in baskets],
        [b.token for b in baskets],
        [b.account for b in baskets],
        [b.started_at for b in baskets],
        [b.changed_at for b in baskets],
        [b.items for b in baskets],
        [b.currency for b in baskets],
        [b.total for b in baskets],
        [b.lines for b in baskets],
        [b.cart_token for b in baskets],
        [b.completed_at for b in baskets],
        [b.recovery_url for b in baskets],
        [b.recovery_ends_at for b in baskets],
        [b.deleted for b in baskets],
        [b.live for b in baskets],
        [revision for _, _, revision in kept],
    )


# LATERAL with LIMIT or OFFSET 0, here and in `looks`: each row by its index, whatever the planner makes of a table that
# was never analysed.

# The profile of the account `u`, and the accounts of the profile `u`. Each profile but once: many of one may be in one
# batch, and each of them would bring all of them.
_PROFILE = """
    CROSS JOIN LATERAL (SELECT profile FROM accounts a WHERE a.tenant = u.tenant AND a.account = u.account LIMIT 1) a
    """
_SIBLINGS = """
    CROSS JOIN LATERAL (
        SELECT o.account FROM accounts o WHERE o.tenant = u.tenant AND o.profile = u.profile OFFSET 0) o
    """

# Arming. A timer that exists is left alone, unless this look would be earlier; its row is locked all the same, so that
# one which is just being taken away is put back.
_ARM = """
    ON CONFLICT (tenant, flow, store, subject) DO UPDATE SET due_at = excluded.due_at
    WHERE excluded.due_at < timers.due_at
    """


async def arm(tx: Tx, flow: str, baskets: Sequence[tuple[str, Basket, datetime]]) -> None:
    """Arms a timer for each tenant, basket and moment of the first look."""
    rows = sorted({(tenant, b.store, b.token): due for tenant, b, due in baskets}.items())
    if rows:
        await tx.pg.execute(
            f"""
            INSERT INTO timers (tenant, flow, store, subject, due_at)
            SELECT tenant, $1, store, token, due
            FROM unnest($2::text[], $3::text[], $4::text[], $5::timestamptz[]) AS u(tenant, store, token, due) {_ARM}
            """,
            flow,
            [tenant for (tenant, _, _), _ in rows],
            [store for (_, store, _), _ in rows],
            [token for (_, _, token), _ in rows],
            [due for _, due in rows],
        )


async def arm_reached(
    tx: Tx, flow: str, accounts: Sequence[Key], delay: Mapping[str, timedelta], horizon: Mapping[str, datetime]
) -> None:
    """Arms the idle baskets of all that share a profile with these accounts: they may be somebody's now.

    Per tenant: `delay` from the last change to the first look; `horizon`: baskets changed before are too old to matter.
    """
    chosen = sorted(key for key in accounts if key[0] in delay)
    if chosen:
        await tx.pg.execute(
            f"""
            INSERT INTO timers (tenant, flow, store, subject, due_at)
            SELECT DISTINCT ON (u.tenant, b.store, b.token) u.tenant, $1, b.store, b.token, b.changed_at + u.delay
            FROM (
                SELECT DISTINCT u.tenant, a.profile, u.delay, u.horizon
                FROM unnest($2::text[], $3::text[], $4::interval[], $5::timestamptz[])
                    AS u(tenant, account, delay, horizon) {_PROFILE}
            ) u {_SIBLINGS}
            CROSS JOIN LATERAL (
                SELECT * FROM baskets b WHERE b.tenant = u.tenant AND b.account = o.account OFFSET 0) b
            WHERE b.live AND NOT b.deleted AND b.completed_at IS NULL AND b.items > 0 AND b.changed_at >= u.horizon
            ORDER BY u.tenant, b.store, b.token, b.changed_at {_ARM}
            """,
            flow,
            [key[0] for key in chosen],
            [key[1] for key in chosen],
            [delay[key[0]] for key in chosen],
            [horizon[key[0]] for key in chosen],
        )


async def arm_lapses(tx: Tx, flow: str, looks: Mapping[Key, datetime]) -> None:
    """Arms a look at each account whose profile has ever bought. Accounts name their store; timers need not."""
    rows = sorted(looks.items())
    if rows:
        await tx.pg.execute(
            f"""
            WITH touched AS MATERIALIZED (
                SELECT u.tenant, u.account, u.due, a.profile
                FROM unnest($2::text[], $3::text[], $4::timestamptz[]) AS u(tenant, account, due) {_PROFILE}
            ), bought AS MATERIALIZED (
                SELECT u.tenant, u.profile FROM (SELECT DISTINCT tenant, profile FROM touched) u
                CROSS JOIN LATERAL (
                    SELECT FROM accounts o
                    CROSS JOIN LATERAL (
                        SELECT FROM orders r WHERE r.tenant = u.tenant AND r.account = o.account AND r.counted
                        LIMIT 1) r
                    WHERE o.tenant = u.tenant AND o.profile = u.profile LIMIT 1) any_order
            )
            INSERT INTO timers (tenant, flow, store, subject, due_at)
            SELECT u.tenant, $1, '', u.account, u.due FROM touched u JOIN bought USING (tenant, profile)
            ORDER BY u.tenant, u.account {_ARM}
            """,
            flow,
            [key[0] for key, _ in rows],
            [key[1] for key, _ in rows],
            [due for _, due in rows],
        )


async def look_again(tx: Tx, accounts: Collection[Key], now: datetime) -> None:
    """Has the timers of what is under way with the people of these accounts look now: it may be over.

    Left to its next step a run would have forgotten by then that it ended, where that was taken back.
    """
    chosen = sorted(accounts)
    if chosen:
        await tx.pg.execute(
            f"""
            UPDATE timers t SET due_at = $3 FROM (
                SELECT DISTINCT r.tenant, r.flow, r.store, r.subject
                FROM (
                    SELECT DISTINCT u.tenant, a.profile
                    FROM unnest($1::text[], $2::text[]) AS u(tenant, account) {_PROFILE}
                ) u {_SIBLINGS}
                CROSS JOIN LATERAL (
                    SELECT * FROM runs r WHERE r.tenant = u.tenant AND r.account = o.account AND r.ended_at IS NULL
                    OFFSET 0) r
                ORDER BY r.tenant, r.flow, r.store, r.subject
            ) w
            WHERE (t.tenant, t.flow, t.store, t.subject) = (w.tenant, w.flow, w.store, w.subject) AND t.due_at > $3
            """,
            [key[0] for key in chosen],
            [key[1] for key in chosen],
            now,
        )


async def look_again_at(tx: Tx, stores: Collection[Key], now: datetime) -> None:
    """Has all timers of these stores look now, and those of what is under way with their accounts."""
    chosen = sorted(stores)
    if chosen:
        await tx.pg.execute(
            """
            UPDATE timers t SET due_at = $3 FROM (
                SELECT k.tenant, k.flow, k.store, k.subject
                FROM unnest($1::text[], $2::text[]) AS u(tenant, store) JOIN timers k USING (tenant, store)
                UNION
                SELECT r.tenant, r.flow, r.store, r.subject
                FROM unnest($1::text[], $2::text[]) AS u(tenant, store) JOIN accounts a USING (tenant, store)
                JOIN runs r ON r.tenant = a.tenant AND r.account = a.account AND r.ended_at IS NULL
                ORDER BY tenant, flow, store, subject
            ) w
            WHERE (t.tenant, t.flow, t.store, t.subject) = (w.tenant, w.flow, w.store, w.subject) AND t.due_at > $3
            """,
            [tenant for tenant, _ in chosen],
            [store for _, store in chosen],
            now,
        )

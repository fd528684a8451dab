"""What the API lists, newest first."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, and_, func, select, tuple_

from libs.common.db import Tx
from services.messaging.tables import accounts, flow_versions, flows, messages, runs, suppressions

Row = Mapping[str, Any]

# The profile that the message's account belongs to now, which a merge may have changed since it was sent.
_PROFILE = func.coalesce(accounts.c.profile, messages.c.profile).label("profile_id")
_OF = and_(accounts.c.tenant == messages.c.tenant, accounts.c.account == messages.c.account)


async def list_messages(
    tx: Tx,
    tenant: str,
    *,
    profile: str | None = None,
    flow: str | None = None,
    state: str | None = None,
    reason: str | None = None,
    store: str | None = None,
    after: tuple[datetime, str] | None = None,
    limit: int,
) -> list[Row]:
    """At most `limit` messages older than `after` (creation and id)."""
    query = (
        select(messages, _PROFILE)
        .select_from(messages.outerjoin(accounts, _OF))
        .where(messages.c.tenant == tenant)
        .order_by(messages.c.created_at.desc(), messages.c.id.desc())
        .limit(limit)
    )
    for column, value in (
        (accounts.c.profile, profile),
        (messages.c.flow, flow),
        (messages.c.state, state),
        (messages.c.reason, reason),
        (messages.c.store, store),
    ):
        if value is not None:
            query = query.where(column == value)
    if profile is not None:
        # Repeated for the index: from the profile to its accounts to their messages.
        mine = select(accounts.c.account).where(accounts.c.tenant == tenant, accounts.c.profile == profile)
        query = query.where(messages.c.account.in_(mine))
    if after is not None:
        query = query.where(tuple_(messages.c.created_at, messages.c.id) < tuple_(*after))
    return await _all(tx, query)


async def knows_profile(tx: Tx, tenant: str, profile: str) -> bool:
    """Whether an account belongs to it now."""
    query = select(accounts.c.account).where(accounts.c.tenant == tenant, accounts.c.profile == profile).limit(1)
    return (await tx.sql.execute(query)).first() is not None


async def one_message(tx: Tx, tenant: str, message: str) -> Row | None:
    """A message with the run that it belongs to."""
    of_run = and_(
        runs.c.tenant == messages.c.tenant, runs.c.flow == messages.c.flow, runs.c.run_key == messages.c.run_key
    )
    query = (
        select(
            messages,
            _PROFILE,
            runs.c.began_at.label("run_began_at"),
            runs.c.ended_at.label("run_ended_at"),
            runs.c.reason.label("run_ended_by"),
        )
        .select_from(messages.outerjoin(accounts, _OF).outerjoin(runs, of_run))
        .where(messages.c.tenant == tenant, messages.c.id == message)
    )
    rows = await _all(tx, query)
    return rows[0] if rows else None


async def list_flows(tx: Tx, tenant: str, key: str | None = None) -> list[Row]:
    """Flows with their current definition, by key."""
    query = (
        select(flows.c.key, flows.c.version, flows.c.paused, flows.c.updated_at, flow_versions.c.definition)
        .join(
            flow_versions,
            and_(
                flow_versions.c.tenant == flows.c.tenant,
                flow_versions.c.key == flows.c.key,
                flow_versions.c.version == flows.c.version,
            ),
        )
        .where(flows.c.tenant == tenant)
        .order_by(flows.c.key)
    )
    return await _all(tx, query if key is None else query.where(flows.c.key == key))


async def list_suppressions(
    tx: Tx, tenant: str, *, channel: str | None, reason: str | None, after: tuple[str, str] | None, limit: int
) -> list[Row]:
    """Suppressions by channel and address, behind `after`."""
    query = (
        select(suppressions)
        .where(suppressions.c.tenant == tenant)
        .order_by(suppressions.c.channel, suppressions.c.address)
        .limit(limit)
    )
    if channel is not None:
        query = query.where(suppressions.c.channel == channel)
    if reason is not None:
        query = query.where(suppressions.c.reason == reason)
    if after is not None:
        query = query.where(tuple_(suppressions.c.channel, suppressions.c.address) > tuple_(*after))
    return await _all(tx, query)


async def _all(tx: Tx, query: Select[Any]) -> list[Row]:
    found: Sequence[Row] = (await tx.sql.execute(query)).mappings().all()
    return list(found)

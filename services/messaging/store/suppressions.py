"""Suppressions: addresses that are not written to, per tenant and channel, whoever they belong to."""

from datetime import datetime
from typing import Any

from libs.common.contracts.messages import MessageUnsubscribed
from libs.common.contracts.topics import MESSAGES
from libs.common.db import Tx
from libs.common.log import postgres
from services.messaging.message import Message
from services.messaging.store.facts import look_again
from services.messaging.store.messages import told


async def suppress(tx: Tx, tenant: str, channel: str, address: str, reason: str, now: datetime) -> bool:
    """Adds a suppression; False when there is one, whose reason then stays. What is under way to it ends."""
    added = bool(
        await tx.pg.fetchval(
            """
            INSERT INTO suppressions (tenant, channel, address, reason, created_at) VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT DO NOTHING RETURNING true
            """,
            tenant,
            channel,
            address.lower(),
            reason,
            now,
        )
    )
    if added:
        rows = await tx.pg.fetch(
            "SELECT account FROM accounts WHERE tenant = $1 AND email = $2", tenant, address.lower()
        )
        await look_again(tx, [(tenant, row["account"]) for row in rows], now)
    return added


async def lift(tx: Tx, tenant: str, channel: str, address: str) -> bool:
    """Takes a suppression away; False when there is none."""
    done = await tx.pg.execute(
        "DELETE FROM suppressions WHERE tenant = $1 AND channel = $2 AND address = $3", tenant, channel, address.lower()
    )
    return done == "DELETE 1"


async def unsubscribe(tx: Tx, message: Message, now: datetime) -> bool:
    """The reader of `message` wants no more: suppresses the address and says so. False when it was done before.

    An address may be suppressed already for another reason, or have been subscribed anew since: then this is news, too.
    """
    suppressed = await suppress(tx, message.tenant, message.channel, message.recipient, "unsubscribed", now)
    withdrawn = await _withdraw(tx, message, now)
    if not suppressed and not withdrawn:
        return False
    fact = MessageUnsubscribed(**message.told(now))
    await postgres.append(tx, MESSAGES, [told(message.tenant, "message.unsubscribed", fact, now)])
    return True


async def _withdraw(tx: Tx, message: Message, now: datetime) -> bool:
    """What `message.unsubscribed` will come back as, from here on. False when it holds already."""
    return bool(
        await tx.pg.fetchval(
            """
            INSERT INTO consents AS c (tenant, account, channel, state, at, revision)
            VALUES ($1, $2, $3, 'unsubscribed', $4, 0)
            ON CONFLICT (tenant, account, channel) DO UPDATE SET state = excluded.state, at = excluded.at
            WHERE c.state <> excluded.state RETURNING true
            """,
            message.tenant,
            message.account,
            message.channel,
            now,
        )
    )


async def find(tx: Tx, tenant: str, channel: str, address: str) -> dict[str, Any]:
    """The suppression of an address that has one."""
    row = await tx.pg.fetchrow(
        "SELECT address, channel, reason, created_at FROM suppressions"
        " WHERE tenant = $1 AND channel = $2 AND address = $3",
        tenant,
        channel,
        address.lower(),
    )
    return dict(row) if row else {}

"""The send ledger in SQL. Every change of state says from which states it may come; events go out with it."""

from collections.abc import Sequence
from datetime import datetime

from libs.common.contracts import codec
from libs.common.contracts.messages import MessageFact, MessageFailed, MessageSent, MessageSkipped
from libs.common.contracts.topics import MESSAGES
from libs.common.db import Tx
from libs.common.ids import derived_id
from libs.common.log import postgres
from libs.common.log.base import Event
from services.messaging.ledger import sources
from services.messaging.message import Message, Outcome

_FIELDS = tuple(name for name in Message.__struct_fields__ if name != "attempts")
_TYPES = {"version": "int", "step": "int", "transactional": "bool", "due_at": "timestamptz"}

_PLAN = f"""
    INSERT INTO messages (id, {", ".join(_FIELDS)}, state, next_at, created_at)
    SELECT u.*, 'planned', u.due_at, ${len(_FIELDS) + 2}
    FROM unnest($1::text[], {", ".join(f"${n}::{_TYPES.get(f, 'text')}[]" for n, f in enumerate(_FIELDS, 2))})
        AS u(id, {", ".join(_FIELDS)})
    ON CONFLICT DO NOTHING
    """


async def plan(tx: Tx, messages: Sequence[Message], now: datetime) -> None:
    """Adds intents; one that is there already stays as it is."""
    if messages:
        columns = [[getattr(m, name) for m in messages] for name in _FIELDS]
        await tx.pg.execute(_PLAN, [m.id for m in messages], *columns, now)


async def claim(tx: Tx, now: datetime, limit: int) -> list[Message]:
    """What is to be asked about now, for this transaction alone, in the order in which it fell due.

    Nothing passes a timer that has yet to fire: which of two messages meets the cap must not depend on batches.
    """
    rows = await tx.pg.fetch(
        f"""
        SELECT {", ".join(_FIELDS)}, attempts FROM messages
        WHERE state IN ('planned', 'held') AND next_at <= $1
          AND due_at < coalesce((SELECT min(due_at) FROM timers WHERE due_at <= $1), 'infinity')
        ORDER BY due_at, flow, run_key, step LIMIT $2 FOR UPDATE SKIP LOCKED
        """,
        now,
        limit,
    )
    return [Message(**dict(row)) for row in rows]


async def take(tx: Tx, messages: Sequence[Message], now: datetime, lease: float) -> None:
    """Marks messages as claimed: from here on they may have reached somebody.

    `lease`: seconds, by the database's clock, since a worker's life is not told by the shop's time.
    """
    if messages:
        await tx.pg.execute(
            """
            UPDATE messages m SET state = 'claimed', reason = NULL, reasons = '{}', profile = u.profile,
                claimed_at = $4, attempts = attempts + 1, lease_until = now() + $5 * interval '1 s'
            FROM unnest($1::text[], $2::text[], $3::text[]) u(tenant, id, profile)
            WHERE m.tenant = u.tenant AND m.id = u.id
            """,
            [m.tenant for m in messages],
            [m.id for m in messages],
            [m.profile for m in messages],
            now,
            lease,
        )


async def settle(tx: Tx, outcomes: Sequence[Outcome], now: datetime) -> int:
    """Writes what became of messages and says so on the topic. Returns how many were still to be settled.

    A row whose state no longer allows the change (a lapsed lease, another worker) stays as it is.
    """
    if not outcomes:
        return 0
    rows = await tx.pg.fetch(
        """
        UPDATE messages m SET state = u.state, reason = u.reason, reasons = string_to_array(u.reasons, ' '),
            next_at = u.next_at, response = u.response, lease_until = NULL, profile = u.profile,
            claimed_at = CASE WHEN u.state IN ('sent', 'failed', 'unknown') THEN m.claimed_at END,
            sent_at = CASE WHEN u.state = 'sent' THEN $10::timestamptz END,
            settled_at = CASE WHEN u.state NOT IN ('planned', 'held') THEN $10::timestamptz END
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::text[],
                    $8::text[], $9::text[])
             u(tenant, id, state, reason, reasons, next_at, response, profile, sources)
        WHERE m.tenant = u.tenant AND m.id = u.id AND m.state = ANY(string_to_array(u.sources, ' '))
        RETURNING m.tenant, m.id
        """,
        [o.message.tenant for o in outcomes],
        [o.message.id for o in outcomes],
        [o.state for o in outcomes],
        [o.reason for o in outcomes],
        [" ".join(o.reasons) for o in outcomes],
        [o.next_at for o in outcomes],
        [o.response for o in outcomes],
        [o.message.profile for o in outcomes],
        [" ".join(sources(o.state)) for o in outcomes],
        now,
    )
    settled = {(row["tenant"], row["id"]) for row in rows}
    changed = [o for o in outcomes if (o.message.tenant, o.message.id) in settled]
    await postgres.append(tx, MESSAGES, [event for o in changed for event in _event(o, now)])
    return len(changed)


async def lapse(tx: Tx, now: datetime) -> int:
    """Claims whose worker never came back become `unknown`: whether they went out nobody can tell."""
    rows = await tx.pg.fetch(
        f"SELECT {', '.join(_FIELDS)}, attempts FROM messages WHERE state = 'claimed' AND lease_until < now()"
        " ORDER BY due_at, id FOR UPDATE SKIP LOCKED"
    )
    lapsed = [Message(**dict(row)) for row in rows]
    return await settle(tx, [Outcome(message=m, state="unknown", reason="lease_lapsed") for m in lapsed], now)


def _event(outcome: Outcome, now: datetime) -> list[Event]:
    m = outcome.message
    common = m.told(now)
    reason = outcome.reason or ""
    fact: MessageFact
    match outcome.state:
        case "sent":
            fact = MessageSent(**common)
        case "skipped":
            fact = MessageSkipped(**common, reason=reason)
        case "failed" | "unknown":
            fact = MessageFailed(**common, reason=reason)
        case "planned" | "held" | "claimed":
            return []
    return [told(m.tenant, f"message.{outcome.state}", fact, now)]


def told(tenant: str, event_type: str, fact: MessageFact, now: datetime) -> Event:
    """The event, under an id that is the same whenever it is told again."""
    return Event(
        id=derived_id(fact.message, event_type),
        type=event_type,
        source="/services/messaging",
        tenant=tenant,
        key=fact.profile,
        time=now,
        data=codec.encode(MESSAGES.name, fact),
    )


async def message(tx: Tx, tenant: str, message_id: str) -> Message | None:
    """One message."""
    row = await tx.pg.fetchrow(
        f"SELECT {', '.join(_FIELDS)}, attempts FROM messages WHERE tenant = $1 AND id = $2", tenant, message_id
    )
    return Message(**dict(row)) if row else None

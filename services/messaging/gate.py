"""The gate: one pure function, asked at the moment of sending, the same for live sends, simulation and explanation."""

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Literal, assert_never
from zoneinfo import ZoneInfo

from msgspec import Struct

from libs.common.contracts.types import Channel, ConsentState

Reason = Literal[
    "store_deleted",
    "store_paused",
    "flow_paused",
    "erased",
    "no_longer_true",
    "bought",
    "backfill",
    "too_late",
    "no_address",
    "no_consent",
    "suppressed",
    "holdout",
    "capped",
    "quiet_hours",
]
"""Why not now."""

EMAIL_CAP = timedelta(hours=16)
CAP = timedelta(hours=24)
QUIET_FROM = time(21)
QUIET_UNTIL = time(8)
ENDS_RUN: frozenset[str] = frozenset({"store_deleted", "erased", "no_longer_true", "bought"})
"""After these nothing more will be said in the run."""


class Question(Struct, frozen=True, kw_only=True):
    """All that the answer depends on."""

    now: datetime
    due_at: datetime
    ceiling: timedelta
    channel: Channel
    address: str | None
    transactional: bool = False
    store_deleted: bool = False
    store_paused: bool = False
    """The store is, or was when the message fell due: what falls due then is never caught up."""
    paused: bool = False
    """The flow is."""
    erased: bool = False
    holds: bool = True
    """Trigger and filters still hold."""
    bought: bool = False
    live: bool = True
    """What started the run was told as it happened."""
    policy: Literal["explicit", "soft_opt_in"] = "explicit"
    consent: ConsentState | None = None
    buyer: bool = False
    suppressed: str | None = None
    """`hard_bounce`, `complaint`, `unsubscribed`, `manual`."""
    control: bool = False
    last_message_at: datetime | None = None
    """Latest other marketing message to this person on this channel, of any flow."""
    zone: str = "UTC"


class Verdict(Struct, frozen=True, kw_only=True):
    """The answer: `reason` is the first no, None for yes; `reasons` are all of them."""

    reason: Reason | None
    reasons: tuple[Reason, ...] = ()
    held_until: datetime | None = None
    """When to ask again, for `quiet_hours`."""

    @property
    def outcome(self) -> Literal["send", "hold", "skip"]:
        """What happens to the message."""
        match self.reason:
            case None:
                return "send"
            case "flow_paused" | "quiet_hours":
                return "hold"
            case (
                "store_deleted"
                | "store_paused"
                | "erased"
                | "no_longer_true"
                | "bought"
                | "backfill"
                | "too_late"
                | "no_address"
                | "no_consent"
                | "suppressed"
                | "holdout"
                | "capped"
            ):
                return "skip"
            case _:
                assert_never(self.reason)


def gate(question: Question) -> Verdict:
    """Whether the message may go out now."""
    reasons = tuple(
        reason
        for reason, says_no in AGAINST
        if says_no(question) and not (question.transactional and reason in MARKETING_ONLY)
    )
    first = reasons[0] if reasons else None
    until = quiet_until(question.now, question.channel, question.zone) if first == "quiet_hours" else None
    return Verdict(reason=first, reasons=reasons, held_until=until)


def consents(q: Question) -> bool:
    """Whether the person lets us write. Withdrawn always wins."""
    match q.consent:
        case "subscribed":
            return True
        case "unsubscribed":
            return False
        case "pending" | None:
            return q.policy == "soft_opt_in" and q.buyer
        case _:
            assert_never(q.consent)


def _suppressed(q: Question) -> bool:
    return q.suppressed == "hard_bounce" or (q.suppressed is not None and not q.transactional)


def _capped(q: Question) -> bool:
    cap = EMAIL_CAP if q.channel == "email" else CAP
    return q.last_message_at is not None and q.now - q.last_message_at < cap


def quiet_until(now: datetime, channel: Channel, zone: str) -> datetime | None:
    """The end of the quiet hours that `now` falls into, UTC; None outside of them, and for e-mail."""
    if channel == "email":
        return None
    local = now.astimezone(ZoneInfo(zone))
    if QUIET_UNTIL <= local.time() < QUIET_FROM:
        return None
    morning = local.date() + timedelta(days=1 if local.time() >= QUIET_FROM else 0)
    # Built from the wall clock: nights in which the clocks change last 10 or 12 hours.
    return datetime.combine(morning, QUIET_UNTIL, local.tzinfo).astimezone(UTC)


AGAINST: tuple[tuple[Reason, Callable[[Question], bool]], ...] = (
    ("store_deleted", lambda q: q.store_deleted),
    ("store_paused", lambda q: q.store_paused),
    ("flow_paused", lambda q: q.paused),
    ("erased", lambda q: q.erased),
    ("no_longer_true", lambda q: not q.holds),
    ("bought", lambda q: q.bought),
    ("backfill", lambda q: not q.live),
    ("too_late", lambda q: q.now - q.due_at > q.ceiling),
    ("no_address", lambda q: q.address is None),
    ("no_consent", lambda q: not consents(q)),
    ("suppressed", _suppressed),
    ("holdout", lambda q: q.control),
    ("capped", _capped),
    ("quiet_hours", lambda q: quiet_until(q.now, q.channel, q.zone) is not None),
)
"""In the order in which they are asked."""
MARKETING_ONLY: frozenset[Reason] = frozenset({"no_consent", "holdout", "capped", "quiet_hours"})
"""Nothing of this keeps a transactional message."""

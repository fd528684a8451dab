"""The gate: each reason, their order, and the quiet hours."""

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import msgspec
import pytest

from services.messaging.gate import AGAINST, Question, Reason, gate, quiet_until
from services.messaging.questions import zone

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
NIGHT = datetime(2026, 3, 2, 23, tzinfo=UTC)
YES = Question(
    now=NOW,
    due_at=NOW,
    ceiling=timedelta(hours=6),
    channel="email",
    address="ada@example.com",
    consent="subscribed",
)
NO: dict[Reason, dict[str, Any]] = {
    "store_deleted": {"store_deleted": True},
    "store_paused": {"store_paused": True},
    "flow_paused": {"paused": True},
    "erased": {"erased": True},
    "no_longer_true": {"holds": False},
    "bought": {"bought": True},
    "backfill": {"live": False},
    "too_late": {"due_at": NOW - timedelta(days=2)},
    "no_address": {"address": None},
    "no_consent": {"consent": "unsubscribed"},
    "suppressed": {"suppressed": "hard_bounce"},
    "holdout": {"control": True},
    "capped": {"last_message_at": NOW},
    "quiet_hours": {"channel": "sms", "now": NIGHT, "due_at": NIGHT},
}


def asked(**different: Any) -> Question:
    return msgspec.structs.replace(YES, **different)


def test_nothing_speaks_against_it() -> None:
    verdict = gate(YES)
    assert (verdict.reason, verdict.reasons, verdict.outcome) == (None, (), "send")


@pytest.mark.parametrize("reason", get_args(Reason))
def test_each_reason_alone(reason: Reason) -> None:
    verdict = gate(asked(**NO[reason]))
    assert verdict.reasons == (reason,)
    assert verdict.outcome == ("hold" if reason in {"flow_paused", "quiet_hours"} else "skip")


def test_the_first_gives_the_reason_and_all_are_told() -> None:
    order = get_args(Reason)
    assert tuple(reason for reason, _ in AGAINST) == order
    different: dict[str, Any] = {}
    for reason in reversed(order):
        different |= NO[reason]
        # What comes later in the order never hides what comes before.
        assert gate(asked(**different)).reason == reason
    assert gate(asked(**different)).reasons == order


@pytest.mark.parametrize(
    ("policy", "consent", "buyer", "may"),
    [
        ("explicit", "subscribed", False, True),
        ("explicit", None, True, False),
        ("explicit", "pending", True, False),
        ("soft_opt_in", None, True, True),
        ("soft_opt_in", None, False, False),
        ("soft_opt_in", "pending", True, True),
        ("soft_opt_in", "subscribed", False, True),
        ("soft_opt_in", "unsubscribed", True, False),
    ],
)
def test_consent(policy: str, consent: str | None, buyer: bool, may: bool) -> None:  # noqa: FBT001
    verdict = gate(asked(policy=policy, consent=consent, buyer=buyer))
    assert verdict.reasons == (() if may else ("no_consent",))


def test_a_transactional_message_asks_for_less() -> None:
    different: dict[str, Any] = {
        "transactional": True,
        "consent": "unsubscribed",
        "suppressed": "unsubscribed",
        "control": True,
        "last_message_at": NOW,
    }
    assert gate(asked(**different)).reason is None
    assert gate(asked(**different | {"suppressed": "hard_bounce"})).reason == "suppressed"
    assert gate(asked(**different | {"bought": True})).reason == "bought"


@pytest.mark.parametrize(("channel", "hours"), [("email", 16), ("sms", 24), ("push", 24)])
def test_the_cap_ends_to_the_second(channel: str, hours: int) -> None:
    span = timedelta(hours=hours)
    assert gate(asked(channel=channel, last_message_at=NOW - span + timedelta(seconds=1))).reason == "capped"
    assert gate(asked(channel=channel, last_message_at=NOW - span)).reason is None


def test_the_ceiling_itself_is_not_too_late() -> None:
    assert gate(asked(due_at=NOW - timedelta(hours=6))).reason is None
    assert gate(asked(due_at=NOW - timedelta(hours=6, microseconds=1))).reason == "too_late"


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ("2026-03-02T19:59:59+00:00", None),
        ("2026-03-02T20:00:00+00:00", "2026-03-03T07:00:00+00:00"),
        ("2026-03-03T03:00:00+00:00", "2026-03-03T07:00:00+00:00"),
        ("2026-03-03T07:00:00+00:00", None),
        # The night of 29 March 2026 is an hour shorter in Berlin, that of 25 October an hour longer.
        ("2026-03-28T22:00:00+00:00", "2026-03-29T06:00:00+00:00"),
        ("2026-10-24T22:00:00+00:00", "2026-10-25T07:00:00+00:00"),
        ("2026-10-25T00:30:00+00:00", "2026-10-25T07:00:00+00:00"),
    ],
)
def test_quiet_hours_by_the_wall_clock(now: str, until: str | None) -> None:
    found = quiet_until(datetime.fromisoformat(now), "sms", "Europe/Berlin")
    assert found == (datetime.fromisoformat(until) if until else None)
    assert quiet_until(datetime.fromisoformat(now), "email", "Europe/Berlin") is None


def test_a_held_message_says_until_when() -> None:
    verdict = gate(asked(channel="sms", now=NIGHT, due_at=NIGHT))
    assert verdict.held_until == datetime(2026, 3, 3, 8, tzinfo=UTC)


def test_the_first_zone_that_exists() -> None:
    assert zone(None, "Mars/Olympus", "../etc/passwd", "America/New_York", "UTC") == "America/New_York"
    assert zone(None, "") == "UTC"

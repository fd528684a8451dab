"""What ingest makes of a payload, step by step as its processes do, and whether that is as it should be."""

import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import thread_time
from traceback import extract_tb
from types import FrameType
from typing import Any

import msgspec

from libs.common.contracts import codec
from libs.common.contracts.commerce import TYPES, Observed
from libs.common.contracts.journal import Delivery
from libs.common.contracts.topics import COMMERCE, JOURNAL
from services.ingest import headers
from services.ingest.normalise import (
    Ignored,
    Observations,
    Outcome,
    Parked,
    StoreFacts,
    Uninstalled,
    Unreadable,
    normalise,
    root_key,
)
from services.ingest.outcome import AHEAD
from tests.faults.fuzzing.mutations import Payload

RECEIVED_AT = datetime(2026, 3, 2, 12, tzinfo=UTC)
STORE = StoreFacts(key="st_fuzz", domain="teas.myshopify.com", currency="EUR", timezone="Europe/Berlin")
SLOW = 0.25
"""Seconds of a processor that a body of less than LARGE may take."""
LARGE = 100_000
HUNG = 10.0
"""Seconds of a processor after which a payload is given up."""
BIGINT = 2**63 - 1
LONGEST_REASON = 400

_STRING = re.compile(rb'"((?:[^"\\]|\\.){6,60})"(?!\s*:)')
_NUMBER = re.compile(rb"\d{6,60}")
_PLACE = re.compile(r"\(byte \d+\)|\[\d+\]|\[\.\.\.\]")
_WORD = re.compile(r"[a-z_ ]+")


class Hung(Exception):
    """It took longer than anybody would wait."""


@dataclass(slots=True)
class Verdict:
    """Of one payload."""

    outcome: str = "none"
    """observed, parked, ignored, dead; none when it ended in something else."""
    reason: str = ""
    """For observed: the events' types."""
    seconds: float = 0.0
    """Of a processor."""
    faults: list[str] = field(default_factory=list)


class Judge:
    """Judges one payload after the other."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        signal.signal(signal.SIGPROF, _hung)

    def judge(self, payload: Payload) -> Verdict:
        """What becomes of it, and what is wrong with that."""
        verdict = _once(payload)
        if verdict.seconds > SLOW and len(payload.body) < LARGE:
            # The first may have paid for something else, such as the garbage of its predecessors.
            verdict = min(verdict, _once(payload), key=lambda each: each.seconds)
            if verdict.seconds > SLOW:
                verdict.faults.append(f"took {verdict.seconds * 1000:.0f} ms of a processor")
        if verdict.outcome in {"parked", "ignored", "dead"} and placeless(verdict.reason) not in self._known:
            # A reason that tells something of its body is another one for each body: new ones are enough to look at.
            self._known.add(placeless(verdict.reason))
            # Nothing of a parked one's body was read: its reason names the topic, which a header says.
            verdict.faults += _told(verdict.reason, b"" if verdict.outcome == "parked" else payload.body)
        return verdict


def placeless(reason: str) -> str:
    """A reason without what it says of places."""
    return _PLACE.sub("", reason)


def _once(payload: Payload) -> Verdict:
    verdict = Verdict()
    began = thread_time()
    signal.setitimer(signal.ITIMER_PROF, HUNG)
    try:
        root, outcome = _read(payload)
    except Unreadable as error:
        verdict.seconds = thread_time() - began
        verdict.outcome, verdict.reason = "dead", error.reason
        return verdict
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        verdict.seconds = thread_time() - began
        place = extract_tb(error.__traceback__)[-1]
        verdict.faults.append(f"{type(error).__name__}: {str(error)[:200]} ({place.filename}:{place.lineno})")
        return verdict
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    verdict.seconds = thread_time() - began
    match outcome:
        case Observations(observations):
            verdict.outcome = "observed"
            verdict.reason = ", ".join(each.type for each in observations)
            if not observations:
                verdict.faults.append("observed, and nothing was")
            for each in observations:
                if each.root != root:
                    verdict.faults.append(f"was sent to the partition of {root}, and is of {each.root}")
                verdict.faults += _observed(each.type, each.observed)
        case Parked(reason):
            verdict.outcome, verdict.reason = "parked", reason
        case Ignored(reason) | Uninstalled(reason):
            verdict.outcome, verdict.reason = "ignored", reason
    return verdict


def _read(payload: Payload) -> tuple[str, Outcome]:
    """As the webhook route and the normaliser's worker do it, without what lies between them."""
    heading = headers.read(payload.platform, payload.headers)
    root = root_key(payload.platform, heading.topic, payload.body)
    delivery = Delivery(
        store=STORE.key,
        platform=payload.platform,
        topic=heading.topic,
        delivery_id=heading.delivery_id,
        headers=headers.kept(list(payload.headers)),
        body=payload.body,
    )
    journalled = codec.decode(JOURNAL.name, "delivery.received", codec.encode(JOURNAL.name, delivery))
    outcome = normalise(journalled, store=STORE, received_at=RECEIVED_AT, position=7, delivery_ref="j-1")
    if isinstance(outcome, Observations):
        for each in outcome.observations:
            codec.encode(COMMERCE.name, each.observed)
    return root, outcome


def _hung(_number: int, _frame: FrameType | None) -> None:
    raise Hung(f"not done after {HUNG:g} s of a processor")


def _observed(type_: str, observed: Observed) -> Iterator[str]:
    """What is wrong with an event."""
    if type(observed) is not TYPES.get(type_):
        yield f"{type_} is none"
        return
    try:
        again = codec.decode(COMMERCE.name, type_, codec.encode(COMMERCE.name, observed))
    except (codec.Undecodable, msgspec.MsgspecError, UnicodeError) as error:
        yield f"{type_} cannot be read again: {type(error).__name__}"
        return
    if again != observed:
        yield f"{type_} is another one when read again"
    if observed.updated_at > RECEIVED_AT + AHEAD:
        yield f"{type_} is dated {observed.updated_at - RECEIVED_AT} after it came"
    yield from (f"{type_}{wrong}" for wrong in _unstorable(msgspec.structs.asdict(observed)))


def _unstorable(value: Any, path: str = "") -> Iterator[str]:
    """What PostgreSQL's text, bigint and timestamptz do not take."""
    match value:
        case str() if "\x00" in value or not _is_utf8(value):
            yield f"{path}: a text that PostgreSQL refuses"
        case int() if abs(value) > BIGINT:
            yield f"{path}: no bigint holds it"
        case datetime() if value.utcoffset() != timedelta():
            yield f"{path}: not in UTC"
        case list():
            for n, each in enumerate(value):
                yield from _unstorable(each, f"{path}[{n}]")
        case dict():
            for name, each in value.items():
                yield from _unstorable(each, f"{path}.{name}")
        case msgspec.Struct():
            yield from _unstorable(msgspec.structs.asdict(value), path)


def _is_utf8(value: str) -> bool:
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _told(reason: str, body: bytes) -> Iterator[str]:
    """Whether a reason holds anything that the body says; names of fields are nobody's secret."""
    if not reason or len(reason) > LONGEST_REASON or not reason.isprintable():
        yield f"its reason has {len(reason)} characters, or some that cannot be printed"
    said = placeless(reason)
    for found in {*_STRING.findall(body), *_NUMBER.findall(body)}:
        text = found.decode(errors="replace")
        if text in said and not _WORD.fullmatch(text):
            yield f"its reason tells of the body: {reason[:LONGEST_REASON]!r}"
            return

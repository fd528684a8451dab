"""From events that were sent to events in the journal, whoever sent them; each is answered by itself."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import from_json

from libs.common.ids import new_id
from libs.common.problems import MOST_ERRORS, FieldError, FieldErrorOut, Problem, field_error, no_json, told
from libs.common.telemetry import current_traceparent
from services.ingest import events
from services.ingest.edge import Edge
from services.ingest.event_models import Row
from services.ingest.events import FirstPartyEvent
from services.ingest.journal import Unavailable, digest_of, event_of
from services.ingest.registry import Registered
from services.ingest.webhooks import RETRY_AFTER_SECONDS

MOST_TOLD = 100
"""Errors of one answer, beside the first of each event."""


class Good(NamedTuple):
    """An event that is to be stored."""

    event: FirstPartyEvent
    store: Registered
    now: datetime
    sender: str = "events"
    """One of `events.SENDERS`."""
    room: float = 1.0
    """As `Journal.append`."""


class Errors:
    """Those of one answer: of each event the first, and of some a few more."""

    def __init__(self) -> None:
        self._left = MOST_TOLD

    def row(self, id_: str | None, wrong: Sequence[FieldError]) -> Row:
        """The answer to an event in which that is wrong."""
        shown = told(wrong, max(1, min(MOST_ERRORS, self._left)))
        self._left -= len(shown)
        errors = [FieldErrorOut(pointer=each.pointer, detail=each.detail) for each in shown]
        return Row(id=id_, status="rejected", errors=errors, errors_left_out=len(wrong) - len(shown))


async def take(edge: Edge, rows: Iterable[Any], read: Callable[[Any], Good], errors: Errors) -> list[Row]:
    """Stores the good ones of `rows`: what JSON held, or the bytes of a document. Problem 503 when it cannot.

    `read` raises ValidationError, or Problem, for what is wrong.
    """
    answers: list[Row] = []
    stored: list[tuple[Registered, asyncio.Future[bool]]] = []
    try:
        for row in rows:
            answer, good = _read(row, read, errors)
            answers.append(answer)
            if good is not None:
                stored.append((good.store, append(edge, good)))
    except Unavailable as error:
        await asyncio.gather(*(each for _, each in stored), return_exceptions=True)
        raise unavailable() from error
    answered = await asyncio.gather(*(each for _, each in stored), return_exceptions=True)
    for (store, _), each in zip(stored, answered, strict=True):
        if isinstance(each, Unavailable):
            raise unavailable() from each
        if isinstance(each, BaseException):
            raise each
        if not each:
            edge.tally.duplicate(store)
    return answers


def append(edge: Edge, good: Good) -> "asyncio.Future[bool]":
    """As `Journal.append`."""
    event, store = good.event, good.store
    delivery = events.delivery_of(event, store.key, good.now, good.sender)
    journalled = event_of(
        delivery,
        id=new_id(),
        tenant=store.tenant,
        root=events.root(event),
        time=good.now,
        traceparent=current_traceparent(),
    )
    return edge.journal.append(journalled, digest_of(store.key, delivery.platform, event.id), room=good.room)


def unavailable() -> Problem:
    """503."""
    retry = {"retry-after": str(RETRY_AFTER_SECONDS)}
    return Problem(503, "unavailable", "Not everything could be stored. Try again.", headers=retry)


def faults(error: ValidationError) -> Iterator[FieldError]:
    """What is wrong with a body, or with one event of it."""
    for each in error.errors(include_url=False, include_input=False):
        yield field_error(("body", *each["loc"]), each)


def _read(row: Any, read: Callable[[Any], Good], errors: Errors) -> tuple[Row, Good | None]:
    """The answer to a row, and what is to be stored when it is good."""
    id_: str | None = None
    try:
        raw = from_json(row) if isinstance(row, bytes) else row
        if isinstance(raw, dict) and isinstance(raw.get("id"), str):
            id_ = raw["id"]
        return Row(id=id_, status="accepted"), read(raw)
    except ValidationError as error:
        wrong = list(faults(error))
    except ValueError as error:
        wrong = [no_json(error)]
    except Problem as problem:
        wrong = list(problem.errors)
    return errors.row(id_, wrong), None

"""The API about first-party events: one, or many at once."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import ValidationError
from pydantic_core import from_json

from libs.common.auth import Principal, require
from libs.common.ids import new_id
from libs.common.problems import FieldError, FieldErrorOut, Problem, field_error, invalid
from libs.common.telemetry import current_traceparent
from services.ingest import events
from services.ingest.api import AnEdge
from services.ingest.edge import Edge
from services.ingest.event_models import MOST_EVENTS, Accepted, BatchOut, EventIn, Row
from services.ingest.events import FirstPartyEvent
from services.ingest.journal import Unavailable, digest_of, event_of
from services.ingest.outcome import AHEAD
from services.ingest.registry import Registered
from services.ingest.webhooks import RETRY_AFTER_SECONDS

NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl")
AT_ONCE = 50
"""Rows between two looks at what else there is to do: webhooks do not wait for a whole batch."""

router = APIRouter(tags=["ingest"])
_schema = {"type": "string", "description": "An event a line."}
_body = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "array",
                "maxItems": MOST_EVENTS,
                "items": {"$ref": "#/components/schemas/EventIn"},
            }
        },
        **{name: {"schema": _schema} for name in NDJSON},
    },
}


@router.post("/v1/events", status_code=202)
async def post_event(
    body: EventIn, edge: AnEdge, principal: Annotated[Principal, Depends(require("events:write"))]
) -> Accepted:
    """Takes what the merchant's own site has to tell. The same `id` of the same store counts once."""
    try:
        event, registered, now = _event(body, edge, principal, edge.clock.arrival())
        appended = await _append(edge, event, registered, now)
    except Unavailable as error:
        raise _unavailable() from error
    if not appended:
        edge.tally.duplicate(registered)
    return Accepted(id=body.id)


@router.post("/v1/events/batch", status_code=202, openapi_extra={"requestBody": _body})
async def post_events(
    request: Request, edge: AnEdge, principal: Annotated[Principal, Depends(require("events:write"))]
) -> BatchOut:
    """Takes up to 1,000 events, as a JSON array or as one JSON document a line (NDJSON), each answered by itself.

    A bad event leaves its neighbours alone. When they cannot all be stored the whole answer is a 503: send them again,
    what had been stored counts once.
    """
    rows = _rows(await request.body(), request.headers.get("content-type", ""))
    now = edge.clock.arrival()
    answers: list[Row] = []
    for start in range(0, len(rows), AT_ONCE):
        answers += await _take(rows[start : start + AT_ONCE], edge, principal, now)
    accepted = sum(row.status == "accepted" for row in answers)
    return BatchOut(accepted=accepted, rejected=len(answers) - accepted, events=answers)


def _rows(body: bytes, content_type: str) -> Sequence[Any]:
    """The events as they came: bytes of a line, or what a JSON array held."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type in NDJSON:
        rows: list[Any] = [line for line in body.split(b"\n") if line.strip()]
    elif media_type == "application/json":
        try:
            rows = from_json(body)
        except ValueError as error:
            raise Problem(400, "invalid_json", "The body is not JSON.", [FieldError("", str(error))]) from error
        if not isinstance(rows, list):
            raise invalid("", "This is not an array of events.")
    else:
        detail = "Send the events as application/json or as application/x-ndjson."
        wrong = FieldError("/content-type", detail, "content-type")
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail, [wrong])
    if not rows:
        raise invalid("", "There is no event in it.")
    if len(rows) > MOST_EVENTS:
        raise invalid("", f"These are more than {MOST_EVENTS} events.")
    return rows


async def _take(rows: Sequence[Any], edge: Edge, principal: Principal, now: datetime) -> list[Row]:
    answers: list[Row] = []
    stored: list[tuple[Registered, asyncio.Future[bool]]] = []
    try:
        for row in rows:
            answer, wanted = _read(row, edge, principal, now)
            answers.append(answer)
            if wanted is not None:
                stored.append((wanted[1], _append(edge, *wanted)))
    except Unavailable as error:
        await asyncio.gather(*(each for _, each in stored), return_exceptions=True)
        raise _unavailable() from error
    answered = await asyncio.gather(*(each for _, each in stored), return_exceptions=True)
    for (registered, _), told in zip(stored, answered, strict=True):
        if isinstance(told, Unavailable):
            raise _unavailable() from told
        if isinstance(told, BaseException):
            raise told
        if not told:
            edge.tally.duplicate(registered)
    return answers


def _read(
    row: Any, edge: Edge, principal: Principal, now: datetime
) -> tuple[Row, tuple[FirstPartyEvent, Registered, datetime] | None]:
    """The answer to a row, and what is to be stored when it is good."""
    told: str | None = None
    try:
        raw = from_json(row) if isinstance(row, bytes) else row
        if isinstance(raw, dict) and isinstance(raw.get("id"), str):
            told = raw["id"]
        return Row(id=told, status="accepted"), _event(EventIn.model_validate(raw), edge, principal, now)
    except ValidationError as error:
        wrong = list(_errors(error))
    except ValueError as error:
        wrong = [FieldError("", f"This is not JSON: {error}")]
    except Problem as problem:
        wrong = list(problem.errors)
    errors = [FieldErrorOut(pointer=each.pointer, detail=each.detail) for each in wrong]
    return Row(id=told, status="rejected", errors=errors), None


def _errors(error: ValidationError) -> Iterator[FieldError]:
    for each in error.errors(include_url=False, include_context=False, include_input=False):
        yield field_error(("body", *each["loc"]), each["type"], each["msg"])


def _event(
    body: EventIn, edge: Edge, principal: Principal, now: datetime
) -> tuple[FirstPartyEvent, Registered, datetime]:
    """The event and its store. Raises Problem."""
    registered = edge.registry.find(body.store)
    if registered is None or registered.tenant != principal.tenant:
        raise invalid("/store", "There is no such store.")
    if body.time is not None and body.time - now > AHEAD:
        raise invalid("/time", "This is more than five minutes ahead.")
    event = FirstPartyEvent(
        id=body.id,
        type=body.type,
        time=body.time or now,
        profile=body.profile.identifiers(),
        properties=body.properties,
    )
    if (wrong := events.wrong_property(event)) is not None:
        raise invalid(*wrong)
    return event, registered, now


def _append(edge: Edge, event: FirstPartyEvent, store: Registered, now: datetime) -> "asyncio.Future[bool]":
    """As `Journal.append`."""
    delivery = events.delivery_of(event, store.key, now)
    journalled = event_of(
        delivery,
        id=new_id(),
        tenant=store.tenant,
        root=events.root(event),
        time=now,
        traceparent=current_traceparent(),
    )
    return edge.journal.append(journalled, digest_of(store.key, delivery.platform, event.id))


def _unavailable() -> Problem:
    retry = {"retry-after": str(RETRY_AFTER_SECONDS)}
    return Problem(503, "unavailable", "Not everything could be stored. Try again.", headers=retry)

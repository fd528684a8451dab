"""The API about first-party events: one, or many at once."""

from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic_core import from_json

from libs.common.auth import Principal, require
from libs.common.problems import FieldError, Problem, invalid, no_json
from services.ingest import events
from services.ingest.accepting import Errors, Good, append, take, unavailable
from services.ingest.api import AnEdge
from services.ingest.edge import Edge
from services.ingest.event_models import MOST_EVENTS, Accepted, BatchOut, EventIn, Row
from services.ingest.events import FirstPartyEvent
from services.ingest.journal import Unavailable
from services.ingest.mending import MendingRoute
from services.ingest.outcome import AHEAD

NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl")
AT_ONCE = 50
"""Rows between two looks at what else there is to do: webhooks do not wait for a whole batch."""

router = APIRouter(tags=["ingest"], route_class=MendingRoute)
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
        good = _event(body, edge, principal, edge.clock.arrival())
        appended = await append(edge, good)
    except Unavailable as error:
        raise unavailable() from error
    if not appended:
        edge.tally.duplicate(good.store)
    return Accepted(id=body.id)


@router.post("/v1/events/batch", status_code=202, openapi_extra={"requestBody": _body})
async def post_events(
    request: Request, edge: AnEdge, principal: Annotated[Principal, Depends(require("events:write"))]
) -> BatchOut:
    """Takes up to 1,000 events, as a JSON array or as one JSON document a line (NDJSON), each answered by itself.

    A bad event leaves its neighbours alone, and is told one of its errors at least. When they cannot all be stored the
    whole answer is a 503: send them again, what had been stored counts once.
    """
    rows = _rows(await request.body(), request.headers.get("content-type", ""))
    now = edge.clock.arrival()
    answers: list[Row] = []
    errors = Errors()
    for start in range(0, len(rows), AT_ONCE):
        part = rows[start : start + AT_ONCE]
        answers += await take(edge, part, lambda raw: _event(EventIn.model_validate(raw), edge, principal, now), errors)
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
            raise Problem(400, "invalid_json", "The body is not JSON.", [no_json(error)]) from error
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


def _event(body: EventIn, edge: Edge, principal: Principal, now: datetime) -> Good:
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
    if (wrong := events.wrong_property(event, edge.junk)) is not None:
        raise invalid(*wrong)
    return Good(event, registered, now)

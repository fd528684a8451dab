"""`POST /v1/browser/events`: what a page has to tell, with a public key. See `services.ingest.browser`.

It is made so that `navigator.sendBeacon` can: the key is in the address, and the body is text. Whether a page may is
said by its origin, which browsers cannot be made to lie about; whoever is no browser is held back by the limits alone.
Pages may read each answer, a refusal, too; a beacon's nobody can, and refusals are counted for the store.
"""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from prometheus_client import Counter
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.datastructures import QueryParams

from libs.common.clock import monotonic
from libs.common.crypto import BadToken
from libs.common.problems import FieldError, Problem, invalid, no_json
from services.ingest import browser, proofs
from services.ingest.accepting import Errors, Good, faults, take
from services.ingest.api import AnEdge
from services.ingest.browser import Proven
from services.ingest.browser_models import BrowserEventIn, BrowserEventsIn
from services.ingest.callers import caller
from services.ingest.edge import Edge
from services.ingest.event_models import BatchOut, Row
from services.ingest.event_properties import Wrong
from services.ingest.events import FirstPartyEvent
from services.ingest.mending import MendingRoute
from services.ingest.registry import Registered

PATH = "/v1/browser/events"
LARGEST_BODY = 64 * 1024
"""Bytes; as much as a browser sends by `sendBeacon`."""
BYTES_OF_AN_EVENT = 8 * 1024
"""So many count as one, whatever is in them: to find out takes its time."""
ROOM = 0.5
"""Of the journal's queue: the other half is kept for webhooks, which nobody repeats for ever."""
_MEDIA_TYPES = {"text/plain", "application/json"}

TAKEN = Counter("regulars_ingest_browser_events_total", "Events of browsers, by what was answered.", ["status"])
REFUSED = Counter("regulars_ingest_browser_refused_total", "Requests of browsers that were refused whole.", ["reason"])
for _reason in ("address_rate", "body", "events", "key", "key_rate", "origin", "proof"):
    REFUSED.labels(_reason)

router = APIRouter(tags=["ingest"], route_class=MendingRoute)
PublicKey = Annotated[str, Query(max_length=64, description="A public key of the store, `pk_…`.")]


def _inlined(model: type[BaseModel], events: type[BaseModel]) -> dict[str, Any]:
    """The model's schema without references, since it stands in no route's signature."""
    schema, event = model.model_json_schema(), events.model_json_schema()
    known = event.pop("$defs", {})

    def whole(node: Any) -> Any:
        match node:
            case {"$ref": str(name)}:
                return whole(known[name.rpartition("/")[2]])
            case dict():
                return {name: whole(each) for name, each in node.items()}
            case list():
                return [whole(each) for each in node]
        return node

    schema["properties"]["events"]["items"] = whole(event)
    return schema


_body = {
    "required": True,
    "content": {name: {"schema": _inlined(BrowserEventsIn, BrowserEventIn)} for name in sorted(_MEDIA_TYPES)},
}


@router.post(PATH, status_code=202, openapi_extra={"requestBody": _body, "security": []})
async def post_browser_events(key: PublicKey, request: Request, edge: AnEdge) -> BatchOut:
    """Takes up to 50 events of a page of the store's, each answered by itself; 422 when all of them are wrong.

    `product.viewed`, `cart.changed`, `checkout.started` and types of your own are taken. Who names somebody by
    `customer_id`, `email` or `phone` needs a proof.
    """
    asked = _admit(key, request, edge)
    body = await request.body()
    weight = max(1, len(body) // BYTES_OF_AN_EVENT)
    _limit(asked, weight)
    sent = _sent(asked, body)
    _limit(asked, max(0, len(sent.events) - weight))
    now = edge.clock.arrival()
    store, proven = asked.store, _proven(asked, sent)

    def read(raw: Any) -> Good:
        body = BrowserEventIn.model_validate(raw)
        told = FirstPartyEvent(
            id=body.id, type=body.type, time=now, profile=body.profile.identifiers(), properties=body.properties
        )
        try:
            event = browser.event_of(
                told,
                key=key,
                platform=store.platform,
                proven=proven,
                time=body.time,
                now=now,
                junk=edge.junk,
            )
        except Wrong as wrong:
            raise invalid(wrong.pointer, wrong.detail) from wrong
        return Good(event, store, now, sender="browser", room=ROOM)

    answers = await take(edge, sent.events, read, Errors())
    accepted = sum(row.status == "accepted" for row in answers)
    TAKEN.labels("accepted").inc(accepted)
    TAKEN.labels("rejected").inc(len(answers) - accepted)
    if not accepted:
        raise asked.refused("events", _all_wrong(answers))
    return BatchOut(accepted=accepted, rejected=len(answers) - accepted, events=answers)


@router.options(PATH, status_code=204, include_in_schema=False)
async def refuse_preflight(key: PublicKey, request: Request, edge: AnEdge) -> Response:
    """Says of a preflight that was not granted (see `libs.common.web.for_pages`) what the request would be told."""
    _admit(key, request, edge)
    return Response(status_code=204, headers={"allow": "OPTIONS, POST"})


def may_ask(edge: Edge, query: QueryParams, origin: str) -> bool:
    """Whether a page of this origin may ask: the key is for it."""
    published = edge.registry.published(query.get("key", ""))
    return published is not None and origin in published[1]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request with a good key."""

    key: str
    request: Request
    edge: Edge
    store: Registered

    def refused(self, reason: str, problem: Problem) -> Problem:
        """Counted."""
        REFUSED.labels(reason).inc()
        self.edge.tally.refused_page(self.store, f"browser_{reason}")
        return problem


def _admit(key: str, request: Request, edge: Edge) -> _Asked:
    """Problem 401 or 403."""
    published = edge.registry.published(key)
    if published is None:
        REFUSED.labels("key").inc()
        raise Problem(401, "unauthorized", "The public key is unknown or withdrawn.")
    registered, origins = published
    asked = _Asked(key, request, edge, registered)
    if request.headers.get("origin", "") not in origins:
        raise asked.refused("origin", Problem(403, "forbidden", "The public key is not for pages of this origin."))
    return asked


def _limit(asked: _Asked, n: int) -> None:
    """Problem 429."""
    request, crowd, now = asked.request, asked.edge.crowd, monotonic()
    peer = request.client.host if request.client is not None else None
    address = caller(peer, request.headers.getlist("x-forwarded-for"), crowd.proxies)
    wait = crowd.by_address.take(address, n, now)
    reason, detail = "address_rate", "Too many events come from this address."
    if not wait:
        # The address first: who sends too much of it uses up nothing of what all of them have.
        wait = crowd.by_key.take(asked.key, n, now)
        reason, detail = "key_rate", "Too many events come with this key."
    if wait:
        retry = {"retry-after": str(max(1, -int(-wait // 1)))}
        raise asked.refused(reason, Problem(429, "too_many_requests", detail, headers=retry))


def _sent(asked: _Asked, body: bytes) -> BrowserEventsIn:
    media_type = asked.request.headers.get("content-type", "").partition(";")[0].strip().lower()
    # A beacon of bytes, or of a Blob that was not told its type, has none.
    if media_type and media_type not in _MEDIA_TYPES:
        detail = "Send the events as text/plain or as application/json."
        wrong = FieldError("/content-type", detail, "content-type")
        problem = Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail, [wrong])
        raise asked.refused("body", problem)
    try:
        return BrowserEventsIn.model_validate(from_json(body))
    except ValidationError as error:
        problem = Problem(422, "invalid", "The request is not valid.", list(faults(error)))
        raise asked.refused("body", problem) from error
    except ValueError as error:
        problem = Problem(400, "invalid_json", "The body is not JSON.", [no_json(error)])
        raise asked.refused("body", problem) from error


def _proven(asked: _Asked, sent: BrowserEventsIn) -> Proven | None:
    if sent.proof is None:
        return None
    try:
        return proofs.proven(asked.edge.keyring, sent.proof, asked.store, asked.edge.clock.now())
    except BadToken as error:
        detail = "The proof has expired: ask for another." if error.expired else "This is no proof for this store."
        raise asked.refused("proof", invalid("/proof", detail)) from error


def _all_wrong(answers: list[Row]) -> Problem:
    wrong = [
        FieldError(f"/events/{n}{error.pointer}", error.detail) for n, row in enumerate(answers) for error in row.errors
    ]
    left_out = sum(row.errors_left_out for row in answers)
    return Problem(422, "invalid", "The request is not valid.", wrong, left_out)

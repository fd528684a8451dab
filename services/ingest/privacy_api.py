"""The API about privacy requests.

Ingest has the path, since requests come in here: Shopify's as webhooks, others by POST. They have one table, and one
way out as `privacy.requested`; what other services do because of one is to be told by receipts in the same place. Two
services could not answer for one path: profiles, should it list its own part, needs another.
"""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, cast
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from msgspec.structs import replace

from libs.common.auth import Principal, require
from libs.common.contracts import codec
from libs.common.contracts.commerce import PrivacyRequested
from libs.common.contracts.topics import COMMERCE
from libs.common.contracts.types import Platform, PrivacyKind
from libs.common.ids import derived_id, new_id
from libs.common.log.base import Event
from libs.common.log.postgres import append
from libs.common.problems import Problem, invalid, not_found
from libs.common.telemetry import current_traceparent
from libs.common.web import Limit, Page, decode_cursor, encode_cursor
from libs.common.web.idempotency import made_before, not_to_be_remembered
from libs.common.web.paging import Cursor
from services.ingest import archive, privacy
from services.ingest import store as records
from services.ingest.api import AnEdge, StoreFilter, is_there
from services.ingest.edge import Edge
from services.ingest.export_api import PAGE, Ndjson
from services.ingest.models import DeliveryDetail
from services.ingest.outcome import PRIVACY_ROOT, PRIVACY_TERM
from services.ingest.privacy import State
from services.ingest.privacy_models import PrivacyRequestIn, PrivacyRequestOut

_PATH = "/v1/privacy-requests"

router = APIRouter(tags=["ingest"])


@router.post(_PATH, status_code=202)
async def post_privacy_request(
    body: PrivacyRequestIn,
    request: Request,
    response: Response,
    edge: AnEdge,
    principal: Annotated[Principal, Depends(require("privacy:write"))],
) -> PrivacyRequestOut:
    """Has a person's data collected, or his deliveries made unreadable: for shops that send no webhook for it.

    It covers what had come by now. A redaction cannot be taken back. Asked again with its `Idempotency-Key` it answers
    how far that request has come by then.
    """
    if (before := made_before(request)) is not None:
        return PrivacyRequestOut.of(await _one(edge, principal, UUID(before.rpartition("/")[2])))
    now = edge.clock.arrival()
    if body.due_at is not None and body.due_at <= now:
        raise invalid("/due_at", "This is over.")
    async with edge.database.transaction() as tx:
        store = await records.one_store(tx, principal.tenant, body.store)
        if store is None:
            raise invalid("/store", "There is no such store.")
        asked = PrivacyRequested(
            store=store.key,
            platform=cast("Platform", store.platform),
            source_id=new_id(),
            updated_at=now,
            position=0,
            kind=body.kind,
            due_at=body.due_at or now + PRIVACY_TERM,
            identifiers=body.customer.identifiers(),
        )
        taken = privacy.of_observed(asked, principal.tenant, principal.key_id)
        await privacy.take(tx, [taken])
        await append(tx, COMMERCE, [_event(asked, principal.tenant)])
    response.headers["location"] = f"{_PATH}/{taken.id}"
    not_to_be_remembered(request)
    return PrivacyRequestOut.of(taken)


def _event(asked: PrivacyRequested, tenant: str) -> Event:
    return Event(
        id=derived_id("privacy.requested", asked.source_id),
        type="privacy.requested",
        source="/services/ingest",
        tenant=tenant,
        key=f"{asked.store}:{PRIVACY_ROOT}",
        time=asked.updated_at,
        data=codec.encode(COMMERCE.name, asked),
        traceparent=current_traceparent(),
    )


@router.get(_PATH)
async def get_privacy_requests(
    edge: AnEdge,
    principal: Annotated[Principal, Depends(require("privacy:read"))],
    store: StoreFilter = None,
    kind: Annotated[PrivacyKind | None, Query()] = None,
    state: Annotated[State | None, Query()] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[PrivacyRequestOut]:
    """What was asked for, by webhook or here, newest first."""
    listing = "privacy_requests"
    before = decode_cursor(cursor, listing, datetime, UUID) if cursor is not None else None
    async with edge.database.reading() as tx:
        found = await privacy.newest(
            tx,
            principal.tenant,
            limit=limit + 1,
            store=store,
            kind=kind,
            state=state,
            before=(before[0], str(before[1])) if before else None,
        )
        if not found:
            await is_there(tx, principal.tenant, store)
    last = found[limit - 1] if len(found) > limit else None
    following = encode_cursor(listing, last.received_at, last.id) if last else None
    return Page(data=[PrivacyRequestOut.of(one) for one in found[:limit]], next=following)


@router.get(f"{_PATH}/{{id}}")
async def get_privacy_request(
    id: UUID,  # noqa: A002 (the path says so)
    edge: AnEdge,
    principal: Annotated[Principal, Depends(require("privacy:read"))],
) -> PrivacyRequestOut:
    """One request with its receipts."""
    return PrivacyRequestOut.of(await _one(edge, principal, id))


@router.get(
    f"{_PATH}/{{id}}/export",
    response_class=Ndjson,
    responses={200: {"description": "One delivery a line, as `GET /v1/deliveries/{id}` shows it."}},
)
async def export_privacy_request(
    id: UUID,  # noqa: A002 (the path says so)
    request: Request,
    edge: AnEdge,
    principal: Annotated[Principal, Depends(require("privacy:read"))],
) -> Ndjson:
    """All deliveries of the store that are about the person, headers and bodies included, oldest first.

    409 until the request is done, and for a redaction, of which nothing is left.
    """
    asked = await _one(edge, principal, id)
    if asked.kind != "data_request":
        raise Problem(409, "wrong_kind", "Only what was asked for as data_request can be exported.")
    if asked.state != "done":
        raise Problem(409, "not_done", f"The request is {asked.state}.", headers={"retry-after": "10"})
    return Ndjson(_lines(request, edge, replace(asked, reached=None)))


async def _one(edge: Edge, principal: Principal, id_: UUID) -> privacy.Request:
    async with edge.database.reading() as tx:
        found = await privacy.one(tx, principal.tenant, str(id_))
    if found is None:
        raise not_found("privacy request")
    return found


async def _lines(request: Request, edge: Edge, asked: privacy.Request) -> AsyncIterator[str]:
    while not await request.is_disconnected():
        # No transaction stays open while a slow reader takes its time.
        async with edge.database.reading() as tx:
            held, last = await privacy.following(tx, asked, PAGE)
            shown = [await archive.one(tx, asked.tenant, each.id) for each in privacy.persons(asked, held)]
        for one in shown:
            if one is not None:
                yield DeliveryDetail.whole(*one).model_dump_json() + "\n"
        if last:
            return
        asked = replace(asked, reached=held[-1].id)

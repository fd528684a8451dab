"""`GET /v1/deliveries/export`: deliveries with their bodies, as NDJSON, however many there are."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse
from msgspec.structs import replace

from libs.common.auth import Principal, require
from services.ingest import archive
from services.ingest.api import AnEdge, Filters, is_there, wanted
from services.ingest.archive import OutcomeName, Wanted
from services.ingest.edge import Edge
from services.ingest.models import DeliveryDetail

PAGE = 20
"""Deliveries in memory at a time: a body may have 5 MiB."""

router = APIRouter(tags=["ingest"])


class Ndjson(StreamingResponse):
    """A JSON document a line."""

    media_type = "application/x-ndjson"


@router.get(
    "/v1/deliveries/export",
    response_class=Ndjson,
    responses={200: {"description": "One delivery a line, as `GET /v1/deliveries/{id}` shows it."}},
)
async def export(
    request: Request,
    edge: AnEdge,
    principal: Annotated[Principal, Depends(require("deliveries:read"))],
    filters: Annotated[Filters, Depends()],
) -> Ndjson:
    """All that the filters let through, newest first, headers and bodies included; what comes meanwhile is left out.

    An answer that breaks off is not whole: ask again with `until` at the last line's `received_at`.
    """
    async with edge.database.reading() as tx:
        await is_there(tx, principal.tenant, filters.store)
    return Ndjson(_lines(request, edge, wanted(principal, filters), filters.outcome))


async def _lines(request: Request, edge: Edge, each: Wanted, outcome: OutcomeName | None) -> AsyncIterator[str]:
    while not await request.is_disconnected():
        # No transaction stays open while a slow reader takes its time.
        async with edge.database.reading() as tx:
            found = await archive.newest(tx, each, outcome, PAGE)
            sent = await archive.sent(tx, each.tenant, [one.id for one in found])
        for one in found:
            yield DeliveryDetail.whole(one, sent.get(one.id, "retention")).model_dump_json() + "\n"
        if len(found) < PAGE:
            return
        each = replace(each, before=found[-1].id)

"""The API that has deliveries read again."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from msgspec.structs import replace

from libs.common.auth import Principal, require
from libs.common.contracts.journal import Delivery
from libs.common.db import Database
from libs.common.ids import new_id
from libs.common.problems import FieldError, Problem, invalid, not_found
from libs.common.web import Limit, Page, decode_cursor, encode_cursor
from libs.common.web.paging import Cursor
from services.ingest import archive, replays
from services.ingest import store as records
from services.ingest.api import AnEdge
from services.ingest.archive import Found
from services.ingest.replay_models import ReplayIn, ReplayOut
from services.ingest.replays import Replay

INSTANT = timedelta(microseconds=1)
"""The least that two times differ by."""
_GONE = {
    "redacted": "Its body was redacted by a privacy request: nothing can be read again.",
    "retention": "Its body is past the journal's retention: nothing can be read again.",
}

router = APIRouter(tags=["ingest"])


@router.post(
    "/v1/deliveries/replays",
    status_code=202,
    responses={
        200: {"model": ReplayOut, "description": "One that wants the same is open: this one."},
        404: {"description": "There is no such delivery, or (`removed`) nobody can read its body any more."},
    },
)
async def post_replay(
    body: ReplayIn,
    response: Response,
    edge: AnEdge,
    principal: Annotated[Principal, Depends(require("deliveries:write"))],
) -> ReplayOut:
    """Has deliveries of a store read again, by today's rules: after a fix of ours, or a change of the store.

    One alone is named as `delivery`, by its id. The other filters have then to be true of it, or may be left out.

    What is observed then starts no message (but for a cart that lies idle still and of which it was not known whose it
    is), and changes nothing where nothing was wrong. Dead deliveries that can be read now are so, too, and are dead no
    longer.

    One that is open and wants the same is answered again: cancel it to begin anew. At most 5 of a store and 20 of a
    tenant are open at one time, else 409.
    """
    now = edge.clock.arrival()
    if body.since is not None and body.since >= (body.until or now):
        raise invalid("/since", "This is not before `until`.")
    replay = Replay(
        tenant=principal.tenant,
        id=new_id(),
        store=body.store or "",  # nothing where it is the delivery's
        topic=body.topic,
        outcome=body.outcome,
        since=body.since,
        until=body.until or now,
        dry_run=body.dry_run,
        state="waiting",
        asked_at=now,
        asked_by=principal.key_id,
        reached=None,
        total=None,
        counts={},
        reasons={},
    )
    if body.delivery is not None:
        found = await _readable(edge.database, principal.tenant, str(body.delivery))
        replay = _of_one(replay, body, found)
    async with edge.database.transaction() as tx:
        store = await records.one_store(tx, principal.tenant, replay.store)
        if store is None or store.state == "deleted":
            if replay.delivery is not None:
                raise invalid("/delivery", "Its store was deleted.")
            raise invalid("/store", "There is no such store.")
        asked = await replays.ask(tx, replay)
    response.status_code = 202 if asked is replay else 200
    return ReplayOut.of(asked)


@router.get("/v1/deliveries/replays")
async def get_replays(
    edge: AnEdge,
    principal: Annotated[Principal, Depends(require("deliveries:read"))],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[ReplayOut]:
    """All replays, newest first."""
    before = str(decode_cursor(cursor, "replays", UUID)[0]) if cursor is not None else None
    async with edge.database.reading() as tx:
        found = await replays.newest(tx, principal.tenant, limit=limit + 1, before=before)
    following = encode_cursor("replays", found[limit - 1].id) if len(found) > limit else None
    return Page(data=[ReplayOut.of(one) for one in found[:limit]], next=following)


@router.get("/v1/deliveries/replays/{id}")
async def get_replay(
    id: UUID,  # noqa: A002 (the path says so)
    edge: AnEdge,
    principal: Annotated[Principal, Depends(require("deliveries:read"))],
) -> ReplayOut:
    """How far a replay has come."""
    async with edge.database.reading() as tx:
        found = await replays.one(tx, principal.tenant, str(id))
    if found is None:
        raise not_found("replay")
    return ReplayOut.of(found)


@router.post("/v1/deliveries/replays/{id}/cancel")
async def cancel_replay(
    id: UUID,  # noqa: A002 (the path says so)
    edge: AnEdge,
    principal: Annotated[Principal, Depends(require("deliveries:write"))],
) -> ReplayOut:
    """Ends a replay where it is. What it has done stays done; one that is at its end stays as it is."""
    async with edge.database.transaction() as tx:
        await replays.cancel(tx, principal.tenant, str(id))
        found = await replays.one(tx, principal.tenant, str(id))
    if found is None:
        raise not_found("replay")
    return ReplayOut.of(found)


async def _readable(database: Database, tenant: str, delivery: str) -> Found:
    """The tenant's delivery, to be read again. Problem 404, or 409 while it was not read at all."""
    async with database.reading() as tx:
        found = await archive.one(tx, tenant, delivery)
    if found is None:
        wrong = FieldError("/delivery", "Names no delivery.")
        raise Problem(404, "not_found", "There is no such delivery.", [wrong])
    told, sent = found
    if not isinstance(sent, Delivery):
        raise Problem(404, "removed", _GONE[sent], [FieldError("/delivery", _GONE[sent])])
    if told.outcome == "pending":
        detail = "It was not read yet: it will be, by today's rules, without a replay."
        raise Problem(409, "pending", detail, [FieldError("/delivery", detail)])
    return told


def _of_one(replay: Replay, asked: ReplayIn, found: Found) -> Replay:
    """The replay of this delivery alone. Problem 422 for each filter that is not true of it."""
    true = {
        "store": asked.store in {None, found.store},
        "topic": asked.topic in {None, found.topic},
        "outcome": asked.outcome in {None, found.outcome},
        "since": asked.since is None or asked.since <= found.received_at,
        "until": asked.until is None or asked.until > found.received_at,
    }
    wrong = [FieldError(f"/{name}", "This is not true of the delivery.") for name, is_so in true.items() if not is_so]
    if wrong:
        raise Problem(422, "invalid", "The request is not valid.", wrong)
    return replace(
        replay,
        delivery=found.id,
        store=found.store,
        topic=found.topic,
        since=found.received_at,
        until=found.received_at + INSTANT,
    )

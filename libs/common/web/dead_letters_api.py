"""`/v1/dead-letters/{service}`: the events that fell out, and the way back in."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from libs.common import dead_letters
from libs.common.auth import Principal, require
from libs.common.db import Database, Tx
from libs.common.problems import Problem, invalid, not_found
from libs.common.web.asked import Asked
from libs.common.web.instants import Instant
from libs.common.web.paging import Cursor, Limit, Page, decode_cursor, encode_cursor

State = Literal["dead", "replay", "replayed", "discarded"]
Reader = Annotated[Principal, Depends(require("dead-letters:read"))]
Writer = Annotated[Principal, Depends(require("dead-letters:write"))]


class DeadLetterOut(BaseModel):
    """An event that could not be processed."""

    id: UUID
    consumer: str
    topic: str
    partition: int
    offset: int
    event_id: str
    event_type: str
    key: str
    event_time: datetime
    appended_at: datetime
    failed_at: datetime
    attempts: int
    reason: str
    state: State


class DeadLetterDetailOut(DeadLetterOut):
    """The same with all that helps to find out why."""

    source: str
    traceparent: str | None
    traceback: str | None
    data: Any = Field(description='The event\'s data; `{"base64": …}` when its contract cannot read it.')


class ReplayIn(Asked):
    """Which to try again: those that satisfy all that is given."""

    ids: list[UUID] | None = Field(default=None, min_length=1, max_length=1000)
    consumer: str | None = Field(default=None, max_length=200)
    reason: str | None = Field(default=None, min_length=1, max_length=500, description="Beginning of the reason.")
    since: Instant | None = Field(default=None, description="Failed at this time or later.")
    until: Instant | None = Field(default=None, description="Failed before this time.")


class MarkedOut(BaseModel):
    """How many dead letters changed their state."""

    marked: int


def dead_letters_router(databases: Mapping[str, Database]) -> APIRouter:
    """The routes for the services with consumers, by name. 404 for one that this app does not have."""
    router = APIRouter(prefix="/v1/dead-letters", tags=["operations"])

    def database_of(service: str) -> Database:
        if service not in databases:
            raise not_found("service")
        return databases[service]

    @router.get("/{service}")
    async def list_dead_letters(  # noqa: PLR0917 - FastAPI passes them by name
        service: str,
        principal: Reader,
        consumer: Annotated[str | None, Query(max_length=200)] = None,
        reason: Annotated[str | None, Query(max_length=500, description="Beginning of the reason.")] = None,
        since: Annotated[Instant | None, Query(description="Failed at this time or later.")] = None,
        state: State | None = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Page[DeadLetterOut]:
        """Events of a service that could not be processed, newest first."""
        after = decode_cursor(cursor, f"dead_letters {service}", datetime, UUID) if cursor else None
        selection = dead_letters.Selection(consumer=consumer, reason=reason, since=since, state=state)
        async with database_of(service).reading() as tx:
            rows = await dead_letters.listed(
                tx, principal.tenant, selection, limit + 1, tuple(after) if after else None
            )
        page = rows[:limit]
        following = (
            encode_cursor(f"dead_letters {service}", page[-1]["failed_at"], page[-1]["id"])
            if len(rows) > limit
            else None
        )
        return Page(data=[DeadLetterOut.model_validate(row) for row in page], next=following)

    @router.get("/{service}/{letter_id}")
    async def show_dead_letter(service: str, letter_id: UUID, principal: Reader) -> DeadLetterDetailOut:
        """One of them with its data, its traceback and the attempts that were made."""
        async with database_of(service).reading() as tx:
            row = await dead_letters.shown(tx, principal.tenant, letter_id)
        if row is None:
            raise not_found("dead letter")
        return DeadLetterDetailOut.model_validate(row)

    @router.post("/{service}/replay")
    async def replay_dead_letters(service: str, body: ReplayIn, principal: Writer) -> MarkedOut:
        """Has all that the body names processed again, soon."""
        if not body.model_fields_set:
            raise invalid("", "Name at least one of ids, consumer, reason, since, until.")
        selection = dead_letters.Selection(**body.model_dump(exclude={"ids"}), ids=body.ids)
        async with database_of(service).transaction() as tx:
            return MarkedOut(marked=await dead_letters.replay(tx, principal.tenant, selection))

    @router.post("/{service}/{letter_id}/replay")
    async def replay_dead_letter(service: str, letter_id: UUID, principal: Writer) -> MarkedOut:
        """Has one processed again, soon. 409 when it is under way, or settled already."""
        async with database_of(service).transaction() as tx:
            marked = await dead_letters.replay(tx, principal.tenant, dead_letters.Selection(ids=[letter_id]))
            if not marked:
                raise await _unmarked(tx, principal, letter_id)
        return MarkedOut(marked=marked)

    @router.post("/{service}/{letter_id}/discard")
    async def discard_dead_letter(service: str, letter_id: UUID, principal: Writer) -> MarkedOut:
        """Puts one aside for good: it counts as settled, and stays to be looked at."""
        async with database_of(service).transaction() as tx:
            if not await dead_letters.discard(tx, principal.tenant, letter_id):
                raise await _unmarked(tx, principal, letter_id)
        return MarkedOut(marked=1)

    return router


async def _unmarked(tx: Tx, principal: Principal, letter_id: UUID) -> Problem:
    row = await dead_letters.shown(tx, principal.tenant, letter_id)
    if row is None:
        return not_found("dead letter")
    return Problem(409, "conflict", f"This dead letter is {row['state']} already.")

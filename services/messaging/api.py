"""`/v1/messages`, `/v1/flows`, `/v1/suppressions`: what was said, what was not and why, and who is to be left alone."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Depends, Query, Request, Response, status
from pydantic import BaseModel, Field, StrictBool

from libs.common.auth import Principal, require
from libs.common.clock import Clock
from libs.common.contracts.types import Channel
from libs.common.db import Database, Tx
from libs.common.problems import invalid, invalid_parameter, not_found, not_found_by
from libs.common.web import Limit, Page, decode_cursor, encode_cursor
from libs.common.web.asked import Asked
from libs.common.web.paging import Cursor
from services.messaging.ledger import State
from services.messaging.person import masked, usable_address, without_addresses
from services.messaging.store import flows as flow_store
from services.messaging.store import listing, looks, suppressions

SuppressionReason = Literal["unsubscribed", "hard_bounce", "complaint", "manual"]
Reason = Annotated[str | None, Query(max_length=100, description="Why it was skipped, held or failed.")]


@dataclass(frozen=True, slots=True)
class Messaging:
    """What the routes need."""

    database: Database
    clock: Clock


class MessageOut(BaseModel):
    """One row of the send ledger."""

    id: str
    flow: str
    version: int
    step: int = Field(description="From 1.")
    run_key: str = Field(
        description="What started the run: a store and a checkout's token, an account and a moment. Masked like it."
    )
    profile_id: str = Field(description="Whose it is: GET /v1/profiles/{reference} tells all of that person.")
    account: str = Field(
        description="An address or a phone number in it, as in a guest's, is masked like the recipient.",
        examples=["customer:st_one:7", "guest:st_one:a…@example.com"],
    )
    store: str
    channel: Channel
    recipient: str = Field(description="Masked; empty when there was no address.", examples=["a…@example.com"])
    state: State
    reason: str | None
    due_at: datetime
    sent_at: datetime | None
    created_at: datetime
    checkout_token: str | None


class RunOut(BaseModel):
    """The run that a message belongs to."""

    began_at: datetime | None
    ended_at: datetime | None
    ended_by: str | None


class MessageDetailOut(MessageOut):
    """A message with all that explains it."""

    reasons: list[str] = Field(description="All that spoke against it when the gate was last asked, first one first.")
    attempts: int = Field(description="How often it was handed to the provider.")
    response: str | None = Field(description="What the provider said last; addresses in it are masked.")
    next_at: datetime | None = Field(description="When it is asked about again, if it waits.")
    claimed_at: datetime | None
    settled_at: datetime | None
    run: RunOut


class FlowOut(BaseModel):
    """A flow as it stands."""

    key: str
    version: int
    paused: bool
    updated_at: datetime
    definition: dict[str, Any]


class FlowPatch(Asked):
    """What may be changed; what is absent stays."""

    paused: StrictBool


class SuppressionIn(Asked):
    """An address on a channel."""

    address: str = Field(max_length=254)
    channel: Literal["email"] = "email"


class SuppressionAddIn(SuppressionIn):
    """An address that is not to be written to."""

    reason: Literal["hard_bounce", "complaint", "manual"] = "manual"


class SuppressionOut(BaseModel):
    """An address that is not written to."""

    address: str
    channel: str
    reason: SuppressionReason
    created_at: datetime


router = APIRouter(tags=["messaging"])

_WHOSE = (
    "A profile's id; 404 when nobody has it, also after a merge into another profile. Which id an e-mail address has,"
    " and one from before a merge, tells GET /v1/profiles/{reference}."
)
_STORE = "A store's key; 404 when there is none of it, or when it was registered a moment ago."
MessageReader = Annotated[Principal, Depends(require("messages:read"))]
FlowReader = Annotated[Principal, Depends(require("flows:read"))]
FlowWriter = Annotated[Principal, Depends(require("flows:write"))]
SuppressionReader = Annotated[Principal, Depends(require("suppressions:read"))]
SuppressionWriter = Annotated[Principal, Depends(require("suppressions:write"))]


@router.get("/v1/messages")
async def read_messages(  # noqa: PLR0917 - FastAPI passes them by name
    request: Request,
    principal: MessageReader,
    profile: Annotated[str | None, Query(max_length=100, description=_WHOSE)] = None,
    flow: Annotated[
        str | None, Query(max_length=100, description="A flow's key; 404 when there is none of it.")
    ] = None,
    state: State | None = None,
    reason: Reason = None,
    store: Annotated[str | None, Query(max_length=100, description=_STORE)] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[MessageOut]:
    """The send ledger, newest first."""
    if profile is not None and ":" in profile:
        raise invalid_parameter("profile", "Give a profile's id: GET /v1/profiles/email:… tells that of an address.")
    after = decode_cursor(cursor, "messages", datetime, str) if cursor else None
    async with _state(request).database.reading() as tx:
        rows = await listing.list_messages(
            tx,
            principal.tenant,
            profile=profile,
            flow=flow,
            state=state,
            reason=reason,
            store=store,
            after=(after[0], after[1]) if after else None,
            limit=limit + 1,
        )
        if not rows:
            await _are_there(tx, principal.tenant, profile, store, flow)
    shown = rows[:limit]
    following = encode_cursor("messages", shown[-1]["created_at"], shown[-1]["id"]) if len(rows) > limit else None
    return Page(data=[MessageOut.model_validate(_shown(row)) for row in shown], next=following)


@router.get("/v1/messages/{message}")
async def read_message(request: Request, principal: MessageReader, message: str) -> MessageDetailOut:
    """One message with the gate's explanation."""
    async with _state(request).database.reading() as tx:
        row = await listing.one_message(tx, principal.tenant, message)
    if row is None:
        raise not_found("message")
    run = {"began_at": row["run_began_at"], "ended_at": row["run_ended_at"], "ended_by": row["run_ended_by"]}
    return MessageDetailOut.model_validate(_shown(row) | {"run": run})


@router.get("/v1/flows")
async def read_flows(request: Request, principal: FlowReader) -> Page[FlowOut]:
    """All flows of the tenant."""
    return Page(data=[FlowOut.model_validate(dict(row)) for row in await _flows(request, principal, None)])


@router.get("/v1/flows/{key}")
async def read_flow(request: Request, principal: FlowReader, key: str) -> FlowOut:
    """One flow."""
    return await _flow(request, principal, key)


@router.patch("/v1/flows/{key}")
async def change_flow(request: Request, principal: FlowWriter, key: str, change: FlowPatch) -> FlowOut:
    """Pauses a flow, whose messages are then held, or resumes it, whereupon the gate is asked about each again."""
    await _flow(request, principal, key)
    async with _state(request).database.transaction() as tx:
        await flow_store.set_paused(tx, principal.tenant, key, to=change.paused, now=_state(request).clock.now())
    return await _flow(request, principal, key)


@router.get("/v1/suppressions")
async def read_suppressions(
    request: Request,
    principal: SuppressionReader,
    channel: Channel | None = None,
    reason: SuppressionReason | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[SuppressionOut]:
    """Addresses that are not written to."""
    after = decode_cursor(cursor, "suppressions", str, str) if cursor else None
    async with _state(request).database.reading() as tx:
        rows = await listing.list_suppressions(
            tx,
            principal.tenant,
            channel=channel,
            reason=reason,
            after=(after[0], after[1]) if after else None,
            limit=limit + 1,
        )
    shown = rows[:limit]
    following = encode_cursor("suppressions", shown[-1]["channel"], shown[-1]["address"]) if len(rows) > limit else None
    return Page(data=[SuppressionOut.model_validate(dict(row)) for row in shown], next=following)


@router.post(
    "/v1/suppressions",
    status_code=status.HTTP_201_CREATED,
    responses={200: {"model": SuppressionOut, "description": "It was suppressed already."}},
)
async def add_suppression(
    request: Request, response: Response, principal: SuppressionWriter, body: SuppressionAddIn
) -> SuppressionOut:
    """Writes no more to an address: 201, or 200 when it is suppressed already, for the reason that it had."""
    address = _address(body)
    async with _state(request).database.transaction() as tx:
        added = await suppressions.suppress(
            tx, principal.tenant, body.channel, address, body.reason, _state(request).clock.now()
        )
        row = await suppressions.find(tx, principal.tenant, body.channel, address)
    if not added:
        response.status_code = status.HTTP_200_OK
    return SuppressionOut.model_validate(row)


@router.delete("/v1/suppressions", status_code=status.HTTP_204_NO_CONTENT, response_class=Response)
async def lift_suppression(request: Request, principal: SuppressionWriter, body: SuppressionIn) -> None:
    """Lets an address be written to again; what it consents to is another matter."""
    async with _state(request).database.transaction() as tx:
        lifted = await suppressions.lift(tx, principal.tenant, body.channel, _address(body))
    if not lifted:
        raise not_found("suppression")


def _state(request: Request) -> Messaging:
    return cast("Messaging", request.app.state.messaging)


def _shown(row: listing.Row) -> dict[str, Any]:
    told = {name: without_addresses(row[name] or "") for name in ("account", "run_key")}
    response = None if row["response"] is None else without_addresses(row["response"])
    recipient = masked(row["recipient"]) if row["recipient"] else ""
    return dict(row) | told | {"recipient": recipient, "response": response}


async def _are_there(tx: Tx, tenant: str, profile: str | None, store: str | None, flow: str | None) -> None:
    """Problem 404 for a profile, a store or a flow that was never told of. Asked only where nothing was found."""
    if profile is not None and not await listing.knows_profile(tx, tenant, profile):
        raise not_found_by(
            "profile", "profile", "GET /v1/profiles/{reference} tells whether it goes by another id now."
        )
    if store is not None and not await looks.shops(tx, [(tenant, store)]):
        raise not_found_by("store", "store", "Has it been registered only now, ask again in a moment.")
    if flow is not None and not await flow_store.knows(tx, tenant, flow):
        raise not_found_by("flow", "flow", "GET /v1/flows lists those that there are.")


def _address(body: SuppressionIn) -> str:
    address = body.address.strip().lower()
    if not usable_address(address):
        raise invalid("/address", "This is not an e-mail address.")
    return address


async def _flows(request: Request, principal: Principal, key: str | None) -> list[listing.Row]:
    state = _state(request)
    async with state.database.transaction() as tx:
        # A tenant that has sent nothing yet has the built-in flows all the same.
        await flow_store.current(tx, [principal.tenant], state.clock.now())
        return await listing.list_flows(tx, principal.tenant, key)


async def _flow(request: Request, principal: Principal, key: str) -> FlowOut:
    rows = await _flows(request, principal, key)
    if not rows:
        raise not_found("flow")
    return FlowOut.model_validate(dict(rows[0]))

"""The API: stores and deliveries. The webhook route is in `webhooks.py`."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, cast
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from libs.common.auth import Principal, require
from libs.common.db import Tx
from libs.common.problems import Problem, invalid, invalid_parameter, not_found, not_found_by
from libs.common.telemetry import current_traceparent
from libs.common.web import Limit, Page, decode_cursor, encode_cursor
from libs.common.web.instants import Instant
from libs.common.web.paging import Cursor
from services.ingest import archive
from services.ingest import store as records
from services.ingest.archive import OutcomeName, Wanted
from services.ingest.edge import Edge
from services.ingest.models import (
    MAY_END,
    CountsOut,
    DeliveryDetail,
    DeliveryOut,
    SecretOut,
    StoreChangeOut,
    StoreIn,
    StoreOut,
    StorePatch,
)
from services.ingest.registering import (
    Change,
    IsDeleted,
    NoSuchPublicKey,
    Registration,
    TakesNoSecrets,
    TooManyPublicKeys,
    TooManySecrets,
    change,
    register,
)
from services.ingest.registration import MAX_PUBLIC_KEYS, MAX_SECRETS
from services.ingest.store import Store
from services.ingest.tally import DUPLICATE

StoreFilter = Annotated[str | None, Query(max_length=64, description="A store's key; 404 when there is none of it.")]
TopicFilter = Annotated[str | None, Query(max_length=128, description="A platform's topic, or an event's type.")]

SHOP_SECONDS = 10
router = APIRouter(tags=["ingest"])


async def _edge(request: Request) -> Edge:
    # Asynchronous, though it waits for nothing: a plain function would be sent to another thread and back.
    return cast("Edge", request.app.state.ingest)


AnEdge = Annotated[Edge, Depends(_edge)]


async def is_there(tx: Tx, tenant: str, store: str | None) -> None:
    """Problem 404 when `store` names none of the tenant's: nothing to tell is not the same as nobody to ask about."""
    if store is not None and await records.one_store(tx, tenant, store) is None:
        raise not_found_by("store", "store")


def later(detail: str, seconds: float | None = None) -> Problem:
    """A shop cannot be asked now. `seconds`: what it said itself."""
    wait = max(1, round(seconds)) if seconds is not None else SHOP_SECONDS
    return Problem(503, "unavailable", detail, headers={"retry-after": str(wait)})


async def changed(edge: Edge, principal: Principal, key: str, wanted: Change) -> Store:
    """The caller's store, with what is wanted of it. Problem 404 or 422 when that cannot be."""
    try:
        saved = await change(
            edge.database,
            edge.keyring,
            principal.tenant,
            key,
            wanted,
            now=edge.clock.now(),
            by=principal.key_id,
            traceparent=current_traceparent(),
        )
    except IsDeleted:
        raise Problem(409, "deleted", "The store was deleted. Register it again: it gets a key of its own.") from None
    except TooManySecrets:
        raise invalid("/secrets", f"With those that still sign there would be more than {MAX_SECRETS}.") from None
    except TakesNoSecrets:
        raise invalid("/secrets", "No webhook comes from such a store: it has an API key.") from None
    except TooManyPublicKeys:
        raise invalid("", f"A store has at most {MAX_PUBLIC_KEYS} public keys: withdraw one first.") from None
    except NoSuchPublicKey:
        raise not_found("public key") from None
    if saved is None:
        raise not_found("store")
    await edge.registry.reload(saved.key)
    return saved


# Stores --------------------------------------------------------------------------------------------------------------


@router.post("/v1/stores", status_code=201, responses={200: {"model": StoreOut, "description": "It was changed."}})
async def post_store(
    body: StoreIn,
    response: Response,
    edge: AnEdge,
    principal: Annotated[Principal, Depends(require("stores:write"))],
) -> StoreOut:
    """Registers a store; the same platform and domain again change it (its key stays), and answer 200.

    `secrets` are all that are valid now: for a rotation send the old and the new one, later the new one alone.
    """
    wanted = Registration(
        platform=body.platform,
        domain=body.domain,
        secrets=[secret.get_secret_value() for secret in body.secrets],
        currency=body.currency,
        timezone=body.timezone,
        name=body.name,
        consent=body.consent,
        email=body.email,
        postal_address=body.postal_address,
        ends=_ended(body),
    )
    saved, created = await register(
        edge.database,
        edge.keyring,
        principal.tenant,
        wanted,
        now=edge.clock.now(),
        by=principal.key_id,
        traceparent=current_traceparent(),
    )
    await edge.registry.reload(saved.key)
    response.status_code = 201 if created else 200
    return StoreOut.of(saved, edge.public_url)


@router.get("/v1/stores")
async def get_stores(
    edge: AnEdge,
    principal: Annotated[Principal, Depends(require("stores:read"))],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[StoreOut]:
    """The stores that are not deleted, by age."""
    after = decode_cursor(cursor, "stores", datetime, str) if cursor is not None else None
    async with edge.database.reading() as tx:
        found = await records.list_stores(
            tx, principal.tenant, limit=limit + 1, after=(after[0], after[1]) if after else None
        )
    following = (
        encode_cursor("stores", found[limit - 1].created_at, found[limit - 1].key) if len(found) > limit else None
    )
    return Page(data=[StoreOut.of(one, edge.public_url) for one in found[:limit]], next=following)


@router.get("/v1/stores/{key}")
async def get_store(
    key: str, edge: AnEdge, principal: Annotated[Principal, Depends(require("stores:read"))]
) -> StoreOut:
    """One store; a deleted one, too, since its history still names it."""
    async with edge.database.reading() as tx:
        found = await records.one_store(tx, principal.tenant, key)
    if found is None:
        raise not_found("store")
    return StoreOut.of(found, edge.public_url)


@router.patch("/v1/stores/{key}")
async def patch_store(
    key: str,
    body: StorePatch,
    edge: AnEdge,
    principal: Annotated[Principal, Depends(require("stores:write"))],
) -> StoreOut:
    """Changes a store. To rotate a secret send the new one with `overlap_seconds`: the old one signs for so long."""
    if not body.model_fields_set - {"overlap_seconds"}:
        if body.model_fields_set:
            raise invalid("/secrets", "This is missing: `overlap_seconds` is for those that it leaves out.")
        raise invalid("", "Name at least one field of it that is to be different.")
    wanted = Change(
        currency=body.currency,
        timezone=body.timezone,
        name=body.name,
        consent=body.consent,
        email=body.email,
        postal_address=body.postal_address,
        ends=_ended(body),
        paused=body.paused,
        secrets=None if body.secrets is None else [secret.get_secret_value() for secret in body.secrets],
        overlap=timedelta(seconds=body.overlap_seconds),
    )
    return StoreOut.of(await changed(edge, principal, key, wanted), edge.public_url)


def _ended(body: StoreIn | StorePatch) -> list[str]:
    """What is said to be nothing, other than by being left out."""
    return [name for name in MAY_END if name in body.model_fields_set and getattr(body, name) is None]


@router.get("/v1/stores/{key}/secrets")
async def get_secrets(
    key: str, edge: AnEdge, principal: Annotated[Principal, Depends(require("stores:read"))]
) -> list[SecretOut]:
    """Since when and until when each secret signs: whether a rotation is over."""
    async with edge.database.reading() as tx:
        if await records.one_store(tx, principal.tenant, key) is None:
            raise not_found("store")
        [held] = await records.sealed_stores(tx, [key])
    now = edge.clock.now()
    return [SecretOut(added_at=each.added_at, ends_at=each.ends_at) for each in held.secrets if each.signs(now)]


@router.get("/v1/stores/{key}/changes")
async def get_store_changes(
    key: str,
    edge: AnEdge,
    principal: Annotated[Principal, Depends(require("stores:read"))],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[StoreChangeOut]:
    """Who changed what about a store, and when; newest first."""
    before = decode_cursor(cursor, "store_changes", int)[0] if cursor is not None else None
    async with edge.database.reading() as tx:
        if await records.one_store(tx, principal.tenant, key) is None:
            raise not_found("store")
        found = await records.list_changes(tx, principal.tenant, key, limit=limit + 1, before=before)
    following = encode_cursor("store_changes", found[limit - 1].version) if len(found) > limit else None
    data = [StoreChangeOut.model_validate(one, from_attributes=True) for one in found[:limit]]
    return Page(data=data, next=following)


# Deliveries ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Filters:
    """Which deliveries; each filter narrows it down."""

    store: StoreFilter = None
    topic: TopicFilter = None
    outcome: OutcomeName | None = None
    reason: Annotated[str | None, Query(max_length=500, description="Beginning of the reason.")] = None
    object: Annotated[str | None, Query(max_length=300, description="Such as `order:1001`.")] = None
    since: Annotated[Instant | None, Query(description="Received at this time or later.")] = None
    until: Annotated[Instant | None, Query(description="Received before this time.")] = None


def wanted(principal: Principal, filters: Filters, *, before: str | None = None) -> Wanted:
    """What they mean, of the caller's tenant. Problem 422 when there is no time between `since` and `until`."""
    if filters.since is not None and filters.until is not None and filters.since > filters.until:
        raise invalid_parameter("since", "This is after `until`.")
    return Wanted(
        tenant=principal.tenant,
        store=filters.store,
        topic=filters.topic,
        since=filters.since,
        until=filters.until,
        reason=filters.reason,
        object=filters.object,
        before=before,
    )


@router.get("/v1/deliveries")
async def get_deliveries(
    edge: AnEdge,
    principal: Annotated[Principal, Depends(require("deliveries:read"))],
    filters: Annotated[Filters, Depends()],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[DeliveryOut]:
    """What was received and what became of it, newest first."""
    before = str(decode_cursor(cursor, "deliveries", UUID)[0]) if cursor is not None else None
    async with edge.database.reading() as tx:
        found = await archive.newest(tx, wanted(principal, filters, before=before), filters.outcome, limit + 1)
        if not found:
            await is_there(tx, principal.tenant, filters.store)
    following = encode_cursor("deliveries", found[limit - 1].id) if len(found) > limit else None
    return Page(data=[DeliveryOut.of(one) for one in found[:limit]], next=following)


@router.get("/v1/deliveries/counts")
async def get_delivery_counts(
    edge: AnEdge,
    principal: Annotated[Principal, Depends(require("deliveries:read"))],
    store: StoreFilter = None,
) -> CountsOut:
    """Deliveries by outcome, and the requests that became none: refused ones by reason, and repeated ones."""
    await edge.tally.flush()
    async with edge.database.reading() as tx:
        await is_there(tx, principal.tenant, store)
        outcomes = await records.outcome_counts(tx, principal.tenant, store)
        outcomes |= await archive.dead_and_pending(tx, principal.tenant, store)
        refused = await records.request_counts(tx, principal.tenant, store)
    duplicates = refused.pop(DUPLICATE, 0)
    return CountsOut(store=store, **outcomes, refused=refused, duplicates=duplicates)


@router.get("/v1/deliveries/{id}")
async def get_delivery(
    id: UUID,  # noqa: A002 (the path says so)
    edge: AnEdge,
    principal: Annotated[Principal, Depends(require("deliveries:read"))],
) -> DeliveryDetail:
    """One delivery with the headers, but for the signature, and the body that were sent."""
    async with edge.database.reading() as tx:
        found = await archive.one(tx, principal.tenant, str(id))
    if found is None:
        raise not_found("delivery")
    return DeliveryDetail.whole(*found)

"""The API about stores' own APIs: credentials, backfills, a store's health."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response

from libs.common.auth import Principal, require
from libs.common.db import Tx
from libs.common.ids import new_id
from libs.common.problems import Problem, invalid, not_found
from libs.common.web import Limit, Page, decode_cursor, encode_cursor
from libs.common.web.paging import Cursor
from services.ingest import credentials, fetches, seen, subscriptions
from services.ingest import store as records
from services.ingest.api import AnEdge, changed, later
from services.ingest.credentials import NO_API, NO_CREDENTIALS, Credentials
from services.ingest.fetch_models import (
    BackfillIn,
    BackfillOut,
    CredentialsIn,
    CredentialsOut,
    Looked,
    SilenceOut,
    StoreHealth,
    SubscriptionHealth,
    SubscriptionsHealth,
    TopicHealth,
)
from services.ingest.fetches import Fetch, Purpose, State
from services.ingest.opening import Key, ShopifyKey, WooCommerceKey
from services.ingest.platforms.port import ALL, Hopeless, Kind, NotAsked, Refused, Unavailable
from services.ingest.registering import Access, Change
from services.ingest.registration import api_url, host_of
from services.ingest.silence import silence
from services.ingest.store import Store
from services.ingest.subscriptions import Kept
from services.ingest.tally import DUPLICATE

HEALTH = timedelta(days=7)
OPEN: tuple[State, ...] = ("waiting", "running")

_TAKES: Mapping[str, Sequence[tuple[str, ...]]] = {
    "woocommerce": [("consumer_key", "consumer_secret")],
    "shopify": [("access_token",), ("client_id", "client_secret")],
}
_SECRETS = ("consumer_key", "consumer_secret", "access_token", "client_id", "client_secret")

router = APIRouter(tags=["ingest"])


async def _store(tx: Tx, principal: Principal, key: str) -> Store:
    found = await records.one_store(tx, principal.tenant, key)
    if found is None:
        raise not_found("store")
    return found


async def _credentials(edge: AnEdge, principal: Principal, key: str) -> Credentials:
    async with edge.database.reading() as tx:
        await _store(tx, principal, key)
        held = await credentials.held(tx, principal.tenant, key)
    if held is None:
        raise Problem(404, "not_found", NO_CREDENTIALS)
    return held


# Credentials ---------------------------------------------------------------------------------------------------------


@router.put("/v1/stores/{key}/credentials")
async def put_credentials(
    key: str,
    body: CredentialsIn,
    edge: AnEdge,
    principal: Annotated[Principal, Depends(require("stores:write"))],
    *,
    check: Annotated[
        bool, Query(description="Ask the platform first; when it refuses, those before stay: 409.")
    ] = False,
) -> CredentialsOut:
    """Opens a store's own API to us: from now on it is compared with what its webhooks told, every 15 minutes.

    Without `check`, whether the platform takes them is known a little later. Where the shop wants to be left alone
    until some time, new credentials wait for that, too: it is the shop that rests, and not whoever asks.
    """
    async with edge.database.reading() as tx:
        found = await _store(tx, principal, key)
        held = await credentials.held(tx, principal.tenant, key)
    opened_by = _key(found, body)
    try:
        url = held.url if body.url is None and held is not None else api_url(body.url, found.domain)
    except ValueError as error:
        raise invalid("/url", f"This is not an address on {host_of(found.domain)}.") from error
    if check:
        await _check(edge, found, url, opened_by)
    await changed(edge, principal, key, Change(access=Access(url=url, key=opened_by)))
    return CredentialsOut.of(await _credentials(edge, principal, key))


async def _check(edge: AnEdge, found: Store, url: str, key: Key) -> None:
    try:
        await edge.connecting.check(found, url, key, edge.clock.now())
    except NotAsked as error:
        raise invalid("/url", f"{error}.") from error
    except (Refused, Hopeless) as error:
        raise Problem(409, "refused", f"{error}. Nothing was changed.") from error
    except Unavailable as error:
        raise later(f"{url}: {error}. Nothing was changed.", error.retry_after) from error


def _has_api(found: Store, pointer: str) -> None:
    if found.platform not in _TAKES:
        raise invalid(pointer, NO_API.format(found.platform))


def _key(found: Store, body: CredentialsIn) -> Key:
    """What the store's platform takes, and nothing else."""
    given = {name: secret for name in _SECRETS if (secret := getattr(body, name)) is not None}
    _has_api(found, f"/{next(iter(given), _SECRETS[0])}")
    kinds = _TAKES[found.platform]
    # Of several kinds that which was begun.
    wanted = next((kind for kind in kinds if given.keys() & set(kind)), kinds[0])
    for name in _SECRETS:
        if name in given and name not in wanted:
            known = any(name in kind for kind in kinds)
            told = f"Not together with {wanted[0]}." if known else f"Stores of {found.platform} have no such thing."
            raise invalid(f"/{name}", told)
    for name in wanted:
        if name not in given:
            raise invalid(f"/{name}", "This is missing.")
    secrets = {name: secret.get_secret_value() for name, secret in given.items()}
    return ShopifyKey(**secrets) if found.platform == "shopify" else WooCommerceKey(**secrets)


@router.get("/v1/stores/{key}/credentials")
async def get_credentials(
    key: str, edge: AnEdge, principal: Annotated[Principal, Depends(require("stores:read"))]
) -> CredentialsOut:
    """How the platform took them."""
    return CredentialsOut.of(await _credentials(edge, principal, key))


@router.delete("/v1/stores/{key}/credentials", status_code=204, response_class=Response)
async def delete_credentials(
    key: str, edge: AnEdge, principal: Annotated[Principal, Depends(require("stores:write"))]
) -> None:
    """Forgets them. What is being fetched fails, and may be resumed when there are others."""
    held = await _credentials(edge, principal, key)
    await changed(edge, principal, key, Change(access=Access(url=held.url, key=None)))


# Backfills -----------------------------------------------------------------------------------------------------------


@router.post(
    "/v1/backfills",
    status_code=202,
    responses={200: {"model": BackfillOut, "description": "One that wants the same is not at its end: this one."}},
)
async def post_backfill(
    body: BackfillIn,
    response: Response,
    edge: AnEdge,
    principal: Annotated[Principal, Depends(require("deliveries:write"))],
) -> BackfillOut:
    """Fetches what a store had before us. It builds profiles and figures, and starts no message.

    One that wants the same and is not at its end is answered again, paused or not. There are at most 5 of a store and
    20 of a tenant at one time, else 409.
    """
    now = edge.clock.arrival()
    if body.since is not None and body.since >= now:
        raise invalid("/since", "This is yet to come.")
    async with edge.database.transaction() as tx:
        found = await records.one_store(tx, principal.tenant, body.store)
        if found is None or found.state == "deleted":
            raise invalid("/store", "There is no such store.")
        _has_api(found, "/store")
        if not await credentials.opened(tx, principal.tenant, body.store):
            raise invalid("/store", f"Nothing opens its API yet: PUT /v1/stores/{body.store}/credentials.")
        fetch = _wanted(body, _kinds(body, found.platform), principal, now)
        asked = await fetches.ask_backfill(tx, fetch)
        shown = await fetches.one(tx, principal.tenant, asked.id)
    response.status_code = 202 if asked is fetch else 200
    return BackfillOut.of(shown or asked)


def _kinds(body: BackfillIn, platform: str) -> list[Kind]:
    for n, kind in enumerate(body.kinds or ()):
        if kind not in ALL[platform]:
            raise invalid(f"/kinds/{n}", f"Stores of {platform} have no {kind} to be fetched.")
    return body.kinds or ALL[platform]


def _wanted(body: BackfillIn, kinds: list[Kind], principal: Principal, now: datetime) -> Fetch:
    return Fetch(
        tenant=principal.tenant,
        id=new_id(),
        store=body.store,
        purpose="backfill",
        kinds=kinds,
        since=body.since,
        until=now,
        state="waiting",
        asked_at=now,
        asked_by=principal.key_id,
    )


@router.get("/v1/backfills")
async def get_backfills(
    edge: AnEdge,
    principal: Annotated[Principal, Depends(require("deliveries:read"))],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[BackfillOut]:
    """All backfills, newest first."""
    before = str(decode_cursor(cursor, "backfills", UUID)[0]) if cursor is not None else None
    async with edge.database.reading() as tx:
        found = await fetches.newest(tx, principal.tenant, purpose="backfill", limit=limit + 1, before=before)
    following = encode_cursor("backfills", found[limit - 1].id) if len(found) > limit else None
    return Page(data=[BackfillOut.of(one) for one in found[:limit]], next=following)


@router.get("/v1/backfills/{id}")
async def get_backfill(
    id: UUID,  # noqa: A002 (the path says so)
    edge: AnEdge,
    principal: Annotated[Principal, Depends(require("deliveries:read"))],
) -> BackfillOut:
    """How far a backfill has come."""
    async with edge.database.reading() as tx:
        found = await fetches.one(tx, principal.tenant, str(id))
    if found is None:
        raise not_found("backfill")
    return BackfillOut.of(found)


@router.post("/v1/backfills/{id}/pause")
async def pause_backfill(
    id: UUID,  # noqa: A002 (the path says so)
    edge: AnEdge,
    principal: Annotated[Principal, Depends(require("deliveries:write"))],
) -> BackfillOut:
    """Holds a backfill where it is."""
    return await _turned(edge, principal, id, to="paused", among=OPEN)


@router.post("/v1/backfills/{id}/resume")
async def resume_backfill(
    id: UUID,  # noqa: A002 (the path says so)
    edge: AnEdge,
    principal: Annotated[Principal, Depends(require("deliveries:write"))],
) -> BackfillOut:
    """Goes on with a backfill that was paused, or that failed. 409 where nothing opens the store's API any more."""
    return await _turned(edge, principal, id, to="waiting", among=("paused", "failed"))


@router.post("/v1/backfills/{id}/cancel")
async def cancel_backfill(
    id: UUID,  # noqa: A002 (the path says so)
    edge: AnEdge,
    principal: Annotated[Principal, Depends(require("deliveries:write"))],
) -> BackfillOut:
    """Ends a backfill where it is. What it has published stays.

    What Shopify still prepares for it in bulk is ended when the next backfill needs its place.
    """
    return await _turned(edge, principal, id, to="cancelled", among=(*OPEN, "paused", "failed"))


async def _turned(edge: AnEdge, principal: Principal, id_: UUID, *, to: State, among: tuple[State, ...]) -> BackfillOut:
    async with edge.database.transaction() as tx:
        if to == "waiting":
            await _openable(tx, principal, str(id_), among)
        found = await fetches.turn(tx, principal.tenant, str(id_), to=to, among=among)
    if found is None:
        raise not_found("backfill")
    if found.state != to:
        raise Problem(409, "wrong_state", f"The backfill is {found.state}.")
    return BackfillOut.of(found)


async def _openable(tx: Tx, principal: Principal, id_: str, among: tuple[State, ...]) -> None:
    found = await fetches.one(tx, principal.tenant, id_)
    if found is None or found.state not in among:
        return
    if not await credentials.opened(tx, principal.tenant, found.store):
        raise Problem(409, "no_credentials", f"{NO_CREDENTIALS} PUT /v1/stores/{found.store}/credentials.")
    if found.state == "failed":
        await fetches.admit(tx, principal.tenant, found.store)


# Health --------------------------------------------------------------------------------------------------------------


@router.get("/v1/stores/{key}/health")
async def get_health(
    key: str, edge: AnEdge, principal: Annotated[Principal, Depends(require("stores:read"))]
) -> StoreHealth:
    """Whether all that happens in a store gets here: what came, what was refused, what no webhook told of."""
    await edge.tally.flush()
    async with edge.database.reading() as tx:
        await _store(tx, principal, key)
        topics = await seen.topics(tx, principal.tenant, key, now=edge.clock.now(), span=HEALTH)
        heard = await seen.heard(tx, principal.tenant, key)
        silent = silence(heard.hours, heard.zone, edge.clock.now() - await seen.lag(tx))
        refused = await records.request_counts(tx, principal.tenant, key)
        held = await credentials.held(tx, principal.tenant, key)
        webhooks = await subscriptions.of_store(tx, principal.tenant, key)
        last = [await _looked(tx, principal, key, purpose) for purpose in ("reconcile", "sweep")]
    waiting = next((fetch.held_up for fetch, _ in last if fetch is not None and fetch.held_up is not None), None)
    return StoreHealth(
        store=key,
        topics=[TopicHealth(**topic._asdict()) for topic in topics],
        silence=SilenceOut.model_validate(silent, from_attributes=True) if silent is not None else None,
        duplicates=refused.pop(DUPLICATE, 0),
        refused=refused,
        credentials=CredentialsOut.of(held) if held is not None else None,
        subscriptions=_subscriptions(held, webhooks) if held is not None else None,
        reconciled=last[0][1],
        swept=last[1][1],
        waiting=waiting,
    )


def _subscriptions(held: Credentials, webhooks: Mapping[str, Kept]) -> SubscriptionsHealth:
    topics = [SubscriptionHealth.model_validate(each, from_attributes=True) for each in webhooks.values()]
    return SubscriptionsHealth(looked_at=held.looked_at, unseen=held.unseen, topics=topics)


async def _looked(tx: Tx, principal: Principal, key: str, purpose: Purpose) -> tuple[Fetch | None, Looked | None]:
    """The newest, unless it got to its end, and the last that did."""
    newest = await _newest(tx, principal, key, purpose)
    over = await _newest(tx, principal, key, purpose, state="done")
    if newest is not None and newest.state not in {*OPEN, "failed"}:
        newest = None
    if over is None:
        return newest, None
    # Those of earlier versions did not note when they were done.
    at = over.done_at or over.asked_at
    return newest, Looked(at=at, until=over.until, missing=over.counts.get("published", 0))


async def _newest(
    tx: Tx, principal: Principal, key: str, purpose: Purpose, *, state: State | None = None
) -> Fetch | None:
    found = await fetches.newest(tx, principal.tenant, purpose=purpose, store=key, state=state, limit=1)
    return found[0] if found else None

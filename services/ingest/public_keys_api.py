"""The API about what lets a store's pages send events: public keys, and proofs of who looks at a page."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from libs.common.auth import Principal, require
from libs.common.contracts.commerce import Identifiers
from libs.common.problems import invalid, not_found
from libs.common.web.idempotency import not_to_be_remembered
from services.ingest import events, proofs
from services.ingest import store as records
from services.ingest.api import AnEdge, changed
from services.ingest.browser_models import ProofIn, ProofOut, PublicKeyIn, PublicKeyOut
from services.ingest.event_properties import Wrong
from services.ingest.registering import Change, new_public_key
from services.ingest.registration import host_of, origin_of
from services.ingest.store import Store

router = APIRouter(tags=["ingest"])


@router.post("/v1/stores/{key}/public-keys", status_code=201)
async def post_public_key(
    key: str,
    body: PublicKeyIn,
    edge: AnEdge,
    principal: Annotated[Principal, Depends(require("stores:write"))],
) -> PublicKeyOut:
    """Makes a key with which the store's pages may send events by `POST /v1/browser/events`. It may stand in them.

    To replace one: make another, put it into the pages, withdraw the first.
    """
    found = await _store(edge, principal, key)
    try:
        origins = body.origins or [origin_of(f"https://{host_of(found.domain)}")]
    except ValueError:
        raise invalid("/origins", "The store's domain is none that a page could come from: name them.") from None
    made = new_public_key(origins, now=edge.clock.now(), by=principal.key_id)
    await changed(edge, principal, key, Change(publishes=made))
    return PublicKeyOut.of(made)


@router.get("/v1/stores/{key}/public-keys")
async def get_public_keys(
    key: str, edge: AnEdge, principal: Annotated[Principal, Depends(require("stores:read"))]
) -> list[PublicKeyOut]:
    """Those that are valid, oldest first."""
    await _store(edge, principal, key)
    async with edge.database.reading() as tx:
        held = await records.public_keys(tx, principal.tenant, key)
    return [PublicKeyOut.of(each) for each in held]


@router.delete("/v1/stores/{key}/public-keys/{public_key}", status_code=204, response_class=Response)
async def delete_public_key(
    key: str,
    public_key: str,
    edge: AnEdge,
    principal: Annotated[Principal, Depends(require("stores:write"))],
) -> None:
    """Withdraws a key: nothing that comes with it is taken any more. What came stays."""
    await changed(edge, principal, key, Change(withdraws=public_key))


@router.post("/v1/stores/{key}/proofs", status_code=201)
async def post_proof(
    key: str,
    body: ProofIn,
    request: Request,
    edge: AnEdge,
    principal: Annotated[Principal, Depends(require("events:write"))],
) -> ProofOut:
    """Makes a proof that somebody is this customer: for the page of whom the shop's server has logged in.

    Asked again with its `Idempotency-Key` it makes another, which is good for as long.
    """
    who = body.identifiers()
    if who == Identifiers():
        raise invalid("", "At least one identifier is needed.")
    found = edge.registry.find(key)
    if found is None or found.tenant != principal.tenant:
        raise not_found("store")
    try:
        events.names_somebody(who, edge.junk, "")
    except Wrong as wrong:
        raise invalid(wrong.pointer, wrong.detail) from wrong
    not_to_be_remembered(request)
    # Dated as events are that arrive now, with which it competes.
    now, made_at = edge.clock.now(), edge.clock.arrival()
    expires_at = (now + timedelta(seconds=body.expires_in_seconds)).replace(microsecond=0)
    proof = proofs.prove(edge.keyring, found.tenant, found.key, who, made_at=made_at, expires=expires_at)
    return ProofOut(proof=proof, expires_at=expires_at)


async def _store(edge: AnEdge, principal: Principal, key: str) -> Store:
    async with edge.database.reading() as tx:
        found = await records.one_store(tx, principal.tenant, key)
    if found is None:
        raise not_found("store")
    return found

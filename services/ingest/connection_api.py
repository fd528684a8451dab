"""The API that connects a shop: has its platform send us what we read, and shows what it sends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, Depends

from libs.common.auth import Principal, require
from libs.common.problems import Problem, invalid, invalid_parameter, not_found
from libs.common.telemetry import current_traceparent
from services.ingest import credentials, wanted
from services.ingest import store as records
from services.ingest.api import AnEdge, later
from services.ingest.connecting import Busy, NoSecret
from services.ingest.connection_models import ConnectionIn, ConnectionOut
from services.ingest.credentials import NO_API, NO_CREDENTIALS
from services.ingest.fetch_models import CredentialsOut
from services.ingest.platforms.port import Hopeless, Refused, Unavailable
from services.ingest.registering import TooManySecrets
from services.ingest.registration import MAX_SECRETS
from services.ingest.store import Store

router = APIRouter(tags=["ingest"])


@router.get("/v1/stores/{key}/connection")
async def get_connection(
    key: str, edge: AnEdge, principal: Annotated[Principal, Depends(require("stores:read"))]
) -> ConnectionOut:
    """Which webhooks the store's platform has for us, asked at this moment. Changes nothing there."""
    found = await _opened(edge, principal, key)
    async with _told():
        seen = await edge.connecting.look(found, edge.clock.now())
    return ConnectionOut.of(seen, await _credentials(edge, found), _webhook_url(edge, found))


@router.post("/v1/stores/{key}/connection")
async def post_connection(
    key: str,
    edge: AnEdge,
    principal: Annotated[Principal, Depends(require("stores:write"))],
    body: ConnectionIn | None = None,
) -> ConnectionOut:
    """Has the store's platform send us what we read: makes what is missing, mends what is ours, tries the way.

    Asked again it keeps what is there. Other people's webhooks are left alone. Wants credentials that may write
    webhooks, and an address that the platform reaches.
    """
    found = await _opened(edge, principal, key)
    topics = body.topics if body is not None else None
    for place, topic in enumerate(topics or ()):
        if topic not in wanted.WANTED[found.platform]:
            raise invalid(f"/topics/{place}", f"Nothing of {found.platform} is read under this topic.")
    if (reason := wanted.unreachable(edge.public_url, found.platform, inside=edge.private_addresses)) is not None:
        raise Problem(409, "no_public_address", reason)
    async with _told():
        made = await edge.connecting.connect(
            found, topics, now=edge.clock.now(), by=principal.key_id, traceparent=current_traceparent()
        )
        await edge.registry.reload(key)
        test = await edge.connecting.test(found, edge.clock.now())
    return ConnectionOut.of(made, await _credentials(edge, found), _webhook_url(edge, found), test)


async def _opened(edge: AnEdge, principal: Principal, key: str) -> Store:
    async with edge.database.reading() as tx:
        found = await records.one_store(tx, principal.tenant, key)
        if found is None:
            raise not_found("store")
        if found.platform not in wanted.WANTED:
            raise invalid_parameter("key", NO_API.format(found.platform))
        if await credentials.held(tx, principal.tenant, key) is None:
            raise Problem(404, "not_found", NO_CREDENTIALS)
    return found


async def _credentials(edge: AnEdge, found: Store) -> CredentialsOut:
    async with edge.database.reading() as tx:
        held = await credentials.held(tx, found.tenant, found.key)
    if held is None:
        raise Problem(404, "not_found", NO_CREDENTIALS)
    return CredentialsOut.of(held)


def _webhook_url(edge: AnEdge, found: Store) -> str:
    return f"{edge.public_url}{wanted.path_of(found.platform, found.key)}"


@asynccontextmanager
async def _told() -> AsyncIterator[None]:
    """What went wrong between us and the shop, as problems."""
    try:
        yield
    except Busy:
        raise later("The store is being asked for something else, or wants to be left alone.") from None
    except Unavailable as error:
        raise later(f"{error}.", error.retry_after) from error
    except (Refused, Hopeless) as error:
        raise Problem(409, "refused", f"{error}.") from error
    except NoSecret:
        raise Problem(409, "no_secret", "No secret of the store signs for good: PATCH it with `secrets`.") from None
    except TooManySecrets:
        detail = f"The app's secret has to sign, too, and the store has {MAX_SECRETS} already: PATCH it with fewer."
        raise Problem(409, "too_many_secrets", detail) from None

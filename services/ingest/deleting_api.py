"""The API that ends a store."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from libs.common.auth import Principal, require
from libs.common.problems import not_found
from libs.common.telemetry import current_traceparent
from services.ingest.api import AnEdge
from services.ingest.deleting import delete
from services.ingest.models import StoreRemoval

router = APIRouter(tags=["ingest"])


@router.delete("/v1/stores/{key}")
async def delete_store(
    key: str,
    edge: AnEdge,
    principal: Annotated[Principal, Depends(require("stores:write"))],
    *,
    dry_run: Annotated[bool, Query(description="Only tell what would go.")] = False,
) -> StoreRemoval:
    """Ends a store for good, and tells what went with it; asked again, that nothing is left to go.

    Its secrets, credentials, public keys and fetches go, its webhook address answers as that of an unknown store, and
    nobody is written to in its name again. What it told stays as history. Its key is never given out again.
    """
    removal = await delete(
        edge.database,
        principal.tenant,
        key,
        now=edge.clock.now(),
        by=principal.key_id,
        dry_run=dry_run,
        traceparent=current_traceparent(),
    )
    if removal is None:
        raise not_found("store")
    await edge.registry.reload(key)
    return StoreRemoval.of(key, removal, dry_run=dry_run)

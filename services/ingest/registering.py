"""Registering a store, and changing it: one transaction with the `store.observed` that tells the others."""

import base64
import secrets as randomness
from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from libs.common.contracts import codec
from libs.common.contracts.commerce import StoreObserved
from libs.common.contracts.topics import COMMERCE
from libs.common.crypto import Keyring
from libs.common.db import Database
from libs.common.ids import derived_id
from libs.common.log.base import Event
from libs.common.log.postgres import append
from services.ingest import store
from services.ingest.store import Store


class Registration(Struct, frozen=True, kw_only=True):
    """A valid request to register. None: leave as it is, or take the default for a new store."""

    platform: str
    domain: str
    secrets: Sequence[str]
    currency: str
    timezone: str
    name: str | None = None
    consent: str | None = None


async def register(
    database: Database,
    keyring: Keyring,
    tenant: str,
    wanted: Registration,
    *,
    now: datetime,
    traceparent: str | None = None,
) -> tuple[Store, bool]:
    """The store as it is now, and whether it is new. Platform and domain say which one it is."""
    async with database.transaction() as tx:
        known = await store.lock_domain(tx, tenant, wanted.platform, wanted.domain)
        saved = _decided(known, tenant, wanted, now)
        sealed_for = store.context(tenant, saved.key)
        sealed = [keyring.seal(secret.encode(), sealed_for) for secret in dict.fromkeys(wanted.secrets)]
        await store.save_store(tx, saved, sealed)
        await append(tx, COMMERCE, [_observed(saved, traceparent)])
    return saved, known is None


def _decided(known: Store | None, tenant: str, wanted: Registration, now: datetime) -> Store:
    if known is not None:
        return replace(
            known,
            currency=wanted.currency,
            timezone=wanted.timezone,
            name=wanted.name or known.name,
            consent=wanted.consent or known.consent,
            version=known.version + 1,
            updated_at=now,
        )
    return Store(
        tenant=tenant,
        key=f"st_{base64.b32encode(randomness.token_bytes(10)).decode().lower()}",
        platform=wanted.platform,
        domain=wanted.domain,
        name=wanted.name or wanted.domain,
        currency=wanted.currency,
        timezone=wanted.timezone,
        consent=wanted.consent or "explicit",
        version=1,
        created_at=now,
        updated_at=now,
    )


def _observed(saved: Store, traceparent: str | None) -> Event:
    snapshot = StoreObserved(
        store=saved.key,
        platform="shopify" if saved.platform == "shopify" else "woocommerce",
        source_id=saved.key,
        updated_at=saved.updated_at,
        position=saved.version,
        name=saved.name,
        domain=saved.domain,
        currency=saved.currency,
        timezone=saved.timezone,
        consent_policy=saved.consent,
    )
    return Event(
        id=derived_id("store.observed", saved.key, str(saved.version)),
        type="store.observed",
        source="/services/ingest",
        tenant=saved.tenant,
        key=f"{saved.key}:store:{saved.key}",
        time=saved.updated_at,
        data=codec.encode(COMMERCE.name, snapshot),
        traceparent=traceparent,
    )

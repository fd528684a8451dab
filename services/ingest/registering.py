"""Registering a store, and changing it: one transaction with the `store.observed` that tells the others."""

import base64
import secrets as randomness
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, cast

from msgspec import Struct, to_builtins
from msgspec.structs import replace

from libs.common.contracts import codec
from libs.common.contracts.commerce import StoreObserved
from libs.common.contracts.topics import COMMERCE
from libs.common.contracts.types import Platform
from libs.common.crypto import Keyring
from libs.common.db import Database, Tx
from libs.common.ids import derived_id
from libs.common.log.base import Event
from libs.common.log.postgres import append
from services.ingest import credentials, store
from services.ingest.opening import Key, sealed
from services.ingest.registration import MAX_PUBLIC_KEYS, MAX_SECRETS
from services.ingest.store import PublicKey, Sealed, Store

UNINSTALLED = "the app was uninstalled"
_FIELDS = ("currency", "timezone", "name", "consent", "email", "postal_address")


class TooManySecrets(Exception):
    """More than may sign at one time."""


class TakesNoSecrets(Exception):
    """No webhook comes from such a store."""


class TooManyPublicKeys(Exception):
    """More than a store may have at one time."""


class NoSuchPublicKey(Exception):
    """Not of this store, or withdrawn."""


class IsDeleted(Exception):
    """The store was, and stays as it was then."""


class Change(Struct, frozen=True, kw_only=True):
    """What is to be different. None: as it is."""

    ends: Sequence[str] = ()
    """Fields that it has no more: `email`, `postal_address`."""

    currency: str | None = None
    timezone: str | None = None
    name: str | None = None
    consent: str | None = None
    email: str | None = None
    postal_address: str | None = None
    paused: bool | None = None
    secrets: Sequence[str] | None = None
    """All that sign from now on."""
    overlap: timedelta = timedelta(0)
    """For so long those sign, too, which `secrets` leaves out."""
    signs_too: str | None = None
    """One more that signs, beside all that do."""
    access: "Access | None" = None
    """What opens the store's own API from now on."""
    publishes: PublicKey | None = None
    """A public key that may be used from now on."""
    withdraws: str | None = None
    """One that may not be any more."""


class Access(Struct, frozen=True, kw_only=True):
    """Where a store's own API is, and what opens it; None: nothing does any more."""

    url: str
    key: Key | None


class Registration(Struct, frozen=True, kw_only=True):
    """A valid request to register. None: leave as it is, or take the default for a new store."""

    ends: Sequence[str] = ()
    """Fields that a known one has no more, as in Change."""

    platform: str
    domain: str
    secrets: Sequence[str]
    currency: str
    timezone: str
    name: str | None = None
    consent: str | None = None
    email: str | None = None
    postal_address: str | None = None


async def register(
    database: Database,
    keyring: Keyring,
    tenant: str,
    wanted: Registration,
    *,
    now: datetime,
    by: str,
    traceparent: str | None = None,
) -> tuple[Store, bool]:
    """The store as it is now, and whether it is new. Platform and domain say which one it is. `by`: a key's id."""
    async with database.transaction() as tx:
        known = await store.lock_domain(tx, tenant, wanted.platform, wanted.domain)
        if known is not None:
            change_ = Change(**{name: getattr(wanted, name) for name in (*_FIELDS, "secrets", "ends")})
            return await _changed(tx, keyring, known, change_, now=now, by=by, traceparent=traceparent), False
        saved = _new(tenant, wanted, now)
        sealed_for = store.context(tenant, saved.key)
        secrets = [Sealed(keyring.seal(secret.encode(), sealed_for), now) for secret in dict.fromkeys(wanted.secrets)]
        told = {"platform": saved.platform, "domain": saved.domain, **{name: getattr(saved, name) for name in _FIELDS}}
        await store.save_store(tx, saved, secrets, by=by, changes=told | {"secrets": {"added": len(secrets)}})
        await append(tx, COMMERCE, [observed(saved, traceparent)])
    return saved, True


async def change(
    database: Database,
    keyring: Keyring,
    tenant: str,
    key: str,
    wanted: Change,
    *,
    now: datetime,
    by: str,
    traceparent: str | None = None,
) -> Store | None:
    """The store as it is then; None when the tenant has none of this key.

    Raises IsDeleted, TooManySecrets, TakesNoSecrets, TooManyPublicKeys, NoSuchPublicKey.
    """
    async with database.transaction() as tx:
        known = await store.lock_key(tx, tenant, key)
        if known is None:
            return None
        if known.state == "deleted":
            raise IsDeleted
        return await _changed(tx, keyring, known, wanted, now=now, by=by, traceparent=traceparent)


async def uninstalled(tx: Tx, tenant: str, key: str, *, at: datetime, traceparent: str | None) -> Event | None:
    """The shop threw the app out at that time: its credentials are worth nothing. What is to be told, if anything.

    Webhooks are taken as before: those that other apps or the shop itself make go on.
    """
    known = await store.lock_key(tx, tenant, key)
    if known is None or not await credentials.take_back(tx, tenant, key, at=at, reason=UNINSTALLED):
        return None
    [held] = await store.sealed_stores(tx, [key])
    saved = _next(known, {}, at)
    await store.save_store(tx, saved, held.secrets, by=known.platform, changes={"credentials": "gone"})
    return observed(saved, traceparent)


def new_public_key(origins: Sequence[str], *, now: datetime, by: str) -> PublicKey:
    """For pages of these origins."""
    # As long as a secret, though it is none: what it comes before in ids must be nobody else's.
    return PublicKey(key=f"pk_{_random(16)}", origins=sorted(set(origins)), created_at=now, created_by=by)


async def _changed(
    tx: Tx, keyring: Keyring, known: Store, wanted: Change, *, now: datetime, by: str, traceparent: str | None
) -> Store:
    [held] = await store.sealed_stores(tx, [known.key])
    secrets, told = _rotated(keyring, known, held.secrets, wanted, now)
    given = {name: getattr(wanted, name) for name in _FIELDS}
    different = {name: value for name, value in given.items() if value not in {None, getattr(known, name)}}
    different |= {name: None for name in wanted.ends if getattr(known, name) is not None}
    saved = _next(known, different, now)
    if wanted.paused is not None and wanted.paused != (known.state == "paused"):
        at = saved.updated_at
        saved = replace(saved, paused_at=at, resumed_at=None) if wanted.paused else replace(saved, resumed_at=at)
        told |= {"state": saved.state}
    if wanted.access is not None:
        told |= {"credentials": await _opened(tx, keyring, known, wanted.access, now=now, by=by)}
    if wanted.publishes is not None:
        told |= {"public_keys": await _published(tx, known, wanted.publishes)}
    if wanted.withdraws is not None:
        if not await store.remove_public_key(tx, known.tenant, known.key, wanted.withdraws):
            raise NoSuchPublicKey
        told |= {"public_keys": {"withdrawn": wanted.withdraws}}
    await store.save_store(tx, saved, secrets, by=by, changes={**different, **told})
    await append(tx, COMMERCE, [observed(saved, traceparent)])
    return saved


def _next(known: Store, different: dict[str, Any], now: datetime) -> Store:
    # Two changes at a time are dated before they wait for each other: the later version must not look older.
    return replace(known, **different, version=known.version + 1, updated_at=max(now, known.updated_at))


async def _opened(tx: Tx, keyring: Keyring, known: Store, access: Access, *, now: datetime, by: str) -> str:
    if access.key is None:
        await credentials.forget(tx, known.tenant, known.key)
        return "forgotten"
    seal = sealed(keyring, known.tenant, known.key, access.key)
    await credentials.put(tx, known.tenant, known.key, url=access.url, sealed=seal, at=now, by=by)
    return "set"


async def _published(tx: Tx, known: Store, made: PublicKey) -> dict[str, Any]:
    if len(await store.public_keys(tx, known.tenant, known.key)) >= MAX_PUBLIC_KEYS:
        raise TooManyPublicKeys
    await store.add_public_key(tx, known.tenant, known.key, made)
    return {"added": made.key, "origins": made.origins}


def _rotated(
    keyring: Keyring, known: Store, held: Sequence[Sealed], wanted: Change, now: datetime
) -> tuple[list[Sealed], dict[str, Any]]:
    """The secrets that are left, and what to tell of it: never a secret."""
    live = [each for each in held if each.signs(now)]
    if wanted.signs_too is not None:
        if len(live) >= MAX_SECRETS:
            raise TooManySecrets
        sealed_for = store.context(known.tenant, known.key)
        return [*live, Sealed(keyring.seal(wanted.signs_too.encode(), sealed_for), now)], {"secrets": {"added": 1}}
    if wanted.secrets is None:
        return live, {}
    if wanted.secrets and known.platform == "events":
        raise TakesNoSecrets
    sealed_for = store.context(known.tenant, known.key)
    before = {keyring.open(each.secret, sealed_for).decode(): each for each in live}
    after = [
        replace(before[secret], ends_at=None)
        if secret in before
        else Sealed(keyring.seal(secret.encode(), sealed_for), now)
        for secret in dict.fromkeys(wanted.secrets)
    ]
    left_out = [each for secret, each in before.items() if secret not in wanted.secrets]
    end = now + wanted.overlap
    ending = [replace(each, ends_at=min(each.ends_at or end, end)) for each in left_out] if wanted.overlap else []
    if len(after) + len(ending) > MAX_SECRETS:
        raise TooManySecrets
    told = {
        "added": sum(secret not in before for secret in dict.fromkeys(wanted.secrets)),
        "ended": 0 if wanted.overlap else len(left_out),
        "ending": [to_builtins(each.ends_at) for each in ending if each.ends_at],
    }
    return [*after, *ending], {"secrets": {name: value for name, value in told.items() if value}} if any(
        told.values()
    ) else {}


def _new(tenant: str, wanted: Registration, now: datetime) -> Store:
    return Store(
        tenant=tenant,
        key=f"st_{_random(10)}",
        platform=wanted.platform,
        domain=wanted.domain,
        name=wanted.name or wanted.domain,
        currency=wanted.currency,
        timezone=wanted.timezone,
        consent=wanted.consent or "explicit",
        email=wanted.email,
        postal_address=wanted.postal_address,
        version=1,
        created_at=now,
        updated_at=now,
    )


def _random(size: int) -> str:
    return base64.b32encode(randomness.token_bytes(size)).decode().lower().rstrip("=")


def observed(saved: Store, traceparent: str | None) -> Event:
    """What tells the other services of a store as it is now."""
    snapshot = StoreObserved(
        store=saved.key,
        platform=cast("Platform", saved.platform),
        source_id=saved.key,
        updated_at=saved.updated_at,
        position=saved.version,
        name=saved.name,
        domain=saved.domain,
        currency=saved.currency,
        timezone=saved.timezone,
        consent_policy=saved.consent,
        email=saved.email,
        postal_address=saved.postal_address,
        paused_at=saved.paused_at,
        resumed_at=saved.resumed_at,
        deleted_at=saved.deleted_at,
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

"""The API: orders, checkouts, products, profiles and their timelines. Read only; all scopes `profiles:read`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, cast
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request

from libs.common import identifiers
from libs.common.auth import Principal, require
from libs.common.db import Database, Tx
from libs.common.junk import Junk
from libs.common.money import money
from libs.common.problems import NO_NUL, Problem, invalid_parameter, not_found, not_found_by
from libs.common.web import Limit, Page, decode_cursor, encode_cursor
from libs.common.web.paging import Cursor
from services.profiles import consent, people
from services.profiles.identity.accounts import STRONG, customer_id
from services.profiles.models import (
    AccountOut,
    CheckoutOut,
    ConsentOut,
    EntryOut,
    IdentifierOut,
    Money,
    OrderOut,
    ProductOut,
    ProfileOut,
    TotalsOut,
    TraitsOut,
    checkout_out,
    order_out,
    product_out,
)
from services.profiles.people import is_deleted
from services.profiles.store import reads
from services.profiles.store.subjects import CHECKOUTS, ORDERS, PRODUCTS

_FORMS = "Write an id, email:…, phone:…, <platform>:<store>:<id> with shopify, woocommerce or events."

router = APIRouter(tags=["profiles"])


def _database(request: Request) -> Database:
    return cast("Database", request.app.state.profiles)


Rows = Annotated[Database, Depends(_database)]
Reader = Annotated[Principal, Depends(require("profiles:read"))]
ObjectReference = Annotated[str, Path(max_length=512, description="`<store key>:<the platform's id>`")]
ProfileReference = Annotated[
    str,
    Path(
        max_length=512,
        description="An id that the profile has or ever had, `email:<address>`, `phone:<E.164>`,"
        " `shopify:<store key>:<customer id>` or `woocommerce:<store key>:<customer id>`.",
    ),
]
StoreFilter = Annotated[
    str | None,
    Query(
        max_length=64,
        pattern=NO_NUL,
        description="A store's key; 404 when there is none of it, or when it was registered a moment ago.",
    ),
]


# Orders, checkouts, products -----------------------------------------------------------------------------------------


@router.get("/v1/orders/{reference}")
async def get_order(reference: ObjectReference, database: Rows, principal: Reader) -> OrderOut:
    """The ledger's truth about an order."""
    store, source_id = _object(reference)
    async with database.reading() as tx:
        state = await reads.subject(tx, ORDERS, principal.tenant, store, source_id)
        shown = order_out(state, await _home(tx, principal.tenant, state.account)) if state else None
    if shown is None:
        raise not_found("order")
    return shown


@router.get("/v1/orders")
async def get_orders(
    database: Rows,
    principal: Reader,
    store: StoreFilter = None,
    profile: Annotated[UUID | None, Query(description="A profile's id; 404 when nobody has it.")] = None,
    status: Annotated[str | None, Query(max_length=64, pattern=NO_NUL, description="The platform's own word.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[OrderOut]:
    """Orders, latest first."""
    place = decode_cursor(cursor, "orders", datetime, str, str) if cursor else None
    async with database.reading() as tx:
        home = None
        if profile is not None:
            home = await reads.profile_by_id(tx, principal.tenant, str(profile))
            if home is None:
                raise not_found_by("profile", "profile")
        found = await reads.orders(
            tx,
            principal.tenant,
            store=store,
            profile=home,
            status=status,
            after=(place[0], place[1], place[2]) if place else None,
            limit=limit + 1,
        )
        if not found:
            await _is_there(tx, principal.tenant, store)
    shown = [order for state, owner in found if (order := order_out(state, owner)) is not None]
    following = None
    if len(shown) > limit:
        last = shown[limit - 1]
        following = encode_cursor("orders", last.placed_at, last.store, last.source_id)
    return Page(data=shown[:limit], next=following)


@router.get("/v1/checkouts/{reference}")
async def get_checkout(reference: ObjectReference, database: Rows, principal: Reader) -> CheckoutOut:
    """A checkout, by its token."""
    store, token = _object(reference)
    async with database.reading() as tx:
        state = await reads.subject(tx, CHECKOUTS, principal.tenant, store, token)
        shown = checkout_out(state, await _home(tx, principal.tenant, state.account)) if state else None
    if shown is None:
        raise not_found("checkout")
    return shown


@router.get("/v1/products/{reference}")
async def get_product(reference: ObjectReference, database: Rows, principal: Reader) -> ProductOut:
    """A product with its variants."""
    store, source_id = _object(reference)
    async with database.reading() as tx:
        state = await reads.subject(tx, PRODUCTS, principal.tenant, store, source_id)
    shown = product_out(state) if state else None
    if shown is None:
        raise not_found("product")
    return shown


# Profiles ------------------------------------------------------------------------------------------------------------


@router.get("/v1/profiles")
async def get_profiles(
    database: Rows,
    principal: Reader,
    email: Annotated[str | None, Query(max_length=320)] = None,
    phone: Annotated[str | None, Query(max_length=32, description="With its country code: `+49…`.")] = None,
    store: StoreFilter = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[ProfileOut]:
    """Profiles by id; with `email` or `phone` those that are known by it, also where it is shared."""
    wanted = []
    if email is not None:
        wanted.append(_email("email", email))
    if phone is not None:
        wanted.append(_phone("phone", phone))
    after = str(decode_cursor(cursor, "profiles", UUID)[0]) if cursor else None
    async with database.reading() as tx:
        ids = await reads.profile_ids(
            tx, principal.tenant, identifiers=wanted, store=store, after=after, limit=limit + 1
        )
        if not ids:
            await _is_there(tx, principal.tenant, store)
        found = await reads.profiles(tx, principal.tenant, ids[:limit])
    following = encode_cursor("profiles", UUID(ids[limit - 1])) if len(ids) > limit else None
    return Page(data=[_profile(profile) for profile in found], next=following)


@router.get("/v1/profiles/{reference}")
async def get_profile(reference: ProfileReference, database: Rows, principal: Reader) -> ProfileOut:
    """One person."""
    async with database.reading() as tx:
        profile = await _find(tx, principal.tenant, reference)
        return _profile((await reads.profiles(tx, principal.tenant, [profile]))[0])


@router.get("/v1/profiles/{reference}/timeline")
async def get_timeline(
    reference: ProfileReference, database: Rows, principal: Reader, limit: Limit = 50, cursor: Cursor = None
) -> Page[EntryOut]:
    """What happened to a person, latest first."""
    place = decode_cursor(cursor, "timeline", datetime, str) if cursor else None
    async with database.reading() as tx:
        profile = await _find(tx, principal.tenant, reference)
        found = await reads.timeline(
            tx, principal.tenant, profile, after=(place[0], place[1]) if place else None, limit=limit + 1
        )
    following = encode_cursor("timeline", found[limit - 1].at, found[limit - 1].key) if len(found) > limit else None
    return Page(data=[EntryOut.model_validate(entry._asdict()) for entry in found[:limit]], next=following)


# References ----------------------------------------------------------------------------------------------------------


def _object(reference: str) -> tuple[str, str]:
    store, _, source_id = reference.partition(":")
    if not store or not source_id or "\0" in reference:
        raise invalid_parameter("reference", "Write it as <store key>:<id>.")
    return store, source_id


async def _is_there(tx: Tx, tenant: str, store: str | None) -> None:
    """Problem 404 for a store that was never told of. Asked only where nothing was found: what has rows is there.

    Ingest alone knows at once; we hear of a store when its registration comes through the log.
    """
    if store is not None and not await reads.knows_store(tx, tenant, store):
        raise not_found_by("store", "store", "Has it been registered only now, ask again in a moment.")


async def _home(tx: Tx, tenant: str, account: str | None) -> str | None:
    return await reads.profile_by_account(tx, tenant, account) if account else None


async def _find(tx: Tx, tenant: str, reference: str) -> str:
    """The current id of the profile that `reference` names. Problem 404, 409 or 422."""
    kind, separator, value = reference.partition(":")
    found: Sequence[str | None]
    if not separator:
        found = [await reads.profile_by_id(tx, tenant, _profile_id(reference))]
    elif kind == "email":
        found = await reads.profiles_by_identifier(tx, tenant, _email("reference", value))
    elif kind == "phone":
        found = await reads.profiles_by_identifier(tx, tenant, _phone("reference", value))
    elif kind in {"shopify", "woocommerce", "events"}:
        account = "customer:{}:{}".format(*_object(value))
        platform = await reads.platform_of(tx, tenant, account)
        found = [await reads.profile_by_account(tx, tenant, account)] if platform in {kind, None} else []
    else:
        raise invalid_parameter("reference", _FORMS)
    if len(found) > 1:
        raise Problem(409, "ambiguous", "Several profiles share this: GET /v1/profiles?email= or ?phone= lists them.")
    for profile in found:
        if profile is not None:
            return profile
    raise not_found("profile")


def _profile_id(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise invalid_parameter("reference", _FORMS) from None


def _email(name: str, raw: str) -> str:
    address = identifiers.email(raw, Junk())
    if address is None:
        raise invalid_parameter(name, "This is not an e-mail address.")
    return f"email:{address}"


def _phone(name: str, raw: str) -> str:
    # An unescaped + in a query is a blank.
    number = identifiers.phone(f"+{raw.strip().lstrip('+').removeprefix('00')}", None, Junk())
    if number is None:
        raise invalid_parameter(name, "This is not a phone number with its country code.")
    return f"phone:{number}"


# Profiles, as answered -----------------------------------------------------------------------------------------------


def _profile(profile: reads.Profile) -> ProfileOut:
    persons = [account.person for account in profile.accounts]
    return ProfileOut(
        id=profile.id,
        created_at=min((p.first_seen_at for p in persons if p.first_seen_at), default=None),
        last_activity_at=max((p.last_activity_at for p in persons if p.last_activity_at), default=None),
        traits=TraitsOut.model_validate(people.merge(persons), from_attributes=True),
        identifiers=_identifiers(profile.ties),
        accounts=[_account(account) for account in profile.accounts],
        consent={
            channel: ConsentOut.model_validate(held, from_attributes=True)
            for channel in ("email", "sms", "push")
            if (held := consent.strictest(p.consents[channel] for p in persons if channel in p.consents))
        },
        totals=TotalsOut(
            orders=sum(total.orders for total in profile.totals),
            net=[Money(**money(total.net, total.currency)) for total in profile.totals],
            first_order_at=min((total.first for total in profile.totals), default=None),
            last_order_at=max((total.last for total in profile.totals), default=None),
        ),
    )


def _account(account: reads.Account) -> AccountOut:
    person = account.person
    return AccountOut(
        account=account.account,
        kind=account.account.split(":", 1)[0],
        store=account.store,
        platform=person.platform,
        customer_source_id=customer_id(account.account),
        first_seen_at=person.first_seen_at,
        last_activity_at=person.last_activity_at,
        deleted=is_deleted(person),
        crowded=account.crowded,
    )


def _identifiers(ties: Sequence[reads.Tie]) -> list[IdentifierOut]:
    merged: dict[str, IdentifierOut] = {}
    for tie in ties:
        kind, _, value = tie.identifier.partition(":")
        store = None
        if kind in {"cart", "checkout"}:
            store, _, value = value.partition(":")
        tier = "strong" if tie.tier == STRONG else "weak"
        shown = merged.setdefault(
            tie.identifier,
            IdentifierOut(kind=kind, value=value, store=store, tier=tier, quarantined=tie.quarantined, accounts=[]),
        )
        shown.accounts.append(tie.account)
        if tier == "strong":
            shown.tier = tier
    return list(merged.values())

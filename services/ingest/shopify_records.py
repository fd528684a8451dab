"""Shopify's customers, their consents, and products."""

from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from libs.common.contracts.commerce import (
    Consent,
    ConsentObserved,
    CustomerObserved,
    Identifiers,
    Person,
    ProductObserved,
    Variant,
)
from libs.common.contracts.types import Channel, ConsentState
from services.ingest.outcome import Arrival, Ignored, Observation, Observations, Outcome
from services.ingest.printed import (
    Scalar,
    currency_code,
    decoded,
    first,
    identifier,
    instant,
    link,
    minor,
    required,
    text,
    title,
    whole,
)
from services.ingest.shopify_parts import Address, AnyAddress, country, header, sent_at

STATES: dict[str, ConsentState] = {
    "subscribed": "subscribed",
    "pending": "pending",
    "unsubscribed": "unsubscribed",
    "redacted": "unsubscribed",
}
"""Shopify's words. `not_subscribed` and `invalid` say that nobody was ever asked: no consent at all."""
LEGACY_DEFAULT_SECONDS = 5
"""Creating a customer stamps the default within this time."""


class _Consent(Struct):
    state: Scalar = None
    consent_updated_at: Scalar = None


_AnyConsent = _Consent | Scalar | list[Any]


class _Customer(Struct):
    id: Scalar = None
    email: Scalar = None
    phone: Scalar = None
    first_name: Scalar = None
    last_name: Scalar = None
    locale: Scalar = None
    verified_email: Scalar = None
    created_at: Scalar = None
    updated_at: Scalar = None
    tags: Scalar | list[Scalar] | msgspec.UnsetType = msgspec.UNSET
    default_address: AnyAddress = None
    email_marketing_consent: _AnyConsent = None
    sms_marketing_consent: _AnyConsent = None
    accepts_marketing: Scalar = None
    accepts_marketing_updated_at: Scalar = None


class _ConsentUpdate(Struct):
    id: Scalar = None
    customer_id: Scalar = None
    email: Scalar = None
    email_address: Scalar = None
    phone: Scalar = None
    email_marketing_consent: _AnyConsent = None
    sms_marketing_consent: _AnyConsent = None


class _Image(Struct):
    src: Scalar = None


class _Variant(Struct):
    id: Scalar = None
    title: Scalar = None
    sku: Scalar = None
    price: Scalar = None
    inventory_quantity: Scalar = None
    inventory_management: Scalar | msgspec.UnsetType = msgspec.UNSET


class _Product(Struct):
    id: Scalar = None
    title: Scalar = None
    handle: Scalar = None
    status: Scalar = None
    published_at: Scalar = None
    updated_at: Scalar = None
    image: _Image | Scalar | list[Any] = None
    images: list[_Image] | None = None
    variants: list[_Variant] | None = None
    variant_gids: list[Any] | None = None


_CUSTOMER = msgspec.json.Decoder(_Customer)
_CONSENT_UPDATE = msgspec.json.Decoder(_ConsentUpdate)
_PRODUCT = msgspec.json.Decoder(_Product)


def customer(arrival: Arrival) -> Outcome:
    """`customers/create`, `/update`, `/enable`, `/disable`. Since 2025-01 without tags and consents."""
    body = decoded(_CUSTOMER, arrival.body)
    source_id = required(identifier(body.id), "id")
    updated_at = instant(body.updated_at, "updated_at") or sent_at(arrival)
    created_at = instant(body.created_at, "created_at")
    address = body.default_address if isinstance(body.default_address, Address) else Address()
    observed = CustomerObserved(
        **arrival.envelope(source_id, updated_at),
        person=Person(
            email=text(body.email),
            phone=first(body.phone, address.phone),
            first_name=first(body.first_name, address.first_name),
            last_name=first(body.last_name, address.last_name),
            locale=text(body.locale),
            country=country(address.country_code),
        ),
        created_at=created_at,
        email_verified=body.verified_email is True,
        tags=_tags(body.tags),
        consents=_consents(body, created_at or updated_at, updated_at),
    )
    return Observations([Observation("customer.observed", f"customer:{source_id}", observed)])


def consent(arrival: Arrival) -> Outcome:
    """`customers_email_marketing_consent/update` and, for text messages, `customers_marketing_consent/update`."""
    body = decoded(_CONSENT_UPDATE, arrival.body)
    customer_id = required(identifier(body.customer_id) or identifier(body.id), "customer_id")
    spoken: tuple[tuple[Channel, _AnyConsent], ...] = (
        ("email", body.email_marketing_consent),
        ("sms", body.sms_marketing_consent),
    )
    found = []
    for channel, told in spoken:
        if not isinstance(told, _Consent) or (state := STATES.get(str(told.state).lower())) is None:
            continue
        at = instant(told.consent_updated_at, "consent_updated_at") or sent_at(arrival)
        observed = ConsentObserved(
            **arrival.envelope(f"{customer_id}:{channel}:{state}:{at.isoformat()}", at),
            identifiers=Identifiers(
                email=first(body.email_address, body.email), phone=text(body.phone), customer_id=customer_id
            ),
            consent=Consent(channel=channel, state=state, at=at, source="customer"),
        )
        found.append(Observation("consent.observed", f"customer:{customer_id}", observed))
    return Observations(found) if found else Ignored("names no consent that was given or withdrawn")


def product(arrival: Arrival) -> Outcome:
    """`products/create`, `products/update`: the first 100 variants in full, more only by their ids."""
    body = decoded(_PRODUCT, arrival.body)
    source_id = required(identifier(body.id), "id")
    currency = currency_code(arrival.store.currency)
    variants = body.variants or []
    observed = ProductObserved(
        **arrival.envelope(source_id, instant(body.updated_at, "updated_at") or sent_at(arrival)),
        title=title(body.title),
        # Before 2020-04 a product said only whether it was published.
        status=text(body.status) or ("active" if body.published_at else "draft"),
        currency=currency,
        url=_url(arrival, text(body.handle)),
        image=_image(body),
        variants=[_variant(each, currency) for each in variants],
        variants_complete=len(body.variant_gids or ()) <= len(variants),
    )
    return Observations([Observation("product.observed", f"product:{source_id}", observed)])


def _tags(value: Scalar | list[Scalar] | msgspec.UnsetType) -> list[str] | None:
    if value is msgspec.UNSET or value is None:
        return None
    found = value if isinstance(value, list) else str(value).split(",")
    return [tag for tag in map(text, found) if tag is not None]


def _consents(body: _Customer, created_at: datetime, updated_at: datetime) -> list[Consent]:
    """An undated yes counts from the record's first day and an undated no from its last: a no is never outrun."""
    spoken: list[tuple[Channel, Scalar, Scalar]] = []
    if isinstance(body.email_marketing_consent, _Consent):
        told = body.email_marketing_consent
        spoken.append(("email", told.state, told.consent_updated_at))
    elif isinstance(body.accepts_marketing, bool):
        spoken.append(("email", _legacy_state(body, created_at), body.accepts_marketing_updated_at))
    if isinstance(body.sms_marketing_consent, _Consent):
        told = body.sms_marketing_consent
        spoken.append(("sms", told.state, told.consent_updated_at))
    found = []
    for channel, word, dated in spoken:
        state = STATES.get(str(word).lower())
        if state is not None:
            undated = updated_at if state == "unsubscribed" else created_at
            at = instant(dated, "consent_updated_at") or undated
            found.append(Consent(channel=channel, state=state, at=at, source="customer"))
    return found


def _legacy_state(body: _Customer, created_at: datetime) -> str:
    """`accepts_marketing: false` withdraws only when it was changed later: it is also what everybody starts with."""
    if body.accepts_marketing is True:
        return "subscribed"
    changed_at = instant(body.accepts_marketing_updated_at, "accepts_marketing_updated_at")
    seconds = (changed_at - created_at).total_seconds() if changed_at else 0
    return "unsubscribed" if seconds > LEGACY_DEFAULT_SECONDS else "not_subscribed"


def _variant(each: _Variant, currency: str) -> Variant:
    name = text(each.title)
    # `inventory_management: null` says that nobody counts this variant; newer versions do not print the field.
    counted = each.inventory_management is not None
    return Variant(
        source_id=required(identifier(each.id), "variants.id"),
        title=None if name == "Default Title" else name,
        sku=text(each.sku),
        price=minor(each.price, currency, "variants.price"),
        stock=whole(each.inventory_quantity, "inventory_quantity") if counted else None,
    )


def _url(arrival: Arrival, handle: str | None) -> str | None:
    domain = header(arrival, "shop-domain")
    return f"https://{domain}/products/{handle}" if domain and handle else None


def _image(body: _Product) -> str | None:
    main = body.image if isinstance(body.image, _Image) else next(iter(body.images or ()), _Image())
    return link(main.src)

"""What the API takes and answers."""

import base64
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from msgspec import to_builtins
from pydantic import (
    AfterValidator,
    BaseModel,
    EmailStr,
    Field,
    SecretStr,
    StringConstraints,
    ValidationInfo,
    field_validator,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from libs.common.contracts.journal import Delivery, Removal
from libs.common.money import known_currency
from libs.common.problems import NO_NUL
from libs.common.web.asked import Asked
from services.ingest.archive import Found, OutcomeName
from services.ingest.deleting import Deletion
from services.ingest.registration import MAX_SECRETS, domain_of, is_name, site_of, timezones
from services.ingest.signatures import MAX_SECRET, MIN_SECRET
from services.ingest.store import Store, StoreState
from services.ingest.wanted import path_of

MAY_END = ("email", "postal_address")
"""What a store may have, and have no more: null takes it away."""
ConsentPolicy = Literal["explicit", "soft_opt_in"]

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255, pattern=NO_NUL)]


def _a_secret(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if len(text.strip()) < MIN_SECRET:
        raise PydanticCustomError("secret", f"A secret has at least {MIN_SECRET} characters.")
    if text != text.strip():
        # Copied along with it, it would have every webhook refused, and nobody would see why.
        raise PydanticCustomError("secret", "There is a blank or a line end around this secret.")
    return secret


Secret = Annotated[SecretStr, Field(max_length=MAX_SECRET), AfterValidator(_a_secret)]
LONGEST_OVERLAP = 90 * 24 * 3600
LONGEST_LOCAL_PART = 64


def _readable(name: str) -> str:
    if not is_name(name):
        raise PydanticCustomError("name", "This is not a name that could be shown.")
    return name


Name = Annotated[Text, AfterValidator(_readable)]


def _known_currency(code: str) -> str:
    code = code.strip().upper()
    if not known_currency(code):
        raise PydanticCustomError("currency", "This is not an ISO 4217 currency code.")
    return code


def _known_zone(name: str) -> str:
    if name not in timezones():
        raise PydanticCustomError("timezone", "This is not an IANA time zone.")
    return name


Currency = Annotated[str, AfterValidator(_known_currency), Field(description="ISO 4217 code.", examples=["EUR"])]
TimeZone = Annotated[str, AfterValidator(_known_zone), Field(description="IANA name.", examples=["Europe/Berlin"])]
Identifier = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=128, pattern=NO_NUL)]


def _plain(address: str) -> str:
    if not address.isascii() or "=?" in address or len(address.partition("@")[0]) > LONGEST_LOCAL_PART:
        raise PydanticCustomError("email", "Not every mail server takes this address.")
    return address


Email = Annotated[
    EmailStr,
    AfterValidator(_plain),
    Field(
        description="Where its customers write to. Its mail comes from here where REGULARS_MAIL_DOMAINS holds the "
        "domain for this tenant; elsewhere it comes from REGULARS_MAIL_FROM, and answers go here.",
        examples=["hello@shop.example"],
    ),
]
PostalAddress = Annotated[
    Name, Field(description="Name and postal address of the merchant, on one line: it stands in every mail.")
]


class StoreIn(Asked):
    """A store to register or to change. Then what is absent stays; `email` and `postal_address` may be null."""

    platform: Annotated[
        Literal["shopify", "woocommerce", "events"],
        Field(description="`events`: any other shop, which tells of itself by `POST /v1/events`."),
    ]
    domain: Annotated[
        Text,
        Field(
            description="Host name, of WooCommerce the site's address: with its path, since one host may have several."
            " A scheme, and any other path, are cut off.",
            examples=["shop.example"],
        ),
    ]
    secrets: Annotated[
        list[Secret],
        Field(
            max_length=MAX_SECRETS,
            validate_default=True,
            description="All that sign webhooks now; never shown again. None for `events`.",
        ),
    ] = []  # noqa: RUF012 (pydantic copies it)
    currency: Currency
    timezone: TimeZone
    name: Annotated[Name | None, Field(description="Default: the domain.")] = None
    consent: Annotated[
        ConsentPolicy | None,
        Field(description="Who may be written to: those subscribed, or buyers as well. Default: explicit."),
    ] = None
    email: Email | None = None
    postal_address: PostalAddress | None = None

    @field_validator("domain")
    @classmethod
    def _host(cls, text: str, info: ValidationInfo) -> str:
        try:
            return site_of(text) if info.data.get("platform") == "woocommerce" else domain_of(text)
        except ValueError as error:
            raise PydanticCustomError("domain", "This is not a host name such as `shop.example`.") from error

    @field_validator("secrets")
    @classmethod
    def _as_many_as_sign(cls, secrets: list[SecretStr], info: ValidationInfo) -> list[SecretStr]:
        if info.data.get("platform") == "events":
            if secrets:
                raise PydanticCustomError("secrets", "No webhook comes from such a store: it has an API key.")
        elif not secrets:
            raise PydanticCustomError("secrets", "At least one secret is needed.")
        return secrets


class StorePatch(Asked):
    """What is to be different about a store. What is absent stays; `email` and `postal_address` may be null."""

    currency: Currency | None = None
    timezone: TimeZone | None = None
    name: Name | None = None
    consent: ConsentPolicy | None = None
    email: Email | None = None
    postal_address: PostalAddress | None = None
    paused: Annotated[
        bool | None,
        Field(
            strict=True,
            description="True: what it sends is kept and counted as ever, but nobody is written to in its name, and it"
            " is not compared with its platform. Mails that fall due meanwhile are not caught up.",
        ),
    ] = None
    secrets: Annotated[
        list[Secret] | None,
        Field(min_length=1, max_length=MAX_SECRETS, description="All secrets that sign from now on."),
    ] = None
    overlap_seconds: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=LONGEST_OVERLAP,
            description="For so long those sign, too, which `secrets` leaves out.",
        ),
    ] = 0

    # Named here for the answer's sake; no schema has them.
    platform: SkipJsonSchema[None] = None
    domain: SkipJsonSchema[None] = None

    @field_validator("platform", "domain", mode="before")
    @classmethod
    def _never(cls, _: object, info: ValidationInfo) -> object:
        raise PydanticCustomError(
            "fixed",
            "The {name} of a store cannot be changed: with the key it is what the store is known by. Register the"
            " other one with POST /v1/stores; it gets a key of its own.",
            {"name": info.field_name},
        )

    @field_validator("currency", "timezone", "name", "consent", "paused", "secrets", mode="before")
    @classmethod
    def _said(cls, value: object) -> object:
        if value is None:
            raise PydanticCustomError("null", "This cannot be nothing; leave it out to keep what it is.")
        return value


class SecretOut(BaseModel):
    """A secret that signs; itself it is never shown."""

    added_at: datetime
    ends_at: Annotated[datetime | None, Field(description="Null: until it is replaced.")]


class StoreChangeOut(BaseModel):
    """An entry of a store's audit log."""

    version: int
    at: datetime
    by: Annotated[str, Field(description="Id of the API key, or `shopify`: the shop itself told it.")]
    changes: Annotated[
        dict[str, Any], Field(description="What is different since. Of secrets: added, ended, ending when.")
    ]


class StoreOut(BaseModel):
    """A store, without its secrets."""

    store_key: str
    webhook_url: Annotated[str | None, Field(description="Null where no webhook comes.")]
    platform: str
    domain: str
    currency: str
    timezone: str
    name: str
    consent: str
    email: str | None
    postal_address: str | None
    created_at: datetime
    state: Annotated[StoreState, Field(description="Of a deleted one there is its history alone.")]

    @classmethod
    def of(cls, store: Store, public_url: str) -> Self:
        """`public_url`: where shops reach us."""
        return cls(
            store_key=store.key,
            webhook_url=f"{public_url}{path_of(store.platform, store.key)}" if store.platform != "events" else None,
            platform=store.platform,
            domain=store.domain,
            currency=store.currency,
            timezone=store.timezone,
            name=store.name,
            consent=store.consent,
            email=store.email,
            postal_address=store.postal_address,
            created_at=store.created_at,
            state=store.state,
        )


class StoreRemoval(BaseModel):
    """What goes with a store. Deliveries, orders and figures stay, as its history."""

    store: str
    dry_run: bool
    deleted_at: Annotated[datetime | None, Field(description="Null: it is there.")]
    secrets: int
    credentials: int
    public_keys: int
    backfills: int
    comparisons: Annotated[int, Field(description="With its platform, over or under way.")]
    replays: Annotated[int, Field(description="That were not at their end.")]

    @classmethod
    def of(cls, store: str, removal: Deletion, *, dry_run: bool) -> Self:
        """As it was counted."""
        return cls(store=store, dry_run=dry_run, **to_builtins(removal, builtin_types=(datetime,)))


class DeliveryOut(BaseModel):
    """A delivery and what became of it."""

    id: str
    store: str
    platform: str
    topic: str
    delivery_id: str
    received_at: datetime
    origin: str
    outcome: OutcomeName
    reason: str | None
    object: Annotated[str | None, Field(description="The object that it speaks of, such as `order:1001`.")]

    @classmethod
    def of(cls, found: Found) -> Self:
        """As found."""
        return cls.model_validate(found, from_attributes=True)


class DeliveryDetail(DeliveryOut):
    """A delivery as it was sent; headers and body are null once nobody can read them any more."""

    headers: dict[str, str] | None
    body: str | None
    removed: Annotated[
        Removal | None,
        Field(description="Why there is no body: past the journal's retention, or redacted by a privacy request."),
    ]
    body_encoding: Annotated[Literal["text", "base64"] | None, Field(description="base64 when the body is not UTF-8.")]

    @classmethod
    def whole(cls, found: Found, sent: Delivery | Removal) -> Self:
        """As found, with what was sent."""
        told = DeliveryOut.of(found).model_dump()
        if not isinstance(sent, Delivery):
            return cls(**told, headers=None, body=None, body_encoding=None, removed=sent)
        body, encoding = shown_body(sent.body)
        return cls(**told, headers=sent.headers, body=body, body_encoding=encoding, removed=None)


class CountsOut(BaseModel):
    """Deliveries by outcome, and requests that became none."""

    store: str | None
    pending: int = 0
    observed: int = 0
    parked: int = 0
    dead: int = 0
    ignored: int = 0
    refused: Annotated[
        dict[str, int],
        Field(description="By reason: bad_signature, wrong_platform, too_large, browser_origin, browser_events, …"),
    ]
    duplicates: Annotated[int, Field(description="Webhooks and events that had come before: each counts once.")]


class ReasonOut(BaseModel):
    """Why some could not be read."""

    reason: str
    count: int


def shown_body(body: bytes) -> tuple[str, Literal["text", "base64"]]:
    """A body as JSON can carry it."""
    try:
        return body.decode(), "text"
    except UnicodeDecodeError:
        return base64.b64encode(body).decode(), "base64"

"""What the API takes and answers about stores' own APIs: credentials, backfills, a store's health."""

import re
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from msgspec import to_builtins
from pydantic import BaseModel, Field, SecretStr, field_validator

from libs.common.web.asked import Asked
from libs.common.web.instants import Instant
from services.ingest.credentials import Credentials
from services.ingest.fetches import Fetch, State
from services.ingest.models import ReasonOut, Text
from services.ingest.platforms.port import BulkState, Kind
from services.ingest.wanted import State as State_

_TOKEN = re.compile(r"shp(at|ca|pa|ua)_[0-9A-Za-z]+")
"""What apps get, of all kinds; `shpss_` is an app's secret, and opens nothing."""

AccessKey = Annotated[SecretStr, Field(min_length=8, max_length=255)]


class CredentialsIn(Asked):
    """Of WooCommerce a key of its REST API with its secret; of Shopify an app's token, or the app's id and secret.

    To fetch, the right to read is enough.
    """

    consumer_key: Annotated[AccessKey | None, Field(description="WooCommerce: ck_…")] = None
    consumer_secret: Annotated[AccessKey | None, Field(description="WooCommerce: cs_…; never shown again.")] = None
    access_token: Annotated[
        AccessKey | None, Field(description="Shopify: shpat_…, of the Admin API; never shown again.")
    ] = None
    client_id: Annotated[AccessKey | None, Field(description="Shopify: of an app that asks for its tokens.")] = None
    client_secret: Annotated[AccessKey | None, Field(description="Shopify: of the same app; never shown again.")] = None
    url: Annotated[
        Text | None,
        Field(
            description="Where the shop's API is, on the store's own domain. Default: as before, or `https://`, domain."
        ),
    ] = None

    @field_validator("access_token")
    @classmethod
    def _token(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and not _TOKEN.fullmatch(token.get_secret_value()):
            raise ValueError(
                "This is not an access token of the Admin API: those are shpat_, and then letters and digits."
            )
        return token


class CredentialsOut(BaseModel):
    """How the platform took the credentials of a store, which are never shown."""

    store: str
    url: str
    set_at: datetime
    state: Annotated[
        Literal["unchecked", "good", "refused", "gone"],
        Field(description="As of the last request; gone: the app was uninstalled, and nothing is fetched any more."),
    ]
    reason: str | None

    @classmethod
    def of(cls, found: Credentials) -> Self:
        """As they stand."""
        return cls(**{name: getattr(found, name) for name in cls.model_fields})


class BackfillIn(Asked):
    """What is to be fetched of a store."""

    store: Annotated[Text, Field(description="A store's key.")]
    kinds: Annotated[
        list[Kind] | None,
        Field(
            min_length=1, max_length=4, description="Default: all that the platform has; WooCommerce no `checkouts`."
        ),
    ] = None
    since: Annotated[Instant | None, Field(description="Changed at this time or later. Default: all.")] = None

    @field_validator("since")
    @classmethod
    def _utc(cls, since: datetime | None) -> datetime | None:
        return since.astimezone(UTC) if since is not None else None

    @field_validator("kinds")
    @classmethod
    def _once(cls, kinds: list[Kind] | None) -> list[Kind] | None:
        return list(dict.fromkeys(kinds)) if kinds is not None else None


class BulkOut(BaseModel):
    """Objects of a kind that the platform prepares by a bulk operation, to be read from one file."""

    kind: Kind
    state: Annotated[
        BulkState,
        Field(description="`waiting` for another one, `running`, `reading` its file, `done`, `given_up` for pages."),
    ]
    objects: Annotated[int, Field(description="That the platform has prepared.")]
    bytes: Annotated[int | None, Field(description="Of the file.")]
    bytes_read: int
    reason: Annotated[str | None, Field(description="Why it waits, or was given up.")]


class BackfillOut(BaseModel):
    """A backfill and how far it has come. Counts are of objects."""

    id: str
    store: str
    kinds: list[Kind]
    since: datetime | None
    until: Annotated[datetime, Field(description="What changes later is told by webhooks.")]
    state: State
    kind: Annotated[Kind | None, Field(description="What is being fetched.")]
    asked_at: datetime
    asked_by: Annotated[str, Field(description="Id of the API key.")]
    fetched: int = 0
    published: Annotated[int, Field(description="That were not published in this state before.")] = 0
    broken: Annotated[int, Field(description="That could not be taken.")] = 0
    reasons: Annotated[list[ReasonOut], Field(description="Of the broken ones, most frequent first.")]
    bulk: Annotated[list[BulkOut], Field(description="Kinds with more objects than `REGULARS_FETCH_BULK_ABOVE`.")]
    failures: Annotated[int, Field(description="Requests that failed since it last got on.")]
    reason: Annotated[
        str | None, Field(description="Why it does not get on, and until when the shop wants to be left alone.")
    ]

    @classmethod
    def of(cls, fetch: Fetch) -> Self:
        """As it stands."""
        told = sorted(fetch.reasons.items(), key=lambda each: (-each[1], each[0]))
        named = {name: getattr(fetch, name) for name in cls.model_fields if hasattr(fetch, name)}
        counts = {name: fetch.counts.get(name, 0) for name in ("fetched", "published", "broken")}
        kind = fetch.kinds[fetch.step] if fetch.step < len(fetch.kinds) else None
        named["reason"] = fetch.held_up
        if fetch.state == "waiting" and fetch.held_up is None and fetch.begun:
            # For its next page, that is.
            named["state"] = "running"
        bulk = [BulkOut(kind=name, **to_builtins(fetch.bulk[name])) for name in fetch.kinds if name in fetch.bulk]
        reasons = [ReasonOut(reason=reason, count=count) for reason, count in told]
        return cls(**{**named, **counts, "kind": kind, "reasons": reasons, "bulk": bulk})


class TopicHealth(BaseModel):
    """What has come of one topic."""

    topic: str
    last_at: Annotated[datetime | None, Field(description="When the platform told of it last, in these 7 days.")]
    deliveries: Annotated[
        int, Field(description="That the platform made in the last 7 days; without those that could not be read.")
    ]
    backfilled: Annotated[int, Field(description="Fetched besides by backfills, and events told as older than a day.")]
    reconciled: Annotated[int, Field(description="Fetched besides: what no webhook had told of.")]
    longest_delay_seconds: Annotated[
        float | None, Field(description="From a change that no webhook told of until it was found.")
    ]


class Looked(BaseModel):
    """The last comparison of one kind that is over."""

    at: Annotated[datetime, Field(description="When it ended.")]
    until: Annotated[datetime, Field(description="What changed before then is known.")]
    missing: Annotated[int, Field(description="Objects that no webhook had told of.")]


class SubscriptionHealth(BaseModel):
    """A webhook that is wanted of the platform."""

    topic: str
    state: Annotated[State_, Field(description="`gone`: there was one; `elsewhere`: to an address that we had before.")]
    since: datetime
    reason: Annotated[str | None, Field(description="Why it could not be had, when it was last asked for.")]


class SubscriptionsHealth(BaseModel):
    """Which webhooks the platform has for us, as they are seen once a day and with each connection."""

    looked_at: datetime | None
    unseen: Annotated[str | None, Field(description="Why they could not be seen since.")]
    topics: list[SubscriptionHealth]


class SilenceOut(BaseModel):
    """For how long nothing has come of a store's own accord."""

    since: Annotated[datetime, Field(description="The last minute in which something came.")]
    expected: Annotated[
        float, Field(description="Minutes with deliveries that are usual for that time, by the four weeks before.")
    ]
    unusual: Annotated[
        bool, Field(description="So long a silence has a probability below 0.0001 at these hours of the week.")
    ]


class StoreHealth(BaseModel):
    """Whether all that happens in a store gets here."""

    store: str
    topics: Annotated[list[TopicHealth], Field(description="Of the last 7 days.")]
    silence: Annotated[SilenceOut | None, Field(description="Null until something has come for a week.")]
    refused: Annotated[dict[str, int], Field(description="Requests by reason, ever.")]
    duplicates: int
    credentials: CredentialsOut | None
    subscriptions: Annotated[SubscriptionsHealth | None, Field(description="Null without credentials.")]
    reconciled: Annotated[Looked | None, Field(description="What has changed, against the platform's own API.")]
    swept: Annotated[Looked | None, Field(description="What was deleted for good; of WooCommerce customers, too.")]
    waiting: Annotated[str | None, Field(description="Why a comparison does not get on, and until when.")]

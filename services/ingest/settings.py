"""Settings of ingest."""

from typing import Annotated

from pydantic import Field, field_validator

from libs.common.contracts.topics import JOURNAL
from libs.common.log.retention import Retention
from libs.common.settings import CommonSettings
from services.ingest.callers import networks

SCHEMA = "ingest"
LEAST_DAYS = 7
"""A worker that was away for a week loses nothing, and a table that is written anew has been full for as long."""
MOST_DAYS = 1100
"""Three years: by weeks some 160 tables, and a read looks into each."""


class IngestSettings(CommonSettings):
    """What the webhook route allows and how long it waits."""

    webhook_max_body: Annotated[
        int, Field(ge=1024, description="Largest body of a webhook.", json_schema_extra={"unit": "bytes"})
    ] = 5 * 1024 * 1024
    webhook_body_seconds: Annotated[
        float,
        Field(gt=0, description="How long a webhook's body may take to arrive.", json_schema_extra={"unit": "s"}),
    ] = 10.0
    webhook_reading_bytes: Annotated[
        int,
        Field(
            ge=1024,
            description="Large bodies being received at one time, in all; more are told to come back.",
            json_schema_extra={"unit": "bytes"},
        ),
    ] = 64 * 1024 * 1024
    normalise_batch_size: Annotated[
        int, Field(ge=1, le=5000, description="Deliveries that the normaliser handles in one transaction.")
    ] = 500
    replay_rate: Annotated[
        int,
        Field(
            ge=1,
            le=5000,
            description="Deliveries that each worker reads again, at most, while there are replays.",
            json_schema_extra={"unit": "1/s"},
        ),
    ] = 200
    privacy_rate: Annotated[
        int,
        Field(
            ge=1,
            le=20_000,
            description="Deliveries that each worker looks through, at most, while there are privacy requests. A"
            " thousand take a fifth of a second of its process; a request takes three turns or more"
            " through its store's.",
            json_schema_extra={"unit": "1/s"},
        ),
    ] = 1000
    journal_wait_seconds: Annotated[
        float,
        Field(
            gt=0,
            description="How long a webhook waits for its commit before it is told to come back.",
            json_schema_extra={"unit": "s"},
        ),
    ] = 2.0
    journal_queue_length: Annotated[
        int, Field(ge=1, description="Webhooks waiting for their commit; more are told to come back.")
    ] = 5000
    journal_queue_bytes: Annotated[
        int,
        Field(
            ge=1024,
            description="Size of the webhooks waiting for their commit; more are told to come back.",
            json_schema_extra={"unit": "bytes"},
        ),
    ] = 64 * 1024 * 1024
    journal_days: Annotated[
        str,
        Field(
            description=f"How long bodies of deliveries are kept in the journal, at least, {LEAST_DAYS} to {MOST_DAYS}"
            " days: the installation's, and by commas that of tenants that differ, as `90,acme:30`. A body goes with"
            " the table that it lies in: up to 7 days later when the shortest is 60 days or less, else up to 28.",
            json_schema_extra={"unit": "days"},
        ),
    ] = str(JOURNAL.retention_days)
    reconcile_minutes: Annotated[
        float,
        Field(
            gt=0,
            description="Between two looks at what a store's platform has and its webhooks did not tell.",
            json_schema_extra={"unit": "min"},
        ),
    ] = 15.0
    reconcile_overlap_minutes: Annotated[
        float,
        Field(
            ge=0,
            description="What each such look asks for again of the one before.",
            json_schema_extra={"unit": "min"},
        ),
    ] = 10.0
    reconcile_grace_minutes: Annotated[
        float,
        Field(
            ge=0,
            description="How long a webhook may be on its way before it counts as never delivered.",
            json_schema_extra={"unit": "min"},
        ),
    ] = 5.0
    fetch_rate: Annotated[
        float,
        Field(gt=0, description="Requests to the API of one store, at most.", json_schema_extra={"unit": "1/s"}),
    ] = 2.0
    fetch_concurrency: Annotated[
        int,
        Field(
            ge=0,
            le=64,
            description="Stores whose APIs one worker asks at one time, half of them of one tenant at most; 0: none.",
        ),
    ] = 4
    fetch_bulk_above: Annotated[
        int,
        Field(
            ge=0,
            description="A backfill of more objects of a kind than that has Shopify prepare them by a bulk operation,"
            " instead of asking for them page by page.",
        ),
    ] = 10_000
    trusted_proxies: Annotated[
        str | None,
        Field(
            description="Addresses or networks, by commas, of what stands in front and says by `X-Forwarded-For` whom"
            " it speaks for. Only browsers' events ask. Unset: who is connected is who calls."
        ),
    ] = None
    browser_address_rate: Annotated[
        int,
        Field(
            ge=0,
            description="Events that browsers of one address (IPv6: of 64 bits) may send in a minute and process;"
            " 8 KiB of a request count as one at least. 0: no limit.",
            json_schema_extra={"unit": "events/min"},
        ),
    ] = 600
    browser_key_rate: Annotated[
        int,
        Field(
            ge=0,
            description="Events that may come with one public key in a minute and process. 0: no limit.",
            json_schema_extra={"unit": "events/min"},
        ),
    ] = 30_000

    @field_validator("journal_days")
    @classmethod
    def _are_days(cls, text: str) -> str:
        Retention.parse(text, least=LEAST_DAYS, most=MOST_DAYS)
        return text

    @property
    def journal_retention(self) -> Retention:
        """`journal_days`, taken apart."""
        return Retention.parse(self.journal_days, least=LEAST_DAYS, most=MOST_DAYS)

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, text: str | None) -> str | None:
        networks(text or "")
        return text

    fetch_private_addresses: Annotated[
        bool, Field(description="Whether stores may have addresses of the own network: test shops, an intranet.")
    ] = False

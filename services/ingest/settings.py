"""Settings of ingest."""

from typing import Annotated

from pydantic import Field

from libs.common.settings import CommonSettings

SCHEMA = "ingest"


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

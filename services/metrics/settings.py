"""Settings of metrics."""

from typing import Annotated

from pydantic import Field

from libs.common.settings import CommonSettings

SCHEMA = "metrics"
CONSUMER = "metrics"


class MetricsSettings(CommonSettings):
    """How the figures are kept."""

    metrics_batch_size: Annotated[
        int,
        Field(ge=1, le=5000, description="Most facts folded in one transaction.", json_schema_extra={"unit": "facts"}),
    ] = 500
    metrics_verify_seconds: Annotated[
        float,
        Field(
            ge=1,
            description="How often one store and currency is recounted from the facts, beside the work.",
            json_schema_extra={"unit": "s"},
        ),
    ] = 60.0

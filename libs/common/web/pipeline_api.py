"""`/v1/pipeline/{service}`: how far the events have come, those of all tenants: positions are an installation's."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from libs.common import pipeline
from libs.common.auth import Principal, require
from libs.common.clock import Clock
from libs.common.db import Database
from libs.common.log.choice import Logs
from libs.common.problems import not_found


@dataclass(frozen=True, slots=True)
class Line:
    """A service's part of the pipeline."""

    database: Database
    logs: Logs
    consumers: tuple[str, ...]
    pending: Callable[[datetime], Awaitable[Sequence[str]]] | None


class PartitionOut(BaseModel):
    """Where a consumer stands in a partition."""

    partition: int
    position: int = Field(description="Offset of the next event to process.")
    end: int = Field(description="Offset that the next event to be written will get.")
    lag: int
    oldest_unprocessed_seconds: float | None = Field(description="Age of the event at `position`; null without lag.")
    owner: str | None
    lease_until: datetime | None


class ConsumerOut(BaseModel):
    """A consumer's progress in a topic."""

    consumer: str
    topic: str
    partitions: list[PartitionOut]


class WorkerOut(BaseModel):
    """A worker that was seen lately."""

    consumer: str
    worker: str
    state: str
    reason: str | None


class PipelineOut(BaseModel):
    """Whether all that came has been dealt with, and where not."""

    service: str
    drained: bool
    consumers: list[ConsumerOut]
    workers: list[WorkerOut]
    pending: list[str] = Field(description="Work that no position shows.")


def pipeline_router(lines: Mapping[str, Line], clock: Clock) -> APIRouter:
    """The route for the app's services, by name. 404 for one that this app does not have."""
    router = APIRouter(prefix="/v1/pipeline", tags=["operations"])

    @router.get("/{service}")
    async def show_pipeline(service: str, _: Annotated[Principal, Depends(require("pipeline:read"))]) -> PipelineOut:
        """Of the whole installation, for whoever runs it: positions and workers serve all tenants alike."""
        line = lines.get(service)
        if line is None:
            raise not_found("service")
        pending = list(await line.pending(clock.now())) if line.pending else []
        standing = await pipeline.standing(line.database, line.logs, line.consumers)
        if standing.caught_up and line.pending and not pending:
            # What is pending ends in the log, and what is read from the log may leave something pending.
            pending = list(await line.pending(clock.now()))
        if standing.replays:
            pending.append(f"{standing.replays} dead letters to replay")
        return PipelineOut.model_validate(
            {
                "service": service,
                "drained": standing.caught_up and not pending,
                "consumers": standing.consumers,
                "workers": standing.workers,
                "pending": pending,
            },
            from_attributes=True,
        )

    return router

"""What the API of replays takes and answers."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from libs.common.web.asked import Asked
from libs.common.web.instants import Instant
from services.ingest.models import ReasonOut, Text
from services.ingest.replays import Replay, Replayable


class ReplayIn(Asked):
    """Which deliveries are to be read again: those of a store, or one alone."""

    delivery: Annotated[
        UUID | None, Field(description="Only this one, by its id. Whatever else is named has to be true of it.")
    ] = None
    store: Annotated[
        Text | None, Field(validate_default=True, description="A store's key; beside `delivery` it may be left out.")
    ] = None
    topic: Annotated[Text | None, Field(description="Only this topic of the platform.")] = None
    outcome: Annotated[Replayable | None, Field(description="Only what turned out to be this.")] = None
    since: Annotated[Instant | None, Field(description="Received at this time or later.")] = None
    until: Annotated[Instant | None, Field(description="Received before this time. Default: now.")] = None
    dry_run: Annotated[bool, Field(strict=True, description="Only tell what would come of it.")] = False

    @field_validator("store")
    @classmethod
    def _whose(cls, store: str | None, info: ValidationInfo) -> str | None:
        # Of a delivery that is no id that alone is said.
        if store is None and info.data.get("delivery", "none that can be read") is None:
            raise PydanticCustomError("store", "Name a store, or one delivery.")
        return store


class ReplayOut(BaseModel):
    """A replay and how far it has come. Counts are of deliveries."""

    id: str
    delivery: Annotated[
        str | None,
        Field(description="The only one that it is about; `store`, `topic`, `since` and `until` are its own."),
    ]
    store: str
    topic: str | None
    outcome: Replayable | None
    since: datetime | None
    until: datetime
    dry_run: bool
    state: Literal["waiting", "running", "done", "cancelled"]
    asked_at: datetime
    asked_by: Annotated[str, Field(description="Id of the API key.")]
    total: Annotated[int | None, Field(description="As many as there were when it began; null before.")]
    looked_at: int = 0
    observed: int = 0
    parked: int = 0
    ignored: int = 0
    unreadable: Annotated[int, Field(description="Dead still, or left as they were.")] = 0
    gone: Annotated[int, Field(description="Past the journal's retention, or redacted.")] = 0
    left_out: Annotated[
        int,
        Field(
            description="Dead ones that were there when it began and that it leaves alone: discarded, or waiting to be"
            " tried again as dead letters."
        ),
    ] = 0
    changed: Annotated[int, Field(description="Turned out to be something else than before.")] = 0
    reasons: Annotated[list[ReasonOut], Field(description="Of the unreadable ones, most frequent first.")]

    @classmethod
    def of(cls, replay: Replay) -> Self:
        """As it stands."""
        told = sorted(replay.reasons.items(), key=lambda each: (-each[1], each[0]))
        reasons = [ReasonOut(reason=reason, count=count) for reason, count in told]
        named = {name: getattr(replay, name) for name in cls.model_fields if hasattr(replay, name)}
        return cls(**{**named, **replay.counts, "reasons": reasons})

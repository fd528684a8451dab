"""What the API about first-party events takes and answers."""

import math
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, field_validator
from pydantic_core import PydanticCustomError

from libs.common.contracts.commerce import Identifiers
from libs.common.problems import FieldErrorOut
from libs.common.web.asked import Asked
from libs.common.web.instants import Instant
from services.ingest.event_properties import known
from services.ingest.event_reference import summary
from services.ingest.models import Identifier
from services.ingest.printed import FIRST_YEAR, LAST_YEAR

MOST_EVENTS = 1000
_PHONE = re.compile(r"\+?[0-9 ()./-]{5,32}")
_EMAIL = re.compile(r"[^@\s\x00]+@[^@\s\x00]+")
MOST_PROPERTIES = 50
LONGEST_TEXT = 1024
_DEEPEST = 5
"""Layers: properties, lines, a line, its money, and one to spare."""
_LARGEST = 2**63 - 1


def _an_email(text: str) -> str:
    if not _EMAIL.fullmatch(text):
        raise PydanticCustomError("email", "This is not an e-mail address.")
    return text


def _a_phone(text: str) -> str:
    if not _PHONE.fullmatch(text):
        raise PydanticCustomError("phone", "This is not a phone number.")
    return text


Email = Annotated[str, StringConstraints(strip_whitespace=True, max_length=254), AfterValidator(_an_email)]
Phone = Annotated[str, StringConstraints(strip_whitespace=True, max_length=32), AfterValidator(_a_phone)]


class ProfileIn(Asked):
    """Whom an event speaks of; all but orders, which guests place, need at least one."""

    email: Email | None = None
    phone: Phone | None = None
    customer_id: Identifier | None = None
    cart_token: Identifier | None = None
    checkout_token: Identifier | None = None

    def identifiers(self) -> Identifiers:
        """As the contract has them."""
        return Identifiers(**self.model_dump(exclude_none=True))


def _known_type(name: str) -> str:
    if not known(name):
        raise PydanticCustomError("type", "This is neither a type of ours nor a name such as `custom.quiz.finished`.")
    return name


class Told(Asked):
    """What is told of an event, whoever sends it."""

    id: Annotated[Identifier, Field(description="The sender's own; the same id of the same store counts once.")]
    type: Annotated[
        str,
        StringConstraints(max_length=128),
        AfterValidator(_known_type),
        Field(description="One of ours, or a name of your own such as `custom.quiz.finished`."),
    ]
    time: Annotated[Instant | None, Field(description="When it happened. Default: now.")] = None
    profile: ProfileIn
    properties: Annotated[
        dict[str, Any],
        Field(
            max_length=MOST_PROPERTIES,
            description=f"What the type demands (`?`: may be left out; docs/events.md has more):\n{summary()}",
        ),
    ] = {}  # noqa: RUF012 (pydantic copies it)

    @field_validator("time")
    @classmethod
    def _utc(cls, time: datetime | None) -> datetime | None:
        if time is not None and not FIRST_YEAR < time.year < LAST_YEAR:
            raise PydanticCustomError("time", "The year is out of range.")
        return time.astimezone(UTC) if time is not None else None

    @field_validator("properties")
    @classmethod
    def _small(cls, properties: dict[str, Any]) -> dict[str, Any]:
        _sound(properties, _DEEPEST)
        return properties


def _sound(value: Any, deepest: int) -> None:
    """Whether all of it can be stored: texts, numbers, and not too many layers of lists and objects."""
    match value:
        case str() if len(value) > LONGEST_TEXT or "\0" in value:
            raise PydanticCustomError("property", "Names and texts may have 1024 characters, none of them NUL.")
        case float() if not math.isfinite(value):
            raise PydanticCustomError("property", "Numbers must be finite.")
        case int() if abs(value) > _LARGEST:
            raise PydanticCustomError("property", "Numbers must fit into 63 bits.")
        case dict() | list() if deepest == 0:
            raise PydanticCustomError("property", "This is nested too deep.")
        case dict():
            for name, each in value.items():
                _sound(name, 0)
                _sound(each, deepest - 1)
        case list():
            for each in value:
                _sound(each, deepest - 1)
        case _:
            pass


class EventIn(Told):
    """A first-party event."""

    store: Annotated[str, Field(max_length=64, description="A store's key.")]


class Accepted(BaseModel):
    """The event is stored; or had been."""

    id: str
    status: Literal["accepted"] = "accepted"


class Row(BaseModel):
    """What became of one event of a batch, in the order in which they were sent."""

    id: Annotated[str | None, Field(description="As sent; null where it could not be read.")]
    status: Literal["accepted", "rejected"]
    errors: Annotated[list[FieldErrorOut], Field(description="Pointers into the event.")] = []
    errors_left_out: Annotated[int, Field(description="How many there are besides.")] = 0


class BatchOut(BaseModel):
    """All that were accepted are stored; or had been."""

    accepted: int
    rejected: int
    events: list[Row]

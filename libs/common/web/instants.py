"""Times as callers write them."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BeforeValidator
from pydantic_core import PydanticCustomError


def _written(value: Any) -> Any:
    # Left to itself, pydantic takes any number, in a text too, for seconds since 1970.
    if isinstance(value, int | float) or (isinstance(value, str) and "-" not in value[1:]):
        raise PydanticCustomError("time", "This is not a time as RFC 3339 has it.")
    return value


def _within(value: datetime) -> datetime:
    # At the ends of the calendar another offset is no date any more.
    if not _FIRST <= value.year < _LAST:
        raise PydanticCustomError("time", "The year is out of range.")
    return value


_FIRST, _LAST = 1900, 9999
Instant = Annotated[AwareDatetime, BeforeValidator(_written), AfterValidator(_within)]
"""RFC 3339, with an offset."""

"""Times as callers write them."""

from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator
from pydantic_core import PydanticCustomError


def _written(value: Any) -> Any:
    # Left to itself, pydantic takes any number, in a text too, for seconds since 1970.
    if isinstance(value, int | float) or (isinstance(value, str) and "-" not in value[1:]):
        raise PydanticCustomError("time", "This is not a time as RFC 3339 has it.")
    return value


Instant = Annotated[AwareDatetime, BeforeValidator(_written)]
"""RFC 3339, with an offset."""

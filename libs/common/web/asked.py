"""Objects in what is asked for."""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from libs.common.problems import MOST_ERRORS


class Asked(BaseModel):
    """Has the fields that it names and no others. One with many others is not looked into.

    Of each of them an error would be made before anybody could say that these are enough: it takes seconds, and tens of
    times the memory of the body.
    """

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _few(cls, raw: Any) -> Any:
        # Its first half is enough for what is usual, and costs less.
        if isinstance(raw, dict) and 0 < len(raw) - MOST_ERRORS > len(cls.model_fields):
            raise PydanticCustomError("too_many_names", "There are too many names in it.")
        return raw

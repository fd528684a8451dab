"""Lists come in pages: `{"data": [...], "next": "<cursor>" or null}`."""

import base64
import binascii
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from fastapi import Query
from pydantic import BaseModel, Field

from libs.common.problems import invalid_parameter

Item = TypeVar("Item")

Limit = Annotated[int, Query(ge=1, le=250, description="Entries of a page.")]
"""Use as `limit: Limit = 50`."""
Cursor = Annotated[str | None, Query(max_length=1024, description="`next` of the page before.")]
"""Use as `cursor: Cursor = None`."""


class Page(BaseModel, Generic[Item]):
    """One page of a list."""

    data: list[Item]
    next: str | None = Field(default=None, description="Cursor of the following page; null on the last.")


def encode_cursor(*values: object) -> str:
    """An opaque cursor: where the next page begins. Values: str, int, float, datetime, UUID, None."""
    return base64.urlsafe_b64encode(msgspec.json.encode(values)).rstrip(b"=").decode()


def decode_cursor(text: str, *types: Any) -> list[Any]:
    """The values of a cursor. Problem 422 at `/cursor` when it is not one of ours.

    With `types`, as many values as types, each converted: `decode_cursor(text, datetime, str)`. Without, datetimes and
    UUIDs come as text.
    """
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        values = msgspec.json.decode(packed, type=list[Any])
        if types and len(values) == len(types):
            return [msgspec.convert(value, kind) for value, kind in zip(values, types, strict=True)]
        if not types:
            return values
    except (binascii.Error, ValueError):
        # Told below, together with the wrong number of values.
        pass
    raise invalid_parameter("cursor", "This is not a cursor of this list.")

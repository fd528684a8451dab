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


def encode_cursor(listing: str, *values: object) -> str:
    """An opaque cursor of the list `listing`: where the next page begins. Values: str, int, float, datetime, UUID."""
    return base64.urlsafe_b64encode(msgspec.json.encode((listing, *values))).rstrip(b"=").decode()


def decode_cursor(text: str, listing: str, *types: Any) -> list[Any]:
    """The values of a cursor of that list, each converted: `decode_cursor(text, "orders", datetime, str)`.

    Problem 422 at `/cursor` when it is none: another list's, or not one of ours.
    """
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        told, *values = msgspec.json.decode(packed, type=list[Any]) or [None]
        if told == listing and len(values) == len(types):
            return [msgspec.convert(value, kind) for value, kind in zip(values, types, strict=True)]
    except (binascii.Error, ValueError):
        # Told below, together with the wrong number of values.
        pass
    raise invalid_parameter("cursor", "This is not a cursor of this list.")

"""Identifiers: random ones that sort by time, and derived ones that come out the same on every replay."""

import uuid_utils

_NAMESPACE = uuid_utils.UUID("4b0f4c8e-6f0d-5a55-9a5b-0f2c1d5a7e31")


def new_id() -> str:
    """A UUIDv7 as text: unique, and roughly ordered by creation."""
    return str(uuid_utils.uuid7())


def derived_id(*parts: str) -> str:
    """A UUIDv5 as text, the same for the same parts.

    Each part is prefixed by its length, so ("ab", "c") and ("a", "bc") differ.
    """
    return str(uuid_utils.uuid5(_NAMESPACE, "".join([f"{len(part)}:{part}" for part in parts])))

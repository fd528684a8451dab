"""What is wrong with an event's properties, in the API's own words. Pure.

msgspec finds it, and speaks of Python, of patterns, and of what the sender wrote.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from msgspec import inspect

NOT_LIKE = {
    "^[A-Za-z]{2}$": "This is not a country's code of two letters, such as DE.",
    "^https?://": "This is not an address that begins with http:// or https://.",
}
"""By the pattern of a field: what is said of a text that is not like it."""

_SORTS = {
    "array": "a list",
    "bool": "true or false",
    "date": "a date, such as 1990-12-31",
    "datetime": "a time as RFC 3339 has it",
    "int": "a whole number",
    "object": "an object",
    "str": "a text",
}
_WHOLE = re.compile(r"(?P<told>.*?)(?: - at `\$(?P<path>[^`]*)`)?", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]`]+)|\[(\d+)\]")
_NAMED = re.compile(r"Object (?:missing required|contains unknown) field `(.*)`", re.DOTALL)
_SAYINGS: tuple[tuple[re.Pattern[str], Callable[[str], str]], ...] = tuple(
    (re.compile(pattern, re.DOTALL), saying)
    for pattern, saying in (
        (r"(Object missing) .*", lambda _: "This is missing."),
        (r"(Object contains) .*", lambda _: "There is no such field here."),
        (r"Expected `array` of length >= (\d+)", "This has fewer entries than {}.".format),
        (r"Expected `array` of length <= (\d+)", "This has more entries than {}.".format),
        (r"(Expected `str` of length >= 1)", lambda _: "This is empty."),
        (r"Expected `str` of length >= (\d+)", "This is shorter than {} characters.".format),
        (r"Expected `str` of length <= (\d+)", "This is longer than {} characters.".format),
        (r"Expected `str` matching regex '(.*)'", NOT_LIKE.__getitem__),
        (r"Expected `int` >= (-?\d+)", "This is less than {}.".format),
        (r"Expected `int` <= (-?\d+)", "This is more than {}.".format),
        (r"(Expected `datetime` with) .*", lambda _: "This time has no offset, as in 2026-03-02T12:00:00Z."),
        (r"Invalid RFC3339 encoded (date|datetime)", lambda sort: f"This is not {_SORTS[sort]}."),
        (r"Expected `(\w+)(?: \| null)?`, got .*", lambda sort: f"This is not {_SORTS[sort]}."),
    )
)
"""What msgspec says, and what we say of what is in its brackets."""


def told(message: str, schema: Any) -> tuple[str, str]:
    """JSON pointer into the properties, and what is wrong there. `message`: msgspec's, about what is to be `schema`."""
    whole = _WHOLE.fullmatch(message)
    said, path = (whole["told"], whole["path"] or "") if whole is not None else (message, "")
    steps = tuple(name or index for name, index in _STEP.findall(path))
    pointer = "".join(f"/{step}" for step in steps)
    if (named := _NAMED.fullmatch(said)) is not None:
        pointer += "/" + named[1].replace("~", "~0").replace("/", "~1")
    if said.startswith("Invalid ") and (values := _values(schema, steps)):
        return pointer, f"This is none of {values}."
    for pattern, saying in _SAYINGS:
        if (found := pattern.fullmatch(said)) is not None:
            return pointer, saying(found[1])
    # Never its own words: they may hold the sender's.
    return pointer, "This is not what belongs here."


@lru_cache(64)
def _values(schema: Any, steps: tuple[str, ...]) -> str:
    """Those that a field may have, as the API lists them; empty where they cannot be listed."""
    values = [repr(value) for value in _choices(inspect.type_info(schema), steps)]
    return f"{', '.join(values[:-1])} or {values[-1]}" if len(values) > 1 else "".join(values)


def _choices(node: Any, steps: tuple[str, ...]) -> list[Any]:
    match node, steps:
        case inspect.Metadata(), _:
            return _choices(node.type, steps)
        case inspect.UnionType(), _:
            return [value for each in node.types for value in _choices(each, steps)]
        case inspect.ListType(), (_, *rest):
            return _choices(node.item_type, tuple(rest))
        case inspect.StructType(), (name,) if name == node.tag_field:
            return [node.tag]
        case inspect.StructType(), (name, *rest):
            return [
                value
                for field in node.fields
                if field.encode_name == name
                for value in _choices(field.type, tuple(rest))
            ]
        case inspect.LiteralType(), ():
            return list(node.values)
        case _:
            return []

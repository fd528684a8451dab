"""The first-party events in words, read off their models: for the documentation and the API's description of itself."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from msgspec import inspect

from services.ingest.event_properties import ACTIVITIES, COMMERCE, NEEDED, Buyer, Item, Money


class Property(NamedTuple):
    """One field."""

    name: str
    kind: str
    """Its type and bounds."""
    required: bool
    meaning: str
    """Empty where the name says it all."""


class Described(NamedTuple):
    """A type of event, or an object that several have."""

    name: str
    meaning: str
    properties: tuple[Property, ...]
    identifier: str | None = None
    """What its profile must have: a field's name, or `any`; None: nothing."""
    closed: bool = True
    """Nothing else may be said."""


SHARED = (Money, Item, Buyer)


def events() -> Iterator[Described]:
    """All types of ours. One with variants (`survey.answered`) comes once for each."""
    for name, model in (COMMERCE | ACTIVITIES).items():
        read = inspect.type_info(model)
        for struct in read.types if isinstance(read, inspect.UnionType) else (read,):
            assert isinstance(struct, inspect.StructType)  # noqa: S101 - what the tables hold
            described = _described(name, struct)
            # Whatever else an activity has is kept; what a consent has is passed over.
            yield described._replace(identifier=NEEDED.get(name, "any"), closed=name not in ACTIVITIES)


def shared() -> Iterator[Described]:
    """The objects inside of them."""
    for model in SHARED:
        struct = inspect.type_info(model)
        assert isinstance(struct, inspect.StructType)  # noqa: S101 - what the table holds
        yield _described(model.__name__, struct)


def summary() -> str:
    """Each type with its properties, in Markdown; a question mark behind those that may be left out."""
    return "\n".join(f"- `{event.name}`: {', '.join(map(_brief, event.properties))}" for event in events())


def _brief(told: Property) -> str:
    if told.kind.startswith("`") and " or " not in told.kind:
        return f"{told.name} ({told.kind})"
    return told.name if told.required else f"{told.name}?"


def _described(name: str, struct: inspect.StructType) -> Described:
    tag = [Property(str(struct.tag_field), f"`{struct.tag}`", required=True, meaning="")] if struct.tag_field else []
    own = [_property(field) for field in struct.fields]
    return Described(name, (struct.cls.__doc__ or "").strip(), (*tag, *own))


def _property(field: inspect.Field) -> Property:
    kind, meaning = _told(field.type)
    match field.default:
        case bool(flag):
            kind += f", default `{str(flag).lower()}`"
        case str(text):
            kind += f", default `{text}`"
    return Property(field.name, kind, field.required, meaning)


def _told(read: inspect.Type) -> tuple[str, str]:
    """Type with bounds, and what its description says."""
    match read:
        case inspect.Metadata():
            kind, inner = _told(read.type)
            return kind, str((read.extra_json_schema or {}).get("description", inner))
        case inspect.UnionType():
            return _told(next(one for one in read.types if not isinstance(one, inspect.NoneType)))
        case _:
            return _kind(read), ""


def _kind(read: Any) -> str:
    match read:
        case inspect.StrType(pattern=str(pattern)):
            return f"text like `{pattern}`{_between(read.min_length, read.max_length, ' characters')}"
        case inspect.StrType():
            return f"text{_between(read.min_length, read.max_length, ' characters')}"
        case inspect.IntType():
            return f"integer{_between(read.ge, read.le)}"
        case inspect.DateTimeType():
            return "time (RFC 3339, with offset)"
        case inspect.DateType():
            return "date, `YYYY-MM-DD`"
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType():
            return " or ".join(f"`{value}`" for value in read.values)
        case inspect.ListType():
            return f"list{_between(read.min_length, read.max_length)}, of {_told(read.item_type)[0]}"
        case inspect.StructType():
            return read.cls.__name__
        case _:
            raise TypeError(f"no words for {read}")


def _between(least: int | None, most: int | None, what: str = "") -> str:
    if most is None:
        return f", at least {least:,}{what}" if least is not None else ""
    return f", at most {most:,}{what}" if least is None else f", {least:,} to {most:,}{what}"

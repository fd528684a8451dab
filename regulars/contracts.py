"""The contracts as documents: a JSON Schema for each topic, one AsyncAPI 3 document, and what would break a reader."""

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

import msgspec

from libs.common.contracts.topics import JOURNAL, TOPICS, Topic

DIALECT = "https://json-schema.org/draft/2020-12/schema"
EVENTS = "x-events"
"""In a topic's schema: event type -> the Struct of its data."""

# How a CloudEvents attribute travels: as a header of the message and as a column of the log's table.
ATTRIBUTES = {
    "ce_specversion": {"type": "string", "const": "1.0"},
    "ce_id": {"type": "string", "description": "Unique for ever; derived from the cause where that is repeatable."},
    "ce_type": {"type": "string"},
    "ce_source": {"type": "string", "examples": ["/services/ingest"]},
    "ce_time": {"type": "string", "format": "date-time", "description": "When it happened, UTC."},
    "ce_tenant": {"type": "string"},
    "ce_traceparent": {"type": "string", "description": "W3C trace context."},
}


def schemas() -> dict[str, dict[str, Any]]:
    """For each topic its JSON Schema."""
    return {topic.name: _schema(topic) for topic in TOPICS.values()}


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3 document of all topics; payloads refer to the schemas beside it."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Regulars",
            "version": version("regulars"),
            "description": "CloudEvents 1.0. A topic has one producer; contracts only gain optional fields.",
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in TOPICS.values()},
        "operations": dict(_operations()),
        "components": {
            "messages": {
                f"{topic.name}.{event}": _message(topic, event) for topic in TOPICS.values() for event in topic.types
            },
            "schemas": {
                "attributes": {
                    "type": "object",
                    "properties": ATTRIBUTES,
                    "required": [name for name in ATTRIBUTES if name != "ce_traceparent"],
                }
            },
        },
    }


def breaking(topic: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """What in a topic's schema would break those who read or wrote by the one before, in words."""
    for event, data in before[EVENTS].items():
        if event not in after[EVENTS]:
            yield f"{topic}: event {event} is gone"
        elif after[EVENTS][event] != data:
            yield f"{topic}: event {event} carries another type now"
    for name, definition in before["$defs"].items():
        if name in after["$defs"]:
            yield from _changes(f"{topic}: {name}", definition, after["$defs"][name])


def _changes(place: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    fields, fields_now = before.get("properties", {}), after.get("properties", {})
    for field, kind in fields.items():
        if field not in fields_now:
            yield f"{place}.{field} is gone"
        elif (was := _bare(kind)) != (now := _bare(fields_now[field])) and not _wider(was, now):
            yield f"{place}.{field} was {was} and is {now}"
    for field in sorted({*after.get("required", ())} - {*before.get("required", ())}):
        yield f"{place}.{field} is required now"


def _bare(kind: Mapping[str, Any]) -> dict[str, Any]:
    """The type without its words, which may change."""
    return {name: value for name, value in kind.items() if name not in {"description", "default", "title"}}


def _wider(was: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether an enumeration only gained words: readers close their branches on what they know."""
    return was.keys() == now.keys() == {"enum"} and set(was["enum"]) < set(now["enum"])


def _schema(topic: Topic) -> dict[str, Any]:
    structs = tuple(dict.fromkeys(topic.types.values()))
    _, definitions = msgspec.json.schema_components(structs, ref_template="#/$defs/{name}")
    return {
        "$schema": DIALECT,
        "title": topic.name,
        "description": f"Data of the events of topic `{topic.name}`. Producer: {topic.producer}. Key: {topic.key}.",
        EVENTS: {event: {"$ref": f"#/$defs/{struct.__name__}"} for event, struct in topic.types.items()},
        "$defs": definitions,
    }


def _channel(topic: Topic) -> dict[str, Any]:
    return {
        "address": topic.name,
        "description": f"Key: {topic.key}.",
        "messages": {event: {"$ref": f"#/components/messages/{topic.name}.{event}"} for event in topic.types},
        "x-partitions": topic.partitions,
        "x-retention-days": topic.retention_days,
    }


def _operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for topic in TOPICS.values():
        channel = {"$ref": f"#/channels/{topic.name}"}
        yield f"{topic.producer}-sends-{topic.name}", {"action": "send", "channel": channel}
        for consumer in topic.consumers:
            yield f"{consumer}-receives-{topic.name}", {"action": "receive", "channel": channel}


def _message(topic: Topic, event: str) -> dict[str, Any]:
    struct = topic.types[event]
    return {
        "name": event,
        "contentType": "application/msgpack" if topic is JOURNAL else "application/json",
        "summary": (struct.__doc__ or "").strip().splitlines()[0],
        "headers": {"$ref": "#/components/schemas/attributes"},
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": {"$ref": f"contracts/{topic.name}.json#/$defs/{struct.__name__}"},
        },
    }

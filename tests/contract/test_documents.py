"""The committed contracts are those of the code, and what would break a reader is told in words."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from regulars import contracts, docs

ROOT = Path(__file__).parents[2]


def test_committed_pages_are_up_to_date() -> None:
    assert list(docs.stale(ROOT / "docs")) == []


def test_who_speaks_of_idempotency_keys_takes_them() -> None:
    described = json.loads((ROOT / "docs" / "openapi.json").read_text("utf-8"))["paths"]
    speaks, takes = set(), set()
    for path, operations in described.items():
        for method, operation in operations.items():
            if any(each["name"] == "Idempotency-Key" for each in operation.get("parameters", [])):
                takes.add((method, path))
            answers = (operation["responses"].get(status, {"description": ""}) for status in ("409", "422"))
            speaks |= {(method, path) for answer in answers if "Idempotency-Key" in answer["description"]}
    assert speaks == takes
    assert "409" not in described["/v1/browser/events"]["post"]["responses"]


def test_each_of_the_twenty_five_cases_is_the_test_that_its_row_names() -> None:
    told = re.findall(r"^\| (\d+) \|.*\| `(\w+)` \|$", (ROOT / "docs" / "webhooks.md").read_text("utf-8"), re.MULTILINE)
    tests = [
        name
        for file in sorted((ROOT / "tests" / "e2e" / "cases").glob("test_cases_*.py"))
        for name in re.findall(r"^async def (test_\d\d_\w+)", file.read_text("utf-8"), re.MULTILINE)
    ]
    assert [(int(number), name) for number, name in told] == [(int(name[5:7]), name) for name in sorted(tests)]
    assert len(told) == 25


def test_asyncapi_names_one_producer_for_each_topic() -> None:
    document = contracts.asyncapi()
    senders = [name for name, operation in document["operations"].items() if operation["action"] == "send"]
    assert len(senders) == len(document["channels"])
    for channel in document["channels"].values():
        for message in channel["messages"].values():
            assert message["$ref"].removeprefix("#/components/messages/") in document["components"]["messages"]


@pytest.fixture
def commerce() -> dict[str, Any]:
    return contracts.schemas()["commerce"]


def changed(schema: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    after = copy.deepcopy(schema)
    return after, after["$defs"]["Line"]


def test_a_field_that_goes_breaks(commerce: dict[str, Any]) -> None:
    after, line = changed(commerce)
    del line["properties"]["sku"]
    assert list(contracts.breaking("commerce", commerce, after)) == ["commerce: Line.sku is gone"]


def test_a_field_of_another_type_breaks(commerce: dict[str, Any]) -> None:
    after, line = changed(commerce)
    line["properties"]["price"] = {"type": "string"}
    told = list(contracts.breaking("commerce", commerce, after))
    assert told == ["commerce: Line.price was {'type': 'integer'} and is {'type': 'string'}"]


def test_a_field_that_becomes_required_breaks(commerce: dict[str, Any]) -> None:
    after, line = changed(commerce)
    line["required"] = [*line["required"], "sku"]
    assert list(contracts.breaking("commerce", commerce, after)) == ["commerce: Line.sku is required now"]


def test_an_event_that_goes_breaks(commerce: dict[str, Any]) -> None:
    after, _ = changed(commerce)
    del after[contracts.EVENTS]["cart.removed"]
    assert list(contracts.breaking("commerce", commerce, after)) == ["commerce: event cart.removed is gone"]


def test_an_optional_field_more_and_a_word_more_break_nothing(commerce: dict[str, Any]) -> None:
    after, line = changed(commerce)
    line["properties"]["weight"] = {"type": "integer", "default": 0}
    line["description"] = "Said better."
    after["$defs"]["Consent"]["properties"]["channel"]["enum"].append("post")
    after[contracts.EVENTS]["order.counted"] = {"$ref": "#/$defs/OrderObserved"}
    assert list(contracts.breaking("commerce", commerce, after)) == []


def test_a_word_less_breaks(commerce: dict[str, Any]) -> None:
    after, _ = changed(commerce)
    after["$defs"]["Consent"]["properties"]["channel"]["enum"].remove("push")
    assert len(list(contracts.breaking("commerce", commerce, after))) == 1

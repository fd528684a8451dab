"""What is wrong with an event's properties is said in the API's words, with what may be there, and not what was."""

import re
from typing import Any

import pytest

from libs.common.junk import Junk
from services.ingest import events
from services.ingest.event_faults import NOT_LIKE
from tests.unit.ingest.test_event_types import CUP, GOOD, ORDER, event

ODD: list[Any] = [None, True, 3, -(10**13), 10**13, 1.5, "", "odd", "o" * 2000, [], ["odd"], {}, {"odd": 1}, [{}]]
COUNTRY, ADDRESS = NOT_LIKE
NO_OFFSET = "This time has no offset, as in 2026-03-02T12:00:00Z."
CHANNELS = "This is none of 'email', 'push' or 'sms'."


def wrong(type_: str, properties: dict[str, Any]) -> tuple[str, str]:
    found = events.wrong_property(event(type_, properties), Junk())
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("type_", "properties", "pointer", "detail"),
    [
        ("consent.changed", {"channel": "fax", "state": "subscribed"}, "/channel", CHANNELS),
        ("consent.changed", {"channel": "x' - at `$.state`", "state": "subscribed"}, "/channel", CHANNELS),
        ("consent.changed", {"channel": "email"}, "/state", "This is missing."),
        ("survey.answered", {"survey": "fun"}, "/survey", "This is none of 'nps' or 'csat'."),
        ("survey.answered", {"survey": "nps", "score": 11}, "/score", "This is more than 10."),
        ("order.placed", ORDER | {"lines": []}, "/lines", "This has fewer entries than 1."),
        ("cart.changed", {"lines": [CUP | {"quantity": "2"}]}, "/lines/0/quantity", "This is not a whole number."),
        ("order.placed", ORDER | {"a/`b": 1}, "/a~1`b", "There is no such field here."),
        ("order.placed", ORDER | {"order_id": ""}, "/order_id", "This is empty."),
        ("order.placed", ORDER | {"buyer": {"country": "Germany"}}, "/buyer/country", NOT_LIKE[COUNTRY]),
        ("order.placed", ORDER | {"placed_at": "2026-03-02T12:00:00"}, "/placed_at", NO_OFFSET),
        ("order.placed", ORDER | {"placed_at": "soon"}, "/placed_at", "This is not a time as RFC 3339 has it."),
        ("checkout.started", {"lines": [], "recovery_url": "/k1"}, "/recovery_url", NOT_LIKE[ADDRESS]),
        ("profile.updated", {"birthday": "1990-02-30"}, "/birthday", "This is not a date, such as 1990-12-31."),
    ],
)
def test_a_fault_in_words(type_: str, properties: dict[str, Any], pointer: str, detail: str) -> None:
    assert wrong(type_, properties) == (f"/properties{pointer}", detail)


@pytest.mark.parametrize("type_", GOOD)
def test_there_are_words_for_every_field(type_: str) -> None:
    for name in GOOD[type_]:
        for odd in ODD:
            found = events.wrong_property(event(type_, GOOD[type_] | {name: odd}), Junk())
            if found is not None:
                pointer, detail = found
                assert pointer.startswith(f"/properties/{name}")
                assert not {"Expected", "Invalid", "Object", "belongs", "odd"} & set(re.findall(r"\w+", detail))

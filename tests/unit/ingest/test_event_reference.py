"""What the documentation says of first-party events is what the code demands."""

import pytest

from libs.common.contracts.commerce import Identifiers
from libs.common.junk import Junk
from services.ingest import events
from services.ingest.event_properties import ACTIVITIES, COMMERCE
from services.ingest.event_reference import Described, shared, summary
from services.ingest.event_reference import events as described
from tests.unit.ingest.test_event_types import ADA, GOOD, event

TOLD = [told for told in described() if told.properties[0].kind != "`csat`"]


@pytest.mark.parametrize("told", TOLD, ids=lambda told: told.name)
def test_what_is_required_is_missed(told: Described) -> None:
    required = {each.name for each in told.properties if each.required}
    refused = set()
    for each in told.properties:
        wrong = events.wrong_property(
            event(told.name, {k: v for k, v in GOOD[told.name].items() if k != each.name}), Junk()
        )
        if wrong is not None:
            refused.add(each.name)
    assert refused == required


@pytest.mark.parametrize("told", TOLD, ids=lambda told: told.name)
def test_the_identifier_that_is_needed_is_the_one_that_is_said(told: Described) -> None:
    wrong = events.wrong_property(event(told.name, profile=Identifiers()), Junk())
    match told.identifier:
        case None:
            assert wrong is None
        case "any":
            assert wrong is not None
            assert wrong[0] == "/profile"
        case name:
            assert wrong is not None
            assert wrong[0] == f"/profile/{name}"
            assert (
                events.wrong_property(event(told.name, profile=Identifiers(**{name: getattr(ADA, name)})), Junk())
                is None
            )


@pytest.mark.parametrize("told", [told for told in TOLD if told.name != "consent.changed"], ids=lambda told: told.name)
def test_nothing_else_may_be_said_where_it_is_not_said(told: Described) -> None:
    wrong = events.wrong_property(event(told.name, GOOD[told.name] | {"weather": "fine"}), Junk())
    assert (wrong is not None) == told.closed


def test_each_type_and_object_is_told_in_words() -> None:
    assert {told.name for told in described()} == COMMERCE.keys() | ACTIVITIES.keys()
    assert all(told.meaning for told in [*described(), *shared()])
    assert "- `lead.created`: source\n" in summary()

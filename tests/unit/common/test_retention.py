"""Whose bodies are kept for how long, and whose time is over."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from libs.common.log.retention import Passed, Retention
from libs.common.settings import faults_of
from services.ingest.settings import IngestSettings


@pytest.mark.parametrize(
    ("text", "days", "tenants"),
    [("90", 90, {}), ("90,acme:30", 90, {"acme": 30}), ("a.b-c_1:7, 30", 30, {"a.b-c_1": 7})],
)
def test_what_is_said(text: str, days: int, tenants: dict[str, int]) -> None:
    assert Retention.parse(text, least=7, most=90) == Retention(days, tenants)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("90,acme:6", "acme:6: between 7 and 1100"),
        ("1101", "1101: between 7 and 1100"),
        ("-90", "-90: days"),
        ("90,acme", "acme: days"),
        ("90,:30", ":30: days"),
        ("90,acme:30,acme:40", "acme:40: acme has days already"),
        ("90,80", "80: the installation has days already"),
        ("acme:30", "days of all tenants that are not named"),
        (" ", "days of all tenants that are not named"),
    ],
)
def test_what_is_wrong_is_named_at_the_start(text: str, named: str) -> None:
    with pytest.raises(ValidationError) as error:
        IngestSettings(journal_days=text)
    faults = faults_of(error.value)
    assert faults.keys() == {"REGULARS_JOURNAL_DAYS"}
    assert named in faults["REGULARS_JOURNAL_DAYS"]


@pytest.mark.parametrize(
    ("age", "passed", "told"),
    [
        (29, Passed(others=False, tenants=()), ""),
        (30, Passed(others=False, tenants=("acme",)), "acme"),
        (90, Passed(others=True, tenants=("long",)), "all but long"),
        (400, Passed(others=True, tenants=()), "all"),
    ],
)
def test_whose_time_is_over(age: int, passed: Passed, told: str) -> None:
    kept = Retention(90, {"acme": 30, "long": 400})
    assert (kept.shortest, kept.longest) == (30, 400)
    found = kept.passed(timedelta(days=age))
    assert (found, str(found), bool(found)) == (passed, told, bool(told))

"""A difference is seen, and named."""

from fractions import Fraction
from typing import Any

import pytest

from regulars.demo.compare import Row, _kpi, cents

EUR = {"amount": "12.50", "currency": "EUR"}


def told(**changes: Any) -> dict[str, Any]:
    return {"value": 0.5, "numerator": 1, "denominator": 2, "previous": None, **changes}


def differences(printed: Any, now: Fraction | None, before: Fraction | None) -> list[str]:
    return list(_kpi("rate", printed, {"rate": now}, {"rate": before}))


def test_what_is_equal_is_equal() -> None:
    assert differences(told(), Fraction(1, 2), None) == []
    assert differences(told(value=None, numerator=0, denominator=0), None, None) == []
    money = told(value={"amount": "6.25", "currency": "EUR"}, numerator=EUR, previous=EUR)
    assert differences(money, Fraction(625), Fraction(1250)) == []


@pytest.mark.parametrize(
    ("printed", "now", "before"),
    [
        (told(numerator=2), Fraction(1, 2), None),
        (told(value=0.4), Fraction(1, 2), None),
        (told(value=None), Fraction(1, 2), None),
        (told(), None, None),
        (told(previous=0.1), Fraction(1, 2), None),
        (told(), Fraction(1, 2), Fraction(1, 10)),
        (None, Fraction(1, 2), None),
    ],
)
def test_what_differs_is_named(printed: Any, now: Fraction | None, before: Fraction | None) -> None:
    found = differences(printed, now, before)
    assert found
    assert all(each.startswith("rate ") for each in found)


def test_a_kpi_that_the_shop_does_not_know_is_a_difference() -> None:
    assert list(_kpi("nps", told(), {}, {})) == ["nps is unknown to the shop"]


def test_a_row_with_differences_is_not_equal_whatever_its_counts() -> None:
    assert Row("orders", "3", "3").equal
    assert not Row("orders", "3", "2").equal
    assert not Row("orders", "3", "3", ["order 1 has gross 1"]).equal


def test_money_is_compared_in_cents() -> None:
    assert cents(EUR) == 1250
    assert cents({"amount": "-0.01", "currency": "EUR"}) == -1
    assert cents(None) is None

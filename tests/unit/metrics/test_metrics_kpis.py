"""Each KPI by a case that one can work out by hand: points, read as sums, turned into fractions."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import pairwise

import pytest

from services.metrics.algebra import (
    DISTANT,
    LENGTHS,
    PAIRS,
    TOTAL,
    WINDOWS,
    Point,
    of_cart,
    of_checkout,
    of_order,
    of_profile,
)
from services.metrics.definitions import DEFINITIONS
from services.metrics.facts import DAY, HOUR, MINUTE, Cart, Checkout, Order
from services.metrics.kpis import Figures, Kpi, figures, instants, kpis
from services.metrics.tiers import COARSEST, SIZES, spans

T = 20_000 * DAY
MONTH = WINDOWS["30d"]


def order(
    placed_at: int, *, gross: int = 10_00, counted: bool = True, profile: str | None = "p", **amounts: int
) -> Order:
    names = ("discounts", "returns", "shipping", "taxes")
    return Order(
        tenant="t",
        store="s",
        source_id="o",
        revision=1,
        account="a",
        profile=profile,
        checkout="c",
        counted=counted,
        placed_at=placed_at,
        currency="EUR",
        gross=gross,
        **{name: amounts.get(name, 0) for name in names},
    )


def checkout(
    started_at: int,
    *,
    changed_at: int | None = None,
    held: bool = True,
    ordered_at: int | None = None,
    messaged_at: int | None = None,
    recovered: tuple[int, int] | None = None,
) -> Checkout:
    return Checkout(
        tenant="t",
        store="s",
        token="c",
        started_at=started_at,
        changed_at=started_at if changed_at is None else changed_at,
        currency="EUR",
        held=held,
        ordered_at=ordered_at,
        messaged_at=messaged_at,
        recovered_at=recovered[0] if recovered else None,
        recovered_net=recovered[1] if recovered else None,
    )


def shop(*profiles: list[int]) -> list[Point]:
    """Points of orders of 10.00, a list of instants for each buyer."""
    points: list[Point] = []
    for placed in profiles:
        points += of_profile(sorted(placed))
        for at in placed:
            points += of_order(order(at))
    return points


def at(points: Iterable[Point], as_of: int = T, length: int = MONTH) -> dict[str, Kpi]:
    """The KPIs of the window that ends at `as_of`, by adding up every point."""
    listed = list(points)

    def values(instant: int, *, total: bool) -> Mapping[int, int]:
        sums: dict[int, int] = defaultdict(int)
        for hours, when, measure, value in listed:
            if (hours == TOTAL) is not total or when >= instant:
                continue
            if total or hours * HOUR > length:
                sums[measure] += value
            if length < hours * HOUR <= 2 * length and measure in {PAIRS, PAIRS + 1}:
                sums[DISTANT + measure - PAIRS] += value
        return sums

    asked = instants(as_of, length)
    totals = {instant: values(instant, total=True) for instant in asked}
    longer = {instant: values(instant, total=False) for instant in asked}
    return kpis(figures(totals, longer, as_of, length), length)


def value(kpis: dict[str, Kpi], name: str) -> int | float | None:
    return kpis[name].value


def test_the_worked_example_of_retention() -> None:
    before, now = T - MONTH - 5 * DAY, T - 5 * DAY
    found = at(shop([before], [before, now], [before], [before, now], [now]))
    assert value(found, "customers") == 3
    assert found["retention_rate"] == Kpi("rate", 2, 4)
    assert (value(found, "retention_rate"), value(found, "churn_rate")) == (0.5, 0.5)
    assert value(found, "new_customers") == 1
    assert value(found, "returning_customers") == 2


def test_sales_of_a_window() -> None:
    points = of_order(order(T - DAY, gross=100_00, discounts=10_00, returns=30_00, shipping=5_00, taxes=11_40))
    points += of_order(order(T - 2 * DAY, gross=50_01, profile=None))
    points += of_order(order(T - 3 * DAY, counted=False))
    found = at(points + of_profile([T - DAY]))
    assert [value(found, name) for name in ("orders", "gross_sales", "discounts", "returns")] == [
        2,
        150_01,
        10_00,
        30_00,
    ]
    assert value(found, "net_sales") == 110_01
    assert value(found, "total_sales") == 110_01 + 5_00 + 11_40
    assert found["aov"] == Kpi("money", 140_01, 2)
    assert value(found, "customers") == 1
    assert found["purchase_frequency"] == Kpi("ratio", 1, 1)


@pytest.mark.parametrize(("minor", "expected"), [(25, 12), (35, 18), (-25, -12)])
def test_money_rounds_half_to_even(minor: int, expected: int) -> None:
    assert Kpi("money", minor, 2).value == expected


@pytest.mark.parametrize("length", LENGTHS)
def test_a_window_holds_its_beginning_and_not_its_end(length: int) -> None:
    for placed, inside in ((T, 0), (T - 1, 1), (T - length, 1), (T - length - 1, 0)):
        found = at(shop([placed]), T, length)
        assert [value(found, name) for name in ("orders", "customers", "new_customers")] == [inside] * 3


@pytest.mark.parametrize("length", LENGTHS)
def test_repeat_needs_two_orders_in_one_window(length: int) -> None:
    assert value(at(shop([T - length, T - 1]), T, length), "repeat_purchase_rate") == 1
    assert value(at(shop([T - length - 1, T - 1]), T, length), "repeat_purchase_rate") == 0
    assert value(at(shop([T - 1, T - 1]), T, length), "repeat_purchase_rate") == 1
    many = at(shop([T - length, *(T - n for n in range(1, 9))]), T, length)
    assert many["repeat_purchase_rate"] == Kpi("rate", 1, 1)
    assert many["purchase_frequency"] == Kpi("ratio", 9, 1)


@pytest.mark.parametrize("length", LENGTHS)
def test_retained_at_the_edges(length: int) -> None:
    assert at(shop([T - length - 1, T - 1]), T, length)["retention_rate"] == Kpi("rate", 1, 1)
    assert at(shop([T - 2 * length, T - length]), T, length)["retention_rate"] == Kpi("rate", 1, 1)
    assert at(shop([T - 2 * length - 1, T - 1]), T, length)["retention_rate"] == Kpi("rate", 0, 0)
    assert at(shop([T - length, T - 1]), T, length)["retention_rate"].value is None
    several = [T - length - 3, T - length - 2, T - length - 1, T - 3, T - 2, T - 1]
    assert at(shop(several), T, length)["retention_rate"] == Kpi("rate", 1, 1)


def test_nothing_divided_by_nothing_is_nothing() -> None:
    found = at([])
    undefined = {name for name, kpi in found.items() if kpi.value is None}
    assert undefined == {
        "aov",
        "purchase_frequency",
        "repeat_purchase_rate",
        "retention_rate",
        "churn_rate",
        "clv_historic",
        "clv_simple",
        "abandonment_rate",
        "recovery_rate",
        "conversion_rate",
    }


def test_lifetime_values() -> None:
    # One bought three times over 60 days, the other once: 40.00 by two people.
    found = at(shop([T - 61 * DAY, T - 31 * DAY, T - DAY], [T - DAY]))
    assert found["clv_historic"] == Kpi("money", 40_00, 2)
    # In the window: two orders of two people; the mean lifespan is that of the one who came back: two windows.
    assert value(found, "clv_simple") == 20_00
    assert value(at(shop([T - DAY])), "clv_simple") == 10_00, "a lifespan is at least one window"


def test_orders_after_the_instant_do_not_exist_yet() -> None:
    found = at(shop([T - DAY, T + DAY], [T]))
    assert found["clv_historic"] == Kpi("money", 10_00, 1)
    assert value(found, "orders") == 1


def test_checkouts_and_carts_that_hold_nothing_are_none() -> None:
    empty = Cart(tenant="t", store="s", token="c", revision=1, started_at=T - DAY, currency="EUR", held=False)
    full = Cart(tenant="t", store="s", token="c", revision=1, started_at=T - DAY, currency="EUR", held=True)
    found = at(
        of_cart(empty) + of_cart(full) + of_checkout(checkout(T - DAY, held=False)) + of_checkout(checkout(T - DAY))
    )
    assert (value(found, "carts"), value(found, "checkouts")) == (1, 1)


def test_abandoned_from_half_an_hour_of_silence_until_the_order() -> None:
    changed, ordered = T + 10 * MINUTE, T + 5 * HOUR
    points = of_checkout(checkout(T, changed_at=changed, ordered_at=ordered))
    rates = {
        T + 30 * MINUTE - 1: (0, 0),  # too young for either
        T + 30 * MINUTE: (0, 1),
        changed + 30 * MINUTE - 1: (0, 1),
        changed + 30 * MINUTE: (1, 1),
        ordered: (1, 1),  # what is placed at t lies after [.., t)
        ordered + 1: (0, 1),
    }
    for as_of, expected in rates.items():
        assert at(points, as_of)["abandonment_rate"] == Kpi("rate", *expected), as_of - T
    assert at(points, ordered)["conversion_rate"] == Kpi("rate", 0, 1)
    assert at(points, ordered + 1)["conversion_rate"] == Kpi("rate", 1, 1)


def test_ordered_within_half_an_hour_was_never_abandoned() -> None:
    points = of_checkout(checkout(T, ordered_at=T + 20 * MINUTE))
    for as_of in (T + 20 * MINUTE, T + 31 * MINUTE, T + DAY):
        assert at(points, as_of)["abandonment_rate"].numerator == 0


@pytest.mark.parametrize("length", LENGTHS)
def test_what_comes_of_a_checkout_after_its_window_does_not_count(length: int) -> None:
    late = T + length + 3 * HOUR
    points = of_checkout(checkout(T, changed_at=late, ordered_at=late + HOUR, messaged_at=late))
    for as_of in (T + length, T + length + 1, late, late + HOUR + 1, late + 3 * length):
        found = at(points, as_of, length)
        inside = int(as_of <= T + length)
        assert found["conversion_rate"] == Kpi("rate", 0, inside)
        assert found["abandonment_rate"] == Kpi("rate", 0, inside)
        assert found["recovery_rate"] == Kpi("rate", 0, 0)


def test_recovery() -> None:
    sent, back = T + HOUR, T + 26 * HOUR
    points = of_checkout(checkout(T, ordered_at=back, messaged_at=sent, recovered=(back, 42_00)))
    assert at(points, sent)["recovery_rate"] == Kpi("rate", 0, 0)
    assert at(points, sent + 1)["recovery_rate"] == Kpi("rate", 0, 1)
    assert at(points, back + 1)["recovery_rate"] == Kpi("rate", 1, 1)
    assert value(at(points, back + 1), "recovered_sales") == 42_00
    assert value(at(points, T + MONTH), "recovered_sales") == 42_00
    assert value(at(points, T + MONTH + 1), "recovered_sales") == 0


def test_a_message_after_the_order_had_nothing_to_recover() -> None:
    ordered = T + HOUR
    before = of_checkout(checkout(T, ordered_at=ordered, messaged_at=ordered + 1))
    same = of_checkout(checkout(T, ordered_at=ordered, messaged_at=ordered))
    assert at(before, T + DAY)["recovery_rate"] == Kpi("rate", 0, 0)
    assert at(same, T + DAY)["recovery_rate"] == Kpi("rate", 0, 1)


def test_the_points_of_one_order_do_not_depend_on_how_many_came_before() -> None:
    long_ago = [T - n * DAY for n in range(500, 2, -1)]
    whole = sorted(set(of_profile([*long_ago, T])) - set(of_profile(long_ago)))
    part = sorted(set(of_profile([*long_ago[-2:], T])) - set(of_profile(long_ago[-2:])))
    assert whole == part


@pytest.mark.parametrize("instant", [T, T + 1, T - 1, T + 17 * HOUR + 12_345, 3, 0, -1, -5 * DAY - 7])
def test_spans_cover_all_before_the_instant_once(instant: int) -> None:
    found = spans(instant)
    assert [tier for tier, _, _ in found] == list(range(COARSEST + 1))
    assert found[0][2] == instant
    for (_, since, _), (tier, _, until) in pairwise(found):
        assert since == until
        assert until % SIZES[tier] == 0
    assert all(since <= until for _, since, until in found)


def test_fractions_are_exact() -> None:
    found = at(shop([T - DAY], [T - DAY, T - 2 * DAY, T - 3 * DAY]))
    assert Fraction(*found["purchase_frequency"][1:]) == 2
    assert found["clv_simple"] == Kpi("money", 20_00, 1)


def test_each_kpi_is_defined_once_and_in_the_same_order() -> None:
    nothing = kpis(Figures(*(0 for _ in Figures._fields)), DAY)
    assert list(DEFINITIONS) == list(nothing)


def test_a_kpi_is_said_to_have_a_denominator_where_it_may_be_null() -> None:
    nothing = kpis(Figures(*(0 for _ in Figures._fields)), DAY)
    assert {name for name, kpi in nothing.items() if kpi.value is None} == {
        name for name, definition in DEFINITIONS.items() if definition.denominator
    }

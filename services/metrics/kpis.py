"""The KPIs: what they mean is defined once, in the table of KPIs of the documentation; here they are fractions.

Every KPI is a numerator over a denominator, in exact integers. Where the denominator is 0 the value is None.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Literal, NamedTuple

from services.metrics.algebra import (
    ABANDONED,
    BOUGHT,
    CARTS,
    CHECKOUTS,
    CONVERTED,
    DISCOUNTS,
    DISTANT,
    FIRST,
    GROSS,
    IDLE,
    LIFESPAN,
    MESSAGED,
    ORDERS,
    PAIRS,
    RECOVERED,
    RECOVERED_NET,
    RETURNS,
    SECOND,
    SHIPPING,
    TAXES,
    TRIPLES,
)

Unit = Literal["count", "money", "rate", "ratio"]
"""money: minor units. rate: a fraction from 0 to 1. ratio: any fraction."""

Values = Mapping[int, int]
"""Measure -> value at one instant; absent is 0."""


class Figures(NamedTuple):
    """What KPIs are made of, for one window [t - W, t) of one scope. Money in minor units, times in microseconds."""

    orders: int
    gross: int
    discounts: int
    returns: int
    shipping: int
    taxes: int
    bought: int
    """Orders that have a buyer."""
    customers: int
    new: int
    """Buyers whose first order ever lies in the window."""
    repeat: int
    """Buyers with at least two orders in the window."""
    customers_before: int
    """Buyers of the window before."""
    retained: int
    """Buyers of both."""
    net_ever: int
    buyers_ever: int
    buyers_twice: int
    """Profiles with at least two orders ever."""
    lifespans: int
    """Sum of their times from first to last order."""
    carts: int
    checkouts: int
    ripe: int
    """Checkouts that are at least 30 minutes old."""
    abandoned: int
    converted: int
    messaged: int
    recovered: int
    recovered_net: int


class Kpi(NamedTuple):
    """One KPI: an exact fraction."""

    unit: Unit
    numerator: int
    denominator: int = 1

    @property
    def value(self) -> int | float | None:
        """count: an int; money: minor units, rounded half to even; rate and ratio: a float. None when undefined."""
        if self.denominator == 0:
            return None
        exact = Fraction(self.numerator, self.denominator)
        match self.unit:
            case "count" | "money":
                return round(exact)
            case "rate" | "ratio":
                return float(exact)


def instants(as_of: int, length: int) -> list[int]:
    """Where the step functions have to be read for `figures` of the window and of the one before."""
    return sorted(
        {
            as_of,
            as_of - length,
            as_of - 2 * length,
            as_of - 3 * length,
            _ripe(as_of),
            _ripe(as_of - length),
        }
    )


def figures(totals: Mapping[int, Values], longer: Mapping[int, Values], as_of: int, length: int) -> Figures:
    """The figures of [as_of - length, as_of); totals and what is no shorter than `length`, by instant."""
    begin, before = as_of - length, as_of - 2 * length
    now, then = totals[as_of], totals[begin]

    def during(measure: int) -> int:
        return now.get(measure, 0) - then.get(measure, 0)

    def between(measure: int, started: int, ended: int) -> int:
        return shorter(measure, ended) - shorter(measure + 1, started)

    def shorter(measure: int, at: int) -> int:
        return totals[at].get(measure, 0) - longer[at].get(measure, 0)

    def within(measure: int) -> int:
        return between(measure, begin, as_of)

    pairs = within(PAIRS)
    bought_before = then.get(BOUGHT, 0) - totals[before].get(BOUGHT, 0)
    return Figures(
        orders=during(ORDERS),
        gross=during(GROSS),
        discounts=during(DISCOUNTS),
        returns=during(RETURNS),
        shipping=during(SHIPPING),
        taxes=during(TAXES),
        bought=during(BOUGHT),
        customers=during(BOUGHT) - pairs,
        new=during(FIRST),
        repeat=pairs - within(TRIPLES),
        customers_before=bought_before - between(PAIRS, before, begin),
        retained=longer[as_of].get(DISTANT, 0) - longer[before].get(DISTANT + 1, 0) - between(PAIRS, begin, begin),
        net_ever=now.get(GROSS, 0) - now.get(DISCOUNTS, 0) - now.get(RETURNS, 0),
        buyers_ever=now.get(FIRST, 0),
        buyers_twice=now.get(SECOND, 0),
        lifespans=now.get(LIFESPAN, 0),
        carts=during(CARTS),
        checkouts=during(CHECKOUTS),
        ripe=totals[_ripe(as_of)].get(CHECKOUTS, 0) - then.get(CHECKOUTS, 0),
        abandoned=within(ABANDONED),
        converted=within(CONVERTED),
        messaged=within(MESSAGED),
        recovered=within(RECOVERED),
        recovered_net=within(RECOVERED_NET),
    )


def kpis(f: Figures, length: int) -> dict[str, Kpi]:
    """All KPIs by name."""
    net = f.gross - f.discounts - f.returns
    return {
        "orders": Kpi("count", f.orders),
        "gross_sales": Kpi("money", f.gross),
        "discounts": Kpi("money", f.discounts),
        "returns": Kpi("money", f.returns),
        "net_sales": Kpi("money", net),
        "shipping": Kpi("money", f.shipping),
        "taxes": Kpi("money", f.taxes),
        "total_sales": Kpi("money", net + f.shipping + f.taxes),
        "aov": Kpi("money", f.gross - f.discounts, f.orders),
        "customers": Kpi("count", f.customers),
        "new_customers": Kpi("count", f.new),
        "returning_customers": Kpi("count", f.customers - f.new),
        "purchase_frequency": Kpi("ratio", f.bought, f.customers),
        "repeat_purchase_rate": Kpi("rate", f.repeat, f.customers),
        # (E - N) / S, where N are the buyers of E that are not in S.
        "retention_rate": Kpi("rate", f.retained, f.customers_before),
        "churn_rate": Kpi("rate", f.customers_before - f.retained, f.customers_before),
        "clv_historic": Kpi("money", f.net_ever, f.buyers_ever),
        "clv_simple": _clv_simple(f, length),
        "carts": Kpi("count", f.carts),
        "checkouts": Kpi("count", f.checkouts),
        "abandonment_rate": Kpi("rate", f.abandoned, f.ripe),
        "recovery_rate": Kpi("rate", f.recovered, f.messaged),
        "recovered_sales": Kpi("money", f.recovered_net),
        "conversion_rate": Kpi("rate", f.converted, f.checkouts),
    }


def _ripe(as_of: int) -> int:
    """The instant whose value counts the checkouts that are at least `IDLE` old: started_at <= as_of - IDLE."""
    return as_of - IDLE + 1


def _clv_simple(f: Figures, length: int) -> Kpi:
    """Average order value x purchase frequency x average lifespan (in windows, at least 1), in lowest terms."""
    if f.orders == 0 or f.customers == 0:
        return Kpi("money", 0, 0)
    lifespan = Fraction(f.lifespans, f.buyers_twice * length) if f.buyers_twice else Fraction(1)
    exact = Fraction(f.gross - f.discounts, f.orders) * Fraction(f.bought, f.customers) * max(Fraction(1), lifespan)
    return Kpi("money", exact.numerator, exact.denominator)

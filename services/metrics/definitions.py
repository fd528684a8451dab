"""What each KPI means, in words: said once, for the documentation and for the API's description of itself.

`kpis` computes them; a test holds the names here to those there.
"""

from typing import NamedTuple


class Definition(NamedTuple):
    """A KPI in words: what it tells, and the two numbers that it is made of."""

    meaning: str
    numerator: str
    denominator: str = ""
    """Empty: 1, so that the value is the numerator and never null."""

    @property
    def text(self) -> str:
        """All of it in a line."""
        if not self.denominator:
            return f"{self.meaning}: {self.numerator}."
        return f"{self.meaning}: {self.numerator}, divided by {self.denominator}; null when that is 0."


_BUYERS = "buyers of the window"
_BUYERS_BEFORE = "buyers of the window before"
_NET = "gross_sales - discounts - returns"
_MESSAGED = (
    "checkouts that began in the window, were sent a first recovery message before as_of, and had no counted order of"
    " their own before that message"
)

DEFINITIONS: dict[str, Definition] = {
    "orders": Definition("Orders", "counted orders"),
    "gross_sales": Definition(
        "Sales as priced",
        "sum of price times quantity and of fees, without taxes and shipping, before discounts and returns",
    ),
    "discounts": Definition(
        "What was taken off", "sum of the discounts of items and orders (negative fees, too), without those on shipping"
    ),
    "returns": Definition(
        "What was given back",
        "sum of the refunded value of items, without taxes and shipping; where a refund tells its total alone"
        " (WooCommerce), it goes to items and their tax first, in proportion, then to shipping and its tax",
    ),
    "net_sales": Definition("Net sales", _NET),
    "shipping": Definition("Shipping as charged", "sum of shipping, less what of it was refunded"),
    "taxes": Definition("Taxes", "sum of taxes, less what of them was refunded"),
    "total_sales": Definition("All that was sold, without tips", "net_sales + shipping + taxes"),
    "aov": Definition("Average order value, before returns", "gross_sales - discounts", "orders"),
    "customers": Definition("Customers", _BUYERS),
    "new_customers": Definition("New customers", "buyers whose first counted order ever lies in the window"),
    "returning_customers": Definition("Returning customers", "customers - new_customers"),
    "purchase_frequency": Definition("Orders per customer", "counted orders that have a buyer", "customers"),
    "repeat_purchase_rate": Definition(
        "Share of buyers who bought again in the window",
        "buyers with at least 2 counted orders in the window",
        "customers",
    ),
    "retention_rate": Definition(
        "Share of the buyers before who bought again", "buyers of both, this window and the one before", _BUYERS_BEFORE
    ),
    "churn_rate": Definition(
        "Share of the buyers before who did not buy again (1 - retention_rate)",
        "buyers of the window before who are not buyers of this one",
        _BUYERS_BEFORE,
    ),
    "clv_historic": Definition(
        "Customer lifetime value so far, whatever the window",
        "net sales of all counted orders before as_of",
        "profiles with at least one counted order before as_of",
    ),
    "clv_simple": Definition(
        "Customer lifetime value by the simple formula: aov times purchase_frequency times lifespan. The lifespan is"
        " the mean time from first to last counted order before as_of of the profiles that have at least 2, as a number"
        " of windows and never less than 1",
        "that product as one fraction in lowest terms, its upper part",
        "its lower part, which is 0 without orders or buyers in the window",
    ),
    "carts": Definition("Carts", "carts that began in the window, hold at least one item and were not deleted"),
    "checkouts": Definition(
        "Checkouts", "checkouts that began in the window, hold at least one item and were not deleted"
    ),
    "abandonment_rate": Definition(
        "Share of checkouts that were walked away from",
        "checkouts that began in the window, last changed at least 30 minutes before as_of, and led to no counted order"
        " by then",
        "checkouts that began in the window, at least 30 minutes before as_of",
    ),
    "recovery_rate": Definition(
        "Share of the messaged checkouts that were ordered after all",
        "of the messaged checkouts, those with a counted order in the same currency that was placed after the message"
        " and before as_of, from the same checkout, or by the same profile within 5 days",
        _MESSAGED,
    ),
    "recovered_sales": Definition(
        "Net sales of recovered checkouts",
        "net sales of the first such order of each checkout that recovery_rate counts",
    ),
    "conversion_rate": Definition(
        "Share of checkouts that became an order",
        "checkouts that began in the window and led to a counted order before as_of",
        "checkouts",
    ),
}
"""In the order of `kpis.kpis`."""

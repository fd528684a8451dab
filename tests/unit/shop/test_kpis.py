"""The shop's own arithmetic, by figures that one can check by hand."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction

from regulars.shop.knowledge import Knowledge
from regulars.shop.kpis import WINDOWS, books, kpis
from regulars.shop.model import Checkout, Contact, Item, Order, Product

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
ITEM = Item(id=1, product=Product(id=5, variant_id=6, title="V", sku="V", price=1190), quantity=1, price=1190, tax=190)


class Shop:
    def __init__(self) -> None:
        self.known = Knowledge(frozenset())
        self.count = 0

    def order(self, who: str | None, days: float, checkout: str | None = None) -> None:
        self.count += 1
        at = AS_OF - timedelta(days=days)
        self.known.hear(
            Order(
                store="shopify",
                id=self.count,
                number=f"#{self.count}",
                status="paid",
                created_at=at,
                updated_at=at,
                contact=self.contact(who),
                items=(ITEM,),
                checkout=checkout,
            )
        )

    def checkout(self, who: str, minutes: float, *, idle: float | None = None) -> None:
        at = AS_OF - timedelta(minutes=minutes)
        changed = at if idle is None else AS_OF - timedelta(minutes=idle)
        self.known.hear(
            Checkout(
                store="shopify",
                id=1,
                token=f"t-{who}",
                cart=f"c-{who}",
                created_at=at,
                updated_at=changed,
                contact=self.contact(who),
                items=(ITEM,),
            )
        )

    @staticmethod
    def contact(who: str | None) -> Contact:
        return Contact(first="", last="", country="DE", email=None if who is None else f"{who}@example.com")


def test_retention_as_in_the_worked_example() -> None:
    shop = Shop()
    for who in "abcd":
        shop.order(who, 45)
    for who in "bde":
        shop.order(who, 10)
    found = kpis(books(shop.known, None, {}), AS_OF, WINDOWS["30d"])
    assert found["retention_rate"] == Fraction(1, 2)
    assert found["churn_rate"] == Fraction(1, 2)
    assert [found[name] for name in ("customers", "new_customers", "returning_customers")] == [3, 1, 2]


def test_orders_of_nobody_count_as_orders_and_not_as_buyers() -> None:
    shop = Shop()
    shop.order("a", 1)
    shop.order("a", 2)
    shop.order(None, 1)
    found = kpis(books(shop.known, "shopify", {}), AS_OF, WINDOWS["7d"])
    assert [found[name] for name in ("orders", "gross_sales", "taxes", "total_sales")] == [3, 3000, 570, 3570]
    assert [found[name] for name in ("customers", "purchase_frequency", "repeat_purchase_rate")] == [1, 2, 1]
    assert found["aov"] == 1000
    assert found["clv_historic"] == 3000


def test_a_rate_of_nothing_is_null() -> None:
    found = kpis(books(Knowledge(frozenset()), None, {}), AS_OF, WINDOWS["24h"])
    assert found["orders"] == 0
    assert found["aov"] is None
    assert found["retention_rate"] is None
    assert found["clv_simple"] is None
    assert found["abandonment_rate"] is None


def test_checkouts_are_abandoned_once_idle_and_too_young_before() -> None:
    shop = Shop()
    shop.checkout("young", 20)
    shop.checkout("busy", 300, idle=10)
    shop.checkout("idle", 300)
    shop.checkout("bought", 300)
    shop.order("bought", 0.1, checkout="t-bought")
    found = kpis(books(shop.known, None, {}), AS_OF, WINDOWS["24h"])
    assert found["checkouts"] == 4
    assert found["abandonment_rate"] == Fraction(1, 3)
    assert found["conversion_rate"] == Fraction(1, 4)


def test_a_messaged_checkout_is_recovered_by_any_order_of_the_person_within_five_days() -> None:
    shop = Shop()
    for who in ("soon", "late", "never"):
        shop.checkout(who, 20 * 1440)
    shop.order("soon", 16)
    shop.order("late", 10)
    sent = {("shopify", f"t-{who}"): AS_OF - timedelta(days=19) for who in ("soon", "late", "never")}
    found = kpis(books(shop.known, None, sent), AS_OF, WINDOWS["30d"])  # type: ignore[arg-type]
    assert found["recovery_rate"] == Fraction(1, 3)
    assert found["recovered_sales"] == 1000


def test_lifespan_is_counted_in_windows() -> None:
    shop = Shop()
    shop.order("a", 61)
    shop.order("a", 1)
    found = kpis(books(shop.known, None, {}), AS_OF, WINDOWS["30d"])
    assert found["clv_simple"] == 1000 * 1 * 2

"""The KPIs once more, by looping over facts as the definitions read. Slow, plain, sharing nothing with the product."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction

HALF_AN_HOUR = timedelta(minutes=30)
LENGTHS = {
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "90d": timedelta(days=90),
    "365d": timedelta(days=365),
}


@dataclass(frozen=True)
class Sale:
    store: str
    source_id: str
    account: str | None
    checkout: str
    counted: bool
    placed_at: datetime
    currency: str
    gross: int
    discounts: int
    returns: int
    shipping: int
    taxes: int

    @property
    def net(self) -> int:
        return self.gross - self.discounts - self.returns


@dataclass(frozen=True)
class Begun:
    """A checkout or a cart."""

    store: str
    token: str
    account: str | None
    started_at: datetime
    changed_at: datetime
    currency: str
    held: bool


@dataclass
class History:
    """What became known, finally."""

    profiles: dict[str, str] = field(default_factory=dict)
    sales: list[Sale] = field(default_factory=list)
    checkouts: list[Begun] = field(default_factory=list)
    carts: list[Begun] = field(default_factory=list)
    messages: list[tuple[str, str, datetime]] = field(default_factory=list)
    """Store, token, when sent."""

    def buyer(self, account: str | None) -> str | None:
        return self.profiles.get(account) if account is not None else None


def recount(
    history: History, store: str | None, currency: str, as_of: datetime, window: str
) -> dict[str, Fraction | None]:
    length = LENGTHS[window]
    since = as_of - length

    def here(thing: Sale | Begun) -> bool:
        return thing.currency == currency and store in {None, thing.store}

    counted = [sale for sale in history.sales if sale.counted]
    ever = [sale for sale in counted if here(sale) and sale.placed_at < as_of]
    sales = [sale for sale in ever if sale.placed_at >= since]
    by_buyer: dict[str, list[datetime]] = defaultdict(list)
    for sale in ever:
        if (buyer := history.buyer(sale.account)) is not None:
            by_buyer[buyer].append(sale.placed_at)
    times = {buyer: [at for at in placed if at >= since] for buyer, placed in by_buyer.items()}
    buyers = {buyer for buyer, placed in times.items() if placed}
    buyers_before = {b for b, placed in by_buyer.items() if any(since - length <= at < since for at in placed)}
    new = {buyer for buyer in buyers if min(by_buyer[buyer]) >= since}
    gross, discounts, returns = (
        sum(getattr(sale, name) for sale in sales) for name in ("gross", "discounts", "returns")
    )
    shipping, taxes = (sum(getattr(sale, name) for sale in sales) for name in ("shipping", "taxes"))
    net = gross - discounts - returns
    aov = _over(gross - discounts, len(sales))
    frequency = _over(sum(map(len, times.values())), len(buyers))
    retention = _over(len(buyers) - len(buyers - buyers_before), len(buyers_before))
    lifespans = [
        (max(placed) - min(placed)) // timedelta(microseconds=1) for placed in by_buyer.values() if len(placed) > 1
    ]
    lifespan = max(
        Fraction(1),
        Fraction(sum(lifespans), len(lifespans) * (length // timedelta(microseconds=1))) if lifespans else Fraction(1),
    )
    began = [c for c in history.checkouts if c.held and here(c) and since <= c.started_at < as_of]
    ripe = [c for c in began if as_of - c.started_at >= HALF_AN_HOUR]
    abandoned = converted = messaged = recovered = recovered_sales = 0
    for checkout in began:
        own = [s for s in counted if s.store == checkout.store and s.checkout == checkout.token]
        ordered = any(sale.placed_at < as_of for sale in own)
        converted += ordered
        abandoned += checkout in ripe and as_of - checkout.changed_at >= HALF_AN_HOUR and not ordered
        sent = [at for place, token, at in history.messages if (place, token) == (checkout.store, checkout.token)]
        first = min(sent, default=None)
        if first is None or first >= as_of or any(sale.placed_at < first for sale in own):
            continue
        messaged += 1
        buyer = history.buyer(checkout.account)
        later = [
            sale
            for sale in counted
            if sale.currency == currency
            and sale.placed_at > first
            and (
                sale in own
                or (
                    buyer is not None
                    and history.buyer(sale.account) == buyer
                    and sale.placed_at <= first + timedelta(days=5)
                )
            )
        ]
        if later:
            order = min(later, key=lambda sale: (sale.placed_at, sale.store, sale.source_id))
            if order.placed_at < as_of:
                recovered += 1
                recovered_sales += order.net
    return {
        "orders": Fraction(len(sales)),
        "gross_sales": Fraction(gross),
        "discounts": Fraction(discounts),
        "returns": Fraction(returns),
        "net_sales": Fraction(net),
        "shipping": Fraction(shipping),
        "taxes": Fraction(taxes),
        "total_sales": Fraction(net + shipping + taxes),
        "aov": aov,
        "customers": Fraction(len(buyers)),
        "new_customers": Fraction(len(new)),
        "returning_customers": Fraction(len(buyers - new)),
        "purchase_frequency": frequency,
        "repeat_purchase_rate": _over(sum(len(times[buyer]) >= 2 for buyer in buyers), len(buyers)),
        "retention_rate": retention,
        "churn_rate": None if retention is None else 1 - retention,
        "clv_historic": _over(sum(sale.net for sale in ever), len(by_buyer)),
        "clv_simple": None if aov is None or frequency is None else aov * frequency * lifespan,
        "carts": Fraction(sum(c.held and here(c) and since <= c.started_at < as_of for c in history.carts)),
        "checkouts": Fraction(len(began)),
        "abandonment_rate": _over(abandoned, len(ripe)),
        "recovery_rate": _over(recovered, messaged),
        "recovered_sales": Fraction(recovered_sales),
        "conversion_rate": _over(converted, len(began)),
    }


def _over(numerator: int, denominator: int) -> Fraction | None:
    return Fraction(numerator, denominator) if denominator else None

"""Every KPI by brute force: for each window go through all orders and checkouts and do what its definition says."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

from regulars.shop.knowledge import Basket, Key, Knowledge
from regulars.shop.ledger import Sale, sales

WINDOWS = {
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "90d": timedelta(days=90),
    "365d": timedelta(days=365),
}
IDLE = timedelta(minutes=30)
RECOVERY = timedelta(days=5)

Figures = dict[str, Fraction | None]
"""KPI -> exact value, money in cents; None where the denominator is 0."""


@dataclass(frozen=True, slots=True)
class Books:
    """What one scope's KPIs are computed from."""

    counted: list[tuple[Sale, str | None]]
    """Counted orders and their buyers."""
    ordered: Mapping[Key, datetime]
    """Checkout -> when its first counted order was placed."""
    checkouts: list[tuple[Basket, str | None]]
    """Checkouts that hold something, and whose they are."""
    carts: list[Basket]
    messaged: Mapping[Key, datetime]
    """Checkout -> when its first recovery message went out."""
    everywhere: Mapping[str, list[Sale]]
    """Counted orders of each person in all stores."""


def books(known: Knowledge, store: str | None, messaged: Mapping[Key, datetime]) -> Books:
    """The scope of one store, or of all (None). `messaged`: of all stores."""
    counted = [(sale, _person(known, sale.account)) for sale in sales(known) if sale.counted]
    ordered: dict[Key, datetime] = {}
    everywhere: defaultdict[str, list[Sale]] = defaultdict(list)
    for sale, person in counted:
        if sale.checkout is not None:
            key = (sale.store, sale.checkout)
            ordered[key] = min(sale.placed_at, ordered.get(key, sale.placed_at))
        if person is not None:
            everywhere[person].append(sale)
    return Books(
        counted=[(sale, person) for sale, person in counted if store in {None, sale.store}],
        ordered=ordered,
        checkouts=[
            (basket, _person(known, basket.account))
            for basket in known.checkouts.values()
            if basket.items and store in {None, basket.store}
        ],
        carts=[basket for basket in known.carts.values() if basket.items and store in {None, basket.store}],
        messaged=messaged,
        everywhere=everywhere,
    )


def _person(known: Knowledge, account: str | None) -> str | None:
    return None if account is None else known.person(account)


def kpis(scope: Books, as_of: datetime, length: timedelta) -> Figures:
    """All KPIs of the window [as_of - length, as_of)."""
    return {**_sales(scope, as_of, length), **_loyalty(scope, as_of, length), **_checkouts(scope, as_of, length)}


def _sales(scope: Books, as_of: datetime, length: timedelta) -> Figures:
    window = [sale for sale, _ in scope.counted if as_of - length <= sale.placed_at < as_of]
    gross, discounts, returns = (sum(getattr(s, name) for s in window) for name in ("gross", "discounts", "returns"))
    return {
        "orders": Fraction(len(window)),
        "gross_sales": Fraction(gross),
        "discounts": Fraction(discounts),
        "returns": Fraction(returns),
        "net_sales": Fraction(gross - discounts - returns),
        "shipping": Fraction(sum(sale.shipping for sale in window)),
        "taxes": Fraction(sum(sale.taxes for sale in window)),
        "total_sales": Fraction(sum(sale.total for sale in window)),
        "aov": _ratio(gross - discounts, len(window)),
    }


def _loyalty(scope: Books, as_of: datetime, length: timedelta) -> Figures:
    ever: defaultdict[str, list[datetime]] = defaultdict(list)
    for sale, person in scope.counted:
        if person is not None and sale.placed_at < as_of:
            ever[person].append(sale.placed_at)
    now = _buyers(ever, as_of - length, as_of)
    before = _buyers(ever, as_of - 2 * length, as_of - length)
    new = [person for person in now if min(ever[person]) >= as_of - length]
    retained = [person for person in now if person in before]
    bought = sum(now.values())
    past = [sale for sale, _ in scope.counted if sale.placed_at < as_of]
    window = [sale for sale in past if sale.placed_at >= as_of - length]
    aov = _ratio(sum(sale.gross - sale.discounts for sale in window), len(window))
    frequency = _ratio(bought, len(now))
    spans = [max(placed) - min(placed) for placed in ever.values() if len(placed) > 1]
    lifespan = Fraction(sum(spans, timedelta()) // timedelta(microseconds=1), len(spans)) if spans else Fraction(0)
    lives = max(Fraction(1), lifespan / (length // timedelta(microseconds=1)))
    return {
        "customers": Fraction(len(now)),
        "new_customers": Fraction(len(new)),
        "returning_customers": Fraction(len(now) - len(new)),
        "purchase_frequency": frequency,
        "repeat_purchase_rate": _ratio(sum(1 for orders in now.values() if orders > 1), len(now)),
        "retention_rate": _ratio(len(retained), len(before)),
        "churn_rate": _ratio(len(before) - len(retained), len(before)),
        "clv_historic": _ratio(sum(sale.net for sale in past), len(ever)),
        "clv_simple": None if aov is None or frequency is None else aov * frequency * lives,
    }


def _buyers(ever: Mapping[str, list[datetime]], since: datetime, until: datetime) -> dict[str, int]:
    """Buyers of a window, and how many orders they placed in it."""
    found = {person: sum(1 for at in placed if since <= at < until) for person, placed in ever.items()}
    return {person: orders for person, orders in found.items() if orders}


def _checkouts(scope: Books, as_of: datetime, length: timedelta) -> Figures:
    begun = [(b, person) for b, person in scope.checkouts if as_of - length <= b.started_at < as_of]
    old = [basket for basket, _ in begun if basket.started_at <= as_of - IDLE]
    left = [basket for basket in old if basket.changed_at <= as_of - IDLE and not _ordered(scope, basket, as_of)]
    converted = [basket for basket, _ in begun if _ordered(scope, basket, as_of)]
    messaged = [(b, person) for b, person in begun if _messaged(scope, b, as_of)]
    recovered = [sale for b, person in messaged if (sale := _recovered(scope, b, person, as_of)) is not None]
    return {
        "carts": Fraction(sum(1 for cart in scope.carts if as_of - length <= cart.started_at < as_of)),
        "checkouts": Fraction(len(begun)),
        "abandonment_rate": _ratio(len(left), len(old)),
        "conversion_rate": _ratio(len(converted), len(begun)),
        "recovery_rate": _ratio(len(recovered), len(messaged)),
        "recovered_sales": Fraction(sum(sale.net for sale in recovered)),
    }


def _ordered(scope: Books, basket: Basket, as_of: datetime) -> bool:
    at = scope.ordered.get((basket.store, basket.token))
    return at is not None and at < as_of


def _messaged(scope: Books, basket: Basket, as_of: datetime) -> bool:
    """Whether a recovery message went out before `as_of`, and the checkout had not been ordered by then."""
    key = (basket.store, basket.token)
    sent, ordered = scope.messaged.get(key), scope.ordered.get(key)
    return sent is not None and sent < as_of and (ordered is None or ordered >= sent)


def _recovered(scope: Books, basket: Basket, person: str | None, as_of: datetime) -> Sale | None:
    """The first counted order after the first message: of this checkout, or of this person within five days."""
    sent = scope.messaged[basket.store, basket.token]

    def recovers(sale: Sale) -> bool:
        if not sent < sale.placed_at < as_of:
            return False
        own = sale.store == basket.store and sale.checkout == basket.token
        return own or sale.placed_at <= sent + RECOVERY

    theirs: Iterable[Sale] = scope.everywhere.get(person or "", ())
    return min(filter(recovers, theirs), key=lambda sale: (sale.placed_at, sale.store, sale.id), default=None)


def _ratio(numerator: int, denominator: int) -> Fraction | None:
    return Fraction(numerator, denominator) if denominator else None

"""Every figure as a step function of the instant at which one asks: the sums that KPIs are folded from.

A step function is a set of points (measure, at, value): what it is worth at instant t is the sum of the values of its
points with `at` < t. A window of length W at t is [t - W, t), so that an order placed at o lies in it if and only if
o < t <= o + W. What holds from x on (t >= x) is a point at x - 1 µs.

Points only ever add up, so a changed fact is folded by taking its former points off and putting its new ones on, and
whatever order facts come in, they end in the same sums.

Two kinds of measure:

*Totals* do not know of windows. A window's share of one (orders, gross sales, …) is its value at t less its value at
t - W.

*Intervals* are what lies in a window from its beginning to its end, or not at all: two orders that follow one another,
or a checkout and the order that it came to. One from a to b lies in the window for b < t <= a + W. Its value stands at
b in the measure and at a in the measure's `_start`, and a window's share is the measure at t less its start at t - W:
two points, whatever windows there are, on rows that are there for the orders anyway. Where b - a >= W that is wrong. So
the intervals that are longer than the shortest window stand once more by themselves, under their class of length, and
those of W and longer are taken out of the share. They tell what totals cannot:

- A profile with n orders in a window has n - 1 pairs of neighbouring orders in it and n - 2 triples. So buyers are
  orders - pairs, buyers with two orders or more are pairs - triples, and a profile that ordered once needs no point
  here at all. What an order contributes depends on its two predecessors alone, however long the profile's history.
- A profile bought in this window and in the one before if and only if exactly one of its pairs has its first order
  there and its second here. Of the pairs shorter than W those have that began before t - W and did not end before it;
  of those from W to 2W (distant ones) those that ended before t and did not begin before t - 2W.
- A checkout belongs to the window of its start, but counts as converted, say, only since its order.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from services.metrics.facts import DAY, HOUR, MINUTE, Cart, Checkout, Order

WINDOWS = {"24h": 24 * HOUR, "7d": 7 * DAY, "30d": 30 * DAY, "90d": 90 * DAY, "365d": 365 * DAY}
LENGTHS = tuple(WINDOWS.values())

IDLE = 30 * MINUTE
"""A checkout is abandoned once nothing happened to it for so long."""
RECOVERY = 5 * DAY
"""Within so long after the first recovery message any order of the profile counts as recovery."""

ALL_STORES = "*"

INTERVALS = tuple(
    name + end
    for name in ("pairs", "triples", "converted", "abandoned", "messaged", "recovered", "recovered_net")
    for end in ("", "_start")
)
"""Each measure, and its start just after it."""
TOTALS = (
    "orders",
    "gross",
    "discounts",
    "returns",
    "shipping",
    "taxes",
    "bought",  # orders that have a buyer
    "first_orders",  # a profile's first order
    "second_orders",
    "lifespan",  # microseconds from a profile's last order but one to its last
    "carts",
    "checkouts",
    *INTERVALS,
)

ORDERS, GROSS, DISCOUNTS, RETURNS, SHIPPING, TAXES, BOUGHT, FIRST, SECOND, LIFESPAN, CARTS, CHECKOUTS = range(12)
PAIRS, TRIPLES, CONVERTED, ABANDONED, MESSAGED, RECOVERED, RECOVERED_NET = range(12, len(TOTALS), 2)
DISTANT = len(TOTALS)
"""Read beside the long intervals: the pairs from W to 2W; their starts just after it."""

CLASSES = tuple(sorted({*LENGTHS, *(2 * length for length in LENGTHS)}))
"""Long intervals are told apart as shorter than which of these."""

TOTAL = 0
"""In place of a class: the point is one of the totals."""
LONGEST = 2**15 - 1
"""The class of intervals that no other is longer than."""
Scope = tuple[str, str, str]
"""Tenant, store (or all of them), currency."""
Point = tuple[int, int, int, int]
"""TOTAL, or of a long interval the hours that it is shorter than; instant; measure (index into TOTALS); value."""


class Points:
    """Points that add up, by scope."""

    def __init__(self) -> None:
        self.sums: defaultdict[tuple[Scope, int, int, int], int] = defaultdict(int)

    def add(self, scope: Scope, points: Iterable[Point], sign: int) -> None:
        """Puts points on (`sign` 1) or takes them off (-1)."""
        sums = self.sums
        for hours, at, measure, value in points:
            sums[scope, hours, at, measure] += sign * value

    def everywhere(self, tenant: str, store: str, currency: str, points: Sequence[Point], sign: int) -> None:
        """The same in the store and in all stores."""
        self.add((tenant, store, currency), points, sign)
        self.add((tenant, ALL_STORES, currency), points, sign)

    def steps(self) -> dict[tuple[Scope, int, int], dict[int, int]]:
        """(scope, class, at) -> measure -> value, without what came to nothing."""
        rows: dict[tuple[Scope, int, int], dict[int, int]] = {}
        for (scope, hours, at, measure), value in self.sums.items():
            if value:
                rows.setdefault((scope, hours, at), {})[measure] = value
        return rows


def of_order(order: Order) -> list[Point]:
    """What an order adds by itself."""
    if not order.counted:
        return []
    at = order.placed_at
    points = [
        (TOTAL, at, ORDERS, 1),
        (TOTAL, at, GROSS, order.gross),
        (TOTAL, at, DISCOUNTS, order.discounts),
        (TOTAL, at, RETURNS, order.returns),
        (TOTAL, at, SHIPPING, order.shipping),
        (TOTAL, at, TAXES, order.taxes),
    ]
    if order.has_buyer:
        points.append((TOTAL, at, BOUGHT, 1))
    return points


def of_profile(placed: Sequence[int], since: int = 0) -> list[Point]:
    """What the orders of one profile add by following one another; `placed` is in ascending order.

    An order's points depend on its two predecessors only. So the difference that some orders make is seen in full
    from two orders before the first of them to two after the last. `since`: leaves out what the first so many add,
    which they do whatever follows.
    """
    points: list[Point] = []
    for index, at in enumerate(placed[since:], since):
        if index == 0:
            points.append((TOTAL, at, FIRST, 1))
            continue
        if index == 1:
            points.append((TOTAL, at, SECOND, 1))
        points.append((TOTAL, at, LIFESPAN, at - placed[index - 1]))
        points.extend(_interval(PAIRS, placed[index - 1], at))
        if index > 1:
            points.extend(_interval(TRIPLES, placed[index - 2], at))
    return points


def of_checkout(checkout: Checkout) -> list[Point]:
    """What a checkout adds."""
    if not checkout.held:
        return []
    start, ordered = checkout.started_at, checkout.ordered_at
    points: list[Point] = [(TOTAL, start, CHECKOUTS, 1)]
    if ordered is not None:
        points.extend(_interval(CONVERTED, start, ordered))
    # Idle from that instant on; abandoned until it is ordered all the same.
    idle = max(start, checkout.changed_at) + IDLE - 1
    if ordered is None or ordered > idle:
        points.extend(_interval(ABANDONED, start, idle))
        if ordered is not None:
            points.extend(_interval(ABANDONED, start, ordered, -1))
    # A message that went out after the order (which was told too late) had nothing to recover.
    if checkout.messaged_at is not None and (ordered is None or ordered >= checkout.messaged_at):
        points.extend(_interval(MESSAGED, start, checkout.messaged_at))
        if checkout.recovered_at is not None:
            points.extend(_interval(RECOVERED, start, checkout.recovered_at))
            points.extend(_interval(RECOVERED_NET, start, checkout.recovered_at, checkout.recovered_net or 0))
    return points


def of_cart(cart: Cart) -> list[Point]:
    """What a cart adds."""
    return [(TOTAL, cart.started_at, CARTS, 1)] if cart.held else []


def _interval(measure: int, start: int, end: int, value: int = 1) -> Iterator[Point]:
    """Worth `value` to every window that holds it from `start` to `end`; an end before its start is one at it."""
    end = max(start, end)
    yield (TOTAL, end, measure, value)
    yield (TOTAL, start, measure + 1, value)
    if end - start >= CLASSES[0]:
        longer = bisect_right(CLASSES, end - start)
        hours = CLASSES[longer] // HOUR if longer < len(CLASSES) else LONGEST
        yield (hours, end, measure, value)
        yield (hours, start, measure + 1, value)

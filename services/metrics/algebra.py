"""Every figure as a step function of the instant at which one asks: the sums that KPIs are folded from.

A step function is a set of points (measure, at, value): what it is worth at instant t is the sum of the values of its
points with `at` < t. A window of length W at t is [t - W, t), so that an order placed at o lies in it if and only if
o < t <= o + W: a point +1 at o and a point -1 at o + W. What holds from x on (t >= x) is a point at x - 1 µs.

Points only ever add up, so a changed fact is folded by taking its former points off and putting its new ones on, and
whatever order facts come in, they end in the same sums.

Two kinds of measure:

*Totals* do not know of windows. A window's share of an additive one (orders, gross sales, …) is its value at t less its
value at t - W.

*Windowed* measures have a window length baked in. They correct totals where things are not additive:

- A profile with n orders in a window has n - 1 pairs of neighbouring orders in it and n - 2 triples. So buyers are
  orders - pairs, buyers with two orders or more are pairs - triples, and a profile that ordered once needs no point
  here at all. What an order contributes depends on its two predecessors alone, however long the profile's history.
- A profile bought in this window and in the one before if and only if exactly one of its pairs straddles t - W.
- A checkout belongs to the window of its start `s`, but counts as converted, say, only since `k`, which is later: it is
  1 for k < t <= s + W. That is the total at t of points at k, less the total at t - W of points at s; where k is later
  than s + W, a windowed point at s + W makes up for the subtraction, and one at k ends that.
"""

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
    "converted",
    "converted_start",
    "abandoned",
    "abandoned_start",
    "messaged",
    "messaged_start",
    "recovered",
    "recovered_start",
    "recovered_net",
    "recovered_net_start",
)
WINDOWED = ("pairs", "triples", "retained", "converted", "abandoned", "messaged", "recovered", "recovered_net")

_TOTAL = {name: index for index, name in enumerate(TOTALS)}
_WINDOWED = {name: index for index, name in enumerate(WINDOWED)}

ORDERS, GROSS, DISCOUNTS, RETURNS, SHIPPING, TAXES, BOUGHT, FIRST, SECOND, LIFESPAN, CARTS, CHECKOUTS = range(12)
PAIRS, TRIPLES, RETAINED = range(3)

NO_WINDOW = -1
Scope = tuple[str, str, str]
"""Tenant, store (or all of them), currency."""
Point = tuple[int, int, int, int]
"""Window (index into LENGTHS; NO_WINDOW: a total), instant, measure (index into WINDOWED or TOTALS), value."""


class Points:
    """Points that add up, by scope."""

    def __init__(self) -> None:
        self.sums: defaultdict[tuple[Scope, int, int, int], int] = defaultdict(int)

    def add(self, scope: Scope, points: Iterable[Point], sign: int) -> None:
        """Puts points on (`sign` 1) or takes them off (-1)."""
        sums = self.sums
        for window, at, measure, value in points:
            sums[scope, window, at, measure] += sign * value

    def everywhere(self, tenant: str, store: str, currency: str, points: Sequence[Point], sign: int) -> None:
        """The same in the store and in all stores."""
        self.add((tenant, store, currency), points, sign)
        self.add((tenant, ALL_STORES, currency), points, sign)

    def steps(self) -> dict[tuple[Scope, int, int], dict[int, int]]:
        """(scope, window, at) -> measure -> value, without what came to nothing."""
        rows: dict[tuple[Scope, int, int], dict[int, int]] = {}
        for (scope, window, at, measure), value in self.sums.items():
            if value:
                rows.setdefault((scope, window, at), {})[measure] = value
        return rows


def of_order(order: Order) -> list[Point]:
    """What an order adds by itself."""
    if not order.counted:
        return []
    at = order.placed_at
    points = [
        (NO_WINDOW, at, ORDERS, 1),
        (NO_WINDOW, at, GROSS, order.gross),
        (NO_WINDOW, at, DISCOUNTS, order.discounts),
        (NO_WINDOW, at, RETURNS, order.returns),
        (NO_WINDOW, at, SHIPPING, order.shipping),
        (NO_WINDOW, at, TAXES, order.taxes),
    ]
    if order.has_buyer:
        points.append((NO_WINDOW, at, BOUGHT, 1))
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
            points.append((NO_WINDOW, at, FIRST, 1))
            continue
        if index == 1:
            points.append((NO_WINDOW, at, SECOND, 1))
        points.append((NO_WINDOW, at, LIFESPAN, at - placed[index - 1]))
        points.extend(_follows(placed[index - 1], at))
        if index > 1:
            points.extend(_within(TRIPLES, placed[index - 2], at))
    return points


def of_checkout(checkout: Checkout) -> list[Point]:
    """What a checkout adds."""
    if not checkout.held:
        return []
    start, ordered = checkout.started_at, checkout.ordered_at
    points: list[Point] = [(NO_WINDOW, start, CHECKOUTS, 1)]
    if ordered is not None:
        points.extend(_since("converted", start, ordered, 1))
    # Idle from that instant on; abandoned until it is ordered all the same.
    idle = max(start, checkout.changed_at) + IDLE - 1
    if ordered is None or ordered > idle:
        points.extend(_since("abandoned", start, idle, 1))
        if ordered is not None:
            points.extend(_since("abandoned", start, ordered, -1))
    # A message that went out after the order (which was told too late) had nothing to recover.
    if checkout.messaged_at is not None and (ordered is None or ordered >= checkout.messaged_at):
        points.extend(_since("messaged", start, checkout.messaged_at, 1))
        if checkout.recovered_at is not None:
            points.extend(_since("recovered", start, checkout.recovered_at, 1))
            points.extend(_since("recovered_net", start, checkout.recovered_at, checkout.recovered_net or 0))
    return points


def of_cart(cart: Cart) -> list[Point]:
    """What a cart adds."""
    return [(NO_WINDOW, cart.started_at, CARTS, 1)] if cart.held else []


def _follows(before: int, at: int) -> Iterator[Point]:
    """An order at `at` after one at `before`, of the same profile."""
    yield from _within(PAIRS, before, at)
    for window, length in enumerate(LENGTHS):
        # Straddling: `before` in the window before (before + W < t <= before + 2W), `at` in this one.
        begin, end = max(before + length, at), min(before + 2 * length, at + length)
        if begin < end:
            yield (window, begin, RETAINED, 1)
            yield (window, end, RETAINED, -1)


def _within(measure: int, first: int, last: int) -> Iterator[Point]:
    """Orders from `first` to `last` lie in one window together for last < t <= first + W."""
    for window, length in enumerate(LENGTHS):
        if last - first < length:
            yield (window, last, measure, 1)
            yield (window, first + length, measure, -1)


def _since(name: str, start: int, since: int, value: int) -> Iterator[Point]:
    """A checkout started at `start` is worth `value` in `name` from just after `since` on."""
    since = max(start, since)
    yield (NO_WINDOW, since, _TOTAL[name], value)
    yield (NO_WINDOW, start, _TOTAL[name + "_start"], value)
    for window, length in enumerate(LENGTHS):
        if start + length < since:
            yield (window, start + length, _WINDOWED[name], value)
            yield (window, since, _WINDOWED[name], -value)

"""How platforms deliver: late, twice, out of order, under several topics, among forgeries and garbage.

A delivery is one request. Whatever it is, `outcome` says what an honest receiver makes of it, so that nothing can be
lost or counted twice in silence.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from random import Random
from typing import Literal

from regulars.shop import shopify, woocommerce
from regulars.shop.book import chance, dice_for
from regulars.shop.model import Aside, Cart, Change, Checkout, Order, State, StoreName, StoreSpec, World

Outcome = Literal["observed", "parked", "dead", "ignored", "duplicate", "refused", "pinged"]

EVENTS = "events"
"""The topic of what the merchant's own site tells by `POST /v1/events`."""
REPORTS_AFTER = timedelta(minutes=365)
"""The merchant's site reports a few times a day. Longer than any tick of a driven clock: `/v1/events` takes nothing
that is yet to happen."""
FORGED = "not the secret of any store"
PARKED = frozenset({"themes/publish", "fulfillments/create", "coupon.updated", "coupon.deleted"})
"""Topics that are kept, and read by nothing."""
IGNORED = frozenset({"orders/edited"})
"""It says what changed, not what is; `orders/updated` brings that."""
GARBAGE: tuple[tuple[StoreName, str, bytes], ...] = (
    ("shopify", "orders/create", b'"example string"'),
    ("shopify", "orders/updated", b"[]"),
    ("shopify", "checkouts/update", b""),
    ("woocommerce", "order.updated", b"<xml><order>7</order></xml>"),
    ("woocommerce", "customer.updated", b'{"id": '),
    ("shopify", "customers/update", b'{"email":"nobody@example.com"}'),
)
ERROR_BODY = b'{"code":"woocommerce_rest_shop_order_invalid_id","message":"Ung\\u00fcltige ID.","data":{"status":404}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One request to come."""

    at: datetime
    """When it arrives."""
    store: StoreName
    topic: str
    outcome: Outcome
    state: State | None = None
    """What it tells; None for garbage, forgeries and repeats."""
    sent_at: datetime
    """When the platform wrote it down."""
    webhook_id: str
    event_id: str | None = None
    raw: bytes | None = None
    """The body, where it is not that of a state."""
    told: State | None = None
    """What the body is made from, for repeats and forgeries too."""


def deliveries(world: World) -> list[Delivery]:
    """Every request of the world, in order of arrival. None arrives after the end."""
    dice = dice_for(world.seed, "delivery")
    made: list[Delivery] = []
    numbers = count(1)
    for change in world.changes:
        made.extend(_deliver(world, change, numbers, dice))
    made.extend(_noise(world, numbers, dice))
    return sorted(made, key=lambda each: (each.at, each.webhook_id))


def _deliver(world: World, change: Change, numbers: Iterator[int], dice: Random) -> Iterator[Delivery]:
    number = next(numbers)
    event_id = f"evt-{world.seed:x}-{number:08x}" if chance(dice, 0.8) else None
    for place, topic in enumerate(change.topics):
        at = _arrival(change, dice, first=place == 0)
        if at >= world.end:
            if not (change.prompt and place == 0):
                continue
            at = world.end - timedelta(seconds=1)
        delivery = Delivery(
            at=at,
            store=change.store,
            topic=topic,
            outcome=_outcome(topic),
            state=change.state,
            told=change.state,
            sent_at=change.at,
            webhook_id=f"{number:08x}-{place}-{dice.getrandbits(48):012x}",
            event_id=event_id,
        )
        yield delivery
        yield from _repeats(world, delivery, dice)


def _arrival(change: Change, dice: Random, *, first: bool) -> datetime:
    """Mostly within a minute. Shopify retries for hours; but what a mail depends on comes once within minutes.

    Of carts and checkouts only what is superseded by then may be hours late: their latest state is waited for.
    """
    if change.topics == (EVENTS,):
        return change.at + REPORTS_AFTER + timedelta(seconds=dice.randrange(600))
    if change.store == "woocommerce":
        return change.at + timedelta(seconds=dice.choice([1, 2, 2, 3, 5, 20]))
    prompt = (change.prompt and first) or isinstance(change.state, Cart | Checkout)
    if not prompt and chance(dice, 0.06):
        return change.at + timedelta(minutes=dice.uniform(30, 26 * 60))
    return change.at + timedelta(seconds=min(900.0, dice.lognormvariate(1.5, 1.3)))


def _outcome(topic: str) -> Outcome:
    if topic in PARKED:
        return "parked"
    return "ignored" if topic in IGNORED else "observed"


def _repeats(world: World, delivery: Delivery, dice: Random) -> Iterator[Delivery]:
    """Shopify repeats what it believes to have failed, hours later too; WooCommerce saves again without a change."""
    if delivery.topic == EVENTS or isinstance(delivery.state, Aside):
        return
    if delivery.store == "shopify":
        again = delivery.at + timedelta(seconds=dice.choice([10, 60, 600, 7200, 14_400]))
        repeat = replace(delivery, at=again, outcome="duplicate", state=None)
        probability = 0.04
    else:
        again = delivery.at + timedelta(seconds=dice.choice([1, 1, 4, 30]))
        repeat = replace(delivery, at=again, sent_at=again, webhook_id=delivery.webhook_id + "b")
        probability = 0.04 if isinstance(delivery.state, Order) else 0.0
    if chance(dice, probability) and again < world.end:
        yield repeat


def _noise(world: World, numbers: Iterator[int], dice: Random) -> Iterator[Delivery]:
    """Forgeries, garbage under a good signature, errors in place of an order, and WooCommerce's ping."""
    orders = [change for change in world.changes if isinstance(change.state, Order)]
    days = (world.end - world.start).days
    for day in range(days):
        at = world.start + timedelta(days=day, seconds=dice.randrange(80_000))
        if orders:
            change = dice.choice(orders)
            yield _noisy(change.store, change.topics[0], "refused", at, numbers, told=change.state)
        store, topic, raw = GARBAGE[day % len(GARBAGE)]
        yield _noisy(store, topic, "dead", at + timedelta(minutes=7), numbers, raw=raw)
        if day % 4 == 0:
            later = at + timedelta(minutes=21)
            yield _noisy("woocommerce", "order.created", "ignored", later, numbers, raw=ERROR_BODY)
    ping = _noisy("woocommerce", "", "pinged", world.start + timedelta(seconds=30), numbers, raw=b"webhook_id=4")
    yield ping


def _noisy(
    store: StoreName,
    topic: str,
    outcome: Outcome,
    at: datetime,
    numbers: Iterator[int],
    *,
    raw: bytes | None = None,
    told: State | None = None,
) -> Delivery:
    number = next(numbers)
    # Garbage differs from garbage: the same bytes under the same id would be a duplicate.
    name = f"noise-{number:08x}"
    return Delivery(at=at, store=store, topic=topic, outcome=outcome, sent_at=at, webhook_id=name, raw=raw, told=told)


def request(delivery: Delivery, store: StoreSpec) -> tuple[bytes, dict[str, str]]:
    """Body and headers of the request; not for `events`, which are no webhooks."""
    if delivery.outcome == "pinged":
        form = {"Content-Type": "application/x-www-form-urlencoded", "User-Agent": woocommerce.AGENT}
        return delivery.raw or b"", form
    if delivery.outcome == "refused":
        store = replace(store, secret=FORGED)
    writer = shopify if delivery.store == "shopify" else woocommerce
    raw = delivery.raw
    if raw is None:
        assert delivery.told is not None  # noqa: S101 - whatever has no bytes of its own is made from a state
        raw = writer.body(delivery.told)
    if delivery.store == "shopify":
        at = delivery.sent_at
        ids = {"webhook_id": delivery.webhook_id, "event_id": delivery.event_id}
        return raw, shopify.headers(store, delivery.topic, raw, at=at, **ids)  # type: ignore[arg-type]
    return raw, woocommerce.headers(store, delivery.topic, raw, sent_at=delivery.sent_at)

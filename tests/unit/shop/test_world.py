"""The shop repeats exactly, and holds every case that it is there for."""

from collections import Counter, defaultdict
from datetime import UTC, datetime

from regulars.shop.delivery import Delivery, deliveries
from regulars.shop.knowledge import Knowledge, shared_phones
from regulars.shop.ledger import sales
from regulars.shop.model import Checkout, Order, RefundTold, World
from regulars.shop.world import make_world


def test_the_same_seed_gives_the_same_shop(world: World, arriving: list[Delivery]) -> None:
    again = make_world(seed=world.seed, start=world.start, days=45, how_many=200)
    assert again == world
    assert deliveries(again) == arriving
    assert make_world(seed=8, start=world.start, days=45, how_many=200) != world


def test_ninety_days_bring_twenty_thousand_webhooks() -> None:
    world = make_world(seed=1, start=datetime(2026, 1, 5, tzinfo=UTC), days=90, how_many=480)
    assert len(deliveries(world)) > 20_000


def test_nothing_arrives_after_the_end(world: World, arriving: list[Delivery]) -> None:
    assert arriving == sorted(arriving, key=lambda each: each.at)
    assert all(world.start <= each.at < world.end for each in arriving)


def test_every_case_occurs(world: World, arriving: list[Delivery]) -> None:
    orders = [change.state for change in world.changes if isinstance(change.state, Order)]
    statuses = Counter((order.store, order.status) for order in orders)
    for status in ("paid", "authorized", "pending", "voided", "partially_refunded", "refunded"):
        assert statuses["shopify", status], status
    for status in (
        "checkout-draft",
        "pending",
        "failed",
        "cancelled",
        "on-hold",
        "processing",
        "completed",
        "refunded",
    ):
        assert statuses["woocommerce", status], status
    assert any(order.test for order in orders)
    assert any(order.cancelled_at for order in orders)
    assert any(order.contact.email is None and order.contact.phone for order in orders)
    assert any(order.source == "pos" for order in orders)
    assert any(order.id > 2**53 for order in orders)
    assert any(fee.amount < 0 for order in orders for fee in order.fees)
    refunds = [change.state.refund for change in world.changes if isinstance(change.state, RefundTold)]
    assert any(refund.shipping for refund in refunds)
    assert any(refund.goodwill for refund in refunds)
    assert any(not refund.total for refund in refunds)
    outcomes = Counter(each.outcome for each in arriving)
    assert set(outcomes) == {"observed", "parked", "ignored", "dead", "duplicate", "refused", "pinged"}


def test_deliveries_are_late_and_out_of_order(arriving: list[Delivery]) -> None:
    late = [each for each in arriving if (each.at - each.sent_at).total_seconds() > 3600]
    assert len(late) > 50
    told: defaultdict[tuple[str, int], list[datetime]] = defaultdict(list)
    for each in arriving:
        if isinstance(each.state, Order):
            told[each.state.store, each.state.id].append(each.state.updated_at)
    assert any(versions != sorted(versions) for versions in told.values())


def test_the_newest_state_of_a_checkout_is_never_late(arriving: list[Delivery]) -> None:
    for each in arriving:
        if isinstance(each.state, Checkout):
            assert (each.at - each.sent_at).total_seconds() <= 45 * 60


def test_people_are_of_every_kind(arriving: list[Delivery]) -> None:
    known = Knowledge(shared_phones(arriving))
    for each in arriving:
        if each.outcome == "observed" and each.state is not None:
            known.hear(each.state)
    people = known.people()
    assert any(
        {"customer:shopify", "customer:woocommerce"} <= {a.rsplit(":", 1)[0] for a in person} for person in people
    )
    mixed = [{account.split(":")[0] for account in person} for person in people]
    assert {"customer", "guest", "cart"} in mixed
    assert {"cart"} in mixed
    assert known.shared
    assert any(sale.deleted for sale in sales(known))

"""Both flows and the gate, as the shop's truth has them."""

from datetime import UTC, datetime, timedelta

from regulars.shop.knowledge import Knowledge
from regulars.shop.messages import CART, LAPSE, Mail, Postbox
from regulars.shop.model import Checkout, Consent, Contact, Item, Order, Product, State
from regulars.shop.rules import BOUGHT, NEVER, WITHDREW, against

START = datetime(2026, 1, 5, tzinfo=UTC)
ITEM = Item(id=1, product=Product(id=5, variant_id=6, title="V", sku="V", price=119), quantity=1, price=119, tax=19)


class Story:
    def __init__(self, policy: str = "explicit") -> None:
        self.postbox = Postbox(Knowledge(frozenset()), {"shopify": policy, "woocommerce": policy})

    def tell(self, *states: State) -> None:
        for state in states:
            self.postbox.hear(state)

    def until(self, hours: float) -> list[tuple[float, str, int]]:
        """Ticks of an hour; what was sent, as (hours, flow, step)."""
        sent: list[Mail] = []
        for tick in range(1, int(hours) + 1):
            sent += self.postbox.end_tick(START + timedelta(hours=tick))
        return [((mail.at - START) / timedelta(hours=1), mail.flow, mail.step) for mail in sent]


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def contact(who: str = "ada") -> Contact:
    return Contact(first="", last="", country="DE", email=f"{who}@example.com")


def checkout(
    token: str, hours: float, *, ticked: bool = True, changed: float | None = None, done: bool = False
) -> State:
    moment = at(hours if changed is None else changed)
    return Checkout(
        store="shopify", id=1, token=token, cart=f"c-{token}", created_at=at(hours), updated_at=moment,
        contact=contact(), items=(ITEM,), ticked=ticked, completed_at=moment if done else None,
    )  # fmt: skip


def order(number: int, hours: float, token: str | None = None, *, ticked: bool = False) -> State:
    return Order(
        store="shopify", id=number, number="#1", status="paid", created_at=at(hours), updated_at=at(hours),
        contact=contact(), items=(ITEM,), checkout=token, ticked=ticked,
    )  # fmt: skip


def test_an_abandoned_checkout_gets_three_mails_at_the_first_tick_after_each_is_due() -> None:
    story = Story()
    story.tell(checkout("t", 0.5))
    assert story.until(60) == [(2, CART, 1), (25, CART, 2), (49, CART, 3)]


def test_the_delay_counts_from_the_last_change() -> None:
    story = Story()
    story.tell(checkout("t", 0.5), checkout("t", 0.5, changed=5))
    assert story.until(60) == [(6, CART, 1), (29, CART, 2), (53, CART, 3)]


def test_an_order_ends_it_whatever_its_token() -> None:
    story = Story()
    story.tell(checkout("t", 0.5))
    assert story.until(10) == [(2, CART, 1)]
    story.tell(order(1, 9))
    assert story.until(60) == []


def test_a_completed_checkout_was_not_abandoned() -> None:
    story = Story()
    story.tell(checkout("t", 0.5), checkout("t", 0.5, changed=0.6, done=True), order(1, 0.6, "t"))
    assert story.until(60) == []


def test_who_never_said_yes_gets_nothing_where_it_must_be_said() -> None:
    story = Story()
    story.tell(checkout("t", 0.5, ticked=False))
    assert story.until(60) == []
    assert story.postbox.skipped == 3


def test_a_buyer_may_be_written_to_where_that_is_enough() -> None:
    story = Story("soft_opt_in")
    story.tell(order(1, 0.1), checkout("t", 0.5, ticked=False))
    assert story.until(3) == [(2, CART, 1)]


def test_withdrawal_wins_and_ends_the_run() -> None:
    story = Story("soft_opt_in")
    story.tell(order(1, 0.1), checkout("t", 0.5))
    assert story.until(3) == [(2, CART, 1)]
    story.tell(
        Consent(store="woocommerce", id="1", at=at(3), state="unsubscribed", customer_id=None, email="ada@example.com")
    )
    assert story.until(60) == []


def test_a_second_checkout_within_a_day_begins_no_second_run() -> None:
    story = Story()
    story.tell(checkout("a", 0.5), checkout("b", 12))
    assert [sent for sent in story.until(80) if sent[0] == 13] == []


def test_two_runs_share_the_cap_of_sixteen_hours() -> None:
    story = Story()
    story.tell(checkout("a", 0.5), checkout("b", 26))
    # b's first mail falls due 2 hours after a's second.
    assert story.until(50) == [(2, CART, 1), (25, CART, 2), (49, CART, 3)]


def test_a_buyer_who_is_not_seen_for_a_month_is_written_to_twice() -> None:
    story = Story()
    story.tell(order(1, 1, ticked=True))
    assert story.until(24 * 45) == [(24 * 30 + 1, LAPSE, 1), (24 * 37 + 1, LAPSE, 2)]


def test_activity_puts_the_lapse_off() -> None:
    story = Story()
    story.tell(order(1, 1, ticked=True), checkout("t", 24 * 10, done=True))
    assert story.until(24 * 45) == [(24 * 40, LAPSE, 1)]


def test_the_rules_see_what_an_exact_comparison_would_only_call_different() -> None:
    story = Story()
    story.tell(checkout("t", 0.5))
    assert against(story.postbox, CART, "ada@example.com", at(2)) == []
    story.tell(order(1, 1))
    assert against(story.postbox, CART, "ada@example.com", at(2)) == [BOUGHT]
    story.postbox.gone.add("ada@example.com")
    assert against(story.postbox, CART, "ada@example.com", at(2)) == [BOUGHT, WITHDREW]
    fresh = Story()
    fresh.tell(checkout("t", 0.5, ticked=False))
    assert against(fresh.postbox, CART, "ada@example.com", at(2)) == [NEVER]

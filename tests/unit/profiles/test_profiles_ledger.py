from typing import Any

import pytest
from msgspec.structs import replace

from libs.common.contracts.commerce import MOST_REFUNDS, Refund, RefundObserved, Removed
from libs.common.contracts.customers import OrderMoment, OrderPlaced, OrderRefunded, OrderRevised
from services.profiles import ledger, timeline
from services.profiles.facts import Told
from services.profiles.ledger import OrderState
from tests.integration.profiles.driving import at, order

ACCOUNT = "guest:st_one:ada@example.com"


def refunded(refund_id: str, minute: float, returns: int, **fields: Any) -> Refund:
    return Refund(source_id=refund_id, at=at(minute), returns=returns, **fields)


def envelope(minute: int) -> dict[str, Any]:
    return {
        "store": "st_one",
        "platform": "shopify",
        "source_id": "1",
        "updated_at": at(minute),
        "position": minute,
    }


def told(*observed: Any, state: OrderState | None = None) -> tuple[OrderState, list[Told]]:
    """Hands the observations to the ledger one after the other."""
    state = state or OrderState()
    facts: list[Told] = []
    for each in observed:
        match each:
            case RefundObserved():
                after = ledger.on_refund(state, each)
            case Removed():
                after = ledger.on_removed(state, each)
            case _:
                after = ledger.on_observed(state, each, ACCOUNT)
        state, news = ledger.decide(state, after, at=each.updated_at, origin=each.origin)
        facts += news
    return state, facts


def types(facts: list[Told]) -> list[str]:
    return [fact.type for fact in facts]


def test_an_order_is_placed_once() -> None:
    state, facts = told(order(1), order(1), order(1, 1))
    assert types(facts) == ["order.placed"]
    placed = facts[0].fact
    assert isinstance(placed, OrderPlaced)
    assert (placed.order.net, placed.order.total, placed.order.counted, placed.revision) == (10_000, 10_500, True, 1)
    assert facts[0].key == ACCOUNT
    assert state.revision == 1


@pytest.mark.parametrize("fields", [{"placed": False}, {"test": True}, {"cancelled_at": at(0)}])
def test_what_never_counted_is_nobodys_business(fields: dict[str, Any]) -> None:
    _, facts = told(order(1, **fields), order(1, 1, **fields, gross=5), Removed(**envelope(2)))
    assert facts == []


def test_a_change_is_told_with_before_and_after() -> None:
    _, facts = told(order(1), order(1, 1, gross=12_000))
    revised = facts[1].fact
    assert isinstance(revised, OrderRevised)
    assert (revised.before.net, revised.order.net, revised.revision) == (10_000, 12_000, 2)


def test_an_older_snapshot_changes_nothing() -> None:
    _, facts = told(order(1, 5), order(1, 1, gross=1, shipping=0))
    assert types(facts) == ["order.placed"]


@pytest.mark.parametrize("later", [{}, {"cart_token": "c2"}])
def test_what_leaves_the_tokens_out_takes_none_away(later: dict[str, Any]) -> None:
    webhook, fetched = order(1, 1, cart_token="c1", checkout_token="k1"), order(1, 5, gross=9, **later)
    for history in ([webhook, fetched], [fetched, webhook], [fetched, webhook, fetched]):
        state, _ = told(*history)
        known = ledger.view(state)
        assert known is not None
        assert (known.gross, known.cart_token, known.checkout_token) == (9, later.get("cart_token", "c1"), "k1")


def test_tokens_of_a_state_that_kept_them_in_its_snapshot_alone_stay() -> None:
    state = OrderState(snapshot=order(1, 1, cart_token="c1"), account=ACCOUNT, counted_ever=True, revision=1)
    before = ledger.view(state)
    assert before is not None
    assert before.cart_token == "c1"
    state, facts = told(order(1, 5), state=state)
    after = ledger.view(state)
    assert after is not None
    assert (after.cart_token, types(facts)) == ("c1", [])


def test_the_same_instant_goes_by_position() -> None:
    state, _ = told(order(1, 1, position=8, gross=8), order(1, 1, position=7, gross=7))
    assert state.snapshot is not None
    assert state.snapshot.gross == 8


def test_a_cancellation_uncounts() -> None:
    state, facts = told(order(1), order(1, 3, cancelled_at=at(2)))
    assert types(facts) == ["order.placed", "order.revised", "order.cancelled"]
    order_view = ledger.view(state)
    assert order_view is not None
    assert not order_view.counted


def test_a_cancellation_that_comes_first_is_told_all_the_same() -> None:
    _, facts = told(order(1, 3, cancelled_at=at(2)), order(1))
    assert types(facts) == ["order.placed", "order.cancelled"]
    placed, cancelled = facts[0].fact, facts[1].fact
    assert isinstance(placed, OrderPlaced)
    assert not placed.order.counted
    assert isinstance(cancelled, OrderMoment)
    assert cancelled.at == at(2)


def test_moments_are_told_once() -> None:
    _, facts = told(
        order(1),
        order(1, 3, cancelled_at=at(2), fulfilled_at=at(1)),
        order(1, 4),
        order(1, 5, cancelled_at=at(5), fulfilled_at=at(5)),
        Removed(**envelope(6)),
        Removed(**envelope(7)),
    )
    found = types(facts)
    assert [found.count(name) for name in ("order.cancelled", "order.fulfilled", "order.deleted")] == [1, 1, 1]


def test_refunds_add_up_whoever_tells_them() -> None:
    state, facts = told(
        order(1),
        RefundObserved(**envelope(1), refund=refunded("r1", 1, 1_000, shipping=500)),
        order(1, 2, refunds=[refunded("r2", 2, 2_000)]),
        RefundObserved(**envelope(1), refund=refunded("r1", 1, 1_000, shipping=500)),
    )
    order_view = ledger.view(state)
    assert order_view is not None
    assert (order_view.returns, order_view.net, order_view.shipping) == (3_000, 7_000, 0)
    assert order_view.total == order_view.net + order_view.shipping + order_view.taxes
    assert types(facts).count("order.refunded") == 2


def test_a_refund_in_another_currency_than_its_orders_counts_nowhere() -> None:
    foreign = RefundObserved(**envelope(2), refund=refunded("r1", 2, 700, currency="JPY"))
    own = RefundObserved(**envelope(3), refund=refunded("r2", 3, 300, currency=order(1).currency))
    for facts in ((order(1), foreign, own), (own, foreign, order(1))):
        state, moments = told(*facts)
        order_view = ledger.view(state)
        assert order_view is not None
        assert order_view.returns == 300
        # It is told as what it is.
        refunds = [each.fact for each in moments if isinstance(each.fact, OrderRefunded)]
        assert {(each.refund.source_id, each.currency) for each in refunds} == {("r1", "JPY"), ("r2", "EUR")}


def test_a_refund_before_its_order_waits_for_it() -> None:
    state, facts = told(RefundObserved(**envelope(5), refund=refunded("r1", 5, 1_000)))
    assert facts == []
    assert ledger.view(state) is None
    _, facts = told(order(1), state=state)
    assert types(facts) == ["order.placed", "order.refunded"]
    placed, moment = facts[0].fact, facts[1].fact
    assert isinstance(placed, OrderPlaced)
    assert placed.order.returns == 1_000
    assert isinstance(moment, OrderRefunded)
    assert moment.refund.returns == 1_000


def test_a_stale_snapshot_still_brings_its_refunds() -> None:
    state, facts = told(order(1, 5), order(1, 2, refunds=[refunded("r1", 2, 300)]))
    assert types(facts) == ["order.placed", "order.revised", "order.refunded"]
    assert [refund.source_id for refund in ledger.refunds(state)] == ["r1"]


def test_a_complete_list_of_refunds_replaces() -> None:
    state, facts = told(
        order(1, refunds_complete=True, refunds=[refunded("r1", 0, 300), refunded("r2", 0, 200)]),
        order(1, 2, refunds_complete=True, refunds=[refunded("r2", 0, 250)]),
    )
    order_view = ledger.view(state)
    assert order_view is not None
    assert order_view.returns == 250
    assert types(facts) == ["order.placed", "order.refunded", "order.refunded", "order.revised"]


@pytest.mark.parametrize("days", [(2, 5), (5, 2)])
def test_a_refund_without_a_date_is_of_the_change_that_first_showed_it(days: tuple[int, int]) -> None:
    given = Refund(source_id="r1", returns=300)
    state, _ = told(*(order(1, day, refunds_complete=True, refunds=[given]) for day in days))
    assert state.refunds["r1"].at == at(2)


def test_a_deleted_order_may_come_back() -> None:
    state, _ = told(order(1), Removed(**envelope(3)))
    gone = ledger.view(state)
    assert gone is not None
    assert (gone.deleted, gone.counted) == (True, False)
    state, _ = told(order(1, 4), state=state)
    back = ledger.view(state)
    assert back is not None
    assert (back.deleted, back.counted) == (False, True)


def test_an_order_without_a_name_has_a_key_of_its_own() -> None:
    before = OrderState()
    after = ledger.on_observed(before, order(1), None)
    _, facts = ledger.decide(before, after, at=at(0), origin="live")
    assert facts[0].key == "order:st_one:1"


class Counted(str):
    """A name that counts how often any of its kind is compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return str(self) == other

    __hash__ = str.__hash__


def of_many(refunds: int) -> OrderState:
    """A state of before there was a limit."""
    many = order(1, refunds=[refunded(str(n), n, 1) for n in range(MOST_REFUNDS)])
    state, _ = told(many)
    more = {str(n): ledger.SeenRefund(refunded(str(n), n, 1), (at(0), 0)) for n in range(refunds)}
    names = tuple(Counted(f"refund:{n}") for n in range(refunds))
    return replace(state, refunds=more, told=names)


def test_what_was_told_is_looked_up_and_not_looked_through() -> None:
    Counted.compared = 0
    state, facts = told(order(1, 1), state=of_many(10_000))
    assert facts == []
    assert len(state.told) == 10_000
    assert Counted.compared < 10 * 10_000


def test_a_refund_of_an_order_with_many_leaves_the_entries_of_the_others_alone() -> None:
    before = of_many(MOST_REFUNDS - 1)
    after, _ = told(RefundObserved(**envelope(1), refund=refunded("new", 1, 1)), state=before)
    same = timeline.same_refunds(before, after)
    assert [each.kind for each in timeline.of_order(after, but=same)] == ["order.placed", "order.refunded"]
    renamed, _ = told(replace(order(1, 5), number="other"), state=after)
    assert timeline.same_refunds(after, renamed) == set()


def test_an_order_has_so_many_refunds_and_no_more() -> None:
    state = of_many(MOST_REFUNDS)
    again, _ = told(RefundObserved(**envelope(1), refund=refunded("7", 1, 1)), state=state)
    for one_more in (
        RefundObserved(**envelope(1), refund=refunded("new", 1, 1)),
        order(1, 2, refunds=[refunded("new", 1, 1)]),
    ):
        with pytest.raises(ledger.TooManyRefunds, match="more than 1000"):
            told(one_more, state=again)
    assert len(told(order(1, 3), state=of_many(MOST_REFUNDS + 5))[0].refunds) == MOST_REFUNDS + 5

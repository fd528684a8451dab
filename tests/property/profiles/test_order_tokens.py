"""Whoever tells an order last, its cart and checkout are those that were named last."""

from hypothesis import given
from hypothesis import strategies as st

from libs.common.contracts.commerce import OrderObserved
from services.profiles import ledger
from services.profiles.ledger import OrderState
from tests.integration.profiles.driving import order

tokens = st.sampled_from([None, "t1", "t2"])


@st.composite
def told_in_any_order(draw: st.DrawFn) -> tuple[list[OrderObserved], list[OrderObserved]]:
    """Snapshots of one order, the oldest first, and the same in the order in which they are told."""
    named = draw(st.lists(st.tuples(st.integers(0, 3), tokens, tokens), min_size=1, max_size=6))
    snapshots = [
        order(1, minute, position=n, cart_token=cart, checkout_token=checkout)
        for n, (minute, cart, checkout) in enumerate(sorted(named, key=lambda each: each[0]))
    ]
    return snapshots, draw(st.permutations([*snapshots, *draw(st.lists(st.sampled_from(snapshots), max_size=3))]))


@given(told_in_any_order())
def test_tokens_are_as_last_named(example: tuple[list[OrderObserved], list[OrderObserved]]) -> None:
    snapshots, told = example
    state = OrderState()
    for each in told:
        state = ledger.on_observed(state, each, None)
    view = ledger.view(state)
    assert view is not None
    assert state.snapshot == snapshots[-1]
    for name in ("cart_token", "checkout_token"):
        named = [token for each in snapshots if (token := getattr(each, name)) is not None]
        assert getattr(view, name) == (named[-1] if named else None)

from typing import Any

import pytest

from libs.common.contracts.commerce import (
    CartObserved,
    CheckoutObserved,
    Line,
    ProductObserved,
    Removed,
    StoreObserved,
    Variant,
)
from services.profiles import carts, checkouts, products, timeline
from services.profiles.carts import CartState
from services.profiles.checkouts import CheckoutState
from services.profiles.facts import Told
from services.profiles.ledger import OrderState
from services.profiles.products import ProductState, StoreState
from tests.integration.profiles.driving import at, order

TEA = [Line(title="Tea", quantity=3, price=5, total=15)]


def common(minute: int) -> dict[str, Any]:
    return {"store": "s", "platform": "shopify", "source_id": "7", "updated_at": at(minute), "position": minute}


def checkout(minute: int, **fields: Any) -> CheckoutObserved:
    whole: dict[str, Any] = {"started_at": at(0), "currency": "EUR", "total": 15, "lines": TEA}
    return CheckoutObserved(**{**common(minute), **whole, **fields})


def cart(minute: int, **fields: Any) -> CartObserved:
    whole: dict[str, Any] = {"started_at": at(0), "currency": "EUR", "total": 15, "lines": TEA}
    return CartObserved(**{**common(minute), **whole, **fields})


def told_of_checkout(*observed: CheckoutObserved | Removed) -> list[Any]:
    state, facts = CheckoutState(), []
    for each in observed:
        after = (
            checkouts.on_removed(state, each) if isinstance(each, Removed) else checkouts.on_observed(state, each, "a")
        )
        state, news = checkouts.decide(state, after, at=each.updated_at)
        facts += news
    return facts


def test_a_checkout_starts_changes_and_is_deleted() -> None:
    facts = told_of_checkout(checkout(1), checkout(1), checkout(3, total=20), checkout(2), Removed(**common(4)))
    assert [fact.type for fact in facts] == ["checkout.started", "checkout.changed", "checkout.deleted"]
    assert [fact.fact.revision for fact in facts] == [1, 2, 3]
    assert [fact.fact.changed_at for fact in facts] == [at(1), at(3), at(4)]
    assert facts[0].fact.items == 3
    assert facts[0].time == at(0)


def test_a_checkout_deleted_before_it_was_seen_is_deleted() -> None:
    [fact] = told_of_checkout(Removed(**common(4)), checkout(1))
    assert (fact.type, fact.fact.deleted) == ("checkout.deleted", True)


@pytest.mark.parametrize("last", [1, 9])
def test_a_token_that_stood_in_for_the_own_one_is_no_checkout_whatever_is_told_of_it(last: int) -> None:
    told: list[CheckoutObserved | Removed] = [Removed(**common(4), told_as="own"), checkout(last)]
    for history in (told, told[::-1], [*told, *told]):
        fact = told_of_checkout(*history)[-1]
        assert (fact.type, fact.fact.deleted) == ("checkout.deleted", True)
        state = CheckoutState()
        for each in history:
            if isinstance(each, Removed):
                state = checkouts.on_removed(state, each)
            else:
                state = checkouts.on_observed(state, each, "a")
        assert timeline.of_checkout(state) == []


def test_a_draft_whose_order_counted_before_its_date_was_kept_is_no_deleted_checkout() -> None:
    state = checkouts.on_removed(checkouts.on_observed(CheckoutState(), checkout(1), "a"), Removed(**common(4)))
    before = OrderState(snapshot=order(1, 2), counted_ever=True)
    shown = checkouts.view(checkouts.on_order(state, before))
    assert shown is not None
    assert (shown.deleted, shown.completed_at) == (False, order(1, 2).placed_at)


def test_a_cart_is_told_as_it_changes() -> None:
    state = CartState()
    facts: list[Told] = []
    for after in (cart(1), cart(1), cart(2, lines=[])):
        changed, news = carts.decide(state, carts.on_observed(state, after, "cart:s:7"), at=after.updated_at)
        state, facts = changed, facts + news
    assert [(fact.type, fact.key) for fact in facts] == [("cart.changed", "cart:s:7")] * 2
    gone = carts.view(carts.on_removed(state, Removed(**common(3))))
    assert gone is not None
    assert (gone.deleted, gone.changed_at, gone.items) == (True, at(3), 0)


def product(minute: int, stock: dict[str, int | None], **fields: Any) -> ProductObserved:
    variants = [Variant(source_id=variant, stock=pieces) for variant, pieces in stock.items()]
    whole: dict[str, Any] = {"title": "Tea", "status": "active", "currency": "EUR", "variants": variants}
    return ProductObserved(**{**common(minute), **whole, **fields})


def told_of_product(*observed: ProductObserved) -> tuple[ProductState, list[Any]]:
    state, facts = ProductState(), []
    for each in observed:
        state, news = products.decide(state, products.on_observed(state, each), at=each.updated_at, origin="live")
        facts += news
    return state, facts


def test_a_variant_is_back() -> None:
    _, facts = told_of_product(product(1, {"a": 0, "b": 1}), product(2, {"a": 2, "b": 0}), product(3, {"a": 3, "b": 0}))
    assert [fact.type for fact in facts] == [
        "product.changed", "product.changed", "product.restocked", "product.changed",
    ]  # fmt: skip
    assert facts[2].fact.restocked == ["a"]


@pytest.mark.parametrize("before", [None, 1])
def test_what_was_never_out_is_not_back(before: int | None) -> None:
    _, facts = told_of_product(product(1, {"a": before}), product(2, {"a": 5}))
    assert "product.restocked" not in [fact.type for fact in facts]


def test_a_partial_snapshot_leaves_the_other_variants() -> None:
    state, _ = told_of_product(product(1, {"a": 1, "b": 1}), product(2, {"a": 0}, variants_complete=False))
    shown = products.view(state)
    assert shown is not None
    assert [(v.source_id, v.stock) for v in shown.variants] == [("a", 0), ("b", 1)]


def test_a_complete_snapshot_drops_them() -> None:
    for history in (
        [product(1, {"a": 1, "b": 1}), product(2, {"a": 0})],
        [product(2, {"a": 0}), product(1, {"a": 1, "b": 1}, variants_complete=False)],
    ):
        shown = products.view(told_of_product(*history)[0])
        assert shown is not None
        assert [v.source_id for v in shown.variants] == ["a"]


def test_a_store_is_told_when_it_changes() -> None:
    def store(minute: int, name: str) -> StoreObserved:
        return StoreObserved(
            **{**common(minute), "source_id": "s"}, name=name, domain="d", currency="EUR", timezone="UTC",
            consent_policy="explicit",
        )  # fmt: skip

    state, first = products.on_store(StoreState(), store(1, "Tea"))
    state, same = products.on_store(state, store(2, "Tea"))
    state, older = products.on_store(state, store(1, "Old"))
    state, renamed = products.on_store(state, store(3, "Teas"))
    assert ([fact.type for fact in first], same, older) == (["store.changed"], [], [])
    assert renamed[0].fact.revision == 2  # type: ignore[attr-defined]

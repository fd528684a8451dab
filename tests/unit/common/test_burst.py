"""Whose fault a burst of dead letters is: a sender's garbage, or our bad deploy."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.burst import Burst, Outcome, Sender, sender_of
from libs.common.log.base import Record
from tests.contract.logs import event

LIMIT = 100
A, B, C = Sender("a", "st_1"), Sender("b", "st_1"), Sender("c", "st_1")
A2, A3 = Sender("a", "st_2"), Sender("a", "st_3")


def burst(*before: Outcome) -> Burst:
    judged = Burst(LIMIT)
    judged.add(before)
    return judged


def passing(sender: Sender, kind: str = "orders") -> Outcome:
    return Outcome(sender, kind, is_dead=False)


def dead(sender: Sender, n: int = 1, kind: str = "orders") -> list[Outcome]:
    return [Outcome(sender, kind, is_dead=True)] * n


# What is not ours.


def test_a_few_dead_letters_are_nothing() -> None:
    assert not burst().is_ours(dead(A, LIMIT))


def test_one_stores_garbage_does_not_stop_another_store_of_the_tenant() -> None:
    assert not burst(passing(A, "shopify orders")).is_ours(dead(A2, 101, "woocommerce orders"))


def test_one_tenants_garbage_stops_nobody_else() -> None:
    assert not burst(passing(A)).is_ours(dead(B, 101))


def test_a_tenants_garbage_from_many_stores_stops_no_other_tenant() -> None:
    stores = [Sender("b", f"st_{n}") for n in range(40)]
    assert not burst(passing(A)).is_ours([each for store in stores for each in dead(store, 4)])
    assert not burst(passing(A)).is_ours([each for store in stores[:3] for each in dead(store, 50)])


def test_nor_does_it_with_a_stray_dead_letter_of_another() -> None:
    assert not burst(passing(A), *dead(C)).is_ours(dead(B, 101))
    assert not burst(passing(A), *dead(A), passing(A)).is_ours(dead(B, 101))


def test_tenants_that_send_garbage_at_one_time_do_not_stop_whoever_sends_the_same_well() -> None:
    garbage = [*dead(B, 60), *dead(C, 60)]
    assert not burst(passing(A)).is_ours(garbage)
    assert not burst(passing(A)).is_ours([*garbage, *dead(B, 20, "carts")])
    garbage += [*dead(B, 20, "carts"), *dead(C, 20, "carts")]
    assert not burst(passing(A), passing(A, "carts")).is_ours(garbage)
    assert burst(passing(A)).is_ours(garbage)


def test_the_last_few_of_several_that_send_garbage_are_laid_at_their_door_too() -> None:
    garbage = [*dead(B, 96), *dead(C, 6), *dead(Sender("d", "st_1"), 6)]
    assert not burst(passing(A)).is_ours(garbage)


def test_nor_if_each_sends_what_nobody_else_does() -> None:
    assert not burst(passing(A, "customers")).is_ours([*dead(B, 60), *dead(C, 60, "carts")])
    assert not burst(passing(A, "customers")).is_ours([*dead(A2, 60), *dead(C, 60, "carts")])
    assert burst().is_ours([*dead(B, 60), *dead(C, 60, "carts")])


# What is.


def test_when_nobody_passes_it_is_ours() -> None:
    assert burst().is_ours(dead(B, 101))
    assert burst(*dead(A, 3)).is_ours(dead(B, 101))


def test_what_a_sender_does_well_itself_does_not_clear_us() -> None:
    """With one store a bad version that still reads products would look so."""
    assert burst(passing(A, "products")).is_ours([*dead(A, 101), passing(A, "products")])


def test_when_several_fail_at_once_it_is_ours() -> None:
    for stores in ([B, C], [A2, A3]):
        garbage = [each for store in stores for each in dead(store, 60)]
        assert burst(passing(A, "products")).is_ours(garbage)
    assert burst(passing(A)).is_ours([each for n in range(30) for each in dead(Sender(f"tenant {n}", "st_1"), 4)])
    assert burst(passing(A)).is_ours([each for n in range(30) for each in dead(Sender("a", f"st_{n}"), 4)])


def test_a_bad_deploy_is_seen_by_the_first_order_of_a_small_store() -> None:
    """All its products pass, and the large store's orders alone would be a burst."""
    judged = burst(passing(A2, "products"))
    assert not judged.is_ours(dead(A, 101))
    assert judged.is_ours([*dead(A, 101), *dead(A2)])
    judged.add(dead(A2))
    assert judged.is_ours(dead(A, 101))


def test_who_fails_since_has_passed_no_more() -> None:
    """A platform changes its format: what passed before is no proof."""
    assert burst(passing(A), *dead(A)).is_ours([*dead(B, 60), *dead(C, 60)])


# What is seen ahead.


def test_a_record_ahead_clears_us() -> None:
    case = burst().case(dead(A2, 101, "woocommerce orders"))
    assert case.is_ours
    assert not case.wants(A2, "woocommerce orders")
    assert case.wants(A, "shopify orders")
    case.note(passing(A, "shopify orders"))
    assert not case.is_ours


def test_the_same_failing_ahead_does_not() -> None:
    case = burst().case(dead(A2, 101))
    case.note(passing(A, "products"))
    assert not case.is_ours
    assert case.wants(A, "orders")
    case.note(*dead(A))
    assert case.is_ours
    case.note(passing(A3))
    assert not case.is_ours


def test_what_cannot_clear_us_is_not_looked_at() -> None:
    everybody = [each for n in range(30) for each in dead(Sender(f"tenant {n}", "st_1"), 4)]
    assert not burst().case(everybody).wants(A, "orders")
    two = burst().case([*dead(B, 60), *dead(C, 60)])
    assert two.wants(A, "orders")
    assert not two.wants(A, "products")


# Whatever happens.

KINDS = st.sampled_from(["orders", "carts", "products"])
SENDERS = st.builds(Sender, st.sampled_from("abc"), st.sampled_from(["st_1", "st_2"]))
HISTORIES = st.lists(st.builds(Outcome, SENDERS, KINDS, st.booleans()), max_size=40)


def mixed(parts: Sequence[Outcome], more: Sequence[Outcome], data: st.DataObject) -> list[Outcome]:
    """Both, in an order of chance."""
    ours = list(more)
    for part in parts:
        ours.insert(data.draw(st.integers(0, len(ours))), part)
    return ours


@given(HISTORIES, SENDERS, st.data())
def test_never_ours_is_what_one_sender_does_while_all_others_pass(
    before: list[Outcome], bad: Sender, data: st.DataObject
) -> None:
    """A store, or a tenant with all its stores, whatever kinds it sends."""
    by_tenant = data.draw(st.booleans())
    others = [
        passing(sender, kind)
        for sender, kind, _ in before
        if (sender.tenant != bad.tenant if by_tenant else sender != bad)
    ]
    other = Sender("d", "st_1")
    stores = st.sampled_from([bad, bad._replace(store="st_3")] if by_tenant else [bad])
    garbage = [Outcome(data.draw(stores), data.draw(KINDS), is_dead=True) for _ in range(20)]
    judged = burst(*mixed([*others, passing(other, data.draw(KINDS))], garbage * 3, data))
    for _ in range(8):
        assert not judged.is_ours(garbage * 3)
        judged.add(garbage * 3)


@given(HISTORIES, st.lists(SENDERS, min_size=2, max_size=6), st.data())
def test_ours_is_what_dies_whoever_sends_it(before: list[Outcome], senders: list[Sender], data: st.DataObject) -> None:
    """A bad version: orders die, and the rest passes. That of one sender alone may be its own doing."""
    if len({sender.tenant for sender in senders}) == 1 and len(set(senders)) == 1:
        senders = [*senders, senders[0]._replace(tenant="d")]
    only = {sender.tenant for sender in senders}
    rest = [
        passing(sender, kind)
        for sender, kind, _ in before
        if kind != "orders" and (len(only) > 1 or sender.tenant in only)
    ]
    orders = [*dead(senders[0]), *(each for sender in senders for each in dead(sender, data.draw(st.integers(1, 99))))]
    orders += dead(data.draw(st.sampled_from(senders)), max(0, LIMIT + 1 - len(orders)))
    assert burst().is_ours(mixed(rest, orders, data))


@given(HISTORIES, HISTORIES, st.builds(Outcome, SENDERS, KINDS, st.booleans()))
def test_who_passes_never_speaks_against_us_and_who_dies_never_for_us(
    history: list[Outcome], ahead: list[Outcome], last: Outcome
) -> None:
    case = burst(*history).case(history * 5)
    for outcome in ahead:
        case.note(outcome)
    was_ours, wanted = case.is_ours, case.wants(last.sender, last.kind)
    case.note(last)
    assert case.is_ours == was_ours or (was_ours != last.is_dead and wanted)


def test_what_is_remembered_has_a_bound() -> None:
    judged = burst(*(passing(Sender("a", f"st_{n}")) for n in range(1000)))
    assert len(judged._passed) == judged.of == len(judged._last)


# Who sent it.


@pytest.mark.parametrize(
    ("key", "store"),
    [
        ("st_1:order:7", "st_1"),
        ("st_1:delivery:st_2", "st_1"),
        ("customer:st_1:7", "st_1"),
        ("cart:st_1:st_2:7", "st_1"),
        ("0195e0f0-profile", ""),
        ("order:7:st_2", ""),
    ],
)
def test_the_key_says_whose_it_is(key: str, store: str) -> None:
    sent = event(key, tenant="a")
    fields = {name: getattr(sent, name) for name in sent.__struct_fields__}
    record = Record(**fields, topic="t", partition=0, offset=0, appended_at=sent.time)
    assert sender_of(record) == Sender("a", store)

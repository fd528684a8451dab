"""Whose fault a burst of dead letters is."""

from libs.common.burst import Burst, Outcome

GARBAGE: list[Outcome] = [("b", True)] * 101


def burst() -> Burst:
    return Burst(100, 200)


def test_a_few_dead_letters_are_nothing() -> None:
    assert not burst().is_ours([("a", True)] * 100)


def test_when_nobody_passes_it_is_ours() -> None:
    assert burst().is_ours(GARBAGE)


def test_one_tenants_garbage_stops_nobody_else() -> None:
    judged = burst()
    judged.add([("a", False)])
    assert not judged.is_ours(GARBAGE)


def test_nor_does_it_with_a_stray_dead_letter_of_another() -> None:
    judged = burst()
    judged.add([("a", False), ("a", True), ("c", True)])
    assert not judged.is_ours(GARBAGE)


def test_when_several_tenants_fail_at_once_it_is_ours() -> None:
    judged = burst()
    judged.add([("a", False)])
    assert judged.is_ours([*[("b", True)] * 60, *[("c", True)] * 60])
    assert judged.is_ours([(f"tenant {n % 30}", True) for n in range(120)])

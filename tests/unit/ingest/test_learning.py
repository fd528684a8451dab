"""Who a person is, by what the deliveries of one store say: closed over, in any order, and nobody else."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.learning import CROWD, EMAILS, TURNS, Learning, begun, looked
from services.ingest.statements import Saying, Told

EVE, ADAM = "email:eve@example.com", "email:adam@example.com"
PHONE = "phone:4930123456"


def by_record(*names: str) -> Told:
    return told(Saying(record=True, names=tuple(sorted(names))))


def by_event(*names: str, objects: Sequence[str] = (), root: str = "person:0a") -> Told:
    return told(Saying(record=False, names=tuple(sorted(names))), objects=objects, root=root)


def told(*sayings: Saying, objects: Sequence[str] = (), root: str = "person:0a") -> Told:
    return Told(root, b"", {}, tuple(each for each in sayings if each.names), tuple(objects))


def learned(asked: set[str], deliveries: Sequence[Told], batch: int = 100) -> Learning:
    """At its end; bounded, or it would not come to one."""
    known = begun(asked, ())
    while not known.done:
        turn = known.at[0]
        assert turn <= TURNS
        steps = [*range(0, len(deliveries), batch)] or [0]
        for n in steps:
            last = n == steps[-1]
            at = (turn + 1, "") if last else (turn, f"{n:08}")
            known, _ = looked(known, deliveries[n : n + batch], at)
            if known.done:
                break
    return known


@pytest.mark.parametrize("asked", [{EVE}, {"customer:7"}, {PHONE}, {"email:eve@old.example.com"}])
def test_a_record_s_names_are_one_person_s(asked: set[str]) -> None:
    deliveries = [
        by_record("customer:8", ADAM),
        by_record("customer:7", "email:eve@old.example.com"),
        by_record("customer:7", EVE, PHONE),
        by_event(EVE, objects=["cart:T"]),
        by_event(objects=["cart:T", "checkout:k"]),
        by_event(objects=["checkout:k", "order:1"]),
        by_event(ADAM, objects=["order:2", "cart:T"]),
    ]
    found = learned(asked, deliveries)
    assert found.names == {"customer:7", EVE, "email:eve@old.example.com", PHONE}
    assert found.roots == {"cart:T", "checkout:k", "order:1"}


@pytest.mark.parametrize(
    ("asked", "deliveries", "more"),
    [
        # Beside one another, and beside nobody else: anybody may order in another's name.
        ({EVE}, [by_event("customer:7", EVE)], set()),
        ({"customer:7"}, [by_event("customer:7", EVE)], set()),
        # A number that guests share, by its records, too.
        (
            {EVE},
            [by_record("customer:1", EVE), *(by_event("customer:1", f"email:{n}@example.com") for n in range(EMAILS))],
            set(),
        ),
        # A number that guests share.
        ({EVE}, [by_event("customer:1", EVE), by_event("customer:1", ADAM)], set()),
        ({"customer:1"}, [by_event("customer:1", EVE), by_event("customer:1", ADAM)], set()),
        # An account that ordered for her; and she is not its owner's.
        ({EVE}, [by_event("customer:8", EVE), by_record("customer:8", ADAM)], set()),
        ({"customer:8"}, [by_event("customer:8", EVE), by_record("customer:8", ADAM)], {ADAM}),
        # A record outweighs what others say.
        ({EVE}, [by_record("customer:7", EVE), by_event("customer:7", ADAM)], {"customer:7"}),
        ({"customer:7"}, [by_record("customer:7", EVE), by_event("customer:8", EVE)], {EVE}),
        # Two accounts of one e-mail: hers when the e-mail is what she asked by.
        ({EVE}, [by_record("customer:7", EVE), by_record("customer:8", EVE)], {"customer:7", "customer:8"}),
        ({"customer:7"}, [by_record("customer:7", EVE), by_record("customer:8", EVE)], set()),
        ({EVE}, [by_event("customer:7", EVE), by_event("customer:8", EVE)], set()),
        ({EVE, "customer:7"}, [by_event("customer:7", EVE), by_event("customer:8", EVE)], set()),
        # A household's phone.
        ({EVE}, [by_record("customer:7", EVE, PHONE), by_record("customer:8", ADAM, PHONE)], {"customer:7"}),
        ({PHONE}, [by_record("customer:7", EVE, PHONE), by_record("customer:8", ADAM, PHONE)], set()),
        ({PHONE}, [by_record("customer:7", PHONE), by_event(ADAM, PHONE)], set()),
        ({EVE}, [by_event(EVE, PHONE), by_event(ADAM, PHONE)], set()),
        ({EVE}, [by_event(EVE, PHONE)], {PHONE}),
        ({PHONE}, [by_event("customer:8", EVE, PHONE), by_record("customer:8", ADAM)], set()),
        # A cart that two had.
        ({EVE}, [by_event(EVE, objects=["cart:T"]), by_event("customer:8", ADAM, objects=["cart:T"])], set()),
    ],
)  # fmt: skip
def test_nobody_else_is_learned(asked: set[str], deliveries: list[Told], more: set[str]) -> None:
    for order in (deliveries, deliveries[::-1]):
        for batch in (1, 100):
            assert learned(asked, order, batch).names == asked | more


def test_a_crowd_is_nobody() -> None:
    crowd = [by_event("customer:1", f"phone:4930{n:06}") for n in range(CROWD + 1)]
    assert learned({"customer:1"}, crowd).names == {"customer:1"}
    assert len(learned({"customer:1"}, crowd[:CROWD]).names) == CROWD + 1
    few = learned({"customer:1"}, crowd * 20, batch=10)
    assert few.crowded == {"customer:1"}
    assert CROWD < len(few.sayings) <= CROWD + 10


def test_a_chain_without_end_is_given_up() -> None:
    # From its end: each turn finds one more of them.
    chain = [by_event(objects=[f"cart:{n}", f"cart:{n + 1}"]) for n in range(TURNS + 5)]
    known = begun({EVE}, ["cart:0"])
    for turn in range(1, TURNS + 1):
        assert not known.done
        for n in range(len(chain) - 1, -1, -1):
            known, _ = looked(known, [chain[n]], (turn, f"{len(chain) - n:08}") if n else (turn + 1, ""))
    assert (known.done, known.gave_up) == (True, True)
    # Looked at all at once, they are no chain.
    assert learned({EVE} | {"customer:1"}, chain).gave_up is False


# Worlds ---------------------------------------------------------------------------------------------------------------

PEOPLE = 4
PERSON = st.integers(0, PEOPLE - 1)


def names_of(n: int) -> dict[str, str]:
    return {
        "customer": f"customer:{n}",
        "email": f"email:{n}@example.com",
        "new": f"email:{n}@new.example.com",
        "phone": f"phone:49300000{n:02}",
    }


@st.composite
def worlds(draw: st.DrawFn) -> list[Told]:
    """Records of all four people, and what they do: with their own names, for one another, with phones and devices
    that they share."""
    deliveries = []
    for n in range(PEOPLE):
        who = names_of(n)
        deliveries.append(by_record(who["customer"], who["email"]))
        if draw(st.booleans()):
            deliveries.append(by_record(who["customer"], who["new"], who["phone"]))
    for _ in range(draw(st.integers(0, 12))):
        n, other, token = draw(PERSON), draw(PERSON), draw(PERSON)
        who, cart = names_of(n), f"cart:{token}"
        match draw(st.sampled_from(["own", "for another", "phone", "nobody", "shared number", "guest"])):
            case "own":
                known = draw(st.sets(st.sampled_from(["customer", "email", "phone"]), min_size=1))
                deliveries.append(by_event(*(who[kind] for kind in known), objects=[cart]))
            case "for another":
                own = Saying(record=True, names=(who["customer"], who["email"]))
                deliveries.append(told(own, Saying(record=False, names=(names_of(other)["email"],)), objects=[cart]))
                deliveries.append(by_event(who["customer"], names_of(other)["email"]))
            case "phone":
                deliveries.append(by_record(who["customer"], who["email"], names_of(other)["phone"]))
            case "nobody":
                deliveries.append(by_event(objects=[cart, f"checkout:{other}"]))
            case "shared number":
                deliveries += [
                    by_event("customer:till", who["email"]),
                    by_event("customer:till", "email:guest@b.example"),
                ]
            case _:
                deliveries.append(by_event(who["email"], objects=[f"order:{token}"]))
    return deliveries


ASKED = st.tuples(PERSON, st.sets(st.sampled_from(["customer", "email"]), min_size=1))


@given(worlds(), ASKED, st.randoms(use_true_random=False), st.integers(1, 20))
def test_order_and_size_of_steps_do_not_matter(
    world: list[Told], asked: tuple[int, set[str]], dice: object, batch: int
) -> None:
    n, kinds = asked
    names = {names_of(n)[kind] for kind in kinds}
    once = learned(names, world)
    shuffled = list(world)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    again = learned(names, shuffled, batch)
    assert (once.names, once.roots) == (again.names, again.roots)
    assert [once.gave_up, again.gave_up] == [False, False]


@given(worlds(), ASKED)
def test_nothing_of_another_customer_is_taken(world: list[Told], asked: tuple[int, set[str]]) -> None:
    n, kinds = asked
    found = learned({names_of(n)[kind] for kind in kinds}, world)
    others = {
        name for other in range(PEOPLE) if other != n for kind, name in names_of(other).items() if kind != "phone"
    }
    assert found.names.isdisjoint(others | {"customer:till", "email:guest@b.example"})
    # And all of his own by any of them.
    own = {names_of(n)["customer"], names_of(n)["email"]}
    changed = any(names_of(n)["new"] in delivery.names for delivery in world)
    assert found.names >= own | ({names_of(n)["new"]} if changed else set())
    # A phone is taken where nobody else goes by it.
    for phone in (name for name in found.names if name.startswith("phone:")):
        assert {name for each in world if phone in each.names for name in each.names} <= found.names


@given(worlds(), ASKED, st.lists(PERSON, max_size=3))
def test_what_is_known_stays_known_when_more_is_asked_for(
    world: list[Told], asked: tuple[int, set[str]], more: list[int]
) -> None:
    n, kinds = asked
    names = {names_of(n)[kind] for kind in kinds}
    few, many = learned(names, world), learned(names | {names_of(each)["email"] for each in more}, world)
    assert few.names <= many.names
    assert few.roots <= many.roots

from datetime import date
from itertools import permutations
from typing import Any

import pytest
from msgspec.structs import replace

from libs.common.contracts.commerce import (
    ActivityObserved,
    CheckoutObserved,
    Consent,
    ConsentObserved,
    CustomerObserved,
    Identifiers,
    Person,
    Removed,
)
from libs.common.contracts.customers import ConsentChanged
from libs.common.contracts.types import Account, ConsentState
from libs.common.junk import Junk
from services.profiles import consent, people
from services.profiles.consent import Held
from services.profiles.people import PersonState
from tests.integration.profiles.driving import RULES, at, order

ACCOUNT = Account("customer:st_one:7")


def customer(minute: int, **fields: Any) -> CustomerObserved:
    whole: dict[str, Any] = {
        "store": "st_one",
        "platform": "shopify",
        "source_id": "7",
        "updated_at": at(minute),
        "position": minute,
        "person": Person(email="Ada@Example.com"),
    }
    return CustomerObserved(**{**whole, **fields})


def event(minute: int, **who: str) -> ActivityObserved:
    return ActivityObserved(
        store="st_one",
        platform="events",
        source_id=f"e{minute}",
        updated_at=at(minute),
        position=minute,
        activity="lead.created",
        identifiers=Identifiers(**who),
    )


def known(*observed: Any) -> PersonState:
    state = PersonState()
    for each in observed:
        state = people.on_observed(state, each, RULES.junk)
    return state


def test_the_record_outweighs_what_orders_mention() -> None:
    mentioned = order(1, 9, person=Person(email="other@example.com", phone="+4915112345601", first_name="A."))
    for history in ([customer(1), mentioned], [mentioned, customer(1)]):
        said = people.traits(known(*history))
        assert said["email"] == "ada@example.com"
        assert said["phone"] == "+4915112345601"
        assert said["first_name"] == "A."


def test_each_trait_is_as_last_mentioned() -> None:
    older, newer = (
        order(1, 1, person=Person(first_name="Ada", locale="de")),
        order(2, 2, person=Person(first_name="A.")),
    )
    assert people.traits(known(older, newer)) == people.traits(known(newer, older))
    assert people.traits(known(newer, older)) == {
        "email": None, "phone": None, "first_name": "A.", "last_name": None, "locale": "de", "country": None,
    }  # fmt: skip


def test_what_an_event_names_is_a_mention_like_an_orders() -> None:
    told = event(1, email="Ada@Example.com", phone="+49 151 12345601", customer_id="7")
    gave = said("subscribed", 2)
    consented = ConsentObserved(
        store="st_one", platform="events", source_id="e2", updated_at=at(2), position=2, consent=gave,
        identifiers=Identifiers(email="a@example.com", customer_id="7"),
    )  # fmt: skip
    bought = order(1, 3, person=Person(first_name="Ada", email="other@example.com"))
    named = {"email": "other@example.com", "phone": "+4915112345601", "first_name": "Ada"}
    for history in permutations([told, consented, bought]):
        assert people.traits(known(*history, *history)) == dict.fromkeys(people.TRAITS) | named
    for history in permutations([told, consented]):
        assert people.traits(known(*history))["email"] == "a@example.com"
    for history in permutations([told, consented, bought, customer(0)]):
        assert people.traits(known(*history))["email"] == "ada@example.com"


def test_a_proof_of_before_does_not_put_a_former_address_back() -> None:
    first, later = event(1, email="old@example.com"), event(5, email="new@example.com")
    viewed = replace(event(9, email="old@example.com"), named_at=at(2))
    started = CheckoutObserved(
        store="st_one", platform="events", source_id="k", updated_at=at(9), position=10, started_at=at(9),
        currency="EUR", total=1, person=Person(email="old@example.com"), named_at=at(2),
    )  # fmt: skip
    for history in permutations([first, later, viewed, started]):
        assert people.traits(known(*history, *history))["email"] == "new@example.com"
    # It outweighs what was told before it was made; and what needs no proof is as new as it is.
    for history in permutations([event(1, email="older@example.com"), viewed]):
        assert people.traits(known(*history))["email"] == "old@example.com"
    for history in permutations([later, event(9, email="old@example.com")]):
        assert people.traits(known(*history))["email"] == "old@example.com"


def test_what_is_no_address_or_junk_is_no_mention() -> None:
    for who in ({"email": "noreply@example.com"}, {"email": "ada"}, {"phone": "030 1"}, {"cart_token": "c"}, {}):
        assert known(event(1, **who)).mentioned == {}


def test_what_is_longer_than_any_name_is_cut() -> None:
    said = people.normalised(Person(first_name="A" * 1_000_000, country="d" * 1_000_000, email="ada@shop.test"), Junk())
    assert said == Person(first_name="A" * 255, country="D" * 255, email="ada@shop.test")


def test_a_person_is_told_when_he_changes_and_only_then() -> None:
    before = PersonState()
    told_once, facts = people.decide(ACCOUNT, "st_one", before, known(customer(1)), at=at(1), origin="live")
    assert [(fact.type, fact.key) for fact in facts] == [("profile.changed", ACCOUNT)]
    again = people.on_observed(told_once, customer(2), RULES.junk)
    assert people.decide(ACCOUNT, "st_one", told_once, again, at=at(2), origin="live")[1] == []


def test_a_cart_says_nothing_of_its_person() -> None:
    assert people.view(Account("cart:st_one:c"), "st_one", PersonState()) is None


def test_a_removed_customer_is_deleted_until_seen_again() -> None:
    removed = Removed(store="st_one", platform="shopify", source_id="7", updated_at=at(5), position=5)
    shown = people.view(ACCOUNT, "st_one", known(removed, customer(1)))
    assert shown is not None
    assert shown.deleted
    assert not people.is_deleted(known(removed, customer(6)))


def test_what_a_deleted_customer_said_is_gone_with_him_in_any_order() -> None:
    """What his orders mention stays, as the orders do; he may come back."""
    gone = Removed(store="st_one", platform="shopify", source_id="7", updated_at=at(5), position=5)
    whole = customer(1, person=Person(first_name="Ada", email="ada@example.com"), birthday=date(1990, 1, 2))
    bought = order(1, 2, person=Person(last_name="Byron"))
    for history in permutations([whole, gone, bought]):
        state = known(*history)
        shown = people.view(ACCOUNT, "st_one", state)
        assert shown is not None
        assert (shown.deleted, shown.first_name, shown.email, shown.birthday) == (True, None, None, None)
        assert shown.last_name == "Byron"
        assert people.merge([state]) == people.Merged(last_name="Byron")
        assert people.merge([state, known(customer(0))]).email == "ada@example.com"
    back = customer(6, person=Person(first_name="Augusta"))
    for history in permutations([whole, gone, back]):
        assert people.traits(known(*history))["first_name"] == "Augusta"


def test_seen_first_when_the_earliest_says() -> None:
    assert known(order(1, 9, placed_at=at(3)), customer(5, created_at=at(1))).first_seen_at == at(1)


def test_activity_only_goes_forward() -> None:
    state = people.on_activity(people.on_activity(PersonState(), at(5)), at(2))
    assert state.last_activity_at == at(5)


def test_a_profile_has_the_newest_record_first() -> None:
    merged = people.merge(
        [
            known(order(1, 9, person=Person(first_name="Guest", last_name="Lovelace"))),
            known(customer(1, person=Person(first_name="Old", locale="en"))),
            known(customer(2, person=Person(first_name="New"))),
        ]
    )
    assert (merged.first_name, merged.locale, merged.last_name) == ("New", "en", "Lovelace")


def said(state: ConsentState, minute: int, source: str = "customer") -> Consent:
    return Consent(channel="email", state=state, at=at(minute), source=source)


def test_the_later_word_holds_and_a_withdrawal_wins_a_tie() -> None:
    for first, second, state in [
        (said("subscribed", 1), said("unsubscribed", 2), "unsubscribed"),
        (said("unsubscribed", 1), said("subscribed", 2), "subscribed"),
        (said("subscribed", 2), said("unsubscribed", 2), "unsubscribed"),
    ]:
        for pair in ((first, second), (second, first)):
            held = consent.hold(consent.hold(None, pair[0]), pair[1])
            assert held.state == state


def test_consent_is_told_when_it_changes() -> None:
    held, facts = consent.decide(ACCOUNT, "st_one", said("subscribed", 1), None, origin="live")
    fact = facts[0].fact
    assert isinstance(fact, ConsentChanged)
    assert (fact.state, fact.revision) == ("subscribed", 1)
    assert consent.decide(ACCOUNT, "st_one", said("unsubscribed", 0), held, origin="live") == (held, [])


def test_a_ticked_box_dates_from_the_order_and_not_from_its_updates() -> None:
    withdrawn = said("unsubscribed", 5)
    refunded_later = order(1, 9, placed_at=at(1), accepts_marketing=True)
    [ticked] = consent.stated(refunded_later)
    assert consent.hold(consent.hold(None, withdrawn), ticked).state == "unsubscribed"
    assert consent.stated(order(1, accepts_marketing=False)) == []
    assert consent.stated(order(1)) == []


def test_a_ticked_checkout_dates_from_its_start() -> None:
    checkout = CheckoutObserved(
        store="s", platform="shopify", source_id="t", updated_at=at(9), position=0, started_at=at(1), currency="EUR",
        total=0, accepts_marketing=True,
    )  # fmt: skip
    assert consent.stated(checkout) == [said("subscribed", 1, "checkout")]


@pytest.mark.parametrize(
    ("states", "strictest"),
    [
        (["subscribed", "unsubscribed"], "unsubscribed"),
        (["pending", "subscribed"], "subscribed"),
        (["pending"], "pending"),
        ([], None),
    ],
)
def test_over_accounts_the_strictest_holds(states: list[ConsentState], strictest: str | None) -> None:
    held = consent.strictest(Held(state=state, at=at(n), source="x") for n, state in enumerate(states))
    assert (held.state if held else None) == strictest

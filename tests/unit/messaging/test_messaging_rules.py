"""What a run does next. Given a look and an instant, then a decision."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from services.messaging.flows import BUILT_IN, CART_ABANDONMENT, RE_ENGAGEMENT, Variant, decode, encode, share
from services.messaging.ledger import STATES, following, sources
from services.messaging.person import AccountFacts, Person, masked, usable_address
from services.messaging.rules import Act, Basket, Disarm, End, Look, Run, Sleep, TokenOrder, decide, own_run

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ADA = AccountFacts(account="a1", store="s", email="ada@example.com")


def basket(**different: Any) -> Basket:
    given: dict[str, Any] = {
        "kind": "checkout",
        "store": "s",
        "token": "t",
        "account": "a1",
        "started_at": NOON,
        "changed_at": NOON,
        "items": 1,
        "currency": "EUR",
        "total": 100,
        "lines": "[]",
    }
    return Basket(**(given | different))


def person(*accounts: AccountFacts) -> Person:
    return Person(profile="p", accounts=accounts or (ADA,))


def facts(**different: Any) -> AccountFacts:
    return msgspec.structs.replace(ADA, **different)


def look(**different: Any) -> Look:
    given: dict[str, Any] = {
        "tenant": "x",
        "store": "s",
        "subject": "t",
        "person": person(),
        "baskets": (basket(),),
    }
    return Look(**(given | different))


def run(**different: Any) -> Run:
    given: dict[str, Any] = {
        "run_key": "s:t",
        "version": 1,
        "subject": "t",
        "account": "a1",
        "began_at": NOON,
        "step": 1,
    }
    return Run(**(given | different))


def test_the_built_in_flows_are_those_of_the_definition() -> None:
    delays = {flow.key: [step.delay for step in flow.steps] for flow in BUILT_IN}
    assert delays == {"cart_abandonment": [45 * HOUR / 60, DAY, 2 * DAY], "re_engagement": [30 * DAY, 37 * DAY]}
    assert {step.ceiling for step in CART_ABANDONMENT.steps} == {6 * HOUR}
    assert {step.ceiling for step in RE_ENGAGEMENT.steps} == {DAY}
    assert (CART_ABANDONMENT.again_after, RE_ENGAGEMENT.again_after) == (DAY, 90 * DAY)
    assert [step.discount_code for step in CART_ABANDONMENT.steps] == [None] * 3
    for flow in BUILT_IN:
        assert decode(encode(flow)) == flow


def test_a_flow_that_cannot_be() -> None:
    with pytest.raises(msgspec.ValidationError):
        decode(encode(CART_ABANDONMENT).replace('"steps":[', '"steps":[],"was":['))
    with pytest.raises(msgspec.ValidationError):
        decode(encode(CART_ABANDONMENT).replace("basket_abandoned", "full_moon"))


def test_variants_and_the_control_group_are_shares_of_profiles() -> None:
    step = msgspec.structs.replace(
        CART_ABANDONMENT.steps[0], variants=(Variant(template="a", weight=3), Variant(template="b", weight=1))
    )
    flow = msgspec.structs.replace(CART_ABANDONMENT, steps=(step,), holdout=0.1)
    chosen = [flow.template(1, str(n)) for n in range(4000)]
    assert 2800 < chosen.count("a") < 3200
    assert 300 < sum(flow.control(str(n)) for n in range(4000)) < 500
    assert chosen[:50] == [flow.template(1, str(n)) for n in range(50)]
    assert share("ab", "c") != share("a", "bc")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Sleep),
        ({"now": NOON + HOUR}, Act),
        ({"now": NOON + HOUR, "person": None}, Disarm),
        ({"now": NOON + HOUR, "person": person(facts(email=None))}, Disarm),
        ({"now": NOON + HOUR, "person": person(facts(email="not an address"))}, Disarm),
        ({"now": NOON + HOUR, "person": person(facts(deleted=True))}, Disarm),
        ({"now": NOON + HOUR, "person": person(facts(ordered_at=NOON))}, Disarm),
        ({"now": NOON + HOUR, "person": person(facts(ordered_at=NOON - HOUR))}, Act),
        # Withdrawn: the gate says so in the ledger; before the first step there is no run to end.
        ({"now": NOON + HOUR, "person": person(facts(consents={"email": "unsubscribed"}))}, Act),
        ({"now": NOON + HOUR, "baskets": ()}, Disarm),
        ({"now": NOON + HOUR, "baskets": (basket(items=0),)}, Disarm),
        ({"now": NOON + HOUR, "baskets": (basket(deleted=True),)}, Disarm),
        ({"now": NOON + HOUR, "baskets": (basket(live=False),)}, Disarm),
        ({"now": NOON + HOUR, "baskets": (basket(completed_at=NOON),)}, Disarm),
        ({"now": NOON + HOUR, "baskets": (basket(account=None),)}, Disarm),
        ({"now": NOON + HOUR, "orders": (TokenOrder(placed_at=NOON - DAY, checkout_token="t"),)}, Disarm),
        ({"now": NOON + HOUR, "orders": (TokenOrder(placed_at=NOON, checkout_token="u"),)}, Act),
    ],
)
def test_whether_a_run_begins(given: dict[str, Any], expected: type) -> None:
    now = given.pop("now", NOON)
    assert type(decide(look(**given), CART_ABANDONMENT, None, now)) is expected


def test_steps_count_from_the_last_change() -> None:
    first = decide(look(), CART_ABANDONMENT, None, NOON + HOUR)
    assert isinstance(first, Act)
    assert (first.step, first.due_at, first.again) == (1, NOON + 45 * HOUR / 60, NOON + DAY)
    moved = look(baskets=(basket(changed_at=NOON + 5 * HOUR),))
    assert decide(moved, CART_ABANDONMENT, run(), NOON + DAY) == Sleep(until=NOON + 29 * HOUR)
    last = decide(moved, CART_ABANDONMENT, run(step=2), NOON + 53 * HOUR)
    assert isinstance(last, Act)
    assert (last.step, last.again) == (3, None)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"person": person(facts(ordered_at=NOON))}, "ordered"),
        ({"person": person(ADA, facts(account="a2", ordered_at=NOON + HOUR))}, "ordered"),
        ({"baskets": (basket(items=0),)}, "emptied"),
        ({"baskets": (basket(deleted=True),)}, "emptied"),
        ({"baskets": (basket(completed_at=NOON),)}, "completed"),
        ({"person": person(facts(deleted=True))}, "erased"),
        ({"person": person(facts(consents={"email": "unsubscribed"}))}, "unsubscribed"),
        ({"person": person(facts(suppressed="complaint"))}, "unsubscribed"),
    ],
)
def test_what_ends_a_run(given: dict[str, Any], reason: str) -> None:
    ended = decide(look(**given), CART_ABANDONMENT, run(), NOON + 30 * HOUR)
    assert ended == End(run_key="s:t", reason=reason, again=None)  # type: ignore[arg-type]


def test_an_order_before_the_run_began_does_not_end_it() -> None:
    seen = look(person=person(facts(ordered_at=NOON - HOUR)))
    assert isinstance(decide(seen, CART_ABANDONMENT, run(), NOON + 30 * HOUR), Act)


def test_a_run_that_ended_stays_ended() -> None:
    assert decide(look(), CART_ABANDONMENT, run(ended=True), NOON + 30 * DAY) == Disarm()


@pytest.mark.parametrize(("apart", "begins"), [(23 * HOUR, False), (DAY, True), (-23 * HOUR, False), (-DAY, True)])
def test_one_new_run_in_a_day_by_event_time(apart: timedelta, begins: bool) -> None:  # noqa: FBT001
    seen = look(runs=(run(run_key="s:u", subject="u", began_at=NOON - apart),))
    assert isinstance(decide(seen, CART_ABANDONMENT, None, NOON + HOUR), Act if begins else Disarm)


def test_a_cart_gives_way_to_its_checkout() -> None:
    cart = basket(kind="cart", token="c")
    checkout = basket(cart_token="c", changed_at=NOON + HOUR)
    of_cart = look(subject="c", baskets=(cart, checkout))
    assert decide(of_cart, CART_ABANDONMENT, None, NOON + 3 * HOUR) == Disarm()
    assert isinstance(decide(look(baskets=(checkout,)), CART_ABANDONMENT, None, NOON + 3 * HOUR), Act)


def test_a_checkout_goes_on_with_the_run_of_its_cart() -> None:
    checkout = basket(cart_token="c", changed_at=NOON + HOUR)
    theirs = run(run_key="s:c", subject="c")
    assert decide(look(baskets=(checkout,), runs=(theirs,)), CART_ABANDONMENT, None, NOON + 3 * HOUR) == Disarm()
    seen = look(subject="c", baskets=(basket(kind="cart", token="c"), checkout), runs=(theirs,))
    assert own_run(seen, CART_ABANDONMENT) == theirs
    spoken = decide(seen, CART_ABANDONMENT, theirs, NOON + 25 * HOUR)
    assert isinstance(spoken, Act)
    assert spoken.situation.basket == checkout
    assert spoken.step == 2


def test_a_checkout_that_was_told_under_the_token_of_its_cart_gives_way_to_its_own() -> None:
    cart = basket(kind="cart", token="c")
    stood_in = basket(token="c", cart_token="c", deleted=True)
    own = basket(cart_token="c", changed_at=NOON + HOUR)
    theirs = run(run_key="s:c", subject="c")
    seen = look(subject="c", baskets=(stood_in, cart, own), runs=(theirs,))
    spoken = decide(seen, CART_ABANDONMENT, theirs, NOON + 25 * HOUR)
    assert isinstance(spoken, Act)
    assert spoken.situation.basket == own
    alone = look(subject="c", baskets=(stood_in, cart), runs=(theirs,))
    assert isinstance(decide(alone, CART_ABANDONMENT, theirs, NOON + 25 * HOUR), End)


def test_a_cart_whose_token_lives_on() -> None:
    sold = TokenOrder(placed_at=NOON, cart_token="c")
    emptied = look(subject="c", baskets=(basket(kind="cart", token="c", changed_at=NOON + HOUR / 60),), orders=(sold,))
    assert decide(emptied, CART_ABANDONMENT, None, NOON + 2 * HOUR) == Disarm()
    anew = look(subject="c", baskets=(basket(kind="cart", token="c", changed_at=NOON + HOUR),), orders=(sold,))
    assert isinstance(decide(anew, CART_ABANDONMENT, None, NOON + 2 * HOUR), Act)


def lapse(**different: Any) -> Look:
    buyer = facts(ordered_at=NOON, ordered_live_at=NOON, **different.pop("account", {}))
    return look(subject="a1", store="", baskets=(), person=person(buyer), **different)


def test_a_lapse() -> None:
    assert decide(lapse(), RE_ENGAGEMENT, None, NOON + 29 * DAY) == Sleep(until=NOON + 30 * DAY)
    first = decide(lapse(), RE_ENGAGEMENT, None, NOON + 30 * DAY)
    assert isinstance(first, Act)
    assert (first.step, first.again, first.situation.account) == (1, NOON + 37 * DAY, "a1")
    seen = lapse(account={"active_at": NOON + DAY, "active_live_at": NOON + DAY})
    assert decide(seen, RE_ENGAGEMENT, None, NOON + 30 * DAY) == Sleep(until=NOON + 31 * DAY)


def test_nobody_lapses_who_never_bought_or_was_only_backfilled() -> None:
    never = look(subject="a1", baskets=(), person=person(facts(active_at=NOON, active_live_at=NOON)))
    assert decide(never, RE_ENGAGEMENT, None, NOON + 30 * DAY) == Disarm()
    told = look(subject="a1", baskets=(), person=person(facts(ordered_at=NOON)))
    assert decide(told, RE_ENGAGEMENT, None, NOON + 30 * DAY) == Disarm()


@pytest.mark.parametrize(("account", "reason"), [({"active_at": NOON + DAY}, "active"), ({}, None)])
def test_who_comes_back_ends_the_lapse(account: dict[str, Any], reason: str | None) -> None:
    began = run(run_key="a1@x", subject="a1")
    decision = decide(lapse(account=account), RE_ENGAGEMENT, began, NOON + 37 * DAY)
    if reason is None:
        assert isinstance(decision, Act)
    else:
        # Looked at again when the new lapse would be due.
        assert decision == End(run_key="a1@x", reason="active", again=NOON + 31 * DAY)


def test_one_lapse_in_90_days_whichever_account() -> None:
    for days, begins in ((89, False), (90, True)):
        other = run(run_key="a2@x", subject="a2", began_at=NOON - days * DAY, ended=True)
        decision = decide(lapse(runs=(other,)), RE_ENGAGEMENT, None, NOON + 30 * DAY)
        assert isinstance(decision, Act if begins else Disarm)


def test_consent_goes_to_the_strictest_side() -> None:
    said = [facts(account=f"a{n}", consents={"email": state}) for n, state in enumerate(("subscribed", "unsubscribed"))]
    assert person(*said).consent("email") == "unsubscribed"
    assert person(said[0]).consent("email") == "subscribed"
    assert person().consent("email") is None


def test_the_address_of_the_account_itself_comes_first() -> None:
    other = facts(account="a0", email="other@example.com", email_verified=True)
    assert person(other, ADA).address("a1") == "ada@example.com"
    assert person(other, facts(email=None)).address("a1") == "other@example.com"
    assert person(facts(deleted=True)).address("a1") is None


@pytest.mark.parametrize(
    ("address", "usable"),
    [
        ("ada@example.com", True),
        ("a.b+c@mail.example.co.uk", True),
        ("ada@example", False),
        ("ada", False),
        ("", False),
        (None, False),
        ("a b@example.com", False),
        ("ada@example.com\r\nBcc: x@example.com", False),
        ("ada@example.com\n", False),
        ('"ada"@example.com', False),
        ("ada@-example.com", False),
        ("ä@example.com", False),
        ("a" * 65 + "@example.com", False),
        ("ada@" + "a" * 64 + ".com", False),
        ("ada@" + "a.com" * 60, False),
        ("<ada@example.com>", False),
        ("ada@example.com,eve@example.com", False),
        ("=?utf-8?q?ada?=@example.com", False),
    ],
)
def test_usable_addresses(address: str | None, usable: bool) -> None:  # noqa: FBT001
    assert usable_address(address) is usable


def test_masked() -> None:
    assert masked("ada@example.com") == "a…@example.com"


def test_the_ledger_never_leaves_an_end() -> None:
    assert {state for state in STATES if not following(state)} == {"sent", "failed", "skipped"}
    assert "planned" not in following("unknown")
    assert sources("claimed") == ("planned", "held")
    assert sources("planned") == ("planned", "claimed", "held")
    assert sources("sent") == ("claimed", "unknown")

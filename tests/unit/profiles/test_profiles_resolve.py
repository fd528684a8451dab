from hypothesis import given
from hypothesis import strategies as st

from services.profiles.identity.accounts import STRONG, WEAK, registered
from services.profiles.identity.resolve import TIES, Edge, alias, crowded, partition, shared_by_too_many

C1, C2, OTHER = "customer:s:1", "customer:s:2", "customer:other:1"
GUEST, CART = "guest:s:ada@example.com", "cart:s:c"
MAIL, PHONE, TOKEN = "email:ada@example.com", "phone:+49151", "cart:s:c"
LIMITS = {"email": 3, "phone": 3, "cart": 2, "checkout": 2}


def groups(*edges: Edge) -> set[frozenset[str]]:
    accounts = {edge.account for edge in edges}
    return {frozenset(g) for g in partition(accounts, edges, shared_by_too_many(edges, LIMITS))}


def test_one_email_is_one_person_in_all_stores() -> None:
    assert groups(Edge(C1, MAIL, STRONG), Edge(OTHER, MAIL, STRONG), Edge(GUEST, MAIL, STRONG)) == {
        frozenset({C1, OTHER, GUEST})
    }


def test_a_cart_becomes_its_buyers() -> None:
    assert groups(Edge(CART, TOKEN, WEAK), Edge(GUEST, TOKEN, WEAK), Edge(GUEST, MAIL, STRONG)) == {
        frozenset({CART, GUEST})
    }


def test_a_couples_phone_joins_nobody() -> None:
    assert groups(Edge(C1, PHONE, WEAK), Edge(C2, PHONE, WEAK), Edge(GUEST, PHONE, WEAK)) == {
        frozenset({C1}),
        frozenset({C2}),
        frozenset({GUEST}),
    }


def test_customers_of_one_store_may_be_one_person_by_their_own_email() -> None:
    phone = (Edge(C1, PHONE, WEAK), Edge(C2, PHONE, WEAK), Edge(GUEST, PHONE, WEAK))
    assert groups(Edge(C1, MAIL, STRONG), Edge(C2, MAIL, STRONG), *phone) == {frozenset({C1, C2, GUEST})}


def test_customers_of_one_store_are_not_joined_through_a_third() -> None:
    # The guest used the device of the one and the phone of the other: the device is the better evidence.
    found = groups(Edge(C1, TOKEN, WEAK), Edge(GUEST, TOKEN, WEAK), Edge(GUEST, PHONE, WEAK), Edge(C2, PHONE, WEAK))
    assert found == {frozenset({C1, GUEST}), frozenset({C2})}


def test_what_names_too_many_names_nobody() -> None:
    guests = [Edge(f"guest:s:{n}@example.com", PHONE, WEAK) for n in range(4)]
    assert len(groups(*guests[:3])) == 1
    assert len(groups(*guests)) == 4


def link(n: int, account: str = "cart:s:c{}") -> tuple[Edge, Edge]:
    """A link of a chain: each token of it names two accounts."""
    return tuple(Edge(account.format(n), f"checkout:s:t{k}", WEAK) for k in (n, n + 1))  # type: ignore[return-value]


def test_tokens_that_nameless_visitors_tie_together_count_as_one() -> None:
    assert len(groups(*link(0), *link(1))) == 1
    assert len(groups(*link(0), *link(1), *link(2))) == 3
    # Somebody's own carts are no chain, however many.
    customers = [edge for n in range(9) for edge in link(n, C1)]
    carts = [Edge(f"cart:s:{n}", f"checkout:s:t{n}", WEAK) for n in range(9)]
    assert len(groups(*customers, *carts)) == 1


def test_a_token_tied_to_a_quarantined_one_is_quarantined() -> None:
    assert shared_by_too_many([*link(0), *link(1)], LIMITS) == set()
    # t0 and t3 name one account, and are looked at when they name two.
    assert shared_by_too_many([*link(0), *link(1)], LIMITS, {"checkout:s:t0"}) == {"checkout:s:t0", "checkout:s:t1"}
    named = shared_by_too_many([*link(0, GUEST), *link(1, C1)], LIMITS, {"checkout:s:t0"})
    assert named == {"checkout:s:t0"}


def chain(length: int) -> list[Edge]:
    """Guests, each of whom shares a phone with the one before and another with the one after."""
    return [Edge(f"guest:s:{n}@example.com", f"phone:{k}", WEAK) for n in range(length) for k in (n, n + 1)]


def test_more_than_so_many_together_each_stand_alone() -> None:
    accounts = {edge.account for edge in chain(5)}
    assert crowded(chain(5), set(), 5) == set()
    assert crowded(chain(5), set(), 4) == accounts
    assert len(partition(accounts, chain(5), set())) == 1
    assert len(partition(accounts, chain(5), set(), accounts)) == 5
    strong = [Edge(C1, MAIL, STRONG), Edge(OTHER, MAIL, STRONG)]
    assert crowded([*chain(5), *strong], set(), 4) == accounts
    assert len(partition({*accounts, C1, OTHER}, [*chain(5), *strong], set(), accounts)) == 6


def test_what_a_quarantine_cuts_off_a_crowd_is_none() -> None:
    assert crowded(chain(5), {"phone:2"}, 2) == {f"guest:s:{n}@example.com" for n in (2, 3, 4)}
    assert crowded(chain(5), {"phone:2"}, 3) == set()


def test_whoever_hangs_together_with_a_crowded_account_is_crowded() -> None:
    assert crowded(chain(2), set(), 4, {GUEST}) == {GUEST}
    tied = [Edge(GUEST, "phone:2", WEAK), *chain(2)]
    assert crowded(tied, set(), 4, {GUEST}) == {edge.account for edge in tied}
    assert crowded(tied, {"phone:2"}, 4, {GUEST}) == {GUEST}


def knot(identifiers: int, *accounts: str, kind: str = "phone:{}") -> list[Edge]:
    """Accounts that share all of these identifiers."""
    return [Edge(account, kind.format(n), WEAK) for account in accounts for n in range(identifiers)]


def test_what_too_many_ties_hold_together_stands_alone() -> None:
    most = TIES * 5
    assert crowded(knot(most // 2, GUEST, C1), set(), 5) == set()
    assert crowded(knot(most // 2 + 1, GUEST, C1), set(), 5) == {GUEST, C1}
    # What names one account alone is no tie, however much of it there is.
    assert crowded(knot(most * 2, GUEST), set(), 5) == set()
    assert crowded([*knot(most * 2, GUEST), *knot(most // 2, C1)], set(), 5) == set()


def test_what_is_quarantined_counts_with_its_own_account() -> None:
    edges = knot(TIES * 4 + 1, GUEST, C1, CART)
    quarantined = {edge.identifier for edge in edges}
    assert crowded(edges, quarantined, 5) == set()
    assert crowded(edges, quarantined, 4) == {GUEST, C1}
    assert crowded(edges, quarantined - {"phone:0"}, 5) == {GUEST, C1, CART}


def test_two_visitors_may_not_share_tokens_without_end() -> None:
    visitors = ("cart:s:a", "cart:s:b")
    most, tokens = TIES * 4, {f"checkout:s:{n}" for n in range(TIES * 2 + 1)}
    few, many = (knot(n, *visitors, kind="checkout:s:{}") for n in (most // 2, most // 2 + 1))
    assert shared_by_too_many(few, LIMITS, most=4) == set()
    assert shared_by_too_many(many, LIMITS, most=4) == tokens
    assert crowded(many, tokens, 4) == set()
    # Whoever has a name has proved it for each of them.
    assert shared_by_too_many(knot(most, GUEST, C1, kind="checkout:s:{}"), LIMITS, most=4) == set()


def test_an_account_is_not_the_identifier_of_its_name() -> None:
    checkout_only = Edge("cart:s:x", "checkout:s:x", WEAK)
    other = Edge(GUEST, "cart:s:x", WEAK)
    assert groups(checkout_only, other) == {frozenset({"cart:s:x"}), frozenset({GUEST})}


def test_an_alias_is_the_tenants_own() -> None:
    assert alias("one", C1) == alias("one", C1)
    assert len({alias("one", C1), alias("two", C1), alias("one", C2)}) == 3


accounts = st.sampled_from([C1, C2, OTHER, "customer:other:2", GUEST, CART, "guest:other:ada@example.com"])
identifiers = st.sampled_from([MAIL, PHONE, TOKEN, "email:bob@example.com", "phone:+49152", "checkout:s:t"])
graphs = st.lists(st.builds(Edge, accounts, identifiers, st.sampled_from([STRONG, WEAK])), max_size=14)


@given(graphs, st.randoms(use_true_random=False))
def test_a_partition_is_a_function_of_the_edges(edges: list[Edge], chance: object) -> None:
    shuffled = [*edges, *edges[:3]]
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert groups(*shuffled) == groups(*edges)


@given(graphs)
def test_only_strong_edges_join_two_customers_of_a_store(edges: list[Edge]) -> None:
    strong = [edge for edge in edges if edge.tier == STRONG]
    everybody = {edge.account for edge in edges}
    quarantined = shared_by_too_many(edges, LIMITS)
    sure = [set(group) for group in partition(everybody, strong, quarantined)]
    for group in partition(everybody, edges, quarantined):
        for store in ("s", "other"):
            customers = {account for account in group if registered(account) == store}
            assert not customers or any(customers <= one for one in sure)

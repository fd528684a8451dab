"""Who is one person: the partition of a closure of accounts into profiles, a pure function of its edges.

Edges are only ever added, and nothing here looks at the order in which they came. So any order of deliveries ends in
the same profiles under the same ids; a merge, and a split by quarantine, is merely a changed value of this function.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from libs.common.ids import derived_id
from services.profiles.identity.accounts import STRONG, is_nameless, registered

MOST_TOGETHER = 3_000
"""Most accounts that edges may hold together, one through another, before none of these edges proves anything. Each
cart of somebody is one: a shop's best customer has hundreds."""
TIES = 4
"""For each of these accounts, so many ties at most may hold them together. A tie is an account's edge of what others
are known by, too: a cart and who bought it have four, each of them the cart's token and its checkout's."""
TOKENS = ("cart", "checkout")
"""Kinds of identifier that whoever made them up may claim: a browser's."""
_RANK = {"cart": 0, "checkout": 0, "email": 1, "phone": 2}
"""Among weak edges the better evidence goes first: one device in one session, then an address, then a phone."""


class Edge(NamedTuple):
    """An account is known by an identifier."""

    account: str
    identifier: str
    tier: int


def alias(tenant: str, account: str) -> str:
    """The profile id that this account alone would have. It answers for the account's profile for ever."""
    return derived_id("profile", tenant, account)


def too_many(accounts: int, ties: int, most: int) -> bool:
    """Whether this is more than may hang together where `most` accounts may."""
    return accounts > most or ties > most * TIES


def shared_by_too_many(
    edges: Iterable[Edge], limits: Mapping[str, int], known: Collection[str] = (), most: int = MOST_TOGETHER
) -> set[str]:
    """Identifiers that name more accounts than the limit of their kind: an office's phone, a till's address.

    Tokens that a nameless account ties together count as one identifier, of the least limit among them, and share its
    fate: anybody may claim any two tokens, and could else chain without end what names few by itself. Nor may they have
    more ties than `most` accounts may: two visitors could else share tokens without end. `known`: what was found
    before, whose edges need not be given. All is right in any order, since a tie, too, is only ever added.
    """
    accounts: dict[str, set[str]] = {}
    for edge in edges:
        accounts.setdefault(edge.identifier, set()).add(edge.account)
    # What names one account ties nothing, and is not looked at before it names two.
    shared = {identifier for identifier, named in accounts.items() if len(named) > 1}.union(known)
    forest = _Forest(())
    for identifier in sorted(shared):
        if kind(identifier) in TOKENS:
            for account in accounts.get(identifier, ()):
                if is_nameless(account):
                    forest.join(account, _node(identifier))
    tied: dict[str, list[str]] = {}
    for identifier in shared:
        tied.setdefault(forest.find(_node(identifier)), []).append(identifier)
    found: set[str] = set()
    for group in tied.values():
        limit = min(limits[kind(identifier)] for identifier in group)
        each = [accounts.get(identifier, set()) for identifier in group]
        excessive = len(set().union(*each)) > limit or sum(map(len, each)) > most * TIES
        if excessive or any(identifier in known for identifier in group):
            found.update(group)
    return found


def kind(identifier: str) -> str:
    """`email`, `phone`, `cart` or `checkout`."""
    return identifier.split(":", 1)[0]


def crowded(
    edges: Iterable[Edge], quarantined: Collection[str], most: int = MOST_TOGETHER, known: Collection[str] = ()
) -> set[str]:
    """Accounts that hang together with more than `most`, or by more than `TIES` ties for each of so many.

    No person has that many. Each identifier may name few and be no office's phone, and yet whoever invents e-mails and
    phones could chain accounts without end, or give two of them phones without end, which all had to be looked at again
    for each one more. What is quarantined holds nothing together, but is looked at with its account, and so counts as
    its tie; but for nameless ones, at whose first quarantined token nobody looks further. `known`: accounts of which it
    is certain, whose edges need not be given: what hangs together with one of them is crowded, too.
    """
    found = set(known)
    named: dict[str, set[str]] = {}
    for edge in edges:
        named.setdefault(edge.identifier, set()).add(edge.account)
    ties: Counter[str] = Counter()
    for identifier, accounts in named.items():
        if identifier in quarantined:
            ties.update(account for account in accounts if not is_nameless(account))
        elif len(accounts) > 1:
            ties.update(accounts)
    everybody = set().union(*named.values())
    if not found and not too_many(len(everybody), ties.total(), most):
        return found
    forest = _Forest(everybody)
    for identifier in named.keys() - set(quarantined):
        for account in named[identifier]:
            forest.join(account, _node(identifier))
    for group in forest.groups():
        if too_many(len(group), sum(ties[account] for account in group), most) or not found.isdisjoint(group):
            found.update(group)
    return found


def partition(
    accounts: Iterable[str], edges: Iterable[Edge], quarantined: Collection[str], alone: Collection[str] = ()
) -> list[list[str]]:
    """Groups of accounts, each one person.

    Strong edges join whatever they touch. Weak ones follow in a fixed order, but for two kinds: those of an identifier
    that two registered customers of one store share (a couple's phone, a lent device) prove nothing of anybody, and one
    that would still bring two such customers together is refused. Edges of quarantined identifiers join nothing, nor do
    those of accounts that stand `alone`: the crowded ones.
    """
    forest = _Forest(accounts)
    joining = sorted(
        {edge for edge in edges if edge.identifier not in quarantined and edge.account not in alone}, key=_strength
    )
    for edge in joining:
        if edge.tier == STRONG:
            forest.join(edge.account, _node(edge.identifier))
    ambiguous = _ambiguous(forest, joining)
    for edge in joining:
        if edge.tier == STRONG or edge.identifier in ambiguous:
            continue
        node = _node(edge.identifier)
        if forest.may_join(edge.account, node):
            forest.join(edge.account, node)
    return forest.groups()


def _ambiguous(forest: "_Forest", edges: Iterable[Edge]) -> set[str]:
    """Identifiers of two registered customers of one store who are not one person by anything strong."""
    owner: dict[tuple[str, str], str] = {}
    found = set()
    for edge in edges:
        store = registered(edge.account)
        if store:
            person = forest.find(edge.account)
            if owner.setdefault((edge.identifier, store), person) != person:
                found.add(edge.identifier)
    return found


def _node(identifier: str) -> str:
    """Its name in the forest: the account of a checkout's token may be called as another's cart is."""
    return f"={identifier}"


def _strength(edge: Edge) -> tuple[int, int, str, str]:
    return edge.tier, _RANK[kind(edge.identifier)] if edge.tier else 0, edge.identifier, edge.account


class _Forest:
    """Union-find over accounts and identifiers; each root knows in which stores it is a registered customer."""

    def __init__(self, accounts: Iterable[str]) -> None:
        self._accounts = sorted(set(accounts))
        self._parent: dict[str, str] = {}
        self._stores: dict[str, set[str]] = {}
        for account in self._accounts:
            store = registered(account)
            self._parent[account] = account
            self._stores[account] = {store} if store else set()

    def find(self, node: str) -> str:
        parent = self._parent
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    def may_join(self, left: str, right: str) -> bool:
        a, b = self.find(left), self.find(right)
        return a == b or self._stores.get(a, set()).isdisjoint(self._stores.get(b, set()))

    def join(self, left: str, right: str) -> None:
        a, b = self.find(left), self.find(right)
        if a != b:
            self._parent[b] = a
            self._stores[a] = self._stores.get(a, set()) | self._stores.pop(b, set())

    def groups(self) -> list[list[str]]:
        groups: dict[str, list[str]] = {}
        for account in self._accounts:
            groups.setdefault(self.find(account), []).append(account)
        return list(groups.values())

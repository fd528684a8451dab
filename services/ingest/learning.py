"""Who a person is, beyond what a request says of him: his other names in the same store, and his objects. Pure.

Closed over: what is learned is looked for in turn, until a whole turn through the store's deliveries brings nothing
new. Nothing that is somebody else's is to be learned, by these rules:

- A customer's own record (its copy within an order, too) that names an e-mail of his makes its number his, unless it
  has stood beside more than EMAILS: guests share some numbers. Another e-mail of that record is his unless another
  customer's record has it.
- What only stands together in an order, a checkout or an event teaches nothing: anybody may order in another's name.
- A phone is learned where all names that it stands beside are his. One that was asked for by teaches what a record
  says where that names all that it stands beside, and the rules above allow each: a household's phone teaches nobody.
- A delivery that says he is its person, or that belongs to an object of his and names nobody, makes its order,
  checkout and cart his. Tokens teach no names: devices are lent.
- What stands beside more than CROWD different things teaches nothing and is not learned, records aside.

The more names are known, the more rules hold, and none ceases to: the order of deliveries does not matter. That a name
stands beside nobody else is known once it was watched for a turn, since all of it has been heard by then.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

from msgspec import Struct
from msgspec.structs import replace

from services.ingest.statements import Saying, Told, kind, object_of
from services.ingest.subjects import Subject

CROWD = 50
"""Different sayings about one name, at most, that may be of one person."""
TURNS = 20
"""Through a store's deliveries, at most. Each brings something new, but for the last."""
EMAILS = 5
"""That one number may have stood beside."""
AGAIN = 4
"""How often those of one step are looked at again for what they taught; what is left then, the next turn finds."""

Place = tuple[int, str]
"""In a search: the turn, and the id of the last delivery of it that was looked at; empty where it begins."""
BEGINNING: Place = (1, "")


class Learning(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far it has come."""

    names: frozenset[str]
    roots: frozenset[str]
    at: Place = BEGINNING
    changed: Place = BEGINNING
    """Where anything new was met last."""
    watched: dict[str, Place] = {}
    """Since where it is known what a name stands beside."""
    sayings: frozenset[Saying] = frozenset()
    """About those watched."""
    crowded: frozenset[str] = frozenset()

    @property
    def done(self) -> bool:
        """Nothing more can be learned."""
        return _turn_after(self.changed) <= self.at or self.gave_up

    @property
    def gave_up(self) -> bool:
        """There might be more to learn."""
        return self.at[0] > TURNS and self.at < _turn_after(self.changed)


def begun(names: Iterable[str], roots: Iterable[str], at: Place = BEGINNING) -> Learning:
    """Knows what a request says."""
    known = frozenset(names)
    return Learning(names=known, roots=frozenset(roots), at=at, changed=at, watched=dict.fromkeys(sorted(known), at))


def knowing(before: Learning, names: Iterable[str], roots: Iterable[str]) -> Learning:
    """Knows this, too, before it looks further: earlier requests found it to be his."""
    known, owned = before.names.union(names), before.roots.union(roots)
    if (known, owned) == (before.names, before.roots):
        return before
    new = dict.fromkeys(sorted(known - before.names), before.at)
    return replace(before, names=known, roots=owned, changed=before.at, watched=new | before.watched)


def looked(before: Learning, deliveries: Sequence[Told], at: Place) -> tuple[Learning, int]:
    """With what the next deliveries tell, and how many of them are his. `at`: the place behind them."""
    search = _Search(before, at)
    found = search.look(deliveries)
    for _ in range(AGAIN):
        if not (search.grew() or search.settle()):
            break
        found = search.look(deliveries)
    return search.learning, found


class _Search:
    """One step of it."""

    def __init__(self, before: Learning, at: Place) -> None:
        self._before = before
        self._at = at
        self._names = set(before.names)
        self._roots = set(before.roots)
        self._watched = dict(before.watched)
        self._sayings = set(before.sayings)
        self._crowded = set(before.crowded)
        self._known = self._size()

    @property
    def learning(self) -> Learning:
        before = self._before
        new = self._size() != (len(before.names), len(before.roots), len(before.watched))
        return Learning(
            names=frozenset(self._names),
            roots=frozenset(self._roots),
            at=self._at,
            changed=self._at if new else before.changed,
            watched=self._watched,
            sayings=frozenset(self._sayings),
            crowded=frozenset(self._crowded),
        )

    def look(self, deliveries: Sequence[Told]) -> int:
        """Learns what they teach at once, and hears what they say of names that are watched. How many are his."""
        subject = Subject(self._names, self._roots)
        found = 0
        for told in deliveries:
            if subject.is_named(told) or subject.owns(told):
                self._roots.update(told.objects)
                found += 1
            elif subject.has(told):
                found += 1
            elif (where := subject.mentioned(told)) is not None:
                if where == "field":
                    self._roots.update(filter(None, [object_of(told.root)]))
                found += 1
            for saying in told.sayings:
                self._hear(saying)
        self._part_from_crowds()
        return found

    def grew(self) -> bool:
        """Whether there is more to look for than when this was asked last."""
        before, self._known = self._known, self._size()
        return before != self._known

    def settle(self) -> bool:
        """Whether anything was learned from what was heard of names that have been watched for a turn."""
        whole = {name for name, since in self._watched.items() if _turn_after(since) <= self._at} - self._crowded
        company = _Company(self._names, self._sayings)
        # Of names known before alone: what one of them teaches may need another.
        learned = {name for name in whole - self._names if company.is_his(name, whole)}
        self._names |= learned
        return bool(learned)

    def _hear(self, saying: Saying) -> None:
        his = self._names.intersection(saying.names)
        if not self._crowded.issuperset(his):
            for name in saying.names:
                self._watched.setdefault(name, self._at)
        if len(saying.names) > 1 and any(self._is_heard(name) for name in saying.names):
            self._sayings.add(saying)

    def _is_heard(self, name: str) -> bool:
        return name in self._watched and name not in self._crowded

    def _part_from_crowds(self) -> None:
        about = Counter(name for saying in self._sayings for name in saying.names)
        self._crowded |= {name for name, n in about.items() if n > CROWD and name in self._watched}
        self._sayings = {each for each in self._sayings if any(self._is_heard(name) for name in each.names)}

    def _size(self) -> tuple[int, int, int]:
        return len(self._names), len(self._roots), len(self._watched)


class _Company:
    """What names stand beside, as far as it was heard."""

    def __init__(self, his: AbstractSet[str], sayings: Iterable[Saying]) -> None:
        self._his = his
        self._about: dict[str, list[Saying]] = {}
        for saying in sayings:
            for name in saying.names:
                self._about.setdefault(name, []).append(saying)

    def is_his(self, name: str, whole: AbstractSet[str]) -> bool:
        """Whether one that is known teaches it. `whole`: names of which all is known."""
        return any(
            self._teaches(known, name, saying, whole)
            for saying in self._about.get(name, ())
            for known in saying.names
            if known in self._his and known in whole
        )

    def _teaches(self, known: str, name: str, saying: Saying, whole: AbstractSet[str]) -> bool:
        match kind(known), kind(name):
            case _, "phone":
                return self._beside(name) <= self._his
            case "phone", _ if saying.record:
                told = {each for each in saying.names if kind(each) != "phone"}
                together, new = self._his | told, told - self._his
                return (
                    self._beside(known) <= together and new <= whole and all(self._fits(each, together) for each in new)
                )
            case "email", "customer":
                return saying.record and len(self._beside(name, "email")) <= EMAILS
            case "customer", "email":
                few = len(self._beside(known, "email")) <= EMAILS
                return saying.record and few and self._fits(name, self._his)
            case _:
                return False

    def _fits(self, name: str, together: AbstractSet[str]) -> bool:
        """Whether these names may be one person's."""
        other = "email" if kind(name) == "customer" else "customer"
        by_record = self._beside(name, other, record=True)
        if not by_record:
            return self._beside(name, other) <= together
        # An account may have had several e-mails, and an e-mail is one account's.
        return bool(by_record & together) if other == "email" else by_record <= together

    def _beside(self, name: str, of: str | None = None, *, record: bool = False) -> AbstractSet[str]:
        """No phones: everybody has some."""
        return {
            other
            for saying in self._about.get(name, ())
            if saying.record or not record
            for other in saying.names
            if (kind(other) == of if of else kind(other) != "phone") and other != name
        }


def _turn_after(place: Place) -> Place:
    turn, id_ = place
    return turn + 1, id_

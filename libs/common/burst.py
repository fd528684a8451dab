"""Telling a bad deploy from a sender's garbage: when dead letters come in a burst, is it us?"""

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import NamedTuple

from libs.common.log.base import Record

MOST_BLAMED = 10
"""Of whom it may be that all send garbage at one time."""
_STORE = "st_"


class Sender(NamedTuple):
    """Whose a record is."""

    tenant: str
    store: str
    """Its key; empty where the record does not name one."""


class Outcome(NamedTuple):
    """What became of a record."""

    sender: Sender
    kind: str
    """What one piece of code reads: a type of event, a topic of a platform's webhooks."""
    is_dead: bool


Said = tuple[Sender, str]
"""A sender, and a kind of what it sends."""


def sender_of(record: Record) -> Sender:
    """By the key: `st_…:order:1` in what comes from shops, `customer:st_…:1` in what follows from it."""
    store, _, rest = record.key.partition(":")
    if not store.startswith(_STORE):
        store = rest.partition(":")[0]
    return Sender(record.tenant, store if store.startswith(_STORE) else "")


class _View:
    """The dead letters, parted into those of the few who have many, and strays: by store, or by tenant."""

    def __init__(
        self, who: Callable[[Sender], Hashable], dead: Sequence[Said], passed: Iterable[Said], strays: int
    ) -> None:
        self._who = who
        self._most_strays = strays
        self._blamed: set[Hashable] = set()
        left = len(dead)
        for each, n in Counter(who(sender) for sender, _ in dead).most_common(MOST_BLAMED):
            if left <= strays:
                break
            self._blamed.add(each)
            left -= n
        self._theirs = Counter(kind for sender, kind in dead if who(sender) in self._blamed)
        self._strays = len(dead) - self._theirs.total()
        self._passing: set[str] = set()
        """Kinds of which others' records pass."""
        self._dying: dict[str, set[Hashable]] = {}
        """Kind -> whose records of it die, blamed or not."""
        for sender, kind in passed:
            self.note(sender, kind, is_dead=False)
        for sender, kind in dead:
            self.note(sender, kind, is_dead=True)

    def note(self, sender: Sender, kind: str, *, is_dead: bool) -> None:
        """How one more record fared. That who is blamed passes with something says nothing."""
        who = self._who(sender)
        if is_dead:
            self._dying.setdefault(kind, set()).add(who)
        elif who not in self._blamed:
            self._passing.add(kind)

    def is_ours(self) -> bool:
        """Whether too many are not to be laid at anybody's door."""
        unexplained = sum(n for kind, n in self._theirs.items() if not self._is_theirs(kind))
        return self._strays + unexplained > self._most_strays

    def _is_theirs(self, kind: str) -> bool:
        return kind in self._passing or (bool(self._passing) and self._is_ones(kind))

    def _is_ones(self, kind: str) -> bool:
        return len(self._dying[kind]) == 1

    def wants(self, sender: Sender, kind: str) -> bool:
        """Whether it may matter how a record of this sender and kind fares."""
        if self._who(sender) in self._blamed or self._strays > self._most_strays:
            return False
        if kind in self._theirs:
            return kind not in self._passing
        return not self._passing and any(self._is_ones(each) for each in self._theirs)


class Case:
    """A burst of dead letters, and what speaks for and against its being ours."""

    def __init__(self, dead: Sequence[Said], passed: Iterable[Said], strays: int) -> None:
        """`strays`: so many dead letters may be anybody's."""
        known = list(passed)
        self._views = (
            _View(lambda sender: sender, dead, known, strays),
            _View(lambda sender: sender.tenant, dead, known, strays),
        )

    def note(self, outcome: Outcome) -> None:
        """How a record fared that does not belong to the burst."""
        for view in self._views:
            view.note(outcome.sender, outcome.kind, is_dead=outcome.is_dead)

    @property
    def is_ours(self) -> bool:
        """Whether it stops the consumer."""
        return all(view.is_ours() for view in self._views)

    def wants(self, sender: Sender, kind: str) -> bool:
        """Whether it may matter how a record of this sender and kind fares."""
        return any(view.wants(sender, kind) for view in self._views)


class Burst:
    """The last outcomes of a consumer.

    A burst of dead letters stops the consumer, since a bad deploy must not bury a day of orders. But no sender may stop
    the others. Blamed are those with the most dead letters, until no more than a tenth of what a burst is are others':
    stores, or tenants with all their stores. What they have of one kind (what one piece of code reads) is their own
    doing, and not ours, if

    - of the same kind a record of somebody passed who is not blamed; or
    - of that kind nobody else has any, and something passed of somebody who is not blamed.

    What is not explained so may be strays, a tenth of a burst. If it is more, the burst is ours.
    """

    def __init__(self, limit: int) -> None:
        """More than `limit` dead letters among the last twice as many records are a burst."""
        self.limit = limit
        self.of = 2 * limit
        self._last: deque[Outcome] = deque()
        self._dead = 0
        """So many of them."""
        self._passed: dict[Said, None] = {}
        """Who passed with what, the latest last; until it dies, and as many as there are outcomes at most."""

    def is_ours(self, more: Sequence[Outcome]) -> bool:
        """Whether these outcomes, on top of the last ones, are a burst that stops the consumer."""
        dead = self._dead + sum(outcome.is_dead for outcome in more)
        return dead > self.limit and self.case(more).is_ours

    def case(self, more: Sequence[Outcome]) -> Case:
        """What there is to say of the dead letters among these outcomes and the last ones."""
        dead = [(sender, kind) for sender, kind, is_dead in (*self._last, *more) if is_dead]
        passed = [(sender, kind) for sender, kind, is_dead in more if not is_dead]
        return Case(dead, (*self._passed, *passed), self.limit // 10)

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """What was committed."""
        for outcome in outcomes:
            self._last.append(outcome)
            self._dead += outcome.is_dead
            if len(self._last) > self.of:
                self._dead -= self._last.popleft().is_dead
            self.remember(outcome)

    def remember(self, outcome: Outcome) -> None:
        """Who passes, and who does not any more."""
        said = (outcome.sender, outcome.kind)
        self._passed.pop(said, None)
        if not outcome.is_dead:
            self._passed[said] = None
            if len(self._passed) > self.of:
                del self._passed[next(iter(self._passed))]

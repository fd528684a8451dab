"""What the rules decide to tell, and how two snapshots of one thing are ordered."""

from datetime import datetime
from typing import NamedTuple

from libs.common.contracts.commerce import Observed
from libs.common.contracts.customers import Fact

Version = tuple[datetime, int]
"""(the source's updated_at, position in the journal): the later snapshot wins whole."""


class Told(NamedTuple):
    """One fact for the topic `customers`."""

    type: str
    key: str
    time: datetime
    fact: Fact


def version(observed: Observed) -> Version:
    """By which `observed` competes with other snapshots of the same object."""
    return observed.updated_at, observed.position


def supersedes(new: Observed, old: Observed | None) -> bool:
    """Whether `new` takes the place of `old`. A tie does: the same delivery read again, by better rules perhaps."""
    return old is None or version(new) >= version(old)


def latest(new: Version, old: Version | None) -> Version:
    """The later of two."""
    return new if old is None else max(new, old)


def is_live(live: bool, snapshot: Observed | None, new: Observed) -> bool:  # noqa: FBT001 - a state's field
    """Whether any snapshot, perhaps one that was overtaken, was told as it happened."""
    return live or new.origin == "live" or (snapshot is not None and snapshot.origin == "live")


def is_removed(removed: Version | None, snapshot: Observed | None) -> bool:
    """A tombstone is a version like another: what was seen after it lives again."""
    return removed is not None and (snapshot is None or removed > version(snapshot))

"""What ingest asks of a platform, whichever it is. No answer of a platform is trusted before its normaliser read it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple

Kind = Literal["orders", "customers", "products"]


class Fetched(NamedTuple):
    """One object as the platform has it now."""

    topic: str
    """The webhook's topic whose normaliser reads the body."""
    root: str
    """`order:1001`, as `normalise.root_key` has it."""
    changed_at: datetime | None
    """When the platform says that it last changed; UTC. None: it does not say."""
    body: bytes
    """As a webhook of that topic would carry it."""
    trashed: bool = False
    """It is shown, and gone all the same."""


class FetchedPage(NamedTuple):
    """Some objects, and where to go on."""

    objects: Sequence[Fetched]
    broken: Sequence[str]
    """Of objects that could not be taken: why, without personal data."""
    following: str | None
    """From where any other process may go on; None at the end."""


class Refused(Exception):
    """Somebody has to do something: wrong credentials, missing rights, an address that may not be asked."""


class NotAsked(Refused):
    """It is we who refuse: the credentials did not get as far as the platform."""


class TooLarge(Refused):
    """The answer would not fit; fewer objects may."""


class Hopeless(Exception):
    """No later try gets any further."""


class Unavailable(Exception):
    """Later, perhaps. `retry_after`: seconds, when the platform said so."""

    def __init__(self, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after

"""What ingest asks of a platform, whichever it is. No answer of a platform is trusted before its normaliser read it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, NamedTuple, Protocol

import msgspec

MOST_DIGITS = 19
"""Of a number of 64 bits."""

Kind = Literal["orders", "customers", "products", "checkouts"]

ALL: Mapping[str, list[Kind]] = {
    "shopify": ["customers", "products", "orders", "checkouts"],
    "woocommerce": ["customers", "products", "orders"],
}
"""What a platform has, in the order in which it is best told. WooCommerce's checkouts are orders."""

BY_DATE: Mapping[str, list[Kind]] = {
    "shopify": ["orders", "products", "customers", "checkouts"],
    "woocommerce": ["orders", "products"],
}
"""What a platform tells by when it changed; of the others all must be read to find what did."""


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
    headers: Mapping[str, str] = {}
    """Of a webhook's, what its normaliser reads."""
    cart: str | None = None
    """Of a checkout that is not told by its own token: its cart's, for which webhooks may have told another name."""


BulkState = Literal["waiting", "running", "reading", "done", "given_up"]


class Bulk(msgspec.Struct, frozen=True, kw_only=True):
    """How far it is where a platform prepares all of a kind by itself, for us to read in one go."""

    state: BulkState
    objects: int = 0
    """That the platform has prepared."""
    bytes: int | None = None
    """Of the file that it made."""
    bytes_read: int = 0
    reason: str | None = None
    """Why it waits, or why it was given up for pages."""


class FetchedPage(NamedTuple):
    """Some objects, and where to go on."""

    objects: Sequence[Fetched]
    broken: Sequence[str]
    """Of objects that could not be taken: why, without personal data."""
    following: str | None
    """From where any other process may go on; None at the end."""
    pause: float = 0.0
    """Seconds that the platform wants to be left alone."""
    wait: float = 0.0
    """Seconds until there is more of it; whatever else there is may be asked for meanwhile."""
    bulk: Bulk | None = None
    """Where it comes in bulk."""


class Others(NamedTuple):
    """Where the store's other jobs are, each by the `following` of its last page."""

    open: Sequence[str] = ()
    """Of those that go on, or may."""
    over: Sequence[str] = ()
    """Of those that somebody has ended."""


class Subscription(NamedTuple):
    """A webhook that the platform has for us or for somebody else."""

    id: str
    topic: str
    """As its deliveries name it."""
    address: str
    """Where they go."""
    active: bool
    """Whether there are any: WooCommerce switches off what failed too often."""


class Refused(Exception):
    """Somebody has to do something: wrong credentials, missing rights, an address that may not be asked."""


class Unauthorized(Refused):
    """These credentials open nothing, or not any more."""


class NotAsked(Refused):
    """It is we who refuse: the credentials did not get as far as the platform."""


class Denied(Refused):
    """The credentials are good, and may not see this."""


class TooLarge(Refused):
    """The answer would not fit; fewer objects may."""


class Hopeless(Exception):
    """No later try gets any further."""


class Unavailable(Exception):
    """Later, perhaps. `retry_after`: seconds, when the platform said so."""

    def __init__(self, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Platform(Protocol):
    """One store's own API. All of it raises Refused and Unavailable."""

    async def page(
        self, kind: Kind, *, since: datetime | None, until: datetime, following: str | None, bulk: Others | None = None
    ) -> FetchedPage:
        """Objects that last changed from `since` on and before `until`. Raises Hopeless when the list has no end.

        `bulk`: the platform may prepare them first, where it can and there are many, and what it still prepares for
        others that are over is ended where it is in the way. None: it may not.
        """
        ...

    async def those(self, kind: Kind, ids: Sequence[str]) -> list[Fetched]:
        """Which of these, at most 100, it shows; without those that cannot be taken."""
        ...

    async def gone(self, kind: Kind, ids: Sequence[str]) -> set[str]:
        """Which of these, at most 100, are not there any more; as many as it can say for certain, in time."""
        ...

    def deleted(self, root: str) -> Fetched:
        """What a webhook would have told when it was."""
        ...

    async def subscriptions(self) -> list[Subscription]:
        """All webhooks that these credentials may see, other people's among them."""
        ...

    async def subscribe(self, topic: str, address: str, secret: str) -> Subscription:
        """Makes one. Tried once: nobody knows what came of a try that was not answered. `secret`: signs it, maybe."""
        ...

    async def mend(self, subscription: Subscription, address: str, secret: str) -> Subscription:
        """Has one deliver to `address`, signed by `secret` where it is ours to choose, and switched on."""
        ...

    async def aclose(self) -> None:
        """Ends its connections."""
        ...


def deletion(topic: str, root: str) -> Fetched:
    """The body that both platforms send, under each its own topic."""
    return Fetched(topic, root, None, msgspec.json.encode({"id": as_printed(root.partition(":")[2])}))


def named(one: Fetched, token: str) -> Fetched:
    """A checkout under the token that webhooks have told it by."""
    body = msgspec.json.decode(one.body) | {"token": token}
    return one._replace(root=f"checkout:{token}", body=msgspec.json.encode(body))


def as_printed(source_id: str) -> int | str:
    """An id as webhooks print it: a number, unless it is none, or one of more than 64 bits."""
    return (
        int(source_id) if source_id.isascii() and source_id.isdigit() and len(source_id) <= MOST_DIGITS else source_id
    )

"""A batch's records, read: what each is about, and whose it is."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from prometheus_client import Counter

from libs.common.batch import Batch, Reject
from libs.common.contracts.commerce import ActivityObserved, CartObserved, ConsentObserved, Observed
from libs.common.contracts.messages import MessageFact
from libs.common.contracts.types import Origin
from libs.common.junk import Junk
from libs.common.log.base import Record
from services.profiles.identity.accounts import Claim, claim, claim_of_known, claim_of_removed

NAMELESS = Counter("regulars_profiles_nameless_total", "Events left out: nothing in them names anybody.", ["type"])
OF_NO_CONCERN = frozenset({"message.skipped", "message.failed", "message.unknown", "privacy.requested"})
"""What messaging did not do says nothing of anybody, and requests are not acted on here yet. A type that no contract
knows is rejected."""


class Seen(NamedTuple):
    """A record, parsed, and whose it is."""

    record: Record
    data: Any
    claim: Claim | None

    @property
    def key(self) -> tuple[str, str, str]:
        """The object that it is about."""
        return self.record.tenant, self.data.store, self.data.source_id

    @property
    def kinds(self) -> tuple[str, ...]:
        """What it is about: an order, a cart, …; a WooCommerce draft is the checkout and the order of its id."""
        kind = self.record.type.partition(".")[0].replace("refund", "order")
        both = kind in {"order", "checkout"} and self.data.platform == "woocommerce"
        return ("order", "checkout") if both else (kind,)

    @property
    def account(self) -> str:
        """Whose it is. RuntimeError when it is nobody's: `parsed` has left out what must have somebody."""
        if self.claim is None:
            raise RuntimeError(f"{self.record.type} without an account")
        return self.claim.account

    @property
    def person(self) -> tuple[str, str]:
        """The key of its account's person."""
        return self.record.tenant, self.account

    @property
    def origin(self) -> Origin:
        """How it reached us."""
        return self.data.origin if isinstance(self.data, Observed) else "live"


def parsed(batch: Batch, junk: Junk) -> Iterator[Seen]:
    """What can be read of a batch, and says something of somebody; what cannot be read is rejected."""
    for record in batch.records:
        if record.type in OF_NO_CONCERN:
            continue
        try:
            data = batch.data(record)
            whose = _whose(record, data, junk)
        except Reject as refused:
            batch.reject(record, refused.reason)
            continue
        if whose is None and isinstance(data, ConsentObserved | ActivityObserved | CartObserved):
            # No dead letter: a form that sends noreply@ all day is no fault of anybody's, and must not look like one.
            batch.tx.after_commit.append(NAMELESS.labels(record.type).inc)
        else:
            yield Seen(record, data, whose)


def _whose(record: Record, data: Any, junk: Junk) -> Claim | None:
    if isinstance(data, MessageFact):
        return claim_of_known(data.account)
    if record.type == "customer.removed":
        return claim_of_removed(data)
    return claim(data, junk)

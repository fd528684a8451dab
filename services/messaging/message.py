"""A message of the send ledger, and what became of an attempt to send it."""

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from libs.common.contracts.types import Channel
from libs.common.ids import derived_id
from services.messaging.ledger import State


class Message(Struct, frozen=True, kw_only=True):
    """One intent, one recipient, at most one delivery."""

    tenant: str
    flow: str
    version: int
    step: int
    run_key: str
    store: str
    subject: str
    account: str
    profile: str
    channel: Channel
    transactional: bool
    recipient: str
    """Address it was planned for; empty when there was none."""
    checkout_token: str | None
    due_at: datetime
    attempts: int = 0

    @property
    def id(self) -> str:
        """The same for ever for the same intent: the SMTP Message-ID and the events' ids derive from it."""
        key = (self.tenant, self.flow, str(self.version), str(self.step), self.run_key, self.recipient)
        return derived_id("message", *key)

    def told(self, at: datetime) -> dict[str, Any]:
        """What every event about it says."""
        return {
            "message": self.id,
            "store": self.store,
            "profile": self.profile,
            "account": self.account,
            "flow": self.flow,
            "version": self.version,
            "step": self.step,
            "run_key": self.run_key,
            "channel": self.channel,
            "at": at,
            "checkout_token": self.checkout_token,
        }


class Outcome(Struct, frozen=True, kw_only=True):
    """Where an attempt ended. `next_at`: when to try again, for `planned` and `held`."""

    message: Message
    state: State
    reason: str | None = None
    reasons: tuple[str, ...] = ()
    """All that spoke against it, for the explanation."""
    next_at: datetime | None = None
    response: str | None = None
    """What the provider said."""


Delivery = Literal["accepted", "rejected", "deferred", "unanswered"]
"""What a provider did with a message. `deferred`: it certainly took none of it."""


class Answer(Struct, frozen=True, kw_only=True):
    """The provider's answer."""

    delivery: Delivery
    response: str

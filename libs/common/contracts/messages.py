"""Topic `messages`: what was said, and why not. Producer: messaging. Key: profile.

No event carries an address or a text: `message` is the id of the send ledger's row.
"""

from datetime import datetime

from msgspec import Struct

from libs.common.contracts.types import Channel


class MessageFact(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What each message event carries."""

    message: str
    store: str
    profile: str
    account: str
    flow: str
    version: int
    step: int
    run_key: str
    """What started the run: a checkout token, an order, an anniversary."""
    channel: Channel
    at: datetime
    checkout_token: str | None = None
    """Set for cart_abandonment: which checkout it tries to recover."""


class MessageSent(MessageFact, frozen=True, kw_only=True):
    """`message.sent`: the provider took it."""


class MessageSkipped(MessageFact, frozen=True, kw_only=True):
    """`message.skipped`: the gate said no."""

    reason: str


class MessageFailed(MessageFact, frozen=True, kw_only=True):
    """`message.failed` (refused for good) and `message.unknown` (no answer; never sent again)."""

    reason: str


class MessageUnsubscribed(MessageFact, frozen=True, kw_only=True):
    """`message.unsubscribed`: the person asked for no more of this channel."""


TYPES: dict[str, type[MessageFact]] = {
    "message.sent": MessageSent,
    "message.skipped": MessageSkipped,
    "message.failed": MessageFailed,
    "message.unknown": MessageFailed,
    "message.unsubscribed": MessageUnsubscribed,
}

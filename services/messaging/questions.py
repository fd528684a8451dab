"""From what is known to the question that the gate answers."""

from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from services.messaging.flows import Flow
from services.messaging.gate import Question
from services.messaging.mail import Shop
from services.messaging.message import Message
from services.messaging.person import Person, usable_address
from services.messaging.rules import BOUGHT, NO_LONGER_TRUE, Situation


def question(
    message: Message,
    flow: Flow,
    seen: Situation | None,
    person: Person | None,
    *,
    now: datetime,
    shop: Shop | None,
    paused: bool,
    last_message_at: datetime | None,
) -> Question:
    """`seen`: what the message's run looks like now; None when its trigger is gone. `paused`: whether the flow is."""
    exits = seen.exits if seen else frozenset()
    address = message.recipient
    reachable = person is not None and person.reachable(address) and usable_address(address)
    return Question(
        now=now,
        due_at=message.due_at,
        ceiling=flow.steps[message.step - 1].ceiling,
        channel=message.channel,
        address=address if reachable else None,
        transactional=message.transactional,
        store_deleted=shop is not None and shop.deleted_at is not None,
        store_paused=shop is not None and (shop.paused(now) or shop.paused(message.due_at)),
        paused=paused,
        erased="erased" in exits,
        holds=seen is not None and not exits & NO_LONGER_TRUE,
        bought=bool(exits & BOUGHT),
        live=seen is None or seen.live,
        policy="soft_opt_in" if shop is not None and shop.consent_policy == "soft_opt_in" else "explicit",
        consent=person.consent(message.channel) if person else None,
        buyer=person is not None and person.ordered_at is not None,
        suppressed=person.suppressed(address) if person else None,
        control=person is not None and flow.control(person.profile),
        last_message_at=last_message_at,
        zone=zone(person.timezone(message.account) if person else None, shop.timezone if shop else None),
    )


def zone(*candidates: str | None) -> str:
    """The first that is an IANA time zone, else UTC."""
    for candidate in candidates:
        if candidate is not None and _known(candidate):
            return candidate
    return "UTC"


def _known(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True

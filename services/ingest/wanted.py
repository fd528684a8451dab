"""Which webhooks a store should have, and what becomes of that: pure."""

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from services.ingest import shopify, woocommerce
from services.ingest.platforms.port import Subscription

State = Literal["active", "disabled", "elsewhere", "gone", "missing", "unwanted"]
"""`elsewhere`: it goes to another address of ours; `gone`: there was one; `unwanted`: it was asked to be left out."""
STATES: tuple[State, ...] = ("active", "disabled", "elsewhere", "gone", "missing", "unwanted")

_NOT_BY_API = {"customers/redact", "customers/data_request", "shop/redact"}
"""Shopify takes these from an app's configuration alone."""
_SAYS_NOTHING = {"orders/edited"}
WANTED: Mapping[str, Sequence[str]] = {
    "shopify": [topic for topic in shopify.TOPICS if topic not in _NOT_BY_API | _SAYS_NOTHING],
    "woocommerce": [*woocommerce.TOPICS],
}
"""By platform: all that is read, in the order in which it is asked for."""


class Seen(NamedTuple):
    """What a platform has of one topic."""

    topic: str
    state: State
    subscription: Subscription | None


def path_of(platform: str, key: str) -> str:
    """Where a store's webhooks go, behind whatever address this installation has. Nobody else knows the key."""
    return f"/webhooks/{platform}/{key}"


def ours(found: Iterable[Subscription], path: str) -> list[Subscription]:
    """Those that come here, or came before we moved."""
    return [each for each in found if each.address.rstrip("/").endswith(path)]


def seen(mine: Sequence[Subscription], topics: Iterable[str], address: str) -> list[Seen]:
    """Of each topic the best that there is: several of one topic deliver each by itself, and do no harm."""
    every = []
    for topic in topics:
        of_topic = [Seen(topic, state_of(each, address), each) for each in mine if each.topic == topic]
        best = min(of_topic, key=lambda each: STATES.index(each.state), default=Seen(topic, "missing", None))
        every.append(best)
    return every


def state_of(subscription: Subscription, address: str) -> State:
    """Of one of ours."""
    if subscription.address != address:
        return "elsewhere"
    return "active" if subscription.active else "disabled"


def known_as(state: State, before: State | None) -> State:
    """What is missing may have been there before, or be left out on purpose."""
    if state != "missing" or before is None or before == "missing":
        return state
    return "unwanted" if before == "unwanted" else "gone"


def unreachable(public_url: str, platform: str, *, inside: bool) -> str | None:
    """Why no webhook of the platform gets to this address; None when it may. `inside`: shops of our own network do."""
    if inside:
        return None
    parts = urlsplit(public_url)
    if _is_inside(parts.hostname or ""):
        return (
            f"REGULARS_PUBLIC_URL is {public_url}, which no shop reaches: set it to the address that shops can reach."
        )
    if platform == "shopify" and parts.scheme != "https":
        return f"REGULARS_PUBLIC_URL is {public_url}: Shopify delivers to https alone."
    return None


def _is_inside(host: str) -> bool:
    try:
        return not ip_address(host).is_global
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")

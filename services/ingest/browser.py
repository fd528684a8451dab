"""What a browser may tell, and what becomes of it. Its key is no secret: anybody can be that browser, and lie.

So it tells what somebody did. It names people by tokens that nobody guesses, or by a proof that the shop's server had
made for them. Only of somebody proven does it write carts and checkouts, which mails come of, and only those that the
platform does not tell itself; nothing in them can lead the reader of such a mail anywhere.
"""

import re
from datetime import datetime
from typing import Any, NamedTuple

from msgspec.structs import replace

from libs.common.contracts.commerce import Identifiers
from libs.common.junk import Junk
from services.ingest import events
from services.ingest.event_properties import BEHAVIOUR, COMMERCE, CUSTOM, Wrong
from services.ingest.events import FirstPartyEvent
from services.ingest.outcome import AHEAD

CLAIMS = ("customer_id", "email", "phone")
"""The identifiers that name somebody by themselves."""
WRITTEN = {
    "shopify": frozenset[str](),
    # It has webhooks about drafts of orders, and none about carts.
    "woocommerce": frozenset({"cart.changed"}),
    "events": frozenset({"cart.changed", "checkout.started"}),
}
"""By platform of the store: what it does not tell itself."""

LONGEST_PROOF_SECONDS = 24 * 3600

_TOKENS = ("cart_token", "checkout_token")
_TOKEN = re.compile(r"(?=.*[A-Za-z])[!-~]{16,128}", re.ASCII)
"""Numbers can be counted through, and short texts can be tried."""
SERVERS = ("accepts_marketing", "buyer", "completed_at", "recovery_url")
"""Properties of carts and checkouts that say more than what somebody did."""
_LINKING = re.compile(r"(?<=\w)\.(?=[^\W\d_])|://|@|(?<=\w):(?=\w)|[\r\n\t]")
"""What mail programs make links of: `shop.example`, `https://`, `name@host`, `tel:1`."""


class Proven(NamedTuple):
    """Whom a proof names, and as of when."""

    who: Identifiers
    made_at: datetime


def event_of(
    told: FirstPartyEvent,
    *,
    key: str,
    platform: str,
    proven: Proven | None,
    time: datetime | None,
    now: datetime,
    junk: Junk,
) -> FirstPartyEvent:
    """The event to be stored. Raises Wrong.

    `told`: as sent, its time aside. `key`: the public key, before the id: no id of the shop's server can be taken away
    by it. `platform`: the store's. `proven`: whom the proof names; that is no newer than the proof. `time`: as sent; a
    clock that is far ahead is not believed.
    """
    if told.type not in BEHAVIOUR and not CUSTOM.fullmatch(told.type):
        raise Wrong("/type", "A browser cannot tell this: send it from the shop's server, with an API key.")
    written = proven is not None and told.type in WRITTEN[platform]
    at = time if time is not None and time - now <= AHEAD else now
    event = replace(
        told,
        id=f"{key}:{told.id}",
        time=at,
        named_at=min(proven.made_at, at) if proven is not None else None,
        profile=_who(told.profile, proven.who if proven is not None else None),
        properties=_tamed(told.properties) if told.type in COMMERCE else told.properties,
        behaviour=not written,
    )
    if (wrong := events.wrong_property(event, junk)) is not None:
        raise Wrong(*wrong)
    return event


def _who(said: Identifiers, proven: Identifiers | None) -> Identifiers:
    for name in CLAIMS:
        value = getattr(said, name)
        if value is not None and proven is None:
            raise Wrong(f"/profile/{name}", "This names somebody: it needs a proof.")
        if value is not None and value != getattr(proven, name):
            raise Wrong(f"/profile/{name}", "The proof does not name this.")
    tokens = {name: _token(name, getattr(said, name)) for name in _TOKENS}
    return replace(proven or Identifiers(), **tokens)


def _token(name: str, value: str | None) -> str | None:
    if value is None:
        return None
    # Shopify's cookie has a key behind the cart's token, and its webhooks do not.
    token = value.partition("?")[0]
    if not _TOKEN.fullmatch(token):
        raise Wrong(f"/profile/{name}", "Only random tokens are taken: 16 characters at least, and not digits alone.")
    return token


def _tamed(properties: dict[str, Any]) -> dict[str, Any]:
    """What a cart or checkout holds, without anything that would speak for the shop."""
    for name in SERVERS:
        if name in properties:
            raise Wrong(f"/properties/{name}", "Only the shop's server can tell this.")
    lines = properties.get("lines")
    if not isinstance(lines, list):
        return properties
    return properties | {"lines": [_line(line, n) for n, line in enumerate(lines)]}


def _line(line: Any, n: int) -> Any:
    if not isinstance(line, dict):
        return line
    if "image" in line:
        raise Wrong(f"/properties/lines/{n}/image", "Only the shop's server can tell this.")
    title = line.get("title")
    return line | {"title": _LINKING.sub(" ", title)} if isinstance(title, str) else line

"""`/u/{token}`: the way out. GET shows a button and changes nothing, since scanners follow links; POST unsubscribes.

Both the page's button and a mail client's one-click (RFC 8058) POST here.
"""

import base64
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from libs.common.clock import Clock
from libs.common.crypto import BadToken, Keyring
from libs.common.db import Database, Tx
from libs.common.telemetry import get_logger
from services.messaging.message import Message
from services.messaging.person import masked
from services.messaging.store import looks as look_store
from services.messaging.store import messages as ledger_store
from services.messaging.store import suppressions

PURPOSE = "unsubscribe"
FOLDER = Path(__file__).with_name("templates")

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Link:
    """A link that is ours and still good."""

    message: Message
    shop: str
    sisters: bool
    """Whether the tenant has other stores, which are then silent, too."""


class _Gone(Exception):
    """The link leads nowhere (404) or no longer (410)."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def pages(database: Database, clock: Clock, keyring: Keyring) -> list[BaseRoute]:
    """The routes."""

    async def unsubscribe_page(request: Request) -> Response:
        try:
            async with database.transaction() as tx:
                link = await _read(tx, request.path_params["token"], keyring, clock)
                done = request.method == "POST"
                if done and await suppressions.unsubscribe(tx, link.message, clock.now()):
                    log.info("unsubscribed", tenant=link.message.tenant, message=link.message.id)
        except _Gone as gone:
            state = "gone" if gone.status == 410 else "unknown"  # noqa: PLR2004
            return _page(gone.status, state=state, shop=None, sisters=False, address=None)
        state, address = "done" if done else "ask", masked(link.message.recipient)
        return _page(200, state=state, shop=link.shop, sisters=link.sisters, address=address)

    return [Route("/u/{token}", unsubscribe_page, methods=["GET", "POST"])]


async def _read(tx: Tx, token: str, keyring: Keyring, clock: Clock) -> _Link:
    try:
        claims = keyring.read_token(token, purpose=PURPOSE, now=clock.now())
    except BadToken as bad:
        raise _Gone(410 if bad.expired else 404) from bad
    found = await ledger_store.message(tx, str(claims.get("tenant")), str(claims.get("message")))
    # Bound to message, person and channel: a link that fits only in part is nobody's.
    bound = found is not None and (found.profile, found.channel) == (claims.get("profile"), claims.get("channel"))
    if found is None or not bound or not found.recipient:
        raise _Gone(404)
    place = (found.tenant, found.store)
    shop = (await look_store.shops(tx, [place])).get(place)
    return _Link(found, shop.name if shop else "", await look_store.has_sisters(tx, *place))


def _page(status: int, **values: str | bool | None) -> Response:
    style, digest = _style()
    headers = {
        "content-security-policy": f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self';"
        " frame-ancestors 'none'; base-uri 'none'",
        "x-robots-tag": "noindex",
    }
    return HTMLResponse(_template().render(style=style, **values), status, headers)


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=select_autoescape(default=True), undefined=StrictUndefined
    )
    return environment.get_template("unsubscribe.html.jinja")


@cache
def _style() -> tuple[str, str]:
    style = (FOLDER / "unsubscribe.css").read_text(encoding="utf-8")
    return style, base64.b64encode(sha256(style.encode()).digest()).decode()

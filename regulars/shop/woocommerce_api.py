"""WooCommerce's REST API, version 3, of the simulated shop: as its server answers, its moods included.

It holds what exists and knows nothing of webhooks: whatever those failed to tell is to be found here.
"""

import base64
import binascii
import hmac
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from ssl import SSLContext
from typing import Any
from urllib.parse import parse_qsl

import httpx
import msgspec
from oauthlib.common import Request as Signed
from oauthlib.oauth1.rfc5849.signature import collect_parameters, verify_hmac_sha256
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from regulars.shop import woocommerce
from regulars.shop.model import Customer, Deleted, Order, ProductState, State

KEY = "ck_5d1c0e7a9b3f42e68d07c1a2"
SECRET = "cs_93b1f27e0c4d4a8f9e6d5b7c"  # noqa: S105 - a simulated store's
MOST_PER_PAGE = 100
_KINDS: tuple[tuple[str, type[Order | Customer | ProductState]], ...] = (
    ("orders", Order),
    ("customers", Customer),
    ("products", ProductState),
)

_RESOURCES = {"coupon", "customer", "order", "product"}
_EVENTS = {"created", "updated", "deleted", "restored"}

Mood = int | bytes | None
"""How it takes the next request: with a status of an error, with these bytes for a body, or well."""


class WooCommerceApi:
    """A shop's objects, and the application that serves them."""

    def __init__(self, *, key: str = KEY, secret: str = SECRET) -> None:
        self._key = key
        self._secret = secret
        self._there: dict[str, dict[int, Order | Customer | ProductState]] = {kind: {} for kind, _ in _KINDS}
        self.moods: deque[Mood] = deque()
        """Of the requests to come; then it is in a good one."""
        self.requests: list[str] = []
        """Method, path and query of each."""
        self.hidden: set[int] = set()
        """Ids that its lists leave out, as a plugin may have it."""
        self.webhooks: dict[int, dict[str, Any]] = {}
        """By id, with their secrets."""
        self.pinged: list[int] = []
        """What new ones' addresses answered."""
        self.writes = True
        """Whether the key may write, too."""
        self.manages = True
        """Whether the key's owner manages the shop: others see no webhooks."""
        self.app = Starlette(
            routes=[
                Route("/wp-json/wc/v3/webhooks", self._webhooks, methods=["GET", "POST"]),
                Route("/wp-json/wc/v3/webhooks/{id:int}", self._webhook, methods=["PUT"]),
                Route("/wp-json/wc/v3/{kind}", self._listing),
                Route("/wp-json/wc/v3/{kind}/{id:int}", self._one),
            ]
        )

    def tell(self, states: Iterable[State]) -> None:
        """Takes over what has come to be; in order of time."""
        for state in states:
            if isinstance(state, Deleted):
                self._there["orders"].pop(state.order_id, None)
            for kind, type_ in _KINDS:
                if isinstance(state, type_) and state.store == "woocommerce":
                    self._there[kind][_id(state)] = state

    def counts(self) -> dict[str, int]:
        """How many it lists of each kind."""
        return {kind: len(there) for kind, there in self._there.items()}

    def erase(self, kind: str, id_: int) -> None:
        """Deletes for good, of which no webhook tells."""
        del self._there[kind][id_]

    def webhook(self, topic: str, delivery_url: str, *, status: str = "active", secret: str = "") -> int:
        """One that somebody has made; its id."""
        id_ = max(self.webhooks, default=0) + 1
        self.webhooks[id_] = {
            "id": id_, "name": topic, "status": status, "topic": topic, "delivery_url": delivery_url, "secret": secret
        }  # fmt: skip
        return id_

    async def _webhooks(self, request: Request) -> Response:
        if (refused := self._refused(request)) is not None:
            return refused
        if not self.manages:
            return _error(403, "woocommerce_rest_cannot_view")
        if request.method == "GET":
            asked = request.query_params
            offset, length = int(asked.get("offset", 0)), min(int(asked.get("per_page", 10)), MOST_PER_PAGE)
            return JSONResponse([_shown(each) for each in [*self.webhooks.values()][offset : offset + length]])
        given = await request.json()
        resource, _, event = given["topic"].partition(".")
        if resource != "action" and (resource not in _RESOURCES or event not in _EVENTS):
            return _error(400, "woocommerce_rest_shop_webhook_invalid_topic")
        id_ = self.webhook(given["topic"], given["delivery_url"], status=given["status"], secret=given["secret"])
        await self._ping(id_)
        return JSONResponse(_shown(self.webhooks[id_]), 201)

    async def _webhook(self, request: Request) -> Response:
        if (refused := self._refused(request)) is not None:
            return refused
        found = self.webhooks.get(request.path_params["id"])
        if found is None:
            return _error(400, "woocommerce_rest_shop_webhook_invalid_id")
        found |= await request.json()
        return JSONResponse(_shown(found))

    async def _ping(self, id_: int) -> None:
        async with httpx.AsyncClient(verify=_certificates(), trust_env=False) as http:
            with suppress(httpx.HTTPError):
                answer = await http.post(self.webhooks[id_]["delivery_url"], data={"webhook_id": id_})
                self.pinged.append(answer.status_code)

    def _refused(self, request: Request) -> Response | None:
        """How it takes this request; None: well."""
        self.requests.append(f"{request.method} {request.url.path}?{request.url.query}")
        mood = self.moods.popleft() if self.moods else None
        if isinstance(mood, bytes):
            return Response(mood, media_type="application/json")
        if mood is not None:
            return _error(mood, "internal_server_error", headers={"retry-after": "1"} if mood == 429 else {})  # noqa: PLR2004
        if not self._known(request):
            return _error(401, "woocommerce_rest_cannot_view")
        if request.method != "GET" and not self.writes:
            return _error(401, "woocommerce_rest_authentication_error")
        return None

    async def _listing(self, request: Request) -> Response:
        if (refused := self._refused(request)) is not None:
            return refused
        kind, asked = request.path_params["kind"], dict(request.query_params)
        if kind not in self._there:
            return _error(404, "rest_no_route")
        listed = (each for id_, each in sorted(self._there[kind].items()) if id_ not in self.hidden)
        found = [each for each in listed if _wanted(each, kind, asked)]
        offset, length = int(asked.get("offset", 0)), min(int(asked.get("per_page", 10)), MOST_PER_PAGE)
        page = found[offset : offset + length]
        headers = {"x-wp-total": str(len(found)), "x-wp-totalpages": str(-(-len(found) // length))}
        if asked.get("_fields") == "id":
            return JSONResponse([{"id": _id(each)} for each in page], headers=headers)
        body = b"[" + b",".join(woocommerce.body(each) for each in page) + b"]"
        return Response(body, media_type="application/json; charset=UTF-8", headers=headers)

    async def _one(self, request: Request) -> Response:
        self.requests.append(request.url.path)
        if not self._known(request):
            return _error(401, "woocommerce_rest_cannot_view")
        kind = request.path_params["kind"]
        found = self._there.get(kind, {}).get(request.path_params["id"])
        if found is None:
            return _error(404, f"woocommerce_rest_{'shop_order' if kind == 'orders' else kind[:-1]}_invalid_id")
        return Response(woocommerce.body(found), media_type="application/json; charset=UTF-8")

    def _known(self, request: Request) -> bool:
        if "oauth_signature" in request.query_params:
            return self._signed(request)
        scheme, _, code = request.headers.get("authorization", "").partition(" ")
        try:
            given = base64.b64decode(code, validate=True) if scheme == "Basic" else b""
        except binascii.Error:
            given = b""
        return hmac.compare_digest(given, f"{self._key}:{self._secret}".encode())

    def _signed(self, request: Request) -> bool:
        signed = Signed(str(request.url), request.method)
        signed.params = collect_parameters(uri_query=request.url.query, exclude_oauth_signature=True)
        given = dict(parse_qsl(request.url.query))
        signed.signature = given["oauth_signature"]
        return given.get("oauth_consumer_key") == self._key and bool(verify_hmac_sha256(signed, self._secret, ""))


@cache
def _certificates() -> SSLContext:
    # Reading all of them takes as long as a hundred pings.
    return httpx.create_ssl_context()


def _shown(webhook: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in webhook.items() if name != "secret"}


def _id(state: Order | Customer | ProductState) -> int:
    return state.product.id if isinstance(state, ProductState) else state.id


def _wanted(state: Order | Customer | ProductState, kind: str, asked: dict[str, str]) -> bool:
    if "include" in asked:
        return str(_id(state)) in asked["include"].split(",")
    if kind == "customers":
        return True
    # Dates are in whole seconds, and both ends of the window are left out.
    changed = state.updated_at.replace(microsecond=0)
    after, before = (_instant(asked.get(name)) for name in ("modified_after", "modified_before"))
    return (after is None or changed > after) and (before is None or changed < before)


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text).replace(tzinfo=UTC) if text else None


def _error(status: int, code: str, *, headers: dict[str, str] | None = None) -> Response:
    body = {"code": code, "message": "Entschuldigung, das geht nicht.", "data": {"status": status}}
    return Response(msgspec.json.encode(body), status, headers, media_type="application/json")

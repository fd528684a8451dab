"""A page of a shop, as its browser sends."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.integration.ingest.ground import Ground

ORIGIN = "https://demo.myshopify.com"
TOKEN = "c1-4f9a7be2d8035c61"
PATH = "/v1/browser/events"


async def public_key(ground: Ground, store: str, *origins: str) -> str:
    """A new one."""
    answer = await ground.http.post(f"/v1/stores/{store}/public-keys", json={"origins": origins} if origins else {})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["public_key"])


async def proof(ground: Ground, store: str, **who: Any) -> str:
    """Of who is logged in."""
    answer = await ground.http.post(f"/v1/stores/{store}/proofs", json=who)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["proof"])


def view(id_: str = "e-1", **changes: Any) -> dict[str, Any]:
    """A product was looked at."""
    event = {"id": id_, "type": "product.viewed", "profile": {"cart_token": TOKEN}, "properties": {"product_id": "77"}}
    return event | changes


@dataclass
class Page:
    """One browser on a page."""

    http: httpx.AsyncClient
    key: str
    origin: str | None = ORIGIN

    async def send(self, *events: Any, **rest: Any) -> httpx.Response:
        """As `navigator.sendBeacon` does. `rest`: what else is in the body."""
        return await self.post(json.dumps({"events": events} | rest))

    async def post(self, body: str | bytes, content_type: str = "text/plain;charset=UTF-8") -> httpx.Response:
        """Any body."""
        headers = {"content-type": content_type} | self.says
        return await self.http.post(PATH, params={"key": self.key}, content=body, headers=headers)

    async def ask(self) -> httpx.Response:
        """As `fetch` does before it sends JSON."""
        asks = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
        return await self.http.options(PATH, params={"key": self.key}, headers=asks | self.says)

    @property
    def says(self) -> dict[str, str]:
        """Where it says that it comes from."""
        return {} if self.origin is None else {"origin": self.origin}


@asynccontextmanager
async def browsing(
    ground: Ground, key: str, origin: str | None = ORIGIN, address: str = "203.0.113.7", **headers: str
) -> AsyncIterator[Page]:
    """A browser at this address."""
    transport = httpx.ASGITransport(ground.app, raise_app_exceptions=False, client=(address, 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://regulars.test", headers=headers) as http:
        yield Page(http, key, origin)

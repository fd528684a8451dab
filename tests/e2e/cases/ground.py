"""Stores that send, and what the API says in the end."""

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from tests.property.line import Line

SECRET = "hush, a secret"
_numbers = itertools.count(1)


def signature(body: bytes, secret: str = SECRET) -> str:
    """As both platforms make it."""
    return base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()


@dataclass(frozen=True, slots=True)
class Ground:
    """A running line, reached over HTTP."""

    line: Line
    http: httpx.AsyncClient

    async def store(self, platform: str, **changes: Any) -> "Store":
        """Registers one."""
        domain = "case.myshopify.com" if platform == "shopify" else "case.example"
        body = {"platform": platform, "domain": domain, "currency": "EUR", "timezone": "Europe/Berlin"}
        answer = await self.http.post("/v1/stores", json=body | {"secrets": [SECRET]} | changes)
        return Store(self, platform, answer.raise_for_status().json()["store_key"])

    async def get(self, path: str) -> Any:
        """An answer, once all that was sent is through."""
        await self.line.drained()
        return (await self.http.get(path)).raise_for_status().json()


@dataclass(frozen=True, slots=True)
class Store:
    """One store, as it sends and as the API knows it."""

    ground: Ground
    platform: str
    key: str

    async def send(
        self,
        topic: str | None,
        payload: object,
        *,
        id_: str | None = None,
        signed: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> int:
        """A delivery; the status of the answer. `payload`: bytes go as they are. `signed`: another signature."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        id_ = id_ or f"delivery-{next(_numbers)}"
        sign = signature(body) if signed is None else signed
        if self.platform == "shopify":
            sent = {"X-Shopify-Topic": topic, "X-Shopify-Hmac-Sha256": sign, "X-Shopify-Webhook-Id": id_}
            sent |= {"X-Shopify-Shop-Domain": "case.myshopify.com", "X-Shopify-API-Version": "2026-01"}
        else:
            sent = {"X-WC-Webhook-Topic": topic, "X-WC-Webhook-Signature": sign, "X-WC-Webhook-Delivery-ID": id_}
            sent |= {"X-WC-Webhook-Source": "https://case.example/", "X-WC-Webhook-ID": "7"}
        named = {name: value for name, value in {"Content-Type": "application/json", **sent}.items() if value}
        return await self.send_bare(body, {**named, **(headers or {})})

    async def send_bare(self, body: bytes, headers: Mapping[str, str]) -> int:
        """A request with these headers and no others of a platform."""
        answer = await self.ground.http.post(self.path, content=body, headers=dict(headers))
        return answer.status_code

    async def send_lines(self, body: bytes, headers: Mapping[str, str]) -> int:
        """The same through a bare socket, which sends what no client would."""
        url = self.ground.http.base_url
        reader, writer = await asyncio.open_connection(url.host, url.port)
        lines = [f"POST {self.path} HTTP/1.1", "Host: regulars", "Connection: close", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        status = (await reader.readline()).split()[1]
        writer.close()
        return int(status)

    @property
    def path(self) -> str:
        """Of its webhook address."""
        return f"/webhooks/{self.platform}/{self.key}"

    async def outcomes(self) -> list[tuple[str, str, str | None]]:
        """Topic, outcome and reason of each delivery, the first one first."""
        rows = (await self.ground.get(f"/v1/deliveries?store={self.key}&limit=250"))["data"]
        return [(row["topic"], row["outcome"], row["reason"]) for row in reversed(rows)]

    async def counts(self) -> Any:
        """Of its deliveries, by outcome."""
        return await self.ground.get(f"/v1/deliveries/counts?store={self.key}")

    async def order(self, source_id: object) -> Any:
        """The ledger's truth."""
        return await self.ground.get(f"/v1/orders/{self.key}:{source_id}")

    async def orders(self) -> list[Any]:
        """All of them."""
        rows: list[Any] = (await self.ground.get(f"/v1/orders?store={self.key}"))["data"]
        return rows

    async def kpis(self, currency: str = "EUR") -> dict[str, Any]:
        """Values of the last 30 days."""
        answer = await self.ground.get(f"/v1/kpis?window=30d&store={self.key}&currency={currency}")
        return {name: kpi["value"] for name, kpi in answer["kpis"].items()}

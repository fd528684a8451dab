"""Ingest as callers meet it: HTTP in front, PostgreSQL behind, its worker beside."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI

from libs.common.clock import DrivenClock
from libs.common.crypto import Keyring
from libs.common.db import Database
from libs.common.log.postgres import PostgresLog
from services.ingest.settings import IngestSettings
from services.ingest.work import worker
from tests.waiting import eventually

ADMIN_KEY = "an admin key for tests"
SECRET = "hush, a secret"
STORE = {
    "platform": "shopify",
    "domain": "demo.myshopify.com",
    "secrets": [SECRET],
    "currency": "EUR",
    "timezone": "Europe/Berlin",
}


def sign(body: bytes, secret: str = SECRET) -> str:
    return base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()


def shopify_headers(
    body: bytes, topic: str = "orders/create", id_: str = "w-1", secret: str = SECRET
) -> dict[str, str]:
    return {
        "content-type": "application/json",
        "x-shopify-topic": topic,
        "x-shopify-hmac-sha256": sign(body, secret),
        "x-shopify-webhook-id": id_,
        "x-shopify-shop-domain": "demo.myshopify.com",
    }


def woocommerce_headers(body: bytes, topic: str = "order.created", id_: str = "d-1") -> dict[str, str]:
    return {
        "content-type": "application/json",
        "x-wc-webhook-topic": topic,
        "x-wc-webhook-signature": sign(body),
        "x-wc-webhook-delivery-id": id_,
    }


@dataclass
class Ground:
    """An ingest that runs."""

    app: FastAPI
    http: httpx.AsyncClient
    """Authorised as administrator of the tenant `default`."""
    database: Database
    clock: DrivenClock
    settings: IngestSettings

    @property
    def keyring(self) -> Keyring:
        """The installation's keys, as they are by now."""
        return Keyring.from_settings(self.settings)

    async def register(self, **changes: Any) -> str:
        """A store's key."""
        answer = await self.http.post("/v1/stores", json=STORE | changes)
        assert answer.status_code in {200, 201}, answer.text
        return str(answer.json()["store_key"])

    async def shopify(self, store: str, payload: object, **options: str) -> httpx.Response:
        """A delivery as Shopify sends it. `options`: topic, id_, secret."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return await self.http.post(
            f"/webhooks/shopify/{store}", content=body, headers=shopify_headers(body, **options)
        )

    async def woocommerce(self, store: str, payload: object, **options: str) -> httpx.Response:
        """A delivery as WooCommerce sends it. `options`: topic, id_."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return await self.http.post(
            f"/webhooks/woocommerce/{store}", content=body, headers=woocommerce_headers(body, **options)
        )

    async def get(self, path: str, **parameters: Any) -> Any:
        """A good answer's JSON."""
        answer = await self.http.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def journalled(self) -> int:
        """Records in the journal."""
        async with self.database.autocommit() as pg:
            return int(await pg.fetchval("SELECT count(*) FROM log_journal"))

    async def commerce(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Type, key and data of what was observed, stores left out."""
        async with self.database.autocommit() as pg:
            rows = await pg.fetch(
                """
                SELECT type, key, data FROM log_commerce WHERE type <> 'store.observed' ORDER BY partition, "offset"
                """
            )
        return [(row["type"], row["key"], json.loads(row["data"])) for row in rows]

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """The worker runs; at the end it has dealt with everything."""
        stop = asyncio.Event()
        log = PostgresLog(self.database)
        running = asyncio.create_task(worker(self.settings, self.database, self.clock, log).run(stop))
        try:
            yield
            await eventually(self._drained)
        finally:
            stop.set()
            await running
            await log.close()

    async def _drained(self) -> bool:
        return bool((await self.get("/v1/pipeline/ingest"))["drained"])

    async def drain(self) -> None:
        """The worker deals with everything, and ends."""
        async with self.working():
            pass

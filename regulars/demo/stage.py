"""The platform as the demo sees it: stores registered, webhooks posted, the pipeline watched. HTTP only."""

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.message import Message
from typing import Any
from urllib.parse import urlsplit

from regulars.demo.elsewhere import Elsewhere
from regulars.demo.engine import Engine
from regulars.demo.http import Answer, Client, Unexpected
from regulars.shop.delivery import EVENTS, Delivery, request
from regulars.shop.model import Consent, StoreName, StoreSpec

SERVICES = ("ingest", "profiles", "metrics", "messaging")
PATIENCE = 60.0
"""Seconds until a service that does not come to rest is given up."""
RETRIES = 8
FIRST_PAUSE, LONGEST_PAUSE = 0.004, 0.05
_UNSUBSCRIBE = re.compile(r"<(https?://[^>]+)>")


@dataclass(slots=True)
class Flow:
    """What was seen of one service's part of the pipeline."""

    processed: int = 0
    lag: int = 0


@dataclass(slots=True)
class Stage:
    """Both stores, connected."""

    client: Client
    engine: Engine | Elsewhere
    stores: dict[StoreName, StoreSpec]
    keys: dict[StoreName, str] = field(default_factory=dict)
    """Store -> its key in the API."""
    hooks: dict[StoreName, str] = field(default_factory=dict)
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    """(outcome that the delivery deserves, status) -> how often."""
    flows: dict[str, Flow] = field(default_factory=lambda: {service: Flow() for service in SERVICES})
    usual: dict[str, float] = field(default_factory=dict)
    """Seconds that a service usually takes to come to rest, once those before it have."""

    async def register(self) -> None:
        """POST /v1/stores for each."""
        for name, spec in self.stores.items():
            answer = await self.client.post(
                "/v1/stores",
                {
                    "platform": name,
                    "domain": spec.domain,
                    "secrets": [spec.secret],
                    "currency": spec.currency,
                    "timezone": spec.timezone,
                    "name": spec.title,
                    "consent": spec.policy,
                },
            )
            if answer.status not in {200, 201}:
                raise Unexpected(f"POST /v1/stores: {answer.status} {answer.body[:300]!r}")
            told = answer.json()
            self.keys[name] = told["store_key"]
            self.hooks[name] = urlsplit(told["webhook_url"]).path

    async def deliver(self, deliveries: Sequence[Delivery]) -> None:
        """Posts them, as many at a time as there are connections."""
        async with asyncio.TaskGroup() as group:
            for delivery in deliveries:
                group.create_task(self._deliver(delivery))

    async def _deliver(self, delivery: Delivery) -> None:
        answer = await self._post(delivery)
        tries = 1
        # Shopify tries again after anything but 2xx; WooCommerce never does.
        while answer.status >= 500 and delivery.store == "shopify" and tries < RETRIES:  # noqa: PLR2004
            await self.engine.pause(0.1 * tries)
            answer = await self._post(delivery)
            tries += 1
        self.answers[delivery.outcome, answer.status] += 1

    async def _post(self, delivery: Delivery) -> Answer:
        if delivery.topic == EVENTS:
            return await self.client.post("/v1/events", self._event(delivery))
        body, headers = request(delivery, self.stores[delivery.store])
        return await self.client.request("POST", self.hooks[delivery.store], headers, body)

    def _event(self, delivery: Delivery) -> dict[str, Any]:
        consent = delivery.state
        assert isinstance(consent, Consent)  # noqa: S101 - nothing else is told this way
        profile = {"email": consent.email}
        if consent.customer_id is not None:
            profile["customer_id"] = str(consent.customer_id)
        return {
            "id": consent.id,
            "type": "consent.changed",
            "time": consent.at.isoformat(),
            "store": self.keys[delivery.store],
            "profile": profile,
            "properties": {"channel": "email", "state": consent.state, "source": "newsletter"},
        }

    async def drain(self, *services: str) -> None:
        """Waits for each of these services in turn (default: all), in the order in which events pass them."""
        for service in services or SERVICES:
            # Asking costs it what it would rather work with: wait as long as usual, then by small steps.
            waited = self.usual.get(service, 0.0)
            if waited > FIRST_PAUSE:
                await self.engine.pause(waited)
            pause = max(FIRST_PAUSE, waited / 4)
            while not await self.look(service):
                if waited > PATIENCE:
                    raise Unexpected(f"{service} does not come to rest:\n{self.engine.last_words()}")
                await self.engine.pause(pause)
                waited += pause
                pause = min(pause * 1.5, LONGEST_PAUSE)
            usual = self.usual.get(service, 0.0)
            # Less while it is in time, more when it is not: in time three times out of four.
            self.usual[service] = usual * (0.97 if waited <= usual else 1.09) + 0.0002

    async def look(self, service: str) -> bool:
        """Asks a service how far it has come; whether it is at rest."""
        told = await self.client.get(f"/v1/pipeline/{service}")
        partitions = [each for consumer in told["consumers"] for each in consumer["partitions"]]
        flow = self.flows[service]
        flow.processed = sum(each["position"] for each in partitions)
        flow.lag = sum(each["lag"] for each in partitions)
        return bool(told["drained"])

    async def unsubscribe(self, mail: Message) -> int:
        """What a mail client does when its user presses "unsubscribe" (RFC 8058); the status of the answer."""
        found = _UNSUBSCRIBE.search(str(mail["List-Unsubscribe"]))
        if found is None:
            raise Unexpected("a mail without a List-Unsubscribe link")
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        target = urlsplit(found.group(1)).path
        answer = await self.client.request("POST", target, headers, b"List-Unsubscribe=One-Click")
        return answer.status

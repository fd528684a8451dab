"""A load generator: signed 4 kB Shopify orders, each with its own id, on keep-alive connections.

A process of its own, one thread over epoll, so that it takes little from the machine that it shares with what is
measured: `python -m tests.bench.load CONNECTIONS SECONDS SECRET URL...` prints one line of JSON.

It sends as fast as it is answered (a closed loop), or with `--rate` so many a second whatever the answers take: a
request that had to wait for a connection has been waited for, too.
"""

import argparse
import base64
import hmac
import json
import os
import select
import socket
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from urllib.parse import urlsplit

from libs.common.clock import SystemClock, monotonic

BODY_BYTES = 4096
ID = b"@@@@@@@@@@@@@@@@"
WARM_UP_SECONDS = 0.5
START_SECONDS = 60.0


def order_template(changed: datetime) -> bytes:
    """An order as Shopify sends it, with ID in place of its id; as long whenever it was changed."""
    line = {
        "variant_id": 39072856, "product_id": 632910392, "title": "Enamel mug, 350 ml", "quantity": 1,
        "sku": "MUG-350-BLUE", "vendor": "Tin & Clay", "fulfillment_service": "manual", "requires_shipping": True,
        "taxable": True, "gift_card": False, "price": "19.00", "total_discount": "0.00", "grams": 200,
        "fulfillment_status": None, "properties": [],
        "tax_lines": [{"title": "VAT", "price": "3.03", "rate": 0.19}],
    }  # fmt: skip
    order = {
        "id": 0, "app_id": 580111, "browser_ip": "203.0.113.9", "buyer_accepts_marketing": True,
        "cart_token": "68778783ad298f1c80c3bafcddeea02f", "checkout_id": 37119608463572, "confirmed": True,
        "contact_email": "ada@example.com", "created_at": "2026-01-10T11:00:00-05:00", "currency": "EUR",
        "current_subtotal_price": "133.00", "current_total_price": "139.00", "email": "ada@example.com",
        "financial_status": "paid", "name": "#1001", "order_number": 1001, "phone": "+4930901820",
        "taxes_included": True,
        "processed_at": "2026-01-10T11:00:00-05:00", "updated_at": changed.isoformat(timespec="seconds"), "test": False,
        "total_discounts": "0.00", "total_line_items_price": "133.00", "total_price": "139.00", "total_tax": "22.19",
        "customer": {"id": 207119551, "email": "ada@example.com", "first_name": "Ada", "last_name": "King",
                     "state": "enabled", "verified_email": True, "currency": "EUR", "tags": ""},
        "shipping_lines": [{"title": "Parcel", "price": "6.00", "discounted_price": "6.00", "tax_lines": []}],
        "line_items": [{"id": 466157049 + n, **line} for n in range(6)], "refunds": [], "note": "",
    }  # fmt: skip
    text = json.dumps(order, separators=(",", ":")).encode().replace(b'"id":0', b'"id":' + ID, 1)
    # What compresses as badly as a shop's own identifiers and links do.
    noise = base64.b64encode(os.urandom(BODY_BYTES))[: BODY_BYTES - len(text)]
    return text.replace(b'"note":""', b'"note":"' + noise + b'"')


@dataclass(slots=True)
class Outcome:
    """What the generator saw; latencies in seconds."""

    answered: dict[int, int] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    accepted: int = 0
    """All 200s, warm-up included."""
    again: int = 0
    """Of them those that repeat an earlier request."""


class Generator:
    """Each connection sends its next order when the last one is answered, or when one is due."""

    def __init__(
        self,
        urls: list[str],
        connections: int,
        secret: str,
        *,
        rate: float = 0.0,
        repeated: float = 0.0,
        forged: float = 0.0,
    ) -> None:
        """`rate`: a second, 0 for as many as are answered; `repeated`, `forged`: parts of all that are sent."""
        self._second = -1
        self._now()
        self._head = _head(urlsplit(urls[0]).path, len(self._before) + len(ID) + len(self._after))
        self._key = secret.encode()
        self._id = int.from_bytes(os.urandom(4), "big") * 10**6 + 10**15
        self._rate = rate
        self._forged = forged
        self._repeated = forged + repeated
        self._dice = Random(connections)
        self._last = b""
        self._again: set[int] = set()
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._sent_at: dict[int, float] = {}
        self._target: dict[int, str] = {}
        self._starting = set(urls)
        for n in range(connections):
            self._connect(urls[n % len(urls)])

    def _connect(self, url: str) -> None:
        target = urlsplit(url)
        connection = socket.create_connection((target.hostname, target.port), timeout=5)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sockets[connection.fileno()] = connection
        self._target[connection.fileno()] = url
        self._poll.register(connection, select.EPOLLIN)

    def run(self, seconds: float) -> Outcome:
        """Counts from a while after the first answer of every server on, for so long."""
        outcome = Outcome(seconds=seconds)
        start = end = 0.0
        deadline = monotonic() + START_SECONDS + seconds
        for fd in self._sockets:
            self._send(fd, monotonic())
        under_way = len(self._sockets)
        idle: deque[int] = deque()
        due = 0.0
        while under_way or idle:
            if monotonic() > deadline:
                raise TimeoutError(f"{len(self._starting)} servers gave no answer, {under_way} requests are open")
            # Those that are due come first: answers may wait, they are timed when they are read.
            while idle and due <= monotonic() < end:
                self._send(idle.popleft(), due)
                under_way += 1
                due += 1 / self._rate
            if idle and monotonic() >= end:
                idle.clear()
            for fd, _ in self._poll.poll(max(0.0, due - monotonic()) if idle else 1):
                status = self._answer(fd)
                now = monotonic()
                under_way -= 1
                self._starting.discard(self._target[fd])
                if not end and not self._starting:
                    start = due = now + WARM_UP_SECONDS
                    end = start + seconds
                outcome.accepted += status == 200
                outcome.again += status == 200 and fd in self._again
                if end and start <= now <= end:
                    outcome.answered[status] = outcome.answered.get(status, 0) + 1
                    outcome.latencies.append(now - self._sent_at[fd])
                if not status or (end and now >= end):
                    continue
                if end and self._rate:
                    idle.append(fd)
                else:
                    self._send(fd, now)
                    under_way += 1
        return outcome

    def _send(self, fd: int, due: float) -> None:
        self._sent_at[fd] = due
        dice = self._dice.random() if self._repeated else 1.0
        if self._forged <= dice < self._repeated and self._last:
            self._again.add(fd)
            request = self._last
        else:
            self._again.discard(fd)
            request = self._request(forged=dice < self._forged)
        self._sockets[fd].sendall(request)

    def _now(self) -> None:
        """Orders are told when they are placed or changed, as they are here."""
        second = int(monotonic())
        if second != self._second:
            self._second = second
            self._before, self._after = order_template(SystemClock().now()).split(ID)

    def _request(self, *, forged: bool) -> bytes:
        self._now()
        self._id += 1
        body = b"%b%016d%b" % (self._before, self._id, self._after)
        key = b"another's" if forged else self._key
        signature = base64.b64encode(hmac.digest(key, body, "sha256"))
        request = (self._head, self._id, signature, body)
        whole = b"%b%016d\r\nX-Shopify-Hmac-Sha256: %b\r\n\r\n%b" % request
        if not forged:
            self._last = whole
        return whole

    def _answer(self, fd: int) -> int:
        """The status; 0 when the server hung up."""
        answer = self._sockets[fd].recv(4096)
        while not answer.endswith(b"}"):
            answer += self._sockets[fd].recv(4096) or b"HTTP/1.1 000 closed}"
        return int(answer[9:12])


def _head(path: str, length: int) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "User-Agent: Shopify-Captain-Hook",
        "Content-Type: application/json",
        f"Content-Length: {length}",
        "X-Shopify-Topic: orders/create",
        "X-Shopify-Shop-Domain: bench.myshopify.com",
        "X-Shopify-API-Version: 2026-01",
        "X-Shopify-Triggered-At: 2026-01-10T16:00:02.123456789Z",
        "X-Shopify-Webhook-Id: ",
    ]
    return "\r\n".join(lines).encode()


def main() -> None:
    """The process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("connections", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("secret")
    parser.add_argument("urls", nargs="+")
    for part in ("rate", "repeated", "forged"):
        parser.add_argument(f"--{part}", type=float, default=0.0)
    asked = parser.parse_args()
    generator = Generator(
        asked.urls,
        asked.connections,
        asked.secret,
        rate=asked.rate,
        repeated=asked.repeated,
        forged=asked.forged,
    )
    outcome = generator.run(asked.seconds)
    ordered = sorted(outcome.latencies)
    print(
        json.dumps(
            {
                "rate": outcome.answered.get(200, 0) / outcome.seconds,
                "answered": outcome.answered,
                "accepted": outcome.accepted,
                "again": outcome.again,
                "p50_ms": round(ordered[len(ordered) // 2] * 1000, 2),
                "p99_ms": round(ordered[len(ordered) * 99 // 100] * 1000, 2),
            }
        )
    )


if __name__ == "__main__":
    main()

"""What a webhook's headers say, whichever family of names the platform uses."""

from collections.abc import Iterable
from typing import NamedTuple

from libs.common.web.short import RawHeaders

MAX_KEPT = 64
"""Headers kept with a delivery; platforms send about twenty."""
MAX_VALUE = 1024
MAX_TOPIC = 128
MAX_DELIVERY_ID = 128
MAX_LENGTH_DIGITS = 18

_SLOTS: dict[str, dict[bytes, str]] = {
    "shopify": {
        b"x-shopify-hmac-sha256": "signature",
        b"x-shopify-topic": "topic",
        b"x-shopify-webhook-id": "delivery_id",
        b"shopify-hmac-sha256": "signature",
        b"shopify-topic": "topic",
        b"shopify-webhook-id": "delivery_id",
    },
    "woocommerce": {
        b"x-wc-webhook-signature": "signature",
        b"x-wc-webhook-topic": "topic",
        b"x-wc-webhook-delivery-id": "delivery_id",
    },
}
PLATFORMS = frozenset(_SLOTS)
_COMMON = {b"traceparent": "traceparent"}
_LOOKUP = {platform: {**_COMMON, **slots} for platform, slots in _SLOTS.items()}
_NEVER_KEPT = frozenset(
    [b"authorization", b"proxy-authorization", b"cookie", b"connection", b"content-length"]
    + [name for slots in _SLOTS.values() for name, slot in slots.items() if slot == "signature"]
)


class Heading(NamedTuple):
    """The headers that decide what happens to a request."""

    signature: bytes
    """Empty when there is none."""
    topic: str
    delivery_id: str
    traceparent: str | None


def read(platform: str, raw: Iterable[tuple[bytes, bytes]]) -> Heading:
    """One pass over the headers of a platform's request."""
    lookup = _LOOKUP[platform]
    found: dict[str, bytes] = {}
    for name, value in raw:
        slot = lookup.get(name)
        if slot is not None and value:
            found.setdefault(slot, value)
    traceparent = found.get("traceparent")
    return Heading(
        found.get("signature", b""),
        found.get("topic", b"").decode("latin-1").strip()[:MAX_TOPIC],
        found.get("delivery_id", b"").decode("latin-1").strip()[:MAX_DELIVERY_ID],
        traceparent.decode("latin-1")[:MAX_VALUE] if traceparent else None,
    )


def length(raw: RawHeaders) -> int | None:
    """Bytes of the body, as announced; None when not, or not by a number that any body could have."""
    found = next((value for name, value in raw if name == b"content-length"), b"")
    return int(found) if found.isdigit() and len(found) <= MAX_LENGTH_DIGITS else None


def signed(platform: str, topic: str, delivery_id: str, signature: str) -> dict[str, str]:
    """Of a delivery, as the platform sends them."""
    if platform == "shopify":
        named = {"x-shopify-topic": topic, "x-shopify-hmac-sha256": signature, "x-shopify-webhook-id": delivery_id}
    else:
        named = {
            "x-wc-webhook-topic": topic,
            "x-wc-webhook-signature": signature,
            "x-wc-webhook-delivery-id": delivery_id,
        }
    return {"content-type": "application/json", **named}


def kept(raw: RawHeaders) -> dict[str, str]:
    """The headers to keep with the delivery: bounded, without signatures and credentials."""
    return {
        name[:MAX_VALUE].decode("latin-1"): value[:MAX_VALUE].decode("latin-1")
        for name, value in raw[:MAX_KEPT]
        if name not in _NEVER_KEPT
    }


def is_ping(platform: str, heading: Heading, body: bytes) -> bool:
    """WooCommerce's call on activation: unsigned, without X-WC headers, `webhook_id=N` as a form."""
    if platform != "woocommerce" or heading.signature or heading.topic:
        return False
    name, _, number = body.partition(b"=")
    return name == b"webhook_id" and number.isdigit() and len(number) <= len(str(2**63))

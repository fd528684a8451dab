"""What is read off a webhook's headers."""

import pytest

from libs.common.web.short import RawHeaders
from services.ingest import headers

SHOPIFY = [
    (b"x-shopify-topic", b"orders/create"),
    (b"x-shopify-hmac-sha256", b"c2ln"),
    (b"x-shopify-webhook-id", b"b54557e4"),
    (b"content-length", b"12"),
    (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
]


def test_both_families_say_the_same() -> None:
    short = [(name.replace(b"x-shopify", b"shopify"), value) for name, value in SHOPIFY]
    assert headers.read("shopify", SHOPIFY) == headers.read("shopify", short)
    assert headers.read("shopify", SHOPIFY) == headers.Heading(
        b"c2ln", "orders/create", "b54557e4", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    )


def test_woocommerce() -> None:
    raw = [
        (b"x-wc-webhook-topic", b"order.updated"),
        (b"x-wc-webhook-signature", b"c2ln"),
        (b"x-wc-webhook-delivery-id", b"9f2b"),
    ]
    assert headers.read("woocommerce", raw) == headers.Heading(b"c2ln", "order.updated", "9f2b", None)
    assert headers.read("shopify", raw) == headers.Heading(b"", "", "", None)


@pytest.mark.parametrize("length", [b"", b"-1", b"1e3", b"0x10", b"\xb2", b"9" * 5000])
def test_a_length_that_is_no_number_is_none(length: bytes) -> None:
    assert headers.length([(b"content-length", length)]) is None


def test_long_names_are_cut() -> None:
    heading = headers.read("shopify", [(b"x-shopify-topic", b"a" * 500), (b"x-shopify-webhook-id", b"b" * 500)])
    assert (len(heading.topic), len(heading.delivery_id)) == (headers.MAX_TOPIC, headers.MAX_DELIVERY_ID)


def test_signatures_and_credentials_are_not_kept() -> None:
    secret = [(b"authorization", b"Bearer x"), (b"cookie", b"a=b"), (b"shopify-hmac-sha256", b"c2ln")]
    kept = headers.kept([*SHOPIFY, *secret, (b"user-agent", b"caf\xe9")])
    assert set(kept) == {"x-shopify-topic", "x-shopify-webhook-id", "traceparent", "user-agent"}
    assert kept["user-agent"] == "café"


def test_what_is_kept_is_bounded() -> None:
    kept = headers.kept([(b"x-%d" % n, b"v" * 5000) for n in range(500)])
    assert len(kept) == headers.MAX_KEPT
    assert max(map(len, kept.values())) == headers.MAX_VALUE


@pytest.mark.parametrize(
    ("platform", "raw", "body", "ping"),
    [
        ("woocommerce", [], b"webhook_id=12", True),
        ("shopify", [], b"webhook_id=12", False),
        ("woocommerce", [(b"x-wc-webhook-topic", b"order.created")], b"webhook_id=12", False),
        ("woocommerce", [(b"x-wc-webhook-signature", b"c2ln")], b"webhook_id=12", False),
        ("woocommerce", [], b"webhook_id=12&x=1", False),
        ("woocommerce", [], b"webhook_id=", False),
        ("woocommerce", [], b'{"webhook_id": 12}', False),
        ("woocommerce", [], b"webhook_id=" + b"1" * 50, False),
    ],
)
def test_the_ping(platform: str, raw: RawHeaders, body: bytes, ping: bool) -> None:  # noqa: FBT001
    assert headers.is_ping(platform, headers.read(platform, raw), body) is ping

"""Digests: the same delivery has the same one, another has another, and those of one time lie together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.journal import DIGEST_BYTES, digest_of
from services.ingest.webhooks import changed_at

WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(WORDS, WORDS, st.binary(), st.binary())
def test_what_is_identical_has_the_same_digest_whenever_it_comes(one: str, other: str, at: bytes, later: bytes) -> None:
    assert digest_of("store", one, changed=at) == digest_of("store", one, changed=at)
    assert (digest_of("store", one, changed=at) == digest_of("store", other, changed=at)) == (one == other)
    # Were they told apart by the time alone, it would have to be signed.
    assert digest_of("store", one, changed=at)[-DIGEST_BYTES:] == digest_of("store", one, changed=later)[-DIGEST_BYTES:]
    assert len(digest_of("store", one, changed=at)) == len(digest_of("store", one))


@pytest.mark.parametrize("earlier", ["2026-03-02T11:59:58.617878896Z", "2026-03-02 11:59:58"])
def test_what_was_changed_later_lies_behind(earlier: str) -> None:
    before = max(digest_of("store", str(n), changed=earlier.encode()) for n in range(100))
    behind = min(digest_of("store", str(n), changed=b"2026-03-02T11:59:59.000000000Z") for n in range(100))
    assert before < behind


@pytest.mark.parametrize("changed", [b"", b"yesterday", b"2026-03-02", b"2026-03-02T11:59", b"\xff" * 40, b"9" * 40])
def test_no_time_at_all_is_no_fault(changed: bytes) -> None:
    assert digest_of("store", "one", changed=changed) == digest_of("store", "one")


@pytest.mark.parametrize(
    ("platform", "body", "changed"),
    [
        ("shopify", b'{"id":1,"updated_at":"2026-03-02T11:59:58-05:00","customer":{}}', b"2026-03-02T11:59:58"),
        ("woocommerce", b'{"id":1,"date_modified_gmt":"2026-03-02T11:59:58","n":2}', b"2026-03-02T11:59:58"),
        ("woocommerce", b'{"id":1,"date_modified_gmt":"2026', b"2026"),
        ("woocommerce", b'{"id":1,"date_modified_gmt":null}', b""),
        ("shopify", b"", b""),
    ],
)
def test_a_body_says_when_it_was(platform: str, body: bytes, changed: bytes) -> None:
    assert changed_at(platform, body) == changed

"""Signatures: what is signed by a store's secret, and nothing else."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.signatures import sign, signing_keys, verified
from tests.contract.corpus import FOLDER

KEY = b"shpss_0123456789abcdef"
BODY = b'{"id": 820982911946154508, "note": "caf\xc3\xa9 \\/ \\u0026"}'


def test_a_known_vector() -> None:
    # RFC 4231, test case 2, in base64.
    expected = base64.b64encode(bytes.fromhex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"))
    assert sign(b"Jefe", b"what do ya want for nothing?") == expected


def test_a_newline_after_the_signature_is_forgiven() -> None:
    assert verified(BODY, sign(KEY, BODY) + b"\n", [KEY]) == sign(KEY, BODY)


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        b"whoops_this_is_wrong",
        b"=" * 44,
        b"YmxhaGJsYWgK",
        sign(KEY, BODY) + b"AAAA",
        sign(KEY, BODY)[:-1],
        sign(KEY, BODY).lower(),
        b"\xff" * 44,
        base64.b64decode(sign(KEY, BODY)),
    ],
)
def test_anything_but_the_signature_is_refused(signature: bytes) -> None:
    assert not verified(BODY, signature, [KEY])


class _Untouched(list[bytes]):
    def __iter__(self) -> Iterator[bytes]:
        raise AssertionError("the body is hashed")


@pytest.mark.parametrize(
    "signature", [b"", b"AAAA", b"=" * 44, b"A" * 44, sign(KEY, BODY)[:-1], sign(KEY, BODY) + b"=", b"\xff" * 43 + b"="]
)
def test_for_what_cannot_be_a_signature_no_body_is_hashed(signature: bytes) -> None:
    """It may come with megabytes, and a store has up to eight secrets, each with its spellings."""
    assert verified(BODY, signature, _Untouched([KEY])) is None
    with pytest.raises(AssertionError, match="hashed"):
        verified(BODY, sign(b"another", BODY), _Untouched([KEY]))


def test_both_secrets_are_valid_during_a_rotation() -> None:
    old, new = b"the old secret", b"the new secret"
    assert verified(BODY, sign(old, BODY), [new, old])
    assert verified(BODY, sign(new, BODY), [new, old])
    assert not verified(BODY, sign(old, BODY), [new])


def test_an_empty_secret_verifies_nothing() -> None:
    assert not verified(BODY, sign(b"", BODY), [b""])
    assert not verified(b"", sign(b"", b""), [])


def test_bytes_are_verified_and_not_json() -> None:
    assert not verified(json.dumps(json.loads(BODY)).encode(), sign(KEY, BODY), [KEY])


@given(st.binary(max_size=200), st.binary(min_size=1, max_size=60), st.binary(max_size=60))
def test_only_the_same_key_and_body_fit(body: bytes, key: bytes, other: bytes) -> None:
    assert verified(body, sign(key, body), [key])
    assert not verified(body + b" ", sign(key, body), [key])
    if key.rstrip(b"\0") != other.rstrip(b"\0"):  # HMAC pads keys with zeros
        assert not verified(body, sign(other, body), [key])


def test_woocommerce_may_sign_with_the_escaped_secret() -> None:
    typed = "a<b>&'\"c"
    keys = signing_keys("woocommerce", typed)
    assert keys == [typed.encode(), b"a&lt;b&gt;&amp;&#039;&quot;c"]
    assert typed.encode() in signing_keys("woocommerce", "a&lt;b&gt;&amp;&#039;&quot;c")
    assert signing_keys("shopify", typed) == [typed.encode()]


def _vectors() -> list[Any]:
    path = FOLDER / "hmac_vectors.json"
    if not path.exists():
        reason = f"NO CORPUS in {FOLDER}: published signatures are not tested; set REGULARS_CORPUS"
        return [pytest.param({}, marks=[pytest.mark.corpus, pytest.mark.skip(reason=reason)], id="corpus absent")]
    vectors = json.loads(path.read_text(encoding="utf-8"))["vectors"]
    return [pytest.param(vector, marks=pytest.mark.corpus, id=vector["id"]) for vector in vectors]


@pytest.mark.parametrize("vector", _vectors())
def test_published_vectors(vector: dict[str, Any]) -> None:
    if vector["secret"] is None:
        assert "cannot be verified" in vector["recommended"]
        return
    # Two quote characters are signed well and no object: what the signature level accepts, the normaliser refuses.
    accepted = vector["recommended"].startswith("accept") or "HMAC itself valid" in vector["recommended"]
    signature = (vector["signature_header"] or "").encode()
    keys = signing_keys(vector["platform"], vector["secret"])
    assert (verified(vector["body"].encode(), signature, keys) is not None) is accepted

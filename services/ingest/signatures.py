"""Who sent it: base64(HMAC-SHA256(secret, raw body)), the same for Shopify and WooCommerce."""

import binascii
import hmac
import re
from collections.abc import Iterable
from html import escape, unescape

MIN_SECRET = 8
"""Characters. WooCommerce lets merchants type their own; an empty one still signs, so that anyone could."""
MAX_SECRET = 255
_SIGNATURE = re.compile(rb"[A-Za-z0-9+/]{43}=")
"""32 bytes."""


def sign(secret: bytes, body: bytes) -> bytes:
    """The signature header's value."""
    return binascii.b2a_base64(hmac.digest(secret, body, "sha256"), newline=False)


def verified(body: bytes, signature: bytes, keys: Iterable[bytes]) -> bytes | None:
    """The signature, as `sign` writes it, if one of the keys made it of these very bytes.

    Tries all of them, each in constant time; never an empty key. What cannot be a signature is None at once, whatever
    the keys: a body is not hashed for who has none.
    """
    given = signature.strip()
    if not _SIGNATURE.fullmatch(given):
        return None
    found = None
    for key in keys:
        if key:
            expected = sign(key, body)
            if hmac.compare_digest(expected, given):
                found = expected
    return found


def signing_keys(platform: str, secret: str) -> list[bytes]:
    """The keys under which a platform may sign when it was given `secret`.

    WooCommerce stores secrets HTML-escaped, and versions differ in whether they sign with that form or the plain one.
    """
    forms = [secret]
    if platform == "woocommerce":
        forms += [unescape(secret), escape(unescape(secret)).replace("&#x27;", "&#039;")]
    return [form.encode() for form in dict.fromkeys(forms)]

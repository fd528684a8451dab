"""From sealed credentials to a platform that can be asked."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from libs.common.crypto import BadSeal, Keyring
from services.ingest.fetches import Credentials, context
from services.ingest.platforms.port import Refused

if TYPE_CHECKING:
    from services.ingest.platforms.woocommerce import WooCommerce


class WooCommerceKey(Struct, frozen=True, kw_only=True):
    """A key of WooCommerce's REST API."""

    consumer_key: str
    consumer_secret: str


def sealed(keyring: Keyring, tenant: str, store: str, key: WooCommerceKey) -> bytes:
    """As the database keeps it."""
    return keyring.seal(msgspec.json.encode(key), context(tenant, store))


def opener(keyring: Keyring, *, inside: bool) -> "Callable[[Credentials], WooCommerce]":
    """`inside`: whether stores may have addresses of our own network."""

    def open_platform(credentials: Credentials) -> "WooCommerce":
        if credentials.platform != "woocommerce":
            raise Refused(f"there is no client for {credentials.platform} yet")
        try:
            opened = keyring.open(credentials.sealed, context(credentials.tenant, credentials.store))
        except BadSeal as error:
            raise Refused("the credentials were sealed by a key that is not here; set them again") from error
        # Here, since the client is large, and most workers of most days ask nobody.
        from services.ingest.platforms.woocommerce import WooCommerce  # noqa: PLC0415

        key = msgspec.json.decode(opened, type=WooCommerceKey)
        return WooCommerce(credentials.url, key=key.consumer_key, secret=key.consumer_secret, inside=inside)

    return open_platform

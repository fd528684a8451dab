"""From sealed credentials to a platform that can be asked."""

from collections.abc import Callable

import msgspec
from msgspec import Struct

from libs.common.crypto import BadSeal, Keyring
from services.ingest.fetches import Credentials, context
from services.ingest.platforms.port import NotAsked, Platform, Refused


class WooCommerceKey(Struct, frozen=True, kw_only=True):
    """A key of WooCommerce's REST API."""

    consumer_key: str
    consumer_secret: str


class ShopifyToken(Struct, frozen=True, kw_only=True):
    """What opens Shopify's Admin API to an app of the shop."""

    access_token: str


Key = WooCommerceKey | ShopifyToken


def sealed(keyring: Keyring, tenant: str, store: str, key: Key) -> bytes:
    """As the database keeps it."""
    return keyring.seal(msgspec.json.encode(key), context(tenant, store))


def opener(keyring: Keyring, *, bulk_above: int, inside: bool) -> Callable[[Credentials], Platform]:
    """`inside`: whether stores may have addresses of our own network. `bulk_above`: see `Shopify`."""

    def open_platform(credentials: Credentials) -> Platform:
        try:
            opened = keyring.open(credentials.sealed, context(credentials.tenant, credentials.store))
        except BadSeal as error:
            raise Refused("the credentials were sealed by a key that is not here; set them again") from error
        # The clients here, since they are large, and most workers of most days ask nobody.
        match credentials.platform:
            case "woocommerce":
                from services.ingest.platforms.woocommerce import WooCommerce  # noqa: PLC0415

                key = msgspec.json.decode(opened, type=WooCommerceKey)
                return WooCommerce(credentials.url, key=key.consumer_key, secret=key.consumer_secret, inside=inside)
            case "shopify":
                from services.ingest.platforms.shopify import Shopify  # noqa: PLC0415

                if not inside and not credentials.url.startswith("https://"):
                    raise NotAsked("Shopify is asked over https alone: the token would travel in the clear")
                token = msgspec.json.decode(opened, type=ShopifyToken)
                return Shopify(credentials.url, token=token.access_token, bulk_above=bulk_above, inside=inside)
            case other:
                raise Refused(f"there is no client for {other}")

    return open_platform

"""From sealed credentials to a platform that can be asked."""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from libs.common.crypto import BadSeal, Keyring
from services.ingest.credentials import Credentials, context
from services.ingest.platforms.port import NotAsked, Platform, Refused

if TYPE_CHECKING:
    from services.ingest.platforms.shopify_tokens import AppTokens


class WooCommerceKey(Struct, frozen=True, kw_only=True):
    """A key of WooCommerce's REST API."""

    consumer_key: str
    consumer_secret: str


class ShopifyKey(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What opens Shopify's Admin API to an app of the shop: a token for good, or what the app asks for tokens with."""

    access_token: str | None = None
    client_id: str | None = None
    client_secret: str | None = None


Key = WooCommerceKey | ShopifyKey


def sealed(keyring: Keyring, tenant: str, store: str, key: Key) -> bytes:
    """As the database keeps it."""
    return keyring.seal(msgspec.json.encode(key), context(tenant, store))


def opened(keyring: Keyring, credentials: Credentials) -> Key:
    """What they are. Raises Refused."""
    try:
        content = keyring.open(credentials.sealed, context(credentials.tenant, credentials.store))
    except BadSeal as error:
        raise Refused("the credentials were sealed by a key that is not here; set them again") from error
    if credentials.platform == "woocommerce":
        return msgspec.json.decode(content, type=WooCommerceKey)
    return msgspec.json.decode(content, type=ShopifyKey)


def opener(keyring: Keyring, *, bulk_above: int, inside: bool) -> Callable[[Credentials], Platform]:
    """`inside`: whether stores may have addresses of our own network. `bulk_above`: see `Shopify`."""
    apps: dict[tuple[str, str], tuple[datetime, AppTokens]] = {}
    """By tenant and store: since when an app's id and secret are known, and the tokens that they got."""

    def open_platform(credentials: Credentials) -> Platform:
        if not _has_sound_port(credentials.url):
            raise NotAsked(f"{credentials.url} names a port that there is not: register the store by another domain")
        # The clients here, since they are large, and most workers of most days ask nobody.
        match opened(keyring, credentials):
            case WooCommerceKey() as key:
                from services.ingest.platforms.woocommerce import WooCommerce  # noqa: PLC0415

                return WooCommerce(credentials.url, key=key.consumer_key, secret=key.consumer_secret, inside=inside)
            case ShopifyKey(access_token=token, client_id=client_id, client_secret=client_secret):
                from services.ingest.platforms.shopify import Shopify  # noqa: PLC0415
                from services.ingest.platforms.shopify_tokens import AppTokens  # noqa: PLC0415

                if not inside and not credentials.url.startswith("https://"):
                    raise NotAsked("Shopify is asked over https alone: the token would travel in the clear")
                if token is not None:
                    return Shopify(credentials.url, token=token, bulk_above=bulk_above, inside=inside)
                whose = (credentials.tenant, credentials.store)
                if whose not in apps or apps[whose][0] != credentials.set_at:
                    apps[whose] = credentials.set_at, AppTokens(client_id or "", client_secret or "")
                return Shopify(credentials.url, token=apps[whose][1], bulk_above=bulk_above, inside=inside)

    return open_platform


def _has_sound_port(url: str) -> bool:
    """Stores of earlier versions were registered whatever their port was."""
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False

"""The tokens of an app that has none for good: it asks for them with its id and secret, and each lasts for a day.

They are kept in memory alone. Which requests an app needs one for is `shopify_graphql`'s affair.
"""

import asyncio
import re
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from libs.common.clock import monotonic
from services.ingest.platforms.http import ShopHttp
from services.ingest.platforms.port import NotAsked, Refused, Unavailable
from services.ingest.printed import Scalar

PATH = "/admin/oauth/access_token"
USED = 0.9
"""Of a token's time: then there is another, and nobody is refused who has just begun."""
_FORM = {"content-type": "application/x-www-form-urlencoded"}
_TOKEN = re.compile(r"[!-~]{8,255}")


class _Granted(Struct):
    access_token: Scalar = None
    expires_in: Scalar = None


class AppTokens:
    """What opens one shop to one app, fetched when it is needed."""

    def __init__(self, client_id: str, client_secret: str) -> None:
        """Of the app, which has to be installed in the shop and of the same organisation."""
        self._asked = urlencode(
            {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
        ).encode()
        self._held: str | None = None
        self._until = 0.0
        self._asking = asyncio.Lock()

    async def token(self, http: ShopHttp, *, refused: str | None = None) -> str:
        """One that is good, as far as is known here: not the one that the shop has just `refused`.

        Raises Refused and Unavailable.
        """
        async with self._asking:
            if self._held is None or self._held == refused or monotonic() >= self._until:
                self._held, seconds = await self._granted(http)
                self._until = monotonic() + USED * seconds
            return self._held

    async def _granted(self, http: ShopHttp) -> tuple[str, float]:
        try:
            answer = await http.post(PATH, self._asked, _FORM)
        except NotAsked:
            raise
        except Refused as error:
            raise Refused(
                f"the shop gives this app no token: {error}. Are client_id and client_secret right, and is the app"
                " installed in a shop of the organisation that made it?"
            ) from error
        try:
            granted = msgspec.json.decode(answer.content, type=_Granted)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Unavailable("the shop's answer is no token") from error
        token, seconds = granted.access_token, granted.expires_in
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise Unavailable("the shop's answer is no token")
        # One that does not say how long it lasts is asked for each time.
        known = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        return token, float(seconds) if known else 0.0  # type: ignore[arg-type]

"""Paths that pages of any origin may ask: their browsers let them send what they like there, and read what is answered.

Nothing is given away by it where an answer says no more than whoever asks without a browser would be told, and cookies
and the like count for nothing. A refusal that a page cannot read is, to it, a network that is down.
"""

from collections.abc import Set as AbstractSet

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

PREFLIGHT_SECONDS = 3600


class AnyOrigin:
    """Middleware, outside of all others: whatever they answer may be read. It answers preflights by itself."""

    def __init__(self, app: ASGIApp, paths: AbstractSet[str]) -> None:
        self._app = app
        self._paths = paths
        self._opened = CORSMiddleware(
            app,
            # An origin by its name each time: `*` is not for requests with credentials, as a beacon's always are.
            allow_origin_regex=".*",
            allow_credentials=True,
            allow_methods=["POST"],
            # What measures a page puts headers of its own into whatever it sends.
            allow_headers=["*"],
            expose_headers=["retry-after", "x-request-id"],
            allow_private_network=True,
            max_age=PREFLIGHT_SECONDS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on, or answers a preflight."""
        opened = scope["type"] == "http" and scope["path"] in self._paths
        await (self._opened if opened else self._app)(scope, receive, send)

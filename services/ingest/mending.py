"""Routes that read their JSON as webhooks are read: half an emoji in a text of it is no reason to refuse the whole."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from services.ingest.printed import mended


class _Mended(Request):
    async def body(self) -> bytes:
        return mended(await super().body())


class MendingRoute(APIRoute):
    """Its handler sees what `printed.mended` makes of a body: so browsers print a text that was cut in an emoji."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As FastAPI asks for it."""
        handle = super().get_route_handler()

        async def mending(request: Request) -> Response:
            return await handle(_Mended(request.scope, request.receive))

        return mending

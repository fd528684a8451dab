"""A role that starts while its database is away, or not migrated: it listens, says why it is not ready, and waits.

To end instead would leave it to whoever starts it again, and orchestrators do that later each time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from starlette.types import ASGIApp, Receive, Scope, Send

from libs.common.backoff import pause_before
from libs.common.db import is_transient
from libs.common.problems import RETRY_AFTER_SECONDS, Problem, respond
from libs.common.telemetry import get_logger
from libs.common.web.health import Check, asked

LONGEST_PAUSE = 2.0
"""Between two looks: so soon is the database's return noticed."""

log = get_logger(__name__)


class Opening:
    """Begins once every check is content; until then it knows why not, and looks again."""

    def __init__(self, checks: Sequence[Check], begin: Callable[[], Awaitable[None]] | None = None) -> None:
        """`begin` may be called again after it has failed."""
        self._checks = checks
        self._begin = begin
        self.reasons: list[str] = []
        """Why it could not begin; empty once it has, and before it has tried."""
        self.opened = asyncio.Event()

    async def attempt(self) -> bool:
        """Whether it has begun. Raises what is no fault of the database's."""
        try:
            if reasons := await asked(self._checks):
                self.reasons = reasons
                return False
            if self._begin is not None:
                await self._begin()
        except Exception as error:
            self.reasons = [f"it cannot begin ({type(error).__name__})"]
            if not is_transient(error):
                raise
            return False
        self.reasons = []
        self.opened.set()
        return True

    async def run(self, stop: asyncio.Event) -> bool:
        """Tries until it has begun (True), or until `stop` is set (False)."""
        failures = 0
        while not stop.is_set():
            try:
                if await self.attempt():
                    return True
                log.warning("waiting to begin", reasons=self.reasons)
            except Exception:
                log.exception("cannot begin")
            failures += 1
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_before(failures, LONGEST_PAUSE)):
                    await stop.wait()
        return False

    async def check(self) -> list[str]:
        """A check of `/readyz`: has begun, and nothing is the matter since."""
        return await asked(self._checks) or self.reasons


class Closed:
    """Middleware, inside of `WholeBody`: 503 while it cannot begin, but for the paths that say how it is."""

    def __init__(self, app: ASGIApp, opening: Opening, but: frozenset[str]) -> None:
        self._app = app
        self._opening = opening
        self._but = but

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on, or answers."""
        if scope["type"] == "http" and self._opening.reasons and scope["path"] not in self._but:
            headers = {"retry-after": str(RETRY_AFTER_SECONDS)}
            problem = Problem(
                503, "unavailable", "This is not ready yet: /readyz says why. Try again.", headers=headers
            )
            await respond(problem)(scope, receive, send)
            return
        await self._app(scope, receive, send)

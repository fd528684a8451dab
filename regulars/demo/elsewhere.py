"""An installation that somebody else runs, in containers say. It shares the demo's clock and sends its mail here."""

import asyncio
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Self

from libs.common.clock import DrivenClock
from libs.common.settings import CommonSettings
from regulars.demo.engine import Broken
from regulars.demo.http import Client, Unexpected
from regulars.schemas import SERVICES

READY_SECONDS = 300.0
LOOK_SECONDS = 1.0


class Elsewhere:
    """In the place of an Engine; nothing is started on entering, only waited for."""

    def __init__(self, address: str, key: str, clock_path: Path, mail_port: int) -> None:
        self.address = address
        self.key = key
        self.mail = ("0.0.0.0", mail_port)  # noqa: S104 - who sends is another host
        """Where its mail comes in."""
        self._clock_path = clock_path

    @classmethod
    def from_settings(cls, settings: CommonSettings, address: str, mail_port: int) -> Self:
        """With the key and the clock that are set for it too. SystemExit when one is not."""
        if settings.clock_path is None or settings.admin_key is None:
            raise SystemExit("demo --at needs REGULARS_CLOCK_PATH and REGULARS_ADMIN_KEY, as the other side has")
        return cls(address, settings.admin_key.get_secret_value(), Path(settings.clock_path), mail_port)

    def clock(self, start: datetime) -> DrivenClock:
        """The clock of both sides, made for them if it is not there. Broken when a shop has been at it already."""
        if not self._clock_path.exists():
            return DrivenClock.create(self._clock_path, start)
        clock = DrivenClock(self._clock_path)
        if clock.now() != start:
            raise Broken(f"its clock is not at {start:%d %B %Y}: the demo wants an installation without data")
        return clock

    async def __aenter__(self) -> Self:
        began = monotonic()
        async with Client(self.address, self.key) as client:
            for service in SERVICES:
                while (told := await _told(client, service)) is not None:
                    if monotonic() - began > READY_SECONDS:
                        raise Broken(f"{self.address} is not ready: {told}")
                    await self.pause(LOOK_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def pause(self, seconds: float) -> None:
        """Lets the platform work for a moment."""
        await asyncio.sleep(seconds)

    def last_words(self) -> str:
        """What there is to say about its log."""
        return "its own log says more"


async def _told(client: Client, service: str) -> str | None:
    """Why the service does not answer yet; None when it does."""
    try:
        await client.get(f"/v1/pipeline/{service}")
    except (OSError, EOFError, Unexpected) as error:
        return str(error)
    return None

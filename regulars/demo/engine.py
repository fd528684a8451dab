"""`regulars run` as its own process, with a driven clock and the demo's mail server."""

import asyncio
import os
import secrets
import sys
from contextlib import suppress
from pathlib import Path
from typing import Self

READY_SECONDS = 120.0
STOP_SECONDS = 40.0
LINES, LINE = 5, 2000
"""How much of the log is shown when something is wrong."""


class Broken(Exception):
    """The platform did not come up, or went away."""


class Engine:
    """Started on entering, drained on leaving."""

    def __init__(self, data_dir: Path, clock_path: Path, smtp_port: int, kafka: str | None = None) -> None:
        """`kafka`: addresses of one to run on."""
        self.address = ""
        self.key = secrets.token_urlsafe(24)
        self.log_path = data_dir / "regulars.log"
        self._data_dir = data_dir
        self._environment = {
            **os.environ,
            "REGULARS_ADMIN_KEY": self.key,
            "REGULARS_CLOCK_PATH": str(clock_path),
            "REGULARS_SMTP_HOST": "127.0.0.1",
            "REGULARS_SMTP_PORT": str(smtp_port),
            "REGULARS_MAIL_FROM": "post@nordlicht-keramik.example",
            "REGULARS_POSTAL_ADDRESS": "Nordlicht Keramik, Hafenstraße 12, 24103 Kiel, Germany",
            "REGULARS_LOG_LEVEL": "warning",
            # An hour of the shop lasts less than a tenth of a second: look at its clock more often than at a real one.
            "REGULARS_TIMERS_SECONDS": "0.02",
            "REGULARS_LOG": "kafka" if kafka else "postgres",
            "REGULARS_KAFKA_SERVERS": kafka or "",
        }
        self._process: asyncio.subprocess.Process | None = None
        self._ended: asyncio.Task[int] | None = None

    async def __aenter__(self) -> Self:
        with self.log_path.open("wb") as log:
            self._process = process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "regulars", "run", "--data-dir", str(self._data_dir / "data"), "--port", "0",
                env=self._environment, stdout=asyncio.subprocess.PIPE, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._ended = asyncio.create_task(process.wait())
        try:
            async with asyncio.timeout(READY_SECONDS):
                self.address = await self._ready()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def _ready(self) -> str:
        assert self._process is not None  # noqa: S101
        assert self._process.stdout is not None  # noqa: S101
        async for line in self._process.stdout:
            word, _, address = line.decode().strip().partition(" ")
            if word == "ready":
                return address
        raise Broken(f"the platform did not start:\n{self.last_words()}")

    async def pause(self, seconds: float) -> None:
        """Lets the platform work for a moment. Broken when it ends meanwhile."""
        assert self._ended is not None  # noqa: S101
        await asyncio.wait({self._ended}, timeout=seconds)
        if self._ended.done():
            raise Broken(f"the platform ended with code {self._ended.result()}:\n{self.last_words()}")

    def last_words(self) -> str:
        """The end of its log."""
        lines = self.log_path.read_text(errors="replace").splitlines()
        return "\n".join(line[:LINE] for line in lines[-LINES:])

    async def _stop(self) -> None:
        if self._process is None or self._ended is None or self._ended.done():
            return
        self._process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await asyncio.shield(self._ended)
        if not self._ended.done():
            self._process.kill()
            await self._ended

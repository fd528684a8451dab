"""Processes that live and die together: each is watched, started again when it ends unasked, and drained at the end.

Parent and child share a socket pair. The parent writes the environment into it once it is known: until then the child
has its imports to do. The child writes a line when it is ready. When the parent's end closes, the parent is gone
(whatever killed it) and the child drains and leaves too.
"""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

from libs.common.heap import GIVES_BACK
from libs.common.telemetry import forget_process, get_logger

END = b"\n"
READY = b"ready\n"
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
HEALTHY_AFTER = 10.0
"""Seconds of life after which the next end is a first one again."""
DRAIN_SECONDS = 30.0

log = get_logger(__name__)


class Failed(Exception):
    """A process ended by itself before it was ever ready: starting it again would not help."""


class Child:
    """One process: `python -m MODULE LINK ARGUMENTS…`, where LINK is the descriptor of its end of the pair."""

    def __init__(
        self,
        name: str,
        module: str,
        arguments: Sequence[str],
        environment: "asyncio.Future[dict[str, str]]",
        *,
        keep: int = -1,
    ) -> None:
        """`environment`: variables to set in the child. `keep`: a descriptor that it inherits under the same number."""
        self.name = name
        self.ready = asyncio.Event()
        self._command = (sys.executable, "-m", module)
        self._arguments = tuple(arguments)
        self._environment = environment
        self._keep = (keep,) if keep >= 0 else ()
        self._process: asyncio.subprocess.Process | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Keeps the process alive until `stop`, then drains it. Failed when it never came up."""
        pause = FIRST_PAUSE
        stopped: asyncio.Future[object] = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                started = monotonic()
                code = await self._live(stopped)
                if stop.is_set():
                    return
                if code > 0 and not self.ready.is_set():
                    raise Failed(f"{self.name} ended with code {code} before it was ready")
                pause = FIRST_PAUSE if monotonic() - started > HEALTHY_AFTER else min(2 * pause, LONGEST_PAUSE)
                log.error("process ended; starting it again", process=self.name, code=code, pause=pause)
                await asyncio.wait({stopped}, timeout=pause)
        finally:
            stopped.cancel()

    async def _live(self, stopped: "asyncio.Future[object]") -> int:
        """One life of the process; its exit code, negative for a signal."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                self._process = process = await asyncio.create_subprocess_exec(
                    *self._command,
                    str(theirs.fileno()),
                    *self._arguments,
                    pass_fds=(theirs.fileno(), *self._keep),
                    env=GIVES_BACK | os.environ,
                )
            ours.settimeout(0)
            talking = asyncio.ensure_future(self._talk(ours))
            ended: asyncio.Future[int] = asyncio.ensure_future(process.wait())
            either: set[asyncio.Future[Any]] = {ended, stopped}
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            finally:
                # Whether told to stop or cancelled because another failed: nobody is left behind.
                if not ended.done():
                    await self._drain(process, ended)
                talking.cancel()
            code = await ended
            # Or a consumer that halted in it would be shown as halted for ever.
            forget_process(process.pid)
            return code

    async def _talk(self, ours: socket.socket) -> None:
        environment = await asyncio.shield(self._environment)
        loop = asyncio.get_running_loop()
        # A child that is gone already is seen by its exit code.
        with suppress(ConnectionError):
            await loop.sock_sendall(ours, json.dumps(environment).encode() + END)
            if await loop.sock_recv(ours, len(READY)) == READY:
                self.ready.set()

    async def _drain(self, process: asyncio.subprocess.Process, ended: "asyncio.Future[int]") -> None:
        process.terminate()
        done, _ = await asyncio.wait({ended}, timeout=DRAIN_SECONDS)
        if not done:
            log.error("process does not drain; killing it", process=self.name, seconds=DRAIN_SECONDS)
            process.kill()


class Link:
    """The child's end: tells that it is ready, and hears when the parent is gone."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)

    def receive_environment(self) -> None:
        """Waits for the parent's variables and sets them. SystemExit when the parent is gone."""
        received = b""
        while not received.endswith(END):
            part = self._socket.recv(65536)
            if not part:
                raise SystemExit(0)
            received += part
        os.environ.update(json.loads(received))

    def stop_with_parent(self, stop: asyncio.Event) -> None:
        """Sets `stop` on SIGTERM, on SIGINT, and when the parent is gone."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)

        def gone() -> None:
            loop.remove_reader(self._socket)
            stop.set()

        loop.add_reader(self._socket, gone)

    def ready(self) -> None:
        """Tells the parent."""
        # One that is gone is noticed by `stop_with_parent`, which lets those be answered who have come in already.
        with suppress(ConnectionError):
            self._socket.send(READY)

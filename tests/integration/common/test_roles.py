"""One role alone, as a container runs it: a real process that says how it is, and drains when it is told to stop."""

import asyncio
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
from regulars.parts import WRONG_SETTINGS
from regulars.prepare import migrate_all
from tests.proxy import proxied
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
    with starting(database_url, folder, *words) as (process, port):
        until("ready", lambda: process.poll() is not None or not health.problems("127.0.0.1", port), SECONDS)
        assert process.poll() is None, (folder / "log").read_text()
        yield process, port


@contextmanager
def starting(database_url: str, folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The process and its port, ready or not. A relay has a Kafka that is away."""
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
    if words[0] == "relay":
        environment |= {"REGULARS_LOG": "kafka", "REGULARS_KAFKA_SERVERS": "127.0.0.1:1"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "regulars", *words], stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
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


ROLES = [
    *(("serve", service) for service in ("ingest", "profiles", "metrics", "messaging")),
    ("work", "ingest"),
    ("work", "messaging"),
    ("relay",),
]


def asked(port: int, path: str, method: str = "GET") -> httpx.Response:
    headers = {"authorization": f"Bearer {KEY}"}
    return httpx.request(method, f"http://127.0.0.1:{port}{path}", headers=headers, timeout=SECONDS)


def reasons(port: int) -> list[str]:
    """Why it is not ready; a role that does not listen yet gives none."""
    try:
        answer = asked(port, "/readyz")
    except httpx.TransportError:
        return []
    found: list[str] = answer.json()["reasons"]
    assert (answer.status_code == 503) == bool(found)
    return found


def waits(port: int, reason: str) -> None:
    """Until it has looked, and says so."""

    def said() -> bool:
        return any(reason in each for each in reasons(port))

    until(reason, said, SECONDS)


def told_to_wait(port: int, words: tuple[str, ...]) -> None:
    """Alive, and whoever wants more than that is told to come again."""
    assert asked(port, "/livez").json() == {"status": "alive"}
    if words[0] != "serve":
        return
    paths = [("GET", "/v1/pipeline/" + words[1]), ("POST", "/v1/stores"), ("GET", "/u/token"), ("GET", "/nowhere")]
    if words[1] == "ingest":
        paths.append(("POST", "/webhooks/shopify/a-store-of-before"))
    for method, path in paths:
        answer = asked(port, path, method)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2"), path
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "unavailable"


@pytest.mark.parametrize("words", ROLES, ids=" ".join)
async def test_a_role_that_starts_before_its_database_waits_for_it(
    database_url: str, tmp_path: Path, words: tuple[str, ...]
) -> None:
    there = make_url(database_url)
    assert there.host is not None
    async with proxied(there.host, there.port or 5432) as proxy:
        proxy.cut()
        url = there.set(port=proxy.port).render_as_string(hide_password=False)
        with starting(url, tmp_path, *words) as (process, port):
            await asyncio.to_thread(waits, port, "the database does not answer")
            await asyncio.to_thread(told_to_wait, port, words)
            assert process.poll() is None
            await proxy.open()
            await asyncio.to_thread(until, "ready", lambda: not health.problems("127.0.0.1", port), SECONDS)
            assert await asyncio.to_thread(stop, process) == 0, (tmp_path / "log").read_text()


@pytest.mark.parametrize("words", ROLES, ids=" ".join)
def test_a_role_that_starts_before_its_schema_waits_for_it(
    empty_database_url: str, tmp_path: Path, words: tuple[str, ...]
) -> None:
    with starting(empty_database_url, tmp_path, *words) as (process, port):
        waits(port, "is not migrated: run `regulars migrate`")
        told_to_wait(port, words)
        asyncio.run(migrate_all(empty_database_url))
        until("ready", lambda: not health.problems("127.0.0.1", port), SECONDS)
        assert stop(process) == 0, (tmp_path / "log").read_text()


def test_a_role_that_waits_ends_when_it_is_told_to(empty_database_url: str, tmp_path: Path) -> None:
    for words in (("serve", "ingest"), ("work", "ingest")):
        with starting(empty_database_url, tmp_path, *words) as (process, port):
            waits(port, "not migrated")
            assert stop(process) == 0, (tmp_path / "log").read_text()


@pytest.mark.parametrize("words", ROLES, ids=" ".join)
def test_a_wrong_setting_ends_a_role_with_its_name(tmp_path: Path, words: tuple[str, ...]) -> None:
    environment = {**os.environ, "REGULARS_POOL_SIZE": "0", "REGULARS_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "regulars", *words]
    ended = subprocess.run(command, env=environment, check=False, timeout=SECONDS, capture_output=True)
    assert ended.returncode == WRONG_SETTINGS
    [line] = ended.stderr.decode().splitlines()
    assert "REGULARS_POOL_SIZE" in line

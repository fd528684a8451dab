"""Real servers, really killed."""

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from libs.common.embedded_postgres import EmbeddedPostgres, _free_port
from libs.common.postmaster import Postmaster, processes_in
from tests.waiting import eventually, until

ROOT = Path(__file__).parents[3]

# Starts the server, commits a row, says so, and waits to be killed.
LAUNCHER = """
import asyncio, sys, asyncpg
from libs.common.embedded_postgres import EmbeddedPostgres
from libs.common.telemetry import configure_logging

async def main():
    configure_logging("error")
    url = await EmbeddedPostgres(sys.argv[1]).start()
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
    await connection.execute("INSERT INTO kept VALUES (1)")
    print(url, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest_asyncio.fixture
async def folder(initialised: Path) -> AsyncIterator[Path]:
    """A cluster that stays from test to test; no server on it before or after."""
    yield initialised
    server = EmbeddedPostgres(initialised)
    await server.start()
    await server.stop()
    assert not processes_in(initialised / "postgres")


async def _rows(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        count: int = await connection.fetchval("SELECT count(*) FROM kept")
        return count
    finally:
        await connection.close()


def _cluster(folder: Path) -> Postmaster:
    server = Postmaster.read(folder / "postgres")
    assert server is not None
    return server


Launch = Callable[[], tuple["subprocess.Popen[str]", str]]


@pytest.fixture
def launch(folder: Path) -> Iterator[Launch]:
    """Starts a launcher; what it started, and the server's address."""
    started: list[subprocess.Popen[str]] = []

    def start() -> tuple["subprocess.Popen[str]", str]:
        process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, str(folder)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        started.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.communicate()


def _kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()


def _zombie() -> int:
    """A process that has ended and that nobody has asked about yet."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    # It is ours to reap, by its number.
    process.returncode = 0
    return process.pid


def _reap(zombie: int) -> None:
    os.waitpid(zombie, 0)


async def test_start_and_stop(folder: Path) -> None:
    async with EmbeddedPostgres(folder) as url:
        connection = await asyncpg.connect(url)
        assert await connection.fetchval("SHOW server_version") == "18.6"
        for setting in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums"):
            assert await connection.fetchval(f"SHOW {setting}") == "on"
        assert await connection.fetchval("SHOW server_encoding") == "UTF8"
        assert await connection.fetchval("SHOW unix_socket_directories") == ""
        await connection.close()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(url.replace(":", ":x", 2).replace("postgresql:x//", "postgresql://"))
    assert stat.S_IMODE((folder / "postgres.password").stat().st_mode) == 0o600
    assert not (folder / "postgres" / "postmaster.pid").exists()


async def test_a_killed_launcher_s_server_is_adopted(folder: Path, launch: Launch) -> None:
    process, url = launch()
    before = await _rows(url)
    pid = _cluster(folder).pid
    _kill(process)
    server = EmbeddedPostgres(folder)
    assert await server.start() == url
    assert _cluster(folder).pid == pid
    assert await _rows(url) == before
    await server.stop()
    assert not Postmaster(folder / "postgres", pid, 0, ready=True).runs()


async def test_everything_killed_loses_nothing(folder: Path, launch: Launch) -> None:
    process, url = launch()
    before = await _rows(url)
    pid = _cluster(folder).pid
    _kill(process)
    os.kill(pid, signal.SIGKILL)
    async with EmbeddedPostgres(folder) as url:
        assert await _rows(url) == before
        assert _cluster(folder).pid != pid


async def test_a_stranger_s_number_in_the_lock_file(folder: Path, launch: Launch) -> None:
    process, _ = launch()
    server = _cluster(folder)
    _kill(process)
    os.kill(server.pid, signal.SIGKILL)
    until("the server to be gone", lambda: not processes_in(folder / "postgres"))
    file = folder / "postgres" / "postmaster.pid"
    file.write_text(file.read_text().replace(str(server.pid), str(os.getpid()), 1))
    async with EmbeddedPostgres(folder) as url:
        assert await _rows(url) > 0


async def test_a_zombie_s_number_in_the_lock_file(folder: Path, launch: Launch) -> None:
    process, _ = launch()
    server = _cluster(folder)
    _kill(process)
    os.kill(server.pid, signal.SIGKILL)
    until("the server to be gone", lambda: not processes_in(folder / "postgres"))
    zombie = _zombie()
    file = folder / "postgres" / "postmaster.pid"
    file.write_text(file.read_text().replace(str(server.pid), str(zombie), 1))
    async with EmbeddedPostgres(folder) as url:
        assert await _rows(url) > 0
    _reap(zombie)


async def test_a_second_launcher_uses_the_first_one_s_server_and_leaves_it(folder: Path) -> None:
    async with EmbeddedPostgres(folder) as url:
        async with EmbeddedPostgres(folder) as same:
            assert same == url
        assert await _rows(url) > 0


async def test_a_server_that_ends_is_started_again_at_its_port(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    url = await server.start()
    before, pid = await _rows(url), _cluster(folder).pid
    watching = asyncio.create_task(server.watch())
    os.kill(pid, signal.SIGKILL)

    async def back() -> bool:
        found = Postmaster.read(folder / "postgres")
        return found is not None and found.pid != pid and found.ready

    await eventually(back)
    assert await _rows(url) == before
    watching.cancel()
    await server.stop()


async def test_what_keeps_it_from_starting_again_may_pass(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    url = await server.start()
    before, found = await _rows(url), _cluster(folder)
    written = (folder / "postgres.log").stat().st_size

    async def refused() -> bool:
        return b"could not bind" in (folder / "postgres.log").read_bytes()[written:]

    # Its keeper sleeps while the port is taken from it.
    os.kill(found.pid, signal.SIGKILL)
    until("it has ended", lambda: not processes_in(folder / "postgres"))
    with socket.create_server(("127.0.0.1", found.port)):
        watching = asyncio.create_task(server.watch())
        await eventually(refused)
        assert not watching.done()

    async def back() -> bool:
        now = Postmaster.read(folder / "postgres")
        return now is not None and now.pid != found.pid and now.ready

    await eventually(back)
    assert await _rows(url) == before
    watching.cancel()
    await server.stop()


async def test_an_interrupted_first_start_is_no_cluster(tmp_path: Path) -> None:
    (tmp_path / "postgres.new-dead").mkdir()
    (tmp_path / "postgres.new-dead" / "PG_VERSION").write_text("18")
    async with EmbeddedPostgres(tmp_path) as url:
        assert url
    assert not (tmp_path / "postgres.new-dead").exists()


async def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    async with EmbeddedPostgres(folder):
        pass
    (folder / "postgres" / "postgresql.auto.conf").write_text("no_such_setting = 1\n")
    try:
        with pytest.raises(RuntimeError, match="no_such_setting"):
            await EmbeddedPostgres(folder).start()
    finally:
        (folder / "postgres" / "postgresql.auto.conf").write_text("")


def test_a_half_written_lock_file(tmp_path: Path) -> None:
    assert Postmaster.read(tmp_path) is None
    for text in ["", "123\n", "x\n/a\n0\n5432\n", "123\n/a\n0\n"]:
        (tmp_path / "postmaster.pid").write_text(text)
        assert Postmaster.read(tmp_path) is None


def test_a_port_is_free() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", _free_port()))

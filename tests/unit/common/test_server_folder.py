"""What servers keep in memory may not stay there."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from libs.common.postmaster import Postmaster
from tests.server_folder import server_folder

ROOT = Path(__file__).parents[3]

# A session that starts a server, says where, and waits to be killed.
SESSION = """
import asyncio, sys
from pathlib import Path
from libs.common.embedded_postgres import EmbeddedPostgres
from libs.common.telemetry import configure_logging
from tests.server_folder import server_folder

async def serve(folder):
    await EmbeddedPostgres(folder / "1").start()
    print(folder, flush=True)
    await asyncio.Event().wait()

configure_logging("error")
memory, disk = map(Path, sys.argv[1:])
with server_folder(memory, disk, 0) as folder:
    asyncio.run(serve(folder))
"""


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    (tmp_path / "memory").mkdir()
    return tmp_path / "memory"


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


def _answers(server: Postmaster) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", server.port)) == 0


def test_in_memory_where_there_is_plenty(memory: Path, disk: Path) -> None:
    with server_folder(memory, disk, 0) as folder:
        assert folder.parent == memory
    with server_folder(memory, disk, 2**60) as folder:
        assert folder.parent == disk
    with server_folder(memory / "none", disk, 0) as folder:
        assert folder.parent == disk


def test_gone_afterwards_even_after_a_failure(memory: Path, disk: Path) -> None:
    def fail() -> None:
        with server_folder(memory, disk, 0) as folder:
            (folder / "1").mkdir()
            (folder / "1" / "data").write_bytes(b"x")
            raise RuntimeError("red")

    with pytest.raises(RuntimeError, match="red"):
        fail()
    assert list(memory.iterdir()) == []


def test_what_a_killed_session_left_goes_when_the_next_begins(memory: Path, disk: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SESSION, str(memory), str(disk)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as session:
        assert session.stdout is not None
        left = Path(session.stdout.readline().strip())
        server = Postmaster.read(left / "1" / "postgres")
        assert server is not None
        with server_folder(memory, disk, 0):
            assert (left.exists(), _answers(server)) == (True, True)
        session.kill()
    assert (left.exists(), _answers(server)) == (True, True)
    with server_folder(memory, disk, 0):
        assert (left.exists(), _answers(server)) == (False, False)

"""Where the PostgreSQL servers of a session of tests keep their data: in memory, where there is plenty of it."""

import asyncio
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from libs.common.embedded_postgres import EmbeddedPostgres

MEMORY = Path("/dev/shm")  # noqa: S108 - Linux' file system in memory; others have none there
DISK = Path(tempfile.gettempdir())
PLENTY = 2 * 1024**3
"""Bytes. Three servers use a sixth; a container often has 64 MB."""
PREFIX = f"regulars-tests-postgres-{os.getuid()}-"


@contextmanager
def server_folder(memory: Path = MEMORY, disk: Path = DISK, plenty: int = PLENTY) -> Iterator[Path]:
    """A folder for servers' folders, gone afterwards, with what still runs in it. So is what a killed session left."""
    for place in (memory, disk):
        for left in place.glob(f"{PREFIX}*"):
            _clear_if_left(left)
    with _held(memory if _has(memory, plenty) else disk) as folder:
        try:
            yield folder
        finally:
            _clear(folder)


def _has(place: Path, room: int) -> bool:
    if not os.access(place, os.W_OK):
        return False
    # What is there may be promised to others as well.
    return min(shutil.disk_usage(place).free, psutil.virtual_memory().available) >= room


@contextmanager
def _held(place: Path) -> Iterator[Path]:
    """A new folder, locked for as long as this process lives."""
    made = Path(tempfile.mkdtemp(prefix="regulars-new-", dir=place))
    # Where root has to start them as nobody, they pass through here.
    made.chmod(0o711)
    descriptor = os.open(made, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Only now: whoever finds the name unlocked takes it for a dead session's.
        yield made.rename(place / (PREFIX + made.name.rpartition("-")[2]))
    finally:
        os.close(descriptor)


def _clear_if_left(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        # Cleared by another session just now, or none of ours.
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        _clear(folder)
    finally:
        os.close(descriptor)


def _clear(folder: Path) -> None:
    for each in folder.iterdir():
        asyncio.run(_end(EmbeddedPostgres(each)))
    # Whatever cannot go now goes when the next session begins.
    shutil.rmtree(folder, ignore_errors=True)


async def _end(server: EmbeddedPostgres) -> None:
    """Its launcher may have been killed."""
    if server.running() is not None:
        await server.start()
        await server.stop()

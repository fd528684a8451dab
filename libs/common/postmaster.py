"""What `postmaster.pid` says of a PostgreSQL server, and whether it is true."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_PROC = Path("/proc")
_PORT_LINE = 3
_STATUS_LINE = 7


@dataclass(frozen=True, slots=True)
class Postmaster:
    """A server, as its lock file describes it."""

    cluster: Path
    pid: int
    port: int
    ready: bool

    @classmethod
    def read(cls, cluster: Path) -> Self | None:
        """None when there is no file, or not yet a whole one."""
        try:
            lines = (cluster / "postmaster.pid").read_text(encoding="ascii").splitlines()
            ready = len(lines) > _STATUS_LINE and lines[_STATUS_LINE].strip() == "ready"
            return cls(cluster, int(lines[0]), int(lines[_PORT_LINE]), ready)
        except (FileNotFoundError, IndexError, ValueError):
            return None

    def runs(self) -> bool:
        """Whether this very server is alive: not gone, not a zombie, not somebody else with the same number."""
        if _PROC.is_dir():
            return _works_in(_PROC / str(self.pid), self.cluster)
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True


def processes_in(cluster: Path) -> list[int]:
    """Processes whose working directory is the cluster: a server and its backends. Empty where there is no /proc."""
    if not _PROC.is_dir():
        return []
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit() and _works_in(entry, cluster)]


def _works_in(process: Path, cluster: Path) -> bool:
    try:
        # A zombie has no working directory any more.
        return (process / "cwd").samefile(cluster) and (process / "comm").read_text().strip() == "postgres"
    except OSError:
        return False

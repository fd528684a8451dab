"""`regulars run`: embedded PostgreSQL, the API and the workers under one command.

This process only starts, watches and stops the others, and stays small: it imports no service, and what needs much
code (migrations, keys) happens in a process of its own. It holds the listening socket, so that an API process that is
started again finds every connection that was made meanwhile.
"""

import asyncio
import errno
import logging
import os
import shutil
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from libs.common.embedded_postgres import EmbeddedPostgres
from libs.common.telemetry import configure_logging, get_logger
from regulars.schemas import Unusable, is_prepared
from regulars.supervisor import Child, Failed

BIND_SECONDS = 10.0
"""How long to wait for a port that a former run is still leaving."""
BACKLOG = 2048

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What `regulars run` is asked for."""

    data_dir: Path
    host: str
    port: int
    """0: any free one."""
    database_url: str | None
    """None: embedded."""
    api_processes: int
    worker_processes: int
    log: str = "postgres"
    """Or kafka; where that is, the environment says."""


async def run(options: Options) -> int:
    """Runs everything until SIGTERM or SIGINT; the exit code."""
    level = os.environ.get("REGULARS_LOG_LEVEL", "")
    # Another one is told as any wrong setting.
    configure_logging(level if level.upper() in logging.getLevelNamesMapping() else "info")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    metrics = options.data_dir / "metrics"
    made = [folder for folder in (metrics, *metrics.parents) if not folder.exists()]
    try:
        _clear_metrics(metrics)
    except OSError as error:
        log.critical("the data folder cannot be used", folder=str(options.data_dir), reason=str(error))
        return 1
    try:
        listener = await _listen(options.host, options.port, stop)
    except OSError as error:
        log.critical("cannot listen", host=options.host, port=options.port, reason=str(error))
        _unmake(made)
        return 1
    if listener is None:
        return 0
    with listener:
        code = await _supervise(options, listener, stop)
    if code == os.EX_CONFIG:
        _unmake(made)
    return code


async def _supervise(options: Options, listener: socket.socket, stop: asyncio.Event) -> int:
    address = f"http://{options.host}:{listener.getsockname()[1]}"
    postgres = None if options.database_url else EmbeddedPostgres(options.data_dir)
    environment: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
    code = 0
    try:
        async with asyncio.TaskGroup() as group:
            # They import their code while the database starts and is migrated.
            children = _children(options, listener.fileno(), environment)
            living = [group.create_task(child.run(stop)) for child in children]
            # Before anything is made, and the first key is shown, once.
            found = await _in_process("wrong_settings", _variables(options, options.database_url or "", address))
            # Who says stop from a terminal says it to that process, too.
            if found and not stop.is_set():
                code = max(found, 0)
                raise Failed("nothing is started: settings are wrong")  # noqa: TRY301 (it ends the group)
            url = await _started(postgres) if postgres else options.database_url or ""
            variables = _variables(options, url, address)
            # Kafka's topics are looked at each time.
            if options.log == "kafka" or not await _is_prepared(url):
                await _prepare(variables)
            environment.set_result(variables)
            beside = [group.create_task(_announce(children, address, stop))]
            if postgres is not None:
                beside.append(group.create_task(postgres.watch()))
            await asyncio.wait(living)
            for task in beside:
                task.cancel()
    except* Failed as failures:
        for failure in failures.exceptions:
            log.critical(str(failure))
        code = code or 1
    finally:
        if postgres is not None:
            await postgres.stop()
    return code


async def _started(postgres: EmbeddedPostgres) -> str:
    try:
        return await postgres.start(alone=True)
    except (RuntimeError, OSError) as error:
        raise Failed(str(error)) from error


async def _is_prepared(url: str) -> bool:
    try:
        return await is_prepared(url, key_given=_key_given())
    except Unusable as error:
        raise Failed(str(error)) from error


def _children(options: Options, listener: int, environment: "asyncio.Future[dict[str, str]]") -> list[Child]:
    return [
        *(
            Child(f"api {n}", "regulars.api_process", [str(listener)], environment, keep=listener)
            for n in range(options.api_processes)
        ),
        *(Child(f"worker {n}", "regulars.worker_process", [], environment) for n in range(options.worker_processes)),
    ]


async def _announce(children: Sequence[Child], address: str, stop: asyncio.Event) -> None:
    for child in children:
        await child.ready.wait()
    if not stop.is_set():
        print(f"ready {address}", flush=True)


async def _prepare(variables: Mapping[str, str]) -> None:
    """Migrations and the first key. Failed when they fail."""
    if code := await _in_process("prepare", variables):
        raise Failed(f"what must be there before anything runs could not be prepared (code {code})")


async def _in_process(module: str, variables: Mapping[str, str]) -> int:
    """One of ours, in a process whose memory is given back; its exit code."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"regulars.{module}", env={**os.environ, **variables}
    )
    return await process.wait()


def _key_given() -> bool:
    return any(os.environ.get(name) for name in ("REGULARS_ADMIN_KEY", "REGULARS_ADMIN_KEY_FILE"))


def _variables(options: Options, database_url: str, address: str) -> dict[str, str]:
    """Where everything is, for the other processes. The public address may be set from outside."""
    return {
        "REGULARS_PUBLIC_URL": os.environ.get("REGULARS_PUBLIC_URL") or address,
        "REGULARS_DATABASE_URL": database_url,
        "REGULARS_LOG": options.log,
        "REGULARS_DATA_DIR": str(options.data_dir),
    }


def _clear_metrics(folder: Path) -> None:
    """The folder by which `/metrics` of one process speaks for all; it must be known before they start."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)


def _unmake(made: Sequence[Path]) -> None:
    """Nothing was started: the folder of metrics, and those around it, go as they came. `made`: the innermost first."""
    for folder in made:
        if folder is made[0]:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            with suppress(OSError):  # not empty: somebody else's by now
                folder.rmdir()


async def _listen(host: str, port: int, stop: asyncio.Event) -> socket.socket | None:
    """The listening socket; None when told to stop while a former run still had the port."""
    deadline = monotonic() + BIND_SECONDS
    told = False
    while not stop.is_set():
        try:
            return socket.create_server((host, port), backlog=BACKLOG)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or monotonic() > deadline:
                raise
        if not told:
            log.warning("waiting for the port, which somebody has", host=host, port=port, seconds=BIND_SECONDS)
            told = True
        with suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await stop.wait()
    return None

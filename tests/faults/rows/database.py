"""PostgreSQL killed and away for a while, hanging, slow to write, and without room on its disk."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from time import monotonic

import asyncpg

from libs.common.clock import DrivenClock
from tests.faults.kill import START
from tests.faults.ledger import Report, drain, judge, judge_timelines, register
from tests.faults.promises import Shown, spread
from tests.faults.rows.asked import Asked
from tests.faults.rows.unbroken import Unbroken
from tests.faults.running import Running
from tests.faults.scene import scene
from tests.faults.traffic import Sender
from tests.waiting import eventually, pause

AWAY_SECONDS = 4.0
"""Longer than a webhook waits for its commit: some are told to come back."""
BACK_SECONDS = 10.0
MEGABYTE = 1024 * 1024
DISK = 512 * MEGABYTE
LEFT = 8 * MEGABYTE
"""Room that is left when the disk begins to be full: less than one file of PostgreSQL's own log."""
FULL_SECONDS = 8.0
REFUSED_SECONDS = 2.0
"""Who cannot be served is told so by then; half a second more is for a machine that everybody shares."""
FLUSH_MILLISECONDS = 100
SLOW_SECONDS = 10.0


async def killed(asked: Asked) -> Shown:
    """SIGKILL, nobody there for a few seconds, started again."""
    took: list[float] = []
    async with scene(asked.folder, asked.nursery) as s:
        load = Unbroken(s.sender, asked.rate)

        async def once() -> None:
            await s.line.abandon_postgres()
            await asyncio.to_thread(s.line.kill_postgres)
            await pause(AWAY_SECONDS)
            began = monotonic()
            s.line.keep_postgres()
            await eventually(partial(_answered_since, s.sender, began), 60)
            took.append(monotonic() - began)
            await s.flowing()

        for _ in range(asked.rounds):
            await load.during(once)
        report = await s.judged()
    return _shown(f"{asked.rounds} times away for {AWAY_SECONDS:.0f} s", s.sender, report, took)


async def hanging(asked: Asked) -> Shown:
    """All of PostgreSQL stands still for a few seconds; later each of its writes takes a tenth of a second longer."""
    took: list[float] = []
    async with scene(asked.folder, asked.nursery) as s:
        load = Unbroken(s.sender, asked.rate)

        async def hung() -> None:
            stopped = s.line.stop_postgres()
            try:
                await pause(AWAY_SECONDS)
            finally:
                began = monotonic()
                for process in stopped:
                    process.resume()
            await eventually(partial(_answered_since, s.sender, began), 60)
            took.append(monotonic() - began)
            await s.flowing()

        for _ in range(asked.rounds):
            await load.during(hung)
        refused, quick = s.sender.unavailable, len(s.sender.seconds)
        async with _slow_to_write(s.line.database_url):
            await load.during(partial(pause, SLOW_SECONDS))
        slow = sorted(s.sender.seconds[quick:])
        slow_refused = s.sender.unavailable - refused
        report = await s.judged()
    shown = _shown(f"{asked.rounds} times still for {AWAY_SECONDS:.0f} s", s.sender, report, took)
    shown.seen += [
        f"the latest 503 came after {s.sender.refused_after:.1f} s",
        (
            f"each write {FLUSH_MILLISECONDS} ms slower: {len(slow)} answered 200 in {SLOW_SECONDS:.0f} s, half of them"
            f" within {slow[len(slow) // 2] * 1000:.0f} ms, the last after {slow[-1] * 1000:.0f} ms; {slow_refused}"
            " answered 503"
        ),
    ]
    if s.sender.refused_after > REFUSED_SECONDS + 0.5:
        shown.differences.append(f"who was refused waited {s.sender.refused_after:.1f} s")
    if slow[len(slow) // 2] < FLUSH_MILLISECONDS / 1000:
        shown.differences.append("its writes were not slow")
    if slow_refused:
        shown.differences.append(f"{slow_refused} were refused by a PostgreSQL that was only slow")
    return shown


@asynccontextmanager
async def _slow_to_write(url: str) -> AsyncIterator[None]:
    """As a disk whose fsync takes its time: whoever is to write the log waits first."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"ALTER SYSTEM SET commit_delay = {FLUSH_MILLISECONDS * 1000}")
        await connection.execute("ALTER SYSTEM SET commit_siblings = 0")
        await connection.execute("SELECT pg_reload_conf()")
        yield
        await connection.execute("ALTER SYSTEM RESET commit_delay")
        await connection.execute("ALTER SYSTEM RESET commit_siblings")
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()


async def disk_full(asked: Asked) -> Shown:
    """`regulars run` whose PostgreSQL has a small disk that somebody else fills up, and clears again."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return Shown("none", skipped="only root can mount a small disk")
    DrivenClock.create(asked.folder / "clock", START)
    settings = {"REGULARS_CLOCK_PATH": str(asked.folder / "clock")}
    run = Running(asked.folder / "data", environment=settings)
    await asyncio.to_thread(run.start)
    await asyncio.to_thread(run.stop)
    took: list[float] = []
    with ExitStack() as mounted:
        try:
            ballast = mounted.enter_context(_small_disk(asked.folder / "data" / "postgres"))
        except subprocess.CalledProcessError as error:
            return Shown("none", skipped=f"a small disk cannot be mounted: {error.stderr.decode().strip()}")
        await asyncio.to_thread(run.start)
        try:
            key = await asyncio.to_thread(register, run)
            sender = Sender(lambda: f"{run.address}/webhooks/shopify/{key}")
            load = Unbroken(sender, asked.rate)

            async def once() -> None:
                before = sender.unavailable
                ballast.write_bytes(bytes(shutil.disk_usage(ballast.parent).free - LEFT))
                await eventually(partial(_refused_since, sender, before), 120)
                await pause(FULL_SECONDS)
                ballast.unlink()
                began = monotonic()
                await eventually(partial(_answered_since, sender, began), 60)
                took.append(monotonic() - began)

            for _ in range(asked.rounds):
                await load.during(once)
            await asyncio.to_thread(drain, run)
            report = Report(len(sender.acknowledged), 0)
            await asyncio.to_thread(judge, run, key, sender, report)
            await asyncio.to_thread(judge_timelines, run, key, sender, report)
        finally:
            await asyncio.to_thread(run.stop)
    return _shown(f"{asked.rounds} times full for {FULL_SECONDS:.0f} s", sender, report, took)


@contextmanager
def _small_disk(cluster: Path) -> Iterator[Path]:
    """Puts a cluster on a file system of its own; the file that may fill it."""
    aside = cluster.with_name("postgres.aside")
    cluster.rename(aside)
    cluster.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=0700", "tmpfs", str(cluster)]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        shutil.copytree(aside, cluster, symlinks=True, dirs_exist_ok=True)
        yield cluster / "ballast"
    finally:
        unmount = ["umount", "--lazy", str(cluster)]
        subprocess.run(unmount, check=True)


async def _answered_since(sender: Sender, moment: float) -> bool:
    return any(at > moment for at in reversed(sender.acknowledged.values()))


async def _refused_since(sender: Sender, before: int) -> bool:
    return sender.unavailable > before


def _shown(trials: str, sender: Sender, report: Report, took: list[float]) -> Shown:
    shown = Shown(
        f"{trials}, {len(sender.acknowledged)} webhooks",
        back=spread(took),
        seen=[
            "back after: from its start, or from when there was room again, until a webhook was answered 200",
            (
                f"{len(sender.acknowledged)} answered 200 in the end; meanwhile {sender.unavailable} answers 503 with"
                f" Retry-After, {sender.broken} connections broken"
            ),
        ],
    )
    shown.judged(report)
    if not sender.unavailable:
        shown.differences.append("nobody was told to come back: it was not away long enough")
    if max(took) > BACK_SECONDS:
        shown.differences.append(f"back only after {max(took):.1f} s, not {BACK_SECONDS:.0f}")
    return shown

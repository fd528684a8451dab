"""`regulars demo`: the whole line against a simulated shop that knows its own truth."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from contextlib import AsyncExitStack, ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

from rich.console import Console

from libs.common.clock import DrivenClock
from regulars.demo import compare
from regulars.demo.compare import Row
from regulars.demo.drive import TICK, Drive
from regulars.demo.elsewhere import Elsewhere
from regulars.demo.engine import Broken, Engine
from regulars.demo.http import Client, Unexpected
from regulars.demo.mailbox import Mailbox
from regulars.demo.report import print_next, print_recovery_mail, print_rows
from regulars.demo.screen import Screen
from regulars.demo.stage import Stage
from regulars.local_kafka import LocalKafka, Unavailable
from regulars.shop.delivery import deliveries
from regulars.shop.knowledge import Knowledge, shared_phones
from regulars.shop.messages import Postbox
from regulars.shop.world import make_world

START = datetime(2026, 1, 5, tzinfo=UTC)
PEOPLE_IN_90_DAYS = 480


def main(
    *,
    seed: int,
    days: int,
    keep: bool,
    data_dir: Path | None = None,
    people: int | None = None,
    on_kafka: bool | str = False,
    at: Elsewhere | None = None,
) -> int:
    """Runs the demo; 0 when everything is as the shop says, else 1.

    `keep`, or KEEP=1 in the environment: leaves the platform running until Ctrl-C. `data_dir`: a temporary one when
    left out. `people`: how many there are; by default in proportion to `days`. `on_kafka`: through a new Kafka of the
    demo's own, since a log that holds another run's events is none of this one's; or through the one at these
    addresses, where REGULARS_KAFKA_PREFIX then names what nobody else has. `at`: an installation that somebody else
    runs, instead of one of the demo's own.
    """
    keep = keep or os.environ.get("KEEP", "") not in {"", "0"}
    folder = data_dir or Path(tempfile.mkdtemp(prefix="regulars-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with ExitStack() as stack:
            kafka = on_kafka or None
            if kafka is True:
                kafka = stack.enter_context(LocalKafka(folder / "kafka")).servers()
            people = people or PEOPLE_IN_90_DAYS * days // 90
            return asyncio.run(_run(folder, seed=seed, days=days, keep=keep, people=people, kafka=kafka, at=at))
    except (Broken, Unexpected, Unavailable) as error:
        print(f"regulars demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if data_dir is None:
            shutil.rmtree(folder, ignore_errors=True)


async def _run(
    folder: Path, *, seed: int, days: int, keep: bool, people: int, kafka: str | None, at: Elsewhere | None
) -> int:
    console = Console()
    began = monotonic()
    world = make_world(seed=seed, start=START, days=days, how_many=people)
    arriving = deliveries(world)
    console.print(
        f"seed {seed}: {people} people, {days} days, {len(world.changes):,} changes in two stores,"
        f" {len(arriving):,} requests",
        highlight=False,
        soft_wrap=True,
    )
    clock = at.clock(START) if at else DrivenClock.create(folder / "clock", START)
    async with AsyncExitStack() as stack:
        mailbox = await stack.enter_async_context(Mailbox(clock, *(at.mail if at else ())))
        engine: Engine | Elsewhere = at or Engine(folder, folder / "clock", mailbox.port, kafka)
        await stack.enter_async_context(engine)
        client = await stack.enter_async_context(Client(engine.address, engine.key))
        stage = Stage(client, engine, {store.name: store for store in world.stores})
        await stage.register()
        await stage.drain()
        postbox = Postbox(Knowledge(shared_phones(arriving)), {store.name: store.policy for store in world.stores})
        with Screen(console, stage) as screen:
            drive = Drive(world, arriving, clock, stage, mailbox, postbox, screen)
            rows = await _drive(drive, days)
        equal = print_rows(console, rows, seconds=monotonic() - began)
        print_recovery_mail(console, drive.captured)
        print_next(console, stage, drive.captured, keep=keep)
        if keep:
            await _until_interrupted()
    return 0 if equal else 1


async def _drive(drive: Drive, days: int) -> list[Row]:
    middle = START + timedelta(days=days) * 2 // 3 // TICK * TICK
    rows: list[Row] = []
    async for at in drive.run({middle}):
        if at < drive.world.end:
            rows.append(await compare.compare_kpis(drive, at, when=f"on {at:%d %b}, as of then"))
            continue
        rows += await compare.compare_deliveries(drive)
        rows.append(await compare.compare_dead_letters(drive.stage))
        rows.append(await compare.compare_people(drive))
        rows.append(await compare.compare_orders(drive))
        rows.append(await compare.compare_kpis(drive, at, when="at the end"))
        rows.append(await compare.compare_kpis(drive, middle, when=f"at the end, as of {middle:%d %b}"))
        rows.append(await compare.compare_verify(drive.stage))
        rows += await compare.compare_mails(drive)
    return rows


async def _until_interrupted() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()

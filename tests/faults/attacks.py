"""Hostile senders against `regulars run`: `python -m tests.faults.attacks` prints what each was answered and cost.

Real processes, raw sockets, loopback. While each attack lasts a good sender goes on, and the memory of all processes is
looked at (PSS: what they share is counted once). Wrong is an answer that should not be, memory that does not come back,
and a good sender who is refused or has to wait.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import asyncpg

from libs.common.embedded_postgres import EmbeddedPostgres
from tests.faults.attacking import bodies, connections, forgeries, requests
from tests.faults.attacking.ground import NOW, Attack, Fared, GoodSender, Ground, Memory, Seen
from tests.faults.ledger import drain, register
from tests.faults.running import ADMIN_KEY, Running
from tests.faults.traffic import SHOP, Sender, orders
from tests.waiting import pause

ATTACKS: tuple[Attack, ...] = (*forgeries.ATTACKS, *bodies.ATTACKS, *connections.ATTACKS, *requests.ATTACKS)
VICTIM = "attacked.myshopify.com"
MEGABYTE = 1024 * 1024
STAYS = 16 * MEGABYTE
"""What an attack may leave behind. One that leaves more is made again: caches and the database's buffers fill once."""
STAYS_IN_ALL = 112 * MEGABYTE
MOST = 300 * MEGABYTE
"""What it may take while it lasts: what the settings allow for bodies on their way is half of that."""
BACK_SECONDS = 8.0
LATE = 1.0
"""Seconds that 99 of 100 good webhooks may take; a platform hangs up after 5, and so may none."""
TOO_LATE = 5.0
WARMING = 500


@dataclass(slots=True)
class Row:
    """One attack, in figures."""

    attack: Attack
    seen: Seen
    seconds: float
    before: int
    peak: int
    after: int
    fared: Fared | None

    def wrong(self) -> list[str]:
        """All that should not be."""
        found = self.seen.wrong[:10]
        if len(self.seen.wrong) > len(found):
            found.append(f"and {len(self.seen.wrong) - len(found)} more of them")
        if self.peak > self.before + MOST:
            found.append(f"took {_mib(self.peak - self.before)} of memory")
        if self.after > self.before + STAYS:
            found.append(f"kept {_mib(self.after - self.before)} of memory")
        if (good := self.fared) is not None:
            if good.refused or good.unanswered:
                found.append(f"good webhooks: {good.refused} refused, {good.unanswered} not answered in a second")
            if good.p99 > LATE or good.slowest > TOO_LATE:
                found.append(f"good webhooks took {good}")
        return found

    def __str__(self) -> str:
        memory = " / ".join(_mib(each) for each in (self.before, self.peak, self.after))
        return " | ".join(
            (
                f"{self.attack.name:<34}",
                self.seen.sent,
                self.seen.told(),
                memory,
                str(self.fared) if self.fared else "-",
                f"{self.seconds:.1f} s",
            )
        )


def _mib(size: int) -> str:
    return f"{size / MEGABYTE:.0f} MiB"


async def attacked(ground: Ground, good: GoodSender, attack: Attack) -> Row:
    """One attack, and what it did."""
    row = await _attacked(ground, good, attack)
    if row.after > row.before + STAYS:
        again = await _attacked(ground, good, attack)
        again.seen.wrong += row.seen.wrong
        again.seen.sent += f"; the second time, the first left {_mib(row.after - row.before)}"
        return again
    return row


async def _attacked(ground: Ground, good: GoodSender, attack: Attack) -> Row:
    if attack.alone:
        good.rest()
    else:
        good.fared()
    before = await _lowest(ground, 1.0)
    began = monotonic()
    with Memory(ground.run) as memory:
        seen = await attack.make(ground)
    seconds = monotonic() - began
    fared = good.fared()
    after = await _lowest(ground, BACK_SECONDS, before + STAYS // 2)
    return Row(attack, seen, seconds, before, max(memory.peak, before), after, None if attack.alone else fared)


async def _lowest(ground: Ground, seconds: float, enough: int = 0) -> int:
    """The least memory within so many seconds, or the first that is little enough."""
    end = monotonic() + seconds
    least = await asyncio.to_thread(ground.run.memory)
    while least > enough and monotonic() < end:
        await pause(0.25)
        least = min(least, await asyncio.to_thread(ground.run.memory))
    return least


async def attack_all(folder: Path, attacks: Sequence[Attack] = ATTACKS) -> list[str]:
    """All of these on one installation; what is wrong."""
    run = Running(folder / "data")
    await asyncio.to_thread(run.start)
    try:
        wrong = await _attack_all(run, attacks)
        if code := await asyncio.to_thread(run.stop):
            wrong.append(f"ended with code {code}")
    except BaseException:
        await asyncio.to_thread(run.kill_everything)
        raise
    return wrong


async def _attack_all(run: Running, attacks: Sequence[Attack]) -> list[str]:
    selling, key = [await asyncio.to_thread(register, run, domain) for domain in (SHOP.domain, VICTIM)]
    url = EmbeddedPostgres(run.data_dir).running()
    database = await asyncpg.connect(url)
    ground = Ground(run, int(run.address.rpartition(":")[2]), key, ADMIN_KEY.encode(), database)
    # What happens for the first time loads code and fills caches: that is no attack's doing.
    for store in (selling, key):
        to = f"{run.address}/webhooks/shopify/{store}"
        await Sender(lambda to=to: to).send(orders(WARMING, NOW, first=2_000_000))  # type: ignore[misc]
    await bodies.batches(ground)
    await asyncio.to_thread(drain, run)
    good = GoodSender(run.address, selling)
    wrong: list[str] = []
    print("attack | sent | answer | memory before / peak / after | a good webhook: middle / p99 / slowest | time")
    try:
        rows: list[Row] = []
        for attack in attacks:
            rows.append(await attacked(ground, good, attack))
            print(rows[-1], flush=True)
            for each in rows[-1].wrong():
                print(f"    WRONG: {each}", flush=True)
                wrong.append(f"{attack.name}: {each}")
    finally:
        good.close()
        await database.close()
    grown = rows[-1].after - rows[0].before
    print(f"memory over all attacks: {grown / MEGABYTE:+.0f} MiB")
    if grown > STAYS_IN_ALL:
        wrong.append(f"memory grew by {_mib(grown)} over all attacks")
    await asyncio.to_thread(drain, run)
    # Nobody may bring it to do what it had not foreseen.
    unforeseen = [line[:300] for line in run.log().splitlines() if '"level": "error"' in line or "Traceback" in line]
    return wrong + [f"log: {line}" for line in unforeseen]


def main(arguments: Sequence[str] | None = None) -> int:
    """1 when anything is wrong."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", metavar="NAME", help="attacks whose names hold this")
    asked = options.parse_args(arguments)
    attacks = [each for each in ATTACKS if asked.only is None or asked.only in each.name]
    began = monotonic()
    with tempfile.TemporaryDirectory(prefix="regulars-attacks-") as folder:
        wrong = asyncio.run(attack_all(Path(folder), attacks))
    print(f"{len(attacks)} attacks in {monotonic() - began:.0f} s; wrong: {len(wrong)}")
    for each in wrong:
        print(f"  {each}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

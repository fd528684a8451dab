"""`make compose-test`: the image is built, all of docker-compose.yml runs, containers are killed, nothing may be lost.

First webhooks whose every figure is known, through the gateway, with SIGKILLs meanwhile and three workers in the place
of one; then the demo's shop, on a fresh installation, against its own truth.
"""

import argparse
import asyncio
import json
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random
from time import monotonic

from libs.common.clock import DrivenClock
from regulars.demo.mailbox import Mailbox
from tests.e2e.containers.docker import BUILDING, IMAGE, Skipped, Stack, engine, run
from tests.faults.kill import START
from tests.faults.ledger import SERVICES, Report, drain, judge, judge_mails, reached, register
from tests.faults.traffic import Sender, abandoned, orders
from tests.waiting import eventually, until

VICTIMS = ("ingest-api", "ingest-worker", "profiles-worker", "metrics-worker", "messaging-worker", "relay", "postgres")
ROLES = [f"{service}-{role}" for service in SERVICES for role in ("api", "worker")]
WORKERS = 3


def free_port() -> int:
    """On 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Prints how long it took."""
    began = monotonic()
    yield
    print(f"{what}: {monotonic() - began:.1f} s", flush=True)


async def killing(folder: Path, *, webhooks: int, kills: int, seed: int) -> bool:
    """Webhooks in, containers killed, one role scaled out; whether nothing is missing, doubled or wrong."""
    dice = Random(seed)
    shared = folder / "clock"
    shared.mkdir(mode=0o777)
    shared.chmod(0o777)
    clock = DrivenClock.create(shared / "clock", START)
    (shared / "clock").chmod(0o666)
    bridge = run("docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}")
    async with Mailbox(clock, bridge) as mailbox:
        role = {
            "environment": {
                "REGULARS_CLOCK_PATH": "/var/lib/regulars/clock",
                "REGULARS_RATE_LIMIT": "0",
                "REGULARS_SMTP_HOST": "outside",
                "REGULARS_SMTP_PORT": str(mailbox.port),
                "REGULARS_SEND_BATCH_SIZE": "4",
            },
            "extra_hosts": ["outside:host-gateway"],
            "volumes": [f"{shared}:/var/lib/regulars"],
        }
        services = dict.fromkeys((*ROLES, "relay", "migrate"), role)
        stack = await asyncio.to_thread(partial(Stack, folder, free_port(), overlay={"services": services}))
        print(f"log: {stack.log}; without {', '.join(stack.absent) or 'nothing'} (no such image on this machine)")
        try:
            with timed("all healthy"):
                await asyncio.to_thread(stack.up)
            report = await _under_fire(stack, mailbox, clock, dice, webhooks=webhooks, kills=kills)
            print(report, flush=True)
            print("\n".join(await asyncio.to_thread(stack.memory)), flush=True)
        except BaseException:
            sys.stderr.write(await asyncio.to_thread(stack.compose, "logs", "--tail", "15"))
            raise
        finally:
            await asyncio.to_thread(stack.down)
    return report.clean


async def _under_fire(
    stack: Stack, mailbox: Mailbox, clock: DrivenClock, dice: Random, *, webhooks: int, kills: int
) -> Report:
    subscribers = webhooks // 40
    report = Report(webhooks, subscribers)
    key = await asyncio.to_thread(register, stack)
    sender = Sender(lambda: f"{stack.address}/webhooks/shopify/{key}")
    deliveries = orders(webhooks - 2 * subscribers, START - timedelta(hours=12))
    deliveries += abandoned(subscribers, START - timedelta(minutes=2))
    dice.shuffle(deliveries)
    marks = sorted(dice.sample(range(webhooks), kills))
    # Each of them once, before any of them twice.
    victims = [name for name in VICTIMS if name in stack.services] * kills
    with timed("sending, with kills and scaling out"):
        sending = asyncio.create_task(sender.send(deliveries))
        for number, (mark, victim) in enumerate(zip(marks, victims, strict=False)):
            await eventually(partial(reached, sender.acknowledged, mark), 600)
            if number == kills // 2:
                await asyncio.to_thread(stack.up, "--no-recreate", "--scale", f"profiles-worker={WORKERS}")
            await asyncio.to_thread(stack.kill, victim)
            report.kills[victim] += 1
        await sending
    with timed("drained"):
        await asyncio.to_thread(drain, stack)
    owners = await asyncio.to_thread(until, f"{WORKERS} workers share", partial(_owners, stack), 60)
    print(f"profiles' partitions by worker: {owners}", flush=True)
    clock.set(START + timedelta(minutes=50))
    with timed("mails"):
        await asyncio.to_thread(partial(drain, stack, but=("being sent",)))
    await asyncio.to_thread(judge, stack, key, sender, report)
    await asyncio.to_thread(judge_mails, stack, mailbox, report)
    return report


def _owners(stack: Stack) -> list[int] | None:
    """How many partitions each worker of profiles has, once as many workers have some as there should be."""
    with stack.client() as client:
        told = client.get("/v1/pipeline/profiles").raise_for_status().json()
    owned: dict[str, int] = {}
    for consumer in told["consumers"]:
        # The relay is a consumer too, elsewhere.
        for partition in consumer["partitions"] if consumer["consumer"] == "profiles" else ():
            owned[partition["owner"]] = owned.get(partition["owner"], 0) + 1
    return sorted(owned.values()) if len(owned) == WORKERS and None not in owned else None


def demo(folder: Path, days: int) -> bool:
    """The simulated shop in a container of its own; whether everything is equal."""
    stack = Stack(folder, free_port(), files=["deploy/compose.demo.yml"], overlay={}, days=days)
    try:
        with timed(f"the demo's shop of {days} days"):
            stack.compose("up", "--detach", "--no-build", *stack.services)
            said = stack.compose("logs", "--follow", "--no-log-prefix", "demo")
        print(said)
        return "everything is equal" in said
    finally:
        stack.down()


def main() -> int:
    """Prints figures; 1 when something is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--webhooks", type=int, default=600)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--days", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "regulars-compose-test")
    asked = parser.parse_args()
    asked.work.mkdir(mode=0o700, exist_ok=True)
    try:
        with engine(asked.work):
            with timed("base images"):
                run("sh", "deploy/compose-test/base-images.sh", str(asked.work), "docker-compose.yml", seconds=1800)
            with timed("image built"):
                network = ["--network", "host"]
                run("docker", "build", *network, "-f", "deploy/Dockerfile", "-t", IMAGE, ".", environment=BUILDING)
            size = json.loads(run("docker", "image", "inspect", IMAGE))[0]["Size"]
            base = json.loads(run("docker", "image", "inspect", "python:3.13-slim"))[0]["Size"]
            print(f"image: {size / 1e6:.0f} MB, {(size - base) / 1e6:.0f} MB of it beside the base", flush=True)
            fine = True
            with tempfile.TemporaryDirectory(prefix="regulars-killing-") as folder:
                killed = killing(Path(folder), webhooks=asked.webhooks, kills=asked.kills, seed=asked.seed)
                fine &= asyncio.run(killed)
            with tempfile.TemporaryDirectory(prefix="regulars-demo-") as folder:
                fine &= demo(Path(folder), asked.days)
    except Skipped as reason:
        print(f"compose-test: skipped: {reason}")
        return 0
    print("compose-test: passed" if fine else "compose-test: FAILED")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())

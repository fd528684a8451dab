"""The whole line: from a webhook to the KPI that counts it, and how many a second come through all services.

    python -m tests.bench.line [postgres|kafka ...]

Seconds to the KPI are those of `regulars run`, with either log. The rate is that of roles apart on Kafka, with one
worker for each service and with two, through what had piled up while no worker ran; all of it on this one machine.
"""

import asyncio
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import quantiles

import asyncpg
import httpx

from libs.common.clock import SystemClock, monotonic
from regulars.local_kafka import LocalKafka, why_not
from tests.faults.apart import Apart
from tests.faults.ledger import SERVICES, drain, register
from tests.faults.nursery import Nursery
from tests.faults.running import Running
from tests.faults.traffic import Sender, at_rate, orders
from tests.waiting import pause

LOGS = ("postgres", "kafka")
LOADS = ((10, 300), (100, 2000))
"""Webhooks a second, and how many."""
LOOK_SECONDS = 0.004
PILE = 20_000
_TAKEN = " + ".join(f"(SELECT coalesce(sum(next_offset), 0)::bigint FROM {name}.positions)" for name in SERVICES)


async def latencies(run: Running, rate: int, many: int) -> list[float]:
    """Seconds from sending the k-th webhook until the KPI says k, of each."""
    key = await asyncio.to_thread(register, run, f"line-{rate}.myshopify.com")
    # A KPI is asked of a store that metrics has heard of.
    await asyncio.to_thread(drain, run)
    sender = Sender(lambda: f"{run.address}/webhooks/shopify/{key}")
    placed = SystemClock().now() - timedelta(days=2)
    sending = asyncio.create_task(sender.send(orders(many, placed), pace=at_rate(rate)))
    counted: list[float] = []
    headers = dict(run.client().headers)
    async with httpx.AsyncClient(base_url=run.address, headers=headers, timeout=30) as client:
        while len(counted) < many:
            answer = await client.get("/v1/kpis", params={"window": "30d", "store": key})
            orders_now = int(answer.raise_for_status().json()["kpis"]["orders"]["value"] or 0)
            counted += [monotonic()] * (orders_now - len(counted))
            await pause(LOOK_SECONDS)
    await sending
    sent = sorted(at - took for at, took in zip(sender.acknowledged.values(), sender.seconds, strict=True))
    return [seen - left for seen, left in zip(counted, sent, strict=True)]


@contextmanager
def running(log: str, folder: Path) -> Iterator[Running]:
    """`regulars run` on this log."""
    quiet = {"REGULARS_LOG_LEVEL": "error"}
    if log == "postgres":
        with Running(folder / "data", environment=quiet) as run:
            yield run
        return
    with LocalKafka(folder / "kafka") as kafka:
        environment = {**quiet, "REGULARS_KAFKA_SERVERS": kafka.servers()}
        with Running(folder / "data", options=["--log", "kafka"], environment=environment) as run:
            yield run


def latency(log: str) -> None:
    """Prints a line for each rate."""
    with tempfile.TemporaryDirectory(prefix="regulars-bench-") as folder, running(log, Path(folder)) as run:
        for rate, many in LOADS:
            cuts = quantiles(asyncio.run(latencies(run, rate, many)), n=100)
            print(
                f"webhook to KPI, log in {log}, {rate}/s: p50 {cuts[49] * 1000:.0f} ms, p99 {cuts[98] * 1000:.0f} ms"
                f" ({many} webhooks)",
                flush=True,
            )


async def throughput(folder: Path, nursery: Nursery, workers: int) -> None:
    """Prints how fast a pile comes through."""
    async with Apart(folder, nursery, environment={"REGULARS_LOG_LEVEL": "error"}) as line:
        key = await asyncio.to_thread(register, line)
        roles = ["relay", *(f"{name}-worker" for name in SERVICES)]
        for role in roles:
            await asyncio.to_thread(line.end, role, signal.SIGTERM)
        sender = Sender(lambda: f"{line.address}/webhooks/shopify/{key}")
        await sender.send(orders(PILE, SystemClock().now() - timedelta(days=2)))
        connection = await asyncpg.connect(line.database_url)
        before = await connection.fetchval(f"SELECT {_TAKEN}")
        began = monotonic()
        for role in roles:
            line.start(role)
        for name in SERVICES:
            for n in range(1, workers):
                line.add(f"{name}-worker-{n}", "work", name)
        await asyncio.to_thread(partial(drain, line, limit=1200))
        took = monotonic() - began
        events = await connection.fetchval(f"SELECT {_TAKEN}") - before
        await connection.close()
        print(
            f"on Kafka, workers of each service: {workers}: {PILE / took:.0f} webhooks/s through all services,"
            f" {events / took:.0f} events/s taken by their consumers",
            flush=True,
        )


def main() -> None:
    """Measures what was asked for."""
    reason = why_not()
    for log in sys.argv[1:] or LOGS:
        if log == "kafka" and reason is not None:
            print(f"left out: {reason}")
            continue
        latency(log)
        if log == "kafka":
            nursery = Nursery()
            try:
                for workers in (1, 2):
                    with tempfile.TemporaryDirectory(prefix="regulars-bench-") as folder:
                        asyncio.run(throughput(Path(folder), nursery, workers))
            finally:
                nursery.close()


if __name__ == "__main__":
    main()

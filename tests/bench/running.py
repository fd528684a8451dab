"""`regulars run` as one has it: seconds to ready, memory, and the webhook route while the workers catch up.

    python -m tests.bench.running [DELIVERIES]

A worker process that is stopped lets DELIVERIES (100,000) pile up; then it goes on, and the route is asked meanwhile.
"""

import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from libs.common.clock import monotonic
from tests.faults.ledger import drain
from tests.faults.running import Running
from tests.faults.traffic import SHOP, store

SLICE_SECONDS = 5
CATCH_UP_SECONDS = 10
MEGABYTE = 1024 * 1024


def bench(deliveries: int) -> None:
    """Prints a line for each figure."""
    with tempfile.TemporaryDirectory(prefix="regulars-bench-") as folder:
        run = Running(Path(folder) / "data", environment={"REGULARS_LOG_LEVEL": "error"})
        print(f"first start, ready after {_started(run):.1f} s")
        run.stop()
        print(f"second start, ready after {_started(run):.1f} s")
        print(f"memory idle, with PostgreSQL: {run.memory() / MEGABYTE:.0f} MiB (PSS)")
        try:
            _catch_up(run, deliveries)
        finally:
            code = run.stop()
        print(f"ended with code {code}")


def _catch_up(run: Running, deliveries: int) -> None:
    with run.client() as client:
        key = client.post("/v1/stores", json=store("bench.myshopify.com")).raise_for_status().json()["store_key"]
    url = f"{run.address}/webhooks/shopify/{key}"
    with _peak(run) as peak:
        worker = run.signal("worker", signal.SIGSTOP)
        journalled = 0
        last: dict[str, object] = {}
        while journalled < deliveries:
            last = _load(url, 64, SLICE_SECONDS)
            journalled += int(str(last["accepted"]))
        print(f"{journalled} deliveries piled up; the last {SLICE_SECONDS} s: {_told(last)}", flush=True)
        began = monotonic()
        worker.send_signal(signal.SIGCONT)
        for connections in (4, 16, 64):
            caught = _load(url, connections, CATCH_UP_SECONDS)
            journalled += int(str(caught["accepted"]))
            print(f"while the worker catches up, {connections} connections: {_told(caught)}", flush=True)
        drain(run, limit=3600)
        took = monotonic() - began
        print(f"{journalled} deliveries through all services in {took:.0f} s: {journalled / took:.0f}/s")
    print(f"memory at its peak: {max(peak) / MEGABYTE:.0f} MiB (PSS)")


def _started(run: Running) -> float:
    began = monotonic()
    run.start()
    return monotonic() - began


def _load(url: str, connections: int, seconds: int) -> dict[str, object]:
    command = [sys.executable, "-m", "tests.bench.load", str(connections), str(seconds), SHOP.secret, url]
    result: dict[str, object] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return result


def _told(result: dict[str, object]) -> str:
    rate = float(str(result["rate"]))
    return f"{rate:.0f} webhooks/s, p50 {result['p50_ms']} ms, p99 {result['p99_ms']} ms, {result['answered']}"


@contextmanager
def _peak(run: Running) -> Iterator[list[int]]:
    """Memory, looked at four times a second."""
    seen = [run.memory()]
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.25):
            seen.append(run.memory())

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        done.set()
        looking.join()


if __name__ == "__main__":
    bench(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)

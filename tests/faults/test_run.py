"""`regulars run` under what happens to processes: it answers, comes back by itself, and ends drained."""

import asyncio
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest

from libs.common.postmaster import processes_in
from regulars.parts import WRONG_SETTINGS
from regulars.shop import shopify
from tests.conftest import START
from tests.faults.ledger import drain, reached
from tests.faults.running import Running
from tests.faults.traffic import SHOP, Sender, order, orders, store
from tests.waiting import eventually, until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Running]:
    with Running(tmp_path / "data") as running:
        yield running


def register(run: Running) -> str:
    with run.client() as client:
        registered = client.post("/v1/stores", json=store()).raise_for_status().json()
    return f"{run.address}/webhooks/shopify/{registered['store_key']}"


def post(url: str, n: int) -> httpx.Response:
    body = shopify.body(order(n, START))
    headers = shopify.headers(SHOP, "orders/create", body, webhook_id=f"w-{n}", event_id=None, at=START)
    return httpx.post(url, content=body, headers=headers, timeout=20)


def test_postgres_killed_is_back_by_itself_and_nothing_is_acknowledged_meanwhile(run: Running) -> None:
    url = register(run)
    assert post(url, 0).status_code == 200
    # Nobody starts the database again while its keeper is stopped.
    run.signal("supervisor", signal.SIGSTOP)
    server = run.signal("postgres", signal.SIGKILL)
    until("its backends are gone", lambda: not processes_in(run.data_dir / "postgres"))
    for n in (1, 2):
        refused = post(url, n)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
    with run.client() as client:
        answer = client.get("/v1/orders")
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert int(answer.headers["retry-after"]) > 0

    run.signal("supervisor", signal.SIGCONT)
    started = time.monotonic()
    until("a webhook is answered 200", lambda: post(url, 3).status_code == 200, 10)
    assert time.monotonic() - started < 10
    assert run.processes("postgres")[0].pid != server.pid
    drain(run)
    with run.client() as client:
        until("ready again", lambda: client.get("/readyz").status_code == 200, 10)
        placed = {entry["number"] for entry in client.get("/v1/orders").json()["data"]}
    assert placed == {order(0, START).number, order(3, START).number}
    assert run.stop() == 0


def test_sigterm_under_load_drains_and_leaves_nobody_behind(run: Running) -> None:
    url = register(run)
    everybody = [*run.processes("supervisor"), *run.processes("api"), *run.processes("worker")]
    sender = Sender(lambda: url)

    async def stop_amid() -> int:
        sending = asyncio.create_task(sender.send(orders(5000, START), at_once=8))
        await eventually(partial(reached, sender.acknowledged, 100))
        code = await asyncio.to_thread(run.stop)
        sending.cancel()
        return code

    assert asyncio.run(stop_amid()) == 0
    assert sender.other == []
    assert not any(process.is_running() for process in everybody)
    assert processes_in(run.data_dir / "postgres") == []

    acknowledged = len(sender.acknowledged)
    run.start()
    drain(run)
    with run.client() as client:
        counts = client.get("/v1/deliveries/counts").json()
        assert counts["observed"] >= acknowledged
        assert client.get("/v1/kpis", params={"window": "365d"}).status_code == 200
    assert run.stop() == 0


def test_without_their_supervisor_the_others_leave(run: Running) -> None:
    children = [*run.processes("api"), *run.processes("worker")]
    assert len(children) == 2
    run.kill_supervisor()
    _, alive = psutil.wait_procs(children, 20)
    assert alive == []
    assert processes_in(run.data_dir / "postgres"), "the database waits for the next start"
    run.start()
    assert run.stop() == 0
    assert processes_in(run.data_dir / "postgres") == []


async def test_a_worker_that_hangs_past_its_lease_writes_nothing_any_more(tmp_path: Path) -> None:
    run = Running(tmp_path / "data", options=["--worker-processes", "2"])
    await asyncio.to_thread(run.start)
    try:
        sender = Sender(partial(str, register(run)))
        await asyncio.to_thread(until, "a fair share for both", lambda: shares(run) == [4, 4], 30)
        before = workers(run)
        sending = asyncio.create_task(sender.send(orders(600, START), at_once=8))
        await eventually(partial(reached, sender.acknowledged, 300))
        frozen = await asyncio.to_thread(run.signal, "worker", signal.SIGSTOP)
        await sending
        # The other one takes over when the leases of the frozen one have lapsed, and works everything off.
        await asyncio.to_thread(drain, run)
        assert len(before - workers(run)) == 1
        frozen.send_signal(signal.SIGCONT)
        # It learns what it has lost from its next write, which is fenced and counted, or from a heartbeat before that.
        await asyncio.to_thread(
            until, "it knows", lambda: metric(run, "regulars_consumer_fenced_total") or len(workers(run)) == 2, 60
        )
        await asyncio.to_thread(drain, run)
        with run.client() as client:
            kpis = client.get("/v1/kpis", params={"window": "365d", "as_of": "2026-03-03T00:00:00Z"}).json()["kpis"]
            assert client.get("/v1/kpis/verify").json()["differences"] == []
        assert kpis["orders"]["value"] == len(sender.acknowledged) == 600
    finally:
        code = await asyncio.to_thread(run.stop)
    assert code == 0


def workers(run: Running) -> set[str]:
    with run.client() as client:
        return {worker["worker"] for worker in client.get("/v1/pipeline/profiles").json()["workers"]}


def shares(run: Running) -> list[int]:
    """How many partitions of `commerce` each worker owns."""
    with run.client() as client:
        consumers = client.get("/v1/pipeline/profiles").json()["consumers"]
    (commerce,) = (consumer for consumer in consumers if consumer["topic"] == "commerce")
    return sorted(Counter(partition["owner"] for partition in commerce["partitions"]).values())


def metric(run: Running, name: str) -> float:
    with run.client() as client:
        lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def test_the_first_key_is_printed_once_and_kept_as_a_hash(tmp_path: Path) -> None:
    run = Running(tmp_path / "data", environment={"REGULARS_ADMIN_KEY": ""})
    with run:
        key = next(line for line in run.said if line.startswith("admin key: ")).removeprefix("admin key: ")
        with run.client(key) as client:
            assert client.get("/v1/stores").status_code == 200
        assert run.stop() == 0
    with run:
        assert not any(line.startswith("admin key") for line in run.said)
        with run.client(key) as client:
            assert client.get("/v1/stores").status_code == 200
        other = keys_command(run, "create", "--tenant", "other").strip()
        with run.client(other) as client:
            assert client.get("/v1/stores").json()["data"] == []
        ended = keys_command(run, "create", "--tenant", "other", "--scope", "stores:read", "--name", "ended").strip()
        keys_command(run, "revoke", ended.split("_")[1], "--tenant", "other")
        with run.client(ended) as client:
            assert client.get("/v1/stores").status_code == 401
        first, second = keys_command(run, "list", "--tenant", "other").splitlines()
        assert "  live  " in first
        assert "  *  " in first
        assert "  revoked " in second
        assert second.endswith("  stores:read  ended")
        with pytest.raises(subprocess.CalledProcessError):
            keys_command(run, "create", "--scope", "store:read")
        with pytest.raises(subprocess.CalledProcessError):
            keys_command(run, "create", "--tenant", "other ")
        assert run.stop() == 0
    written = [path for path in (tmp_path / "data").iterdir() if path.is_file()]
    assert not any(key.encode() in path.read_bytes() for path in written)
    assert key not in run.log()


def keys_command(run: Running, command: str, *arguments: str) -> str:
    said = subprocess.run(
        [sys.executable, "-m", "regulars", "keys", command, *arguments, "--data-dir", str(run.data_dir)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return said.stdout


def test_keys_of_a_folder_without_a_database_say_so_and_make_none(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        keys_command(Running(tmp_path / "data"), "list")
    assert failed.value.returncode == 1
    assert failed.value.stderr == (
        f"there is no database in {tmp_path / 'data'}: name yours with --data-dir or --database-url\n"
    )
    assert not (tmp_path / "data").exists()


def test_a_wrong_setting_ends_the_start_and_is_named(tmp_path: Path) -> None:
    wrong = {"REGULARS_RATE_LIMIT": "many", "REGULARS_JOURNAL_DAYS": "3", "REGULARS_LOG_LEVEL": "loud"}
    run = Running(tmp_path / "data", environment=wrong | {"REGULARS_SECRET_KEY": "abc", "REGULARS_ADMIN_KEY": ""})
    with pytest.raises(RuntimeError, match=f"ended with {WRONG_SETTINGS}:"):
        run.start()
    told = [line for line in run.log().splitlines() if "wrong setting" in line]
    for name in (*wrong, "REGULARS_SECRET_KEY"):
        assert sum(f'"{name}"' in line for line in told) == 1
    assert len(told) == len(wrong) + 1
    assert "Traceback" not in run.log()
    # Before the database, and the first key, which is shown once.
    assert run.said == []
    assert not (tmp_path / "data").exists()

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from libs.common import telemetry
from tests.logged import Lines

ROOT = Path(__file__).parents[3]


def _last(lines: Lines) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lines.getvalue().splitlines()[-1])
    return found


def test_a_line_is_json_with_its_context(lines: Lines) -> None:
    with telemetry.request_context("r-1", "00-" + "a" * 32 + "-" + "b" * 16 + "-01"), telemetry.log_context(tenant="t"):
        telemetry.get_logger("some.module").info("batch committed", records=5)
    line = _last(lines)
    assert line["event"] == "batch committed"
    assert line["records"] == 5
    assert line["module"] == "some.module"
    assert line["request_id"] == "r-1"
    assert line["trace_id"] == "a" * 32
    assert line["tenant"] == "t"
    assert line["level"] == "info"
    assert line["timestamp"].endswith("Z")
    telemetry.get_logger("some.module").info("after")
    assert "request_id" not in _last(lines)


@pytest.mark.parametrize(
    "private",
    [
        {"email": "x"},
        {"customer_email": "x"},
        {"phone": 4917012345},
        {"shipping_address": {"city": "x"}},
        {"Authorization": "x"},
        {"secrets": ["x"]},
        {"body": b"x"},
        {"detail": {"headers": {"x-shopify-hmac-sha256": "x"}}},
        {"detail": "said ada.lovelace+shop@example.co.uk to us"},
        {"detail": ["ada@example.com"]},
        {"detail": "key rk_abcdefgh23456777_0123456789abcdefghij"},
        {"detail": "authorization: Bearer abcdefghijkl"},
        {"detail": "postgresql://regulars:hunter2@127.0.0.1/x"},
    ],
)
def test_private_things_do_not_show(lines: Lines, private: dict[str, Any]) -> None:
    telemetry.get_logger("m").info("happened", **private)
    text = lines.getvalue()
    assert telemetry.REDACTED in text
    for secret in ('"x"', "4917012345", "ada", "0123456789abc", "abcdefghijkl", "hunter2"):
        assert secret not in text


def test_exceptions_are_redacted_too(lines: Lines) -> None:
    try:
        int("ada@example.com")
    except ValueError:
        telemetry.get_logger("m").exception("failed")
    line = _last(lines)
    assert "ValueError" in line["exception"]
    assert "ada@" not in line["exception"]


def test_what_is_not_private_shows(lines: Lines) -> None:
    telemetry.get_logger("m").info("one", topic="commerce", state="running", records=3, lag=0.5, none=None, ok=True)
    line = _last(lines)
    assert (line["topic"], line["records"], line["lag"], line["none"], line["ok"]) == ("commerce", 3, 0.5, None, True)


def test_libraries_log_the_same_way(lines: Lines) -> None:
    logging.getLogger("uvicorn.error").warning("from %s", "ada@example.com")
    line = _last(lines)
    assert line["event"] == f"from {telemetry.REDACTED}"
    assert line["logger"] == "uvicorn.error"
    assert line["level"] == "warning"


def test_traces() -> None:
    mine = telemetry.new_traceparent()
    theirs = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert len(mine) == len(theirs)
    continued = telemetry.continue_trace(theirs)
    assert telemetry.trace_id(continued) == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert continued != theirs
    bad = [None, "", "x", theirs.upper(), theirs + "-", "00-" + "0" * 32 + "-00f067aa0ba902b7-01", "ff" + theirs[2:]]
    for text in bad:
        fresh = telemetry.continue_trace(text)
        assert telemetry.trace_id(fresh) not in {telemetry.trace_id(theirs), "0" * 32}


def test_metrics_of_several_processes(tmp_path: Path) -> None:
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    count = (
        "from prometheus_client import Counter; from libs.common.telemetry import gauge, metrics_text;"
        "Counter('things_total', 'x').inc(2); gauge('depth', 'x', ['q']).labels('a').set(7);"
        "print(metrics_text().decode())"
    )
    answers = [
        subprocess.run(
            [sys.executable, "-c", count], check=True, cwd=ROOT, env=environment, capture_output=True, text=True
        ).stdout
        for _ in range(2)
    ]
    assert "things_total 4.0" in answers[1]
    assert 'depth{q="a"} 7.0' in answers[1]


def test_state_of_a_process_that_ended_is_forgotten_and_its_counts_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    show = (
        "import os; from prometheus_client import Counter; from libs.common.worker_metrics import HALTED;"
        "Counter('things_total', 'x').inc(); HALTED.labels('profiles').set(1); print(os.getpid())"
    )
    ended = subprocess.run([sys.executable, "-c", show], check=True, cwd=ROOT, capture_output=True, text=True)
    assert b'regulars_consumer_halted{consumer="profiles"} 1.0' in telemetry.metrics_text()
    telemetry.forget_process(int(ended.stdout))
    assert b"regulars_consumer_halted" not in telemetry.metrics_text()
    assert b"things_total 1.0" in telemetry.metrics_text()


def test_metrics_of_this_process() -> None:
    assert b"python_info" in telemetry.metrics_text()


def test_addresses_that_are_asked_are_not_told(lines: Lines) -> None:
    logging.getLogger("httpx").info("HTTP Request: GET https://shop.example/?oauth_signature=x")
    logging.getLogger("other").info("heard")
    assert "heard" in lines.getvalue()
    assert "shop.example" not in lines.getvalue()

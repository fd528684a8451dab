"""Telemetry: JSON logs on stderr, Prometheus metrics, W3C trace context.

Personal data and secrets are not to be logged; should one slip in, it is redacted by its key or its looks. Metrics are
module-level objects of the module that counts. When several processes answer for one address, the environment variable
`PROMETHEUS_MULTIPROC_DIR` (an empty folder, set before they start) makes `/metrics` of any of them speak for all.
"""

import logging
import os
import re
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO, cast

from libs.common.without_rich import structlog

# isort: split
from structlog.contextvars import bound_contextvars, get_contextvars, merge_contextvars
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

if TYPE_CHECKING:
    from prometheus_client import Gauge

REDACTED = "[redacted]"
METRICS_MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_PRIVATE_WORDS = frozenset(
    {
        "address",
        "authorization",
        "birthday",
        "body",
        "city",
        "cookie",
        "email",
        "hmac",
        "ip",
        "name",
        "password",
        "payload",
        "phone",
        "secret",
        "secrets",
        "signature",
        "street",
        "token",
        "zip",
    }
)
_LOOKS_PRIVATE = re.compile(
    r"[A-Za-z0-9._%+'-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"  # e-mail address
    r"|\brk_[a-z0-9]+_[A-Za-z0-9_-]{16,}"  # API key
    r"|(?i:\bbearer\s+)[A-Za-z0-9._~+/-]{8,}=*"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"  # user and password of an address
)
_WORD = re.compile(r"[^a-z0-9]+|_")
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger of JSON lines: `log.info("batch committed", consumer="ledger", records=500)`."""
    return cast("FilteringBoundLogger", structlog.get_logger(module=name))


class _Stderr(logging.StreamHandler[TextIO]):
    """To wherever stderr leads at that time."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def configure_logging(level: str = "info") -> None:
    """For `main` and `work`: JSON on stderr for our own logs and for those of libraries."""
    shared: list[Processor] = [
        merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[Processor] = [
        structlog.processors.format_exc_info,
        redact,
        structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
    ]
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        # Looked up for each line: who redirects stderr later gets them too.
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = _Stderr()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    logging.basicConfig(level=max(threshold, logging.INFO), handlers=[handler], force=True)
    # It tells every address that it asks with its query, in which some shops want keys and signatures.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # Twelve lines each time about nothing that was done.
    logging.getLogger("alembic").setLevel(logging.WARNING)


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A structlog processor: hides values whose key or looks say that they are private."""
    for key, value in event.items():
        event[key] = _redacted(key, value)
    return event


def log_context(**values: str) -> Any:
    """For a `with`: each line within carries these values, such as tenant and event id."""
    return bound_contextvars(**values)


@contextmanager
def request_context(identifier: str, traceparent: str) -> Iterator[None]:
    """Adds the request's id and trace to each line within, and to problem documents."""
    with bound_contextvars(request_id=identifier, trace_id=trace_id(traceparent), traceparent=traceparent):
        yield


def request_id() -> str | None:
    """Id of the request being answered, if any."""
    return cast("str | None", get_contextvars().get("request_id"))


def current_traceparent() -> str | None:
    """Trace context of the request being answered, if any: for the events that it causes."""
    return cast("str | None", get_contextvars().get("traceparent"))


def new_traceparent() -> str:
    """A new sampled trace, as W3C `traceparent`."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def continue_trace(traceparent: str | None) -> str:
    """A `traceparent` for our own step of the caller's trace, or a new one when his is absent or malformed."""
    found = _TRACEPARENT.fullmatch(traceparent or "")
    if found is None or not int(found[1], 16) or not int(found[2], 16):
        return new_traceparent()
    return f"00-{found[1]}-{secrets.token_hex(8)}-{found[3]}"


def trace_id(traceparent: str) -> str:
    """The 32 hexadecimal digits that name the whole trace."""
    return traceparent[3:35]


def gauge(name: str, documentation: str, labels: Sequence[str] = ()) -> "Gauge":
    """A gauge that several processes may share: the process that set it last, and lives, tells its value."""
    # Who counts nothing, and only watches those who do, does without: 5 MB.
    from prometheus_client import Gauge

    return Gauge(name, documentation, labels, multiprocess_mode="livemostrecent")


def forget_process(pid: int) -> None:
    """For who keeps processes, when one has ended: its gauges are shown no more, its counts stay."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(pid)  # type: ignore[no-untyped-call]


def metrics_text() -> bytes:
    """All metrics in Prometheus' text format: of this process, or of all that share the multiprocess folder."""
    from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    if not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _redacted(key: str, value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    if key != "event" and not _PRIVATE_WORDS.isdisjoint(_WORD.split(key.lower())):
        return REDACTED
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, str):
        return _LOOKS_PRIVATE.sub(REDACTED, value)
    if isinstance(value, dict):
        return {name: _redacted(str(name), inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_redacted(key, inner) for inner in value]
    return _LOOKS_PRIVATE.sub(REDACTED, str(value))

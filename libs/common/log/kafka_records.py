"""An event as a Kafka record: CloudEvents 1.0 in binary mode, and its number in the producer's log.

The number (`seq`) is what everybody counts by. Kafka's own offsets differ from it wherever something was sent twice.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from aiokafka.structs import ConsumerRecord

from libs.common.log.base import Halted, Record

SEQ = "seq"
FIRST = "first"
"""On the record with which the producer's log begins, where retention has dropped what came before."""
_REQUIRED = ("ce_id", "ce_type", "ce_source", "ce_tenant", "ce_time", SEQ)
_DIGITS = 18
"""Of a number, at most: PostgreSQL's bigint holds them all."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

Headers = Sequence[tuple[str, bytes | None]]


def headers(record: Record) -> list[tuple[str, bytes]]:
    """The attributes, and the number."""
    found = [
        ("ce_specversion", b"1.0"),
        ("ce_id", record.id.encode()),
        ("ce_type", record.type.encode()),
        ("ce_source", record.source.encode()),
        ("ce_time", record.time.isoformat().encode()),
        ("ce_tenant", record.tenant.encode()),
        ("content-type", b"application/json"),
        (SEQ, b"%d" % record.offset),
    ]
    if record.first:
        found.append((FIRST, b"1"))
    if record.traceparent is not None:
        found.append(("traceparent", record.traceparent.encode()))
    return found


def timestamp(record: Record) -> int:
    """Kafka dates a record by when the producer's database took it, in milliseconds."""
    return (record.appended_at - _EPOCH) // _MILLISECOND


class _Foreign(ValueError):
    """What the relay would not have sent, in words of our own."""


def seq_of(record: ConsumerRecord) -> int:
    """A record's number in the producer's log; -1 when it has none."""
    told = dict(record.headers).get(SEQ) or b""
    return int(told) if told.isdigit() and len(told) <= _DIGITS else -1


def record_of(topic: str, received: ConsumerRecord) -> Record:
    """The event. Halted when it is none of ours."""
    found: Mapping[str, bytes | None] = dict(received.headers)
    try:
        identity, kind, source, tenant, time, _ = [_text(found, name) for name in _REQUIRED]
        if (number := seq_of(received)) < 0:
            raise _Foreign(f"{SEQ} is no number")
        happened = datetime.fromisoformat(time)
        if happened.tzinfo is None:
            raise _Foreign("ce_time has no offset")
        return Record(
            id=identity,
            type=kind,
            source=source,
            tenant=tenant,
            key=_readable((received.key or b"").decode(), "key"),
            time=happened,
            data=received.value or b"",
            traceparent=_text(found, "traceparent") if "traceparent" in found else None,
            topic=topic,
            partition=received.partition,
            offset=number,
            appended_at=_EPOCH + received.timestamp * _MILLISECOND,
            first=FIRST in found,
        )
    except (ValueError, OverflowError) as error:
        raise Halted(
            f"{received.topic}[{received.partition}] holds at {received.offset} what the relay did not send"
            f" ({_told(error)})"
        ) from error


def _text(headers: Mapping[str, bytes | None], name: str) -> str:
    value = headers.get(name)
    if value is None:
        raise _Foreign(f"no {name}")
    return _readable(value.decode(), name)


def _readable(text: str, name: str) -> str:
    if "\0" in text:
        # PostgreSQL takes none.
        raise _Foreign(f"{name} holds a zero byte")
    return text


def _told(error: Exception) -> str:
    # Python's own words may quote the value, and nobody knows whose it is.
    return str(error) if isinstance(error, _Foreign) else type(error).__name__

"""An event as a Kafka record: CloudEvents 1.0 in binary mode, and its number in the producer's log.

The number (`seq`) is what everybody counts by. Kafka's own offsets differ from it wherever something was sent twice.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from aiokafka.structs import ConsumerRecord

from libs.common.log.base import Halted, Record

SEQ = "seq"
FIRST = "first"
"""On the record with which the producer's log begins, where retention has dropped what came before."""
_REQUIRED = ("ce_id", "ce_type", "ce_source", "ce_tenant", "ce_time", SEQ)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

Headers = list[tuple[str, bytes]]


def headers(record: Record) -> Headers:
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


def record_of(topic: str, received: ConsumerRecord) -> Record:
    """The event. Halted when it is none of ours."""
    found: Mapping[str, bytes] = dict(received.headers)
    try:
        identity, kind, source, tenant, time, seq = [found[name].decode() for name in _REQUIRED]
        traceparent = found.get("traceparent")
        return Record(
            id=identity,
            type=kind,
            source=source,
            tenant=tenant,
            key=(received.key or b"").decode(),
            time=datetime.fromisoformat(time),
            data=received.value or b"",
            traceparent=None if traceparent is None else traceparent.decode(),
            topic=topic,
            partition=received.partition,
            offset=int(seq),
            appended_at=_EPOCH + received.timestamp * _MILLISECOND,
            first=FIRST in found,
        )
    except (KeyError, ValueError) as error:
        raise Halted(
            f"{received.topic}[{received.partition}] holds at {received.offset} what the relay did not send"
            f" ({type(error).__name__}: {error})"
        ) from error

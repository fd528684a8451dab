"""What a handler sees: some records, one transaction, and where to put what follows from them."""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from libs.common.contracts import codec
from libs.common.contracts.topics import Topic
from libs.common.db import Tx
from libs.common.ids import derived_id
from libs.common.log.base import Event, Position, Record


class Reject(Exception):
    """This record can never be processed: dead letter, with the reason, and on to the next."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(slots=True)
class Batch:
    """Records in offset order within each partition, to be handled as one.

    All effects go through `tx`; the loop commits them together with `emit`ted events, rejects and positions. A handler
    may see the same records again after a rollback, alone or in other company: it keeps no state of its own.
    """

    tx: Tx
    records: Sequence[Record]
    now: datetime
    service: str
    emitted: list[tuple[Topic, Event]] = field(default_factory=list)
    rejected: dict[tuple[str, int, int], tuple[Record, str]] = field(default_factory=dict)
    put_off: dict[Position, str] = field(default_factory=dict)
    """Partitions that are to pause before they are tried again, and why."""
    _ids: dict[tuple[str, str, str], int] = field(default_factory=dict)

    def data(self, record: Record) -> Any:
        """The record's typed Struct. Raises Reject when it does not keep its contract."""
        try:
            return codec.decode(record.topic, record.type, record.data)
        except codec.Undecodable as error:
            raise Reject(str(error)) from error

    def reject(self, record: Record, reason: str) -> None:
        """Dead-letters this record; the handler leaves it out and goes on with the others."""
        self.rejected[record.topic, record.partition, record.offset] = (record, reason)

    def leave(self, place: Position, offset: int, reason: str | None = None) -> None:
        """Leaves a partition's records from `offset` on undone: they come again. With a reason: after a pause.

        For a handler whose effects lie elsewhere, where one partition may fail alone.
        """
        self.records = [r for r in self.records if (r.topic, r.partition) != place or r.offset < offset]
        if reason is not None:
            self.put_off[place] = reason

    def emit(
        self,
        topic: Topic,
        type: str,  # noqa: A002 (CloudEvents' own word)
        data: msgspec.Struct,
        *,
        key: str,
        time: datetime,
        cause: Record,
        tenant: str | None = None,
        id: str | None = None,  # noqa: A002
    ) -> None:
        """Appends an event to `topic` in this transaction. Its id is derived from its cause unless given."""
        if id is None:
            place = (cause.id, type, key)
            n = self._ids[place] = self._ids.get(place, -1) + 1
            id = derived_id(*place, str(n))  # noqa: A001
        event = Event(
            id=id,
            type=type,
            source=f"/services/{self.service}",
            tenant=tenant or cause.tenant,
            key=key,
            time=time,
            data=codec.encode(topic.name, data),
            traceparent=cause.traceparent,
        )
        self.emitted.append((topic, event))


def told(error: Exception) -> tuple[str, str | None]:
    """What a dead letter says: reason and traceback. A rejection is no bug and needs no traceback."""
    if isinstance(error, Reject):
        return error.reason, None
    return f"{type(error).__name__}: {str(error)[:500]}", "".join(traceback.format_exception(error))

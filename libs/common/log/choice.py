"""Which log a consumer reads: PostgreSQL's, or Kafka's (`REGULARS_LOG`)."""

from dataclasses import dataclass
from typing import Self

from libs.common.contracts.topics import JOURNAL
from libs.common.db import Database
from libs.common.log.base import Log
from libs.common.log.postgres import PostgresLog
from libs.common.settings import CommonSettings

RELAY = "relay"
"""The consumer that ships a service's log to Kafka."""


def shared_log(settings: CommonSettings, database: Database, consumer: str | None = None) -> Log:
    """The log through which services hear of one another. Without a consumer it only answers questions."""
    if settings.log == "postgres":
        return PostgresLog(database)
    # Its client is much code, and who lives on PostgreSQL does without.
    from libs.common.log.kafka import KafkaLog
    from libs.common.log.kafka_client import Kafka

    kafka = Kafka.from_settings(settings)
    return KafkaLog(kafka, None if consumer is None else kafka.group(database.schema, consumer))


@dataclass(frozen=True, slots=True)
class Logs:
    """A service's own log, in PostgreSQL, and the one that all share: the same when there is no Kafka."""

    own: Log
    shared: Log

    @classmethod
    def around(cls, database: Database, shared: Log) -> Self:
        """Those of the service whose database it is."""
        return cls(PostgresLog(database), shared)

    def read_by(self, consumer: str, topic: str) -> Log:
        """Where this consumer reads this topic."""
        return self.own if consumer == RELAY or topic == JOURNAL.name else self.shared

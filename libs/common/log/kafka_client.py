"""How Kafka is reached: names, limits, and what its faults mean to us."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import aiokafka.admin.client
import aiokafka.client
from aiokafka import AIOKafkaConsumer
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from libs.common.settings import CommonSettings

ANSWER_SECONDS = 5.0
"""How long Kafka may take for an answer. Less than a lease, and than PostgreSQL leaves a transaction idle."""
CLOSE_SECONDS = 2.0
BATCH_BYTES = 256 * 1024
"""What the relay sends to a partition at a time."""
LARGEST_EVENT = 16 * 1024 * 1024
"""Bytes. A webhook of 5 MiB becomes an event of not much more."""


# At each of its tries it would say that nobody is there, hundreds of times a second. Our own lines say so too.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


# A cluster may make what it is asked for, as its own default has it, and none of the clients lets one say no.
_ASKING: tuple[ModuleType, ...] = (aiokafka.client, aiokafka.admin.client)
for _module in _ASKING:
    vars(_module)["MetadataRequest"] = partial(MetadataRequest, allow_auto_topic_creation=False)


class KafkaAway(ConnectionError):
    """Kafka does not answer, or not as it should: to be tried again, like any other lost connection."""


class KafkaRefuses(KafkaAway):
    """Somebody answers, and will not have us as we are set up: trying again helps only when that has changed."""


@dataclass(frozen=True, slots=True)
class Kafka:
    """A cluster, and our place in it."""

    servers: tuple[str, ...]
    replication: int = 1
    prefix: str = ""
    """Before the name of each topic and group: two installations on one cluster."""
    security: str = "PLAINTEXT"
    mechanism: str = "PLAIN"
    username: str | None = None
    password: str | None = None
    ca_file: Path | None = None

    @classmethod
    def from_settings(cls, settings: CommonSettings) -> Self:
        """What the settings name."""
        password = settings.kafka_password
        return cls(
            servers=tuple(server.strip() for server in (settings.kafka_servers or "").split(",")),
            replication=settings.kafka_replication,
            prefix=settings.kafka_prefix,
            security=settings.kafka_security,
            mechanism=settings.kafka_sasl_mechanism,
            username=settings.kafka_username,
            password=password.get_secret_value() if password else None,
            ca_file=settings.kafka_ca_file,
        )

    @property
    def options(self) -> dict[str, Any]:
        """What every client is made with."""
        options: dict[str, Any] = {
            "bootstrap_servers": list(self.servers),
            "security_protocol": self.security,
            "request_timeout_ms": int(ANSWER_SECONDS * 1000),
            "client_id": "regulars",
            # So soon a client hears of partitions that a topic has got.
            "metadata_max_age_ms": 5000,
        }
        if self.security.endswith("SSL"):
            options["ssl_context"] = ssl.create_default_context(cafile=self.ca_file)
        if self.security.startswith("SASL"):
            options |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return options

    def topic(self, name: str) -> str:
        """What the topic is called there."""
        return self.prefix + name

    def group(self, service: str, consumer: str) -> str:
        """Under which name a consumer's progress is told to Kafka."""
        return f"{self.prefix}regulars.{service}.{consumer}"


@asynccontextmanager
async def bounded(seconds: float = ANSWER_SECONDS) -> AsyncIterator[None]:
    """Raises KafkaAway for whatever Kafka does wrong within, and when it takes longer: many of its calls would hang."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except KafkaError as error:
        raise KafkaAway(f"{type(error).__name__}: {error}"[:300]) from error
    except TimeoutError as error:
        raise KafkaAway(f"no answer from Kafka in {seconds:g} s") from error


async def why_away(kafka: Kafka, error: KafkaAway) -> KafkaAway:
    """What keeps us from Kafka: `error` when nobody answers, else KafkaRefuses. A client tells only that it failed."""
    options = kafka.options
    shown = {name: options[name] for name in options.keys() - {"bootstrap_servers", "metadata_max_age_ms"}}
    for server in kafka.servers:
        host, _, port = server.rpartition(":")
        host = host.strip("[]")
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                _, writer = await asyncio.open_connection(host, int(port))
                writer.close()
        except (OSError, TimeoutError):
            continue
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                connection = await create_conn(host, int(port), **shown)
                await ended(connection.close())
        except TimeoutError:
            continue
        except (OSError, KafkaError) as refused:
            login = f" with {kafka.mechanism} as {kafka.username}" if kafka.security.startswith("SASL") else ""
            told = f"{type(refused).__name__}: {refused}"[:200]
            return KafkaRefuses(f"{server} answers, and does not take {kafka.security}{login}: {told}")
    return error


async def ended(stopping: Coroutine[Any, Any, None], seconds: float = CLOSE_SECONDS) -> None:
    """Waits for a client's stop, no longer than that: while Kafka is away it may never come."""
    task = asyncio.ensure_future(stopping)
    await asyncio.wait({task}, timeout=seconds)
    if not task.done():
        task.cancel()
    elif not task.cancelled():
        task.exception()


async def start_consumer(client: AIOKafkaConsumer) -> None:
    """Connects it. KafkaAway when that cannot be, and nothing of it is left open."""
    try:
        async with bounded():
            await client.start()
    except BaseException:
        await close_consumer(client)
        raise


async def close_consumer(client: AIOKafkaConsumer) -> None:
    """Stops a consumer whole."""
    await ended(client.stop())
    # With a group, its stop ends in a CancelledError before it comes to these.
    if (refreshing := getattr(client._coordinator, "_stop_commit_offsets_refresh_task", None)) is not None:  # noqa: SLF001
        await ended(refreshing())
    if client._fetcher is not None:  # noqa: SLF001
        await ended(client._fetcher.close())  # noqa: SLF001
    await ended(client._client.close())  # noqa: SLF001

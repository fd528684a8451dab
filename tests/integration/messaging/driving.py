"""Messaging in one process: facts by the handler, timers and sender by a driven clock, mail to a real SMTP server."""

import asyncio
import email
import email.policy
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.message import EmailMessage
from typing import Any, cast

import msgspec
from aiosmtpd.smtp import SMTP, Envelope, Session

from libs.common.batch import Batch
from libs.common.clock import DrivenClock
from libs.common.contracts.customers import Fact
from libs.common.crypto import Keyring
from libs.common.db import Database
from libs.common.log.base import Record
from libs.common.settings import KEY_BYTES
from services.messaging.handlers import on_customers
from services.messaging.mail import Identity
from services.messaging.sender import Sender
from services.messaging.smtp import Mailer, Relay
from services.messaging.timers import Timers
from tests.integration.messaging.facts import event_type

TENANT = "default"
KEYRING = Keyring([bytes(KEY_BYTES)])
IDENTITY = Identity(address="hello@mail.example.com", public_url="https://regulars.example.com")
LEASE = 300.0


@dataclass
class Inbox:
    """An SMTP server that keeps what it takes, and says no when told to."""

    mails: list[EmailMessage] = field(default_factory=list)
    to: list[str] = field(default_factory=list)
    connections: int = 0
    at_hello: str | None = None
    """Answer to EHLO and HELO: the server wants none of us."""
    at_recipient: str | None = None
    """Answer to RCPT, instead of 250."""
    at_data: str | None = None
    """Answer to the mail itself, instead of 250."""
    hang_up: bool = False
    """Takes the mail and closes the connection without a word."""
    port: int = 0
    open_connections: list[asyncio.Transport] = field(default_factory=list)

    # The hooks' names and arguments are aiosmtpd's.

    async def handle_EHLO(  # noqa: N802
        self,
        server: SMTP,
        session: Session,
        envelope: Envelope,  # noqa: ARG002
        hostname: str,
        responses: list[str],
    ) -> list[str]:
        self.connections += 1
        self.open_connections.append(cast("asyncio.Transport", server.transport))
        session.host_name = hostname
        return [self.at_hello] if self.at_hello else responses

    async def handle_HELO(  # noqa: N802
        self,
        server: SMTP,  # noqa: ARG002
        session: Session,
        envelope: Envelope,  # noqa: ARG002
        hostname: str,
    ) -> str:
        session.host_name = hostname
        return self.at_hello or "250 here"

    async def handle_RCPT(  # noqa: N802
        self,
        server: SMTP,  # noqa: ARG002
        session: Session,  # noqa: ARG002
        envelope: Envelope,
        address: str,
        options: list[str],  # noqa: ARG002
    ) -> str:
        if self.at_recipient is not None:
            return self.at_recipient
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802
        self,
        server: SMTP,
        session: Session,  # noqa: ARG002
        envelope: Envelope,
    ) -> str:
        if self.at_data is not None:
            return self.at_data
        content = cast("bytes", envelope.content)
        self.mails.append(email.message_from_bytes(content, policy=email.policy.default))
        self.to += envelope.rcpt_tos
        if self.hang_up and server.transport is not None:
            server.transport.close()
        return "250 taken"

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Inbox"]:
        """Listens on the port of the last time, or on a free one."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: SMTP(self, enable_SMTPUTF8=False), "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for transport in self.open_connections:
                transport.close()
            self.open_connections.clear()


@dataclass(slots=True)
class World:
    """One tenant's messaging."""

    database: Database
    clock: DrivenClock
    inbox: Inbox
    mailer: Mailer
    batch: int = 500
    offset: int = 0

    def timers(self) -> Timers:
        """As a worker runs them."""
        return Timers(self.database, batch=self.batch, planned=asyncio.Event())

    def sender(self, mailer: Mailer | None = None, lease: float = LEASE, batch: int | None = None) -> Sender:
        """As a worker runs it."""
        return Sender(
            self.database, self.clock, mailer or self.mailer, KEYRING, IDENTITY, batch=batch or self.batch, lease=lease
        )

    async def hear(self, *facts: Fact, tenant: str = TENANT) -> None:
        """One batch of facts."""
        async with self.database.transaction() as tx:
            batch = Batch(tx, self.records(facts, tenant), self.clock.now(), "messaging")
            await on_customers(batch)
            assert not batch.rejected

    def records(self, facts: Sequence[Fact], tenant: str = TENANT) -> list[Record]:
        """The facts as they come out of the log."""
        self.offset += len(facts)
        return [
            Record(
                id=f"event-{self.offset}-{n}",
                type=event_type(fact),
                source="/services/profiles",
                tenant=tenant,
                key="any",
                time=self.clock.now(),
                data=msgspec.json.encode(fact),
                topic="customers",
                partition=0,
                offset=self.offset + n,
                appended_at=self.clock.now(),
            )
            for n, fact in enumerate(facts)
        ]

    async def until(self, moment: datetime) -> None:
        """The clock goes to `moment`; what is due by then fires and leaves."""
        self.clock.set(moment)
        await self.settle()

    async def later(self, **by: float) -> None:
        """The same, by a time span."""
        await self.until(self.clock.now() + timedelta(**by))

    async def settle(self) -> None:
        """Timers and sender until neither finds anything."""
        timers, sender = self.timers(), self.sender()
        while await timers.run(self.clock.now()):
            pass
        while await sender.run(self.clock.now()):
            pass

    async def messages(self) -> list[dict[str, Any]]:
        """The send ledger."""
        async with self.database.reading() as tx:
            rows = await tx.pg.fetch("SELECT * FROM messages ORDER BY due_at, flow, run_key, step")
        return [dict(row) for row in rows]

    async def states(self) -> list[tuple[str, int, str, str | None]]:
        """Flow, step, state and reason of each message."""
        return [(m["flow"], m["step"], m["state"], m["reason"]) for m in await self.messages()]

    async def events(self) -> list[tuple[str, dict[str, Any]]]:
        """What was published, type and data."""
        async with self.database.reading() as tx:
            rows = await tx.pg.fetch('SELECT type, data FROM log_messages ORDER BY partition, "offset"')
        return [(row["type"], msgspec.json.decode(row["data"])) for row in rows]


def relay(inbox: Inbox, **different: Any) -> Relay:
    """The relay that the inbox listens as."""
    return Relay(**{"host": "127.0.0.1", "port": inbox.port, "timeout": 5.0, "connections": 2, **different})


@asynccontextmanager
async def world(database: Database, clock: DrivenClock) -> AsyncIterator[World]:
    """A world with its mail server."""
    inbox = Inbox()
    async with inbox.open():
        mailer = Mailer(relay(inbox))
        try:
            yield World(database, clock, inbox, mailer)
        finally:
            await mailer.close()

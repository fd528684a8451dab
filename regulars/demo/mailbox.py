"""A real SMTP server that keeps every mail, and when by the shop's clock it came."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes
from email.message import EmailMessage, Message
from email.policy import default
from typing import Self

from aiosmtpd.smtp import SMTP, Envelope, Session

from libs.common.clock import Clock


@dataclass(frozen=True, slots=True)
class Letter:
    """One mail as it came."""

    at: datetime
    recipient: str
    content: bytes

    @property
    def headers(self) -> Message:
        """The headers alone: parsing all of a mail takes long."""
        return message_from_bytes(self.content.partition(b"\r\n\r\n")[0])

    @property
    def parsed(self) -> EmailMessage:
        """Headers and parts."""
        message = message_from_bytes(self.content, policy=default)
        assert isinstance(message, EmailMessage)  # noqa: S101 - that is what this policy makes
        return message


class Mailbox:
    """Listens on a free port of 127.0.0.1, or where it is told to."""

    def __init__(self, clock: Clock, host: str = "127.0.0.1", port: int = 0) -> None:
        self.letters: list[Letter] = []
        self.host, self.port = host, port
        self._clock = clock
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: SMTP(self, enable_SMTPUTF8=True), self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        """Keeps the mail."""
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        self.letters += [Letter(self._clock.now(), recipient, content) for recipient in envelope.rcpt_tos]
        return "250 kept"

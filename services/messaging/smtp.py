"""SMTP: a few connections, kept open and used one mail at a time; what came of each mail, told apart to the byte."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Literal

from aiosmtplib import SMTP, SMTPAuthenticationError, SMTPException, SMTPHeloError, SMTPResponseException
from msgspec import Struct

from services.messaging.mail import Letter
from services.messaging.message import Answer

_AWAY = (SMTPException, OSError, TimeoutError)


class Relay(Struct, frozen=True, kw_only=True):
    """The server that takes our mail."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None
    tls: Literal["none", "starttls", "tls"] = "none"
    timeout: float = 20.0
    """Seconds for each command."""
    connections: int = 4


class Mailer:
    """Sends letters over at most `relay.connections` connections."""

    def __init__(self, relay: Relay) -> None:
        self._connections = [_Connection(relay) for _ in range(relay.connections)]

    async def send(self, letters: Sequence[Letter]) -> list[Answer]:
        """The answer to each letter, in their order. Never raises for what a server does."""
        waiting = deque(enumerate(letters))
        answers: dict[int, Answer] = {}

        async def work(connection: "_Connection") -> None:
            while waiting:
                place, letter = waiting.popleft()
                answers[place] = await connection.send(letter)

        async with asyncio.TaskGroup() as group:
            for connection in self._connections[: len(letters)]:
                group.create_task(work(connection))
        return [answers[place] for place in range(len(letters))]

    async def close(self) -> None:
        """Says goodbye on every connection."""
        for connection in self._connections:
            await connection.close()


class _Connection:
    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._smtp: SMTP | None = None

    async def send(self, letter: Letter) -> Answer:
        reused = self._smtp is not None
        try:
            smtp = await self._open()
            await smtp.mail(letter.sender)
            await smtp.rcpt(letter.recipient)
        except SMTPResponseException as error:
            return await self._refused(error)
        except _AWAY as error:
            await self._drop()
            # The server hung up on an idle connection: no byte of this mail has left, so a new one may carry it.
            return await self.send(letter) if reused else Answer(delivery="deferred", response=_told(error))
        try:
            response = await smtp.data(letter.content)
        except SMTPResponseException as error:
            return await self._refused(error)
        except _AWAY as error:
            # The mail had left and no answer came: it may have been taken, so it must not go out again.
            await self._drop()
            return Answer(delivery="unanswered", response=_told(error))
        return Answer(delivery="accepted", response=f"{response.code} {response.message}"[:500])

    async def _open(self) -> SMTP:
        if self._smtp is None or not self._smtp.is_connected:
            self._smtp = None  # or a refusal of us would look like one of this mail
            relay = self._relay
            smtp = SMTP(
                hostname=relay.host,
                port=relay.port,
                username=relay.username,
                password=relay.password,
                use_tls=relay.tls == "tls",
                start_tls=relay.tls == "starttls",
                timeout=relay.timeout,
            )
            await smtp.connect()
            self._smtp = smtp
        return self._smtp

    async def _refused(self, error: SMTPResponseException) -> Answer:
        """A plain no, before the mail or after it: 5yz for good, 4yz for now. Anything else is no answer."""
        code, response = error.code, _told(error)
        if isinstance(error, SMTPHeloError | SMTPAuthenticationError):
            # The relay's refusal of us, not of this mail.
            await self._drop()
            return Answer(delivery="deferred", response=response)
        connected = self._smtp is not None and self._smtp.is_connected
        if connected and self._smtp is not None:
            try:
                await self._smtp.rset()
            except _AWAY:
                await self._drop()
        elif self._smtp is None:
            # While connecting or logging in: the relay's refusal of us, not of this mail.
            return Answer(delivery="deferred", response=response)
        if 500 <= code < 600:  # noqa: PLR2004 - RFC 5321, 4.2.1
            return Answer(delivery="rejected", response=response)
        if 400 <= code < 500:  # noqa: PLR2004
            return Answer(delivery="deferred", response=response)
        return Answer(delivery="unanswered", response=response)

    async def _drop(self) -> None:
        if self._smtp is not None:
            self._smtp.close()
            self._smtp = None

    async def close(self) -> None:
        if self._smtp is not None and self._smtp.is_connected:
            try:
                await self._smtp.quit()
            except _AWAY:
                self._smtp.close()
        self._smtp = None


def _told(error: Exception) -> str:
    if isinstance(error, SMTPResponseException):
        return f"{error.code} {error.message}"[:500]
    return f"{type(error).__name__}: {error}"[:500]

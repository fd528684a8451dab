"""The product in roles of their own, on Kafka and PostgreSQL: real processes to start, kill, stop, cut and observe."""

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import httpx
import psutil

from libs.common.embedded_postgres import EmbeddedPostgres
from libs.common.postmaster import Postmaster
from regulars import health
from regulars.local_kafka import LocalKafka, Node, free_ports
from regulars.prepare import migrate_all
from tests.faults.ledger import SERVICES
from tests.faults.nursery import Nursery
from tests.faults.running import ADMIN_KEY
from tests.proxy import Proxy
from tests.waiting import until

READY_SECONDS = 60.0
_PATHS = {
    "ingest": ("webhooks", "events", "stores", "deliveries"),
    "metrics": ("kpis",),
    "messaging": ("flows", "messages", "suppressions"),
}
"""Who answers which first word below `/v1`; all else is profiles'."""


@dataclass(slots=True)
class Role:
    """One role: its command, its port, and the process that is it at the moment."""

    words: list[str]
    port: int
    process: psutil.Process | None = None


class Gateway(httpx.HTTPTransport):
    """Sends each request to the service whose path it is."""

    def __init__(self, ports: Mapping[str, int]) -> None:
        super().__init__()
        self._ports = ports

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """As httpx asks for it."""
        _, _, first, *rest = [*request.url.path.split("/"), ""]
        if first in {"pipeline", "dead-letters"}:
            service = rest[0]
        else:
            service = next((name for name, words in _PATHS.items() if first in words), "profiles")
        request.url = request.url.copy_with(port=self._ports[service])
        return super().handle_request(request)


class Apart:
    """An API, a worker for each service, the relay; a PostgreSQL and a Kafka of their own. `async with Apart(…)`."""

    def __init__(
        self,
        folder: Path,
        nursery: Nursery,
        *,
        nodes: int = 1,
        proxied: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`nodes`: of Kafka, each topic on all of them. `proxied`: Kafka is reached through `self.proxy` alone."""
        self.folder = folder
        self.address = ""
        self.database_url = ""
        self.proxy: Proxy | None = None
        self._nursery = nursery
        self.environment = dict(environment or {})
        self._nodes = nodes
        # Kafka tells its clients where it is: at the proxy.
        self._proxy_port = free_ports(1)[0] if proxied else None
        told = {"advertised.listeners": f"PLAINTEXT://127.0.0.1:{self._proxy_port}"} if proxied else {}
        self.kafka = LocalKafka(folder / "kafka", nodes=nodes, properties=told)
        self._postgres = EmbeddedPostgres(folder / "data")
        self._keeping: asyncio.Task[None] | None = None
        ports = free_ports(2 * len(SERVICES) + 1)
        self.roles = {
            "relay": Role(["relay"], ports.pop()),
            **{f"{name}-api": Role(["serve", name], ports.pop()) for name in SERVICES},
            **{f"{name}-worker": Role(["work", name], ports.pop()) for name in SERVICES},
        }

    async def __aenter__(self) -> Self:
        """Starts everything; all are ready then."""
        try:
            await self._start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends everything: roles by SIGKILL, since how they end when they are asked to is not what is tried here."""
        for role in self.roles.values():
            if role.process is not None:
                _signal(role.process, signal.SIGKILL)
        await self.abandon_postgres()
        await self._postgres.stop()
        if self.proxy is not None:
            self.proxy.thaw()
            self.proxy.cut()
        await asyncio.to_thread(self.kafka.stop)

    async def _start(self) -> None:
        starting = asyncio.to_thread(self.kafka.start)
        _, self.database_url = await asyncio.gather(starting, self._postgres.start())
        self.keep_postgres()
        await migrate_all(self.database_url)
        servers = self.kafka.servers()
        if self._proxy_port is not None:
            self.proxy = Proxy("127.0.0.1", self.kafka.nodes[0].ports["PLAINTEXT"])
            self.proxy.port = self._proxy_port
            await self.proxy.open()
            servers = f"127.0.0.1:{self._proxy_port}"
        self.address = f"http://127.0.0.1:{self.roles['ingest-api'].port}"
        self.environment = {
            "REGULARS_DATABASE_URL": self.database_url,
            "REGULARS_DATA_DIR": str(self.folder / "data"),
            "REGULARS_LOG": "kafka",
            "REGULARS_KAFKA_SERVERS": servers,
            "REGULARS_KAFKA_REPLICATION": str(self._nodes),
            "REGULARS_ADMIN_KEY": ADMIN_KEY,
            "REGULARS_RATE_LIMIT": "0",
            "REGULARS_PUBLIC_URL": self.address,
            # With the roles that rows add, all have to fit into max_connections.
            "REGULARS_POOL_SIZE": "3",
            "REGULARS_LOG_LEVEL": "warning",
            **self.environment,
        }
        await asyncio.to_thread(self._start_roles)

    def _start_roles(self) -> None:
        for name in self.roles:
            self.start(name)
        for name in self.roles:
            until(f"{name} is ready", partial(self.ready, name), READY_SECONDS)

    # Roles -----------------------------------------------------------------------------------------------------------

    def add(self, name: str, *words: str) -> None:
        """Starts one more role; ready or not."""
        self.roles[name] = Role([*words], free_ports(1)[0])
        self.start(name)

    def start(self, name: str) -> None:
        """Starts a role's process."""
        role = self.roles[name]
        environment = {**self.environment, "REGULARS_LISTEN_PORT": str(role.port)}
        role.process = self._nursery.start(role.words, environment, self.folder / f"{name}.log")

    def send(self, name: str, number: signal.Signals) -> None:
        """Sends a signal to a role's process."""
        process = self.roles[name].process
        assert process is not None
        _signal(process, number)

    def end(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Sends a signal that ends a role, and waits for the end."""
        process = self.roles[name].process
        assert process is not None
        _signal(process, number)
        process.wait(READY_SECONDS)

    def kill(self, victim: str) -> None:
        """SIGKILL, and started again at once: a role, `postgres`, `kafka`, or `everything` at one moment."""
        roles = [*self.roles] if victim == "everything" else [victim] if victim in self.roles else []
        for name in roles:
            self.send(name, signal.SIGKILL)
        if victim in {"everything", "postgres"}:
            self.kill_postgres()
        if victim in {"everything", "kafka"}:
            for node in self.kafka.nodes:
                node.send(signal.SIGKILL)
            for node in self.kafka.nodes:
                node.end(signal.SIGKILL)
                node.start()
        for name in roles:
            self.end(name)
            self.start(name)

    def ready(self, victim: str) -> bool:
        """Whether it is there again."""
        if victim == "everything":
            return all(map(self.ready, ("postgres", "kafka", *self.roles)))
        if victim == "postgres":
            return self._postgres.running() is not None
        if victim == "kafka":
            return all(_open(node) for node in self.kafka.nodes)
        return not health.problems("127.0.0.1", self.roles[victim].port)

    def died(self) -> list[str]:
        """Roles that have ended though nobody ended them, with their last words."""
        gone = [name for name, role in self.roles.items() if role.process is None or not role.process.is_running()]
        return [f"{name} has ended: {self.log(name)[-500:]}" for name in gone]

    # PostgreSQL ------------------------------------------------------------------------------------------------------

    def kill_postgres(self) -> None:
        """SIGKILL to the server; whether somebody starts it again is `keep_postgres`' affair."""
        server = Postmaster.read(self.folder / "data" / "postgres")
        if server is not None and server.runs():
            os.kill(server.pid, signal.SIGKILL)

    def stop_postgres(self) -> list[psutil.Process]:
        """Lets the server and all its processes stand still; whoever asked resumes these."""
        server = Postmaster.read(self.folder / "data" / "postgres")
        if server is None:
            return []
        # The server first: it starts no other meanwhile.
        parent = psutil.Process(server.pid)
        parent.suspend()
        stopped = [parent]
        for process in parent.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.suspend()
                stopped.append(process)
        return stopped

    def keep_postgres(self) -> None:
        """From now on it is started again whenever it ends, as `regulars run` does it."""
        self._keeping = asyncio.create_task(self._postgres.watch())

    async def abandon_postgres(self) -> None:
        """From now on it is not."""
        if self._keeping is not None:
            self._keeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeping
            self._keeping = None

    # Observing -------------------------------------------------------------------------------------------------------

    def client(self, key: str = ADMIN_KEY) -> httpx.Client:
        """Of all four APIs, as one."""
        ports = {name: self.roles[f"{name}-api"].port for name in SERVICES}
        headers = {"authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.address, headers=headers, timeout=30, transport=Gateway(ports))

    def metric(self, name: str, metric: str) -> float:
        """A figure of one role, over all its labels."""
        answer = httpx.get(f"http://127.0.0.1:{self.roles[name].port}/metrics", timeout=10)
        lines = answer.text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(metric))

    def memory(self) -> dict[str, int]:
        """Bytes that each role has for itself: what it does not share with the process it was forked from."""
        found = {}
        for name, role in self.roles.items():
            if role.process is not None:
                with suppress(psutil.NoSuchProcess):
                    found[name] = role.process.memory_full_info().uss
        return found

    def log(self, name: str) -> str:
        """What a role has written on stderr."""
        return (self.folder / f"{name}.log").read_text(errors="replace")


def _open(node: Node) -> bool:
    return node.pid is not None and node.is_open()


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)

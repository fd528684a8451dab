"""Real Apache Kafka on this machine, from its Maven jars: `make kafka`, the demo and the tests run on it.

    python -m regulars.local_kafka start|stop [--nodes 3]

Needs Java 17 and, once, Maven. What is running is known from files alone, so that another process may stop it.
"""

import argparse
import fcntl
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGTERM, Signals
from typing import Self

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy" / "kafka"
FOLDER = ROOT / ".kafka"
CLUSTER = "regulars-local-kafka-0"
"""Kafka asks for 22 characters of base64."""
PORT = 9092
NODES = (1, 3)
READY_SECONDS = 60.0
STOP_SECONDS = 20.0
_JAVA = 17


class Unavailable(Exception):
    """There is no Kafka on this machine, and why."""


def why_not() -> str | None:
    """Why Kafka cannot run here; None when it can."""
    java = shutil.which("java")
    if java is None:
        return "Kafka needs Java 17, and there is no java"
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr  # noqa: S603
    found = re.search(r'version "(\d+)', told)
    if found is None or int(found[1]) < _JAVA:
        return f"Kafka needs Java {_JAVA}, and java is {told.splitlines()[0] if told else 'silent'}"
    if not _complete(FOLDER / "libs") and shutil.which("mvn") is None:
        return "Kafka comes from Maven, and there is no mvn"
    return None


def libraries() -> Path:
    """The folder of Kafka's jars, fetched if need be. Unavailable when they cannot be had."""
    if (reason := why_not()) is not None:
        raise Unavailable(reason)
    folder = FOLDER / "libs"
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _complete(folder):
            command = ["mvn", "-q", "-B", "-f", str(DEPLOY / "pom.xml"), "dependency:copy-dependencies"]
            options = [f"-DoutputDirectory={folder}", "-DincludeScope=runtime"]
            fetched = subprocess.run([*command, *options], capture_output=True, text=True, check=False)  # noqa: S603
            if fetched.returncode:
                raise Unavailable(f"Maven could not fetch Kafka: {fetched.stdout[-500:]}")
            (folder / "complete").touch()
    return folder


def _complete(folder: Path) -> bool:
    return (folder / "complete").exists()


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on, and that nobody else in this process was told of.

    Below those that the system itself gives away, or a connection to elsewhere may have one by the time it is needed.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = secrets.choice(_PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            if port not in _given:
                _given.add(port)
                ports.append(port)
    return ports


_PORTS = range(10_000, 32_000)
_given: set[int] = set()


class Node:
    """One Kafka process. Its folder says everything about it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._config = folder / "node.properties"
        self._started: subprocess.Popen[bytes] | None = None

    def configure(self, properties: Mapping[str, str], scram: Sequence[str] = ()) -> None:
        """Writes its properties, and formats its storage the first time, with SCRAM's users in it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [f"{name}={value}\n" for name, value in {**properties, "log.dirs": str(self.folder / "data")}.items()]
        self._config.write_text((DEPLOY / "node.properties").read_text() + "".join(lines))
        if not (self.folder / "data" / "meta.properties").exists():
            command = [*_java(), "kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", str(self._config)]
            command += [part for user in scram for part in ("--add-scram", user)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
            if done.returncode:
                raise Unavailable(f"Kafka's storage could not be formatted: {done.stdout}{done.stderr}")

    def start(self) -> None:
        """Starts the process; it outlives this one."""
        with (self.folder / "kafka.log").open("ab") as log:
            self._started = subprocess.Popen(  # noqa: S603
                [*_java(), "kafka.Kafka", str(self._config)], stdout=log, stderr=log, start_new_session=True
            )
        (self.folder / "pid").write_text(str(self._started.pid))

    @property
    def ports(self) -> dict[str, int]:
        """Its listeners and their ports, as configured."""
        found = re.search(r"^listeners=(.*)$", self._config.read_text(), re.MULTILINE)
        listeners = (each.rpartition(":") for each in found[1].split(",")) if found else ()
        return {name.partition(":")[0]: int(port) for name, _, port in listeners}

    @property
    def pid(self) -> int | None:
        """Its process, when it lives and is ours."""
        if self._started is not None:
            return self._started.pid if self._started.poll() is None else None
        try:
            pid = int((self.folder / "pid").read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if str(self._config).encode() in command else None

    def is_open(self) -> bool:
        """Whether each of its ports answers."""
        for port in self.ports.values():
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                return False
        return True

    def send(self, number: Signals) -> None:
        """Sends it a signal."""
        if (pid := self.pid) is not None:
            os.kill(pid, number)

    def end(self, number: Signals) -> None:
        """Sends a signal that ends it, and waits for the end. TimeoutError when it does not come."""
        self.send(number)
        _wait(lambda: self.pid is None, STOP_SECONDS, f"{self.folder} does not end")

    def last_words(self) -> str:
        """The end of its log."""
        return (self.folder / "kafka.log").read_text(errors="replace")[-2000:]


class LocalKafka:
    """A cluster of one or more nodes in a folder. `with LocalKafka(folder) as kafka: …`."""

    def __init__(
        self,
        folder: Path,
        *,
        nodes: int = 1,
        port: int | None = None,
        secured: Sequence[str] = (),
        properties: Mapping[str, str] | None = None,
        scram: Sequence[str] = (),
    ) -> None:
        """`port`: of the first node, the others follow; any free ones by default.

        `secured`: listeners besides PLAINTEXT (SASL_PLAINTEXT, SASL_SSL, SSL); what they need is in `properties`.
        `scram`: who may log in by SCRAM, as Kafka's tool writes it: `SCRAM-SHA-512=[name="me",password="…"]`.
        """
        self.nodes = [Node(folder / f"node-{n + 1}") for n in range(nodes)]
        self._port = port
        self._secured = tuple(secured)
        self._properties = properties or {}
        self._scram = tuple(scram)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def servers(self, security: str = "PLAINTEXT") -> str:
        """Where clients of this security find it: addresses by commas."""
        return ",".join(f"127.0.0.1:{node.ports[security]}" for node in self.nodes)

    def start(self) -> None:
        """Starts every node and waits until all answer. Unavailable, with the reason, when they do not."""
        self._configure()
        for node in self.nodes:
            if node.pid is None:
                node.start()
        for node in self.nodes:
            self.wait(node)

    def wait(self, node: Node) -> None:
        """Until the node answers."""

        def ready() -> bool:
            if node.pid is None:
                raise Unavailable(f"Kafka ended: {node.last_words()}")
            return node.is_open()

        _wait(ready, READY_SECONDS, f"Kafka does not answer: {node.last_words()}")

    def stop(self) -> None:
        """Ends every node cleanly: all are told before one is waited for, since a quorum of them has to agree."""
        for node in self.nodes:
            node.send(SIGCONT)
            node.send(SIGTERM)
        for node in self.nodes:
            try:
                node.end(SIGTERM)
            except TimeoutError:
                node.end(SIGKILL)

    def _configure(self) -> None:
        listeners = ["PLAINTEXT", *self._secured]
        ports = self._ports(len(listeners) + 1)
        voters = ",".join(f"{n + 1}@127.0.0.1:{ports[n][-1]}" for n in range(len(self.nodes)))
        copies = min(3, len(self.nodes))
        for n, node in enumerate(self.nodes):
            reached = [f"{name}://127.0.0.1:{port}" for name, port in zip(listeners, ports[n], strict=False)]
            node.configure(
                {
                    "node.id": str(n + 1),
                    "controller.quorum.voters": voters,
                    "listeners": ",".join([*reached, f"CONTROLLER://127.0.0.1:{ports[n][-1]}"]),
                    "advertised.listeners": ",".join(reached),
                    "listener.security.protocol.map": ",".join(
                        ["CONTROLLER:PLAINTEXT", *(f"{name}:{name}" for name in listeners)]
                    ),
                    "offsets.topic.replication.factor": str(copies),
                    "transaction.state.log.replication.factor": str(copies),
                    "transaction.state.log.min.isr": str(max(1, copies - 1)),
                    **self._properties,
                },
                self._scram,
            )

    def _ports(self, each: int) -> list[list[int]]:
        """Of each node: those of its listeners, then the controller's. Those of a former start, if there was one."""
        if all((node.folder / "node.properties").exists() for node in self.nodes):
            return [list(node.ports.values()) for node in self.nodes]
        if self._port is not None:
            return [[self._port + n * each + k for k in range(each)] for n in range(len(self.nodes))]
        ports = free_ports(each * len(self.nodes))
        return [ports[n * each : (n + 1) * each] for n in range(len(self.nodes))]


def _java() -> list[str]:
    flags = ["-Xmx256m", "-Xms64m", "-XX:+UseSerialGC", f"-Dlog4j2.configurationFile={DEPLOY / 'log4j2.properties'}"]
    return ["java", *flags, "-cp", f"{libraries()}/*"]


def _wait(ask: Callable[[], bool], seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not ask():
        if time.monotonic() > deadline:
            raise TimeoutError(otherwise)
        time.sleep(0.05)


def main() -> int:
    """`make kafka` and `make kafka-stop`."""
    parser = argparse.ArgumentParser(description="A local Kafka.")
    parser.add_argument("what", choices=["start", "stop"])
    parser.add_argument("--nodes", type=int, choices=NODES, default=1)
    asked = parser.parse_args()
    if asked.what == "stop":
        for nodes in NODES:
            if (folder := FOLDER / f"of-{nodes}").exists():
                LocalKafka(folder, nodes=nodes).stop()
        return 0
    kafka = LocalKafka(FOLDER / f"of-{asked.nodes}", nodes=asked.nodes, port=PORT)
    try:
        kafka.start()
    except (Unavailable, TimeoutError) as error:
        print(f"make kafka: {error}", file=sys.stderr)
        return 1
    print(f"REGULARS_KAFKA_SERVERS={kafka.servers()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

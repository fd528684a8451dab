"""Roles of the product as forks of one process that has their code already: a start takes no imports.

Importing takes a role 1.5 s of a processor, and a thousand kills want a thousand starts. What a fork then runs is the
command itself, `regulars work profiles`, in a session and with an environment of its own; it dies like any process.
`python -m tests.faults.nursery` reads a line of JSON for each start and answers with its pid.
"""

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import FrameType

import psutil

MODULES = (
    "regulars.cli",
    "regulars.roles",
    "libs.common.log.kafka",
    "libs.common.relay",
    *(
        f"services.{name}.{role}"
        for name in ("ingest", "profiles", "metrics", "messaging")
        for role in ("main", "work")
    ),
)


def compiled() -> dict[str, str]:
    """Environment in which Python keeps what it has compiled, as at any second start, and not in the checkout."""
    folder = Path(tempfile.gettempdir()) / f"regulars-bytecode-{os.getuid()}"
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder)}


class Nursery:
    """The process that is forked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **compiled()},
            # Its children are ended by it; Ctrl-C is for us.
            start_new_session=True,
        )

    def start(self, words: list[str], environment: Mapping[str, str], log: Path) -> psutil.Process:
        """`regulars WORDS…` with these variables set besides; it writes to `log`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"words": words, "environment": dict(environment), "log": str(log)}
        with self._lock:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            return psutil.Process(int(self._process.stdout.readline()))

    def close(self) -> None:
        """Ends it, and SIGKILLs all that it has started and that still lives."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()


def main() -> None:
    """The process, until its standard input ends."""
    for module in MODULES:
        import_module(module)
    gc.collect()
    gc.freeze()
    living: set[int] = set()

    def reap(_number: int, _frame: FrameType | None) -> None:
        # Another one may end meanwhile, and this be called within itself.
        with suppress(ChildProcessError):
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                living.discard(pid)

    signal.signal(signal.SIGCHLD, reap)
    for line in sys.stdin:
        order = json.loads(line)
        # Who ends before his number is known would stay a zombie.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        if (pid := os.fork()) == 0:
            _be(order["words"], order["environment"], order["log"])
        living.add(pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        print(pid, flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for pid in living:
        os.kill(pid, signal.SIGKILL)


def _be(words: list[str], environment: Mapping[str, str], log: str) -> None:
    """What the fork is from now on; does not return."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for number, file in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
            os.dup2(file, number)
        os.environ.update(environment)
        sys.argv = ["regulars", *words]
        import_module("regulars.cli").main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1 if ended.code else 0
    except BaseException:  # noqa: BLE001 - told, and then the process ends
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()

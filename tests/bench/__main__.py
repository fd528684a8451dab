"""`make bench`: every bench one after the other, or those named: `python -m tests.bench webhooks log`."""

import subprocess
import sys
from importlib import import_module

BENCHES = ("webhooks", "log", "profiles", "metrics", "messaging", "running")


def main() -> int:
    """Runs each in a process of its own; 1 if one fails."""
    failed = []
    for name in sys.argv[1:] or BENCHES:
        title = (import_module(f"tests.bench.{name}").__doc__ or name).splitlines()[0]
        print(f"\n== {name}: {title}", flush=True)
        if subprocess.run([sys.executable, "-m", f"tests.bench.{name}"], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

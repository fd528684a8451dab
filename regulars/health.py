"""`python -m regulars.health`: asks the role beside it whether it is ready; code 0, or 1 and the reasons.

What a container's health check runs, every few seconds: the standard library alone, since starting our command would
cost more than all that the role does meanwhile.
"""

import http.client
import json
import os
import sys

SECONDS = 4.0
"""More than `/readyz` gives its own checks."""


def problems(host: str, port: int) -> list[str]:
    """Why the role that listens there is not ready; empty when it is."""
    connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        return [f"no answer from {host}:{port}: {error}"]
    finally:
        connection.close()
    if answer.status == http.client.OK:
        return []
    try:
        return [str(reason) for reason in json.loads(body)["reasons"]]
    except (ValueError, KeyError, TypeError):
        return [f"answered {answer.status}"]


def main() -> int:
    """Of the role that listens at REGULARS_LISTEN_PORT."""
    found = problems("127.0.0.1", int(os.environ.get("REGULARS_LISTEN_PORT") or 8080))
    print("; ".join(found) or "ready")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

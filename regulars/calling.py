"""How commands speak to a running installation's API."""

import sys
from typing import Annotated, Any

import typer

Address = Annotated[str, typer.Option("--url", envvar="REGULARS_URL", help="Where the API answers.")]
Key = Annotated[str | None, typer.Option("--key", envvar="REGULARS_KEY", help="An API key.", show_default=False)]
LOCAL = "http://127.0.0.1:8080"


def ask(method: str, url: str, key: str | None, path: str, **request: Any) -> Any:
    """The answer's JSON. Ends the command, saying why, when there is no good one."""
    import os

    import httpx

    if not (key := key or os.environ.get("REGULARS_ADMIN_KEY")):
        print("which API key? --key, or REGULARS_KEY", file=sys.stderr)
        raise typer.Exit(2)
    if "params" in request:
        request["params"] = {name: value for name, value in request["params"].items() if value is not None}
    try:
        answer = httpx.request(method, url + path, headers={"authorization": f"Bearer {key}"}, timeout=60, **request)
    except httpx.TransportError as error:
        print(f"nothing answers at {url} (--url, or REGULARS_URL): {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    if answer.is_error:
        problem = answer.json()
        print(problem["detail"], *(f"{error['pointer']}: {error['detail']}" for error in problem.get("errors", ())))
        raise typer.Exit(1)
    return answer.json()

"""How commands speak to a running installation's API."""

from typing import Annotated, Any

import typer

Address = Annotated[str, typer.Option("--url", envvar="REGULARS_URL", help="Where the API answers.")]
Key = Annotated[
    str,
    typer.Option(
        "--key", envvar=["REGULARS_KEY", "REGULARS_ADMIN_KEY"], help="An API key.", show_default=False, prompt=False
    ),
]
LOCAL = "http://127.0.0.1:8080"


def ask(method: str, url: str, key: str, path: str, **request: Any) -> Any:
    """The answer's JSON. Ends the command, saying why, when there is no good one."""
    import httpx

    if "params" in request:
        request["params"] = {name: value for name, value in request["params"].items() if value is not None}
    try:
        answer = httpx.request(method, url + path, headers={"authorization": f"Bearer {key}"}, timeout=60, **request)
    except httpx.TransportError as error:
        print(f"nothing answers at {url}: {error}")
        raise typer.Exit(1) from error
    if answer.is_error:
        problem = answer.json()
        print(problem["detail"], *(f"{error['pointer']}: {error['detail']}" for error in problem.get("errors", ())))
        raise typer.Exit(1)
    return answer.json()

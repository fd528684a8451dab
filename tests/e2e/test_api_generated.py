"""Every endpoint of the OpenAPI document, asked with whatever the document allows and much that it does not.

Schemathesis makes the requests from the document. Nothing may be a 5xx, no answer may be other than the document says,
and whatever is refused is a problem document.
"""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from libs.common.clock import DrivenClock
from tests.e2e.api import ADMIN_KEY, Api, open_api

EXAMPLES = 6
"""Of each endpoint and mode."""
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


class Caller:
    """The whole API in this process, for a test that is not a coroutine, as hypothesis wants it."""

    def __init__(self, runner: asyncio.Runner, api: Api, document: dict[str, Any]) -> None:
        self._runner = runner
        self._api = api
        self.document = document

    def ask(self, case: schemathesis.Case[Any]) -> Any:
        asked = case.as_transport_kwargs(base_url="http://regulars.test")
        asked.pop("cookies", None)
        data = asked.pop("data", None)
        return self._runner.run(self._api.admin.request(**asked, content=data))


@pytest.fixture
def caller(database_url: str, clock: DrivenClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Caller]:
    monkeypatch.setenv("REGULARS_DATABASE_URL", database_url)
    monkeypatch.setenv("REGULARS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("REGULARS_ADMIN_KEY", ADMIN_KEY)
    monkeypatch.setenv("REGULARS_RATE_LIMIT", "0")
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        api = runner.run(stack.enter_async_context(open_api(clock)))
        try:
            yield Caller(runner, api, runner.run(api.document()))
        finally:
            runner.run(stack.aclose())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_whatever_is_asked_the_answer_is_as_documented(caller: Caller, mode: GenerationMode) -> None:
    asked = 0
    for found in schemathesis.openapi.from_dict(caller.document).get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()

        @settings(
            max_examples=EXAMPLES,
            deadline=timedelta(seconds=20),
            suppress_health_check=list(HealthCheck),
            derandomize=True,
            database=None,
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: schemathesis.Case[Any]) -> None:
            nonlocal asked
            asked += 1
            answer = caller.ask(case)
            case.validate_response(answer, checks=CHECKS)
            if answer.status_code >= 400 and "/livez" not in case.path and "/readyz" not in case.path:
                assert answer.headers["content-type"] == "application/problem+json", case.path

        ask()
    assert asked > 100

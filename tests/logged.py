"""What a test makes the product log."""

import pytest


class Lines:
    """What was written on stderr."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture
        self._written = ""

    def getvalue(self) -> str:
        self._written += self._capture.readouterr().err
        return self._written

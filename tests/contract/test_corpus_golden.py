"""Money and times of real payloads are those that were checked by hand."""

import json

import pytest

from tests.contract.corpus import FOLDER, present
from tests.contract.corpus_golden import PATH, golden


@pytest.mark.corpus
@pytest.mark.skipif(
    not present(), reason=f"NO CORPUS in {FOLDER}: its golden figures are not tested; set REGULARS_CORPUS"
)
def test_money_and_times_are_as_checked() -> None:
    checked = json.loads(PATH.read_text(encoding="utf-8"))
    assert len(checked) == 74
    assert golden() == checked

"""A short one of the fuzz runs; `python -m tests.faults.fuzz` is the long one."""

import pytest

from tests.faults.fuzz import main, run, table
from tests.faults.fuzzing.bases import TOPICS, Base, bases
from tests.faults.fuzzing.mutations import Mutator

PAYLOADS = 3000
SEED = 20260302


@pytest.fixture(scope="module")
def found() -> list[Base]:
    return bases()


def test_mutated_payloads_end_in_an_outcome(found: list[Base]) -> None:
    tally = run(found, SEED, range(PAYLOADS))
    assert tally.wrong == [], f"python -m tests.faults.fuzz --seed {SEED} --only {tally.wrong[0][0].number}"
    for platform in TOPICS:
        assert all(tally.of(platform, outcome) for outcome in ("observed", "parked", "ignored", "dead"))
    # Of each topic some can be read, or its mutations would try nothing.
    topics = {(platform, topic) for platform, topics in TOPICS.items() for topic in topics}
    read = {(platform, topic) for platform, topic, outcome in tally.outcomes if outcome in {"observed", "ignored"}}
    assert topics - read == {("shopify", "themes/publish"), ("woocommerce", "coupon.deleted")}
    assert f"payloads {PAYLOADS:,}" in table(tally, 1.0, SEED, len(found))


def test_a_payload_is_shown_again_by_its_number(found: list[Base], capsys: pytest.CaptureFixture[str]) -> None:
    payload = Mutator(found, SEED).payload(17)
    assert payload == Mutator(found, SEED).payload(17)
    assert payload != Mutator(found, SEED + 1).payload(17)
    assert main(["--seed", str(SEED), "--only", "17"]) == 0
    assert repr(payload.body) in capsys.readouterr().out

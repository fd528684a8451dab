"""Rules and dashboards name only what exists; each alert has its runbook and its test, each runbook its alert."""

import json
import re
import shlex
from typing import Any

import pytest
import typer.main
import yaml
from typer.core import TyperGroup

from regulars.cli import app
from tests.contract.deploy import watching

COMMAND = re.compile(r"`(regulars [^`…]*)")
REQUEST = re.compile(r"`(GET|POST|PUT|PATCH|DELETE) (/v1/[^`?]*)\??([^`]*)`")
SECTIONS = ["What it means", "Look first", "Fix", "Who is hurt"]
BOOKS = sorted(watching.RUNBOOKS.glob("*.md"))


@pytest.fixture(scope="module")
def existing() -> set[str]:
    return watching.metrics_of_the_code() | watching.recorded() | watching.OF_PROMETHEUS


def test_every_metric_of_a_rule_exists(existing: set[str]) -> None:
    used = {rule.get("alert") or rule["record"]: watching.metrics_in(rule["expr"]) for rule in watching.rules()}
    assert all(used.values())
    assert {name: missing for name, names in used.items() if (missing := names - existing)} == {}


def test_every_metric_of_a_dashboard_exists(existing: set[str]) -> None:
    for name, dashboard in watching.dashboards().items():
        for panel in dashboard["panels"]:
            used = [watching.metrics_in(target["expr"]) for target in panel["targets"]]
            assert all(used), (name, panel["title"])
            assert set.union(*used) <= existing, (name, panel["title"])


def test_no_metric_is_made_up_by_the_test_itself(existing: set[str]) -> None:
    assert watching.metrics_in('sum by (regulars) (rate(regulars_made_up_total{reason="regulars_x"}[5m]))') - existing
    assert {"regulars_ingest_deliveries_total", "regulars_consumer_batch_seconds_bucket"} <= existing


def test_every_panel_has_a_title_a_unit_and_a_datasource() -> None:
    provisioned = yaml.safe_load((watching.DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())
    sources = {source["uid"] for source in provisioned["datasources"]}
    boards = watching.dashboards()
    assert len({board["uid"] for board in boards.values()}) == len(boards) >= 5
    for name, board in boards.items():
        titles = [panel["title"] for panel in board["panels"]]
        assert all(titles), name
        assert len(set(titles)) == len(titles), name
        for panel in board["panels"]:
            assert panel["fieldConfig"]["defaults"]["unit"], (name, panel["title"])
            assert {target["datasource"]["uid"] for target in panel["targets"]} <= sources
            assert all(target["legendFormat"] for target in panel["targets"])


def test_no_two_panels_lie_on_one_another() -> None:
    for name, board in watching.dashboards().items():
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
            assert place["x"] + place["w"] <= 24, (name, panel["title"])
            assert not cells & taken, (name, panel["title"])
            taken |= cells


def test_alerts_and_runbooks_are_each_others() -> None:
    assert {alert["alert"] for alert in watching.alerts()} == {book.stem for book in BOOKS}
    for alert in watching.alerts():
        assert alert["annotations"]["runbook_url"] == f"deploy/runbooks/{alert['alert']}.md"
        assert alert["annotations"]["summary"]
        assert alert["labels"]["severity"] in {"page", "ticket"}


@pytest.mark.parametrize("alert", sorted({alert["alert"] for alert in watching.alerts()}))
def test_every_alert_is_seen_firing_and_silent(alert: str) -> None:
    outcomes = {
        bool(case["exp_samples"]) for case in watching.promtool_cases() if f'alertname="{alert}"' in case["expr"]
    }
    assert outcomes == {True, False}


@pytest.mark.parametrize("book", BOOKS, ids=lambda book: str(book.stem))
def test_a_runbook_says_what_it_has_to(book: Any) -> None:
    text = book.read_text(encoding="utf-8")
    assert text.splitlines()[0] == f"# {book.stem}"
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (book.parent / link).is_file(), link


@pytest.mark.parametrize("book", BOOKS, ids=lambda book: str(book.stem))
def test_every_command_of_a_runbook_exists(book: Any) -> None:
    text = " ".join(book.read_text(encoding="utf-8").split())
    for command in COMMAND.findall(text):
        exists(shlex.split(command)[1:])


def test_every_command_and_container_of_the_operations_page_exists() -> None:
    text = (watching.ROOT / "docs/operations.md").read_text(encoding="utf-8")
    compose = yaml.safe_load((watching.ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    asked = re.findall(r'docker compose exec (?:-e [A-Z_]+=(?:"[^"]*"|\S+) )*([a-z-]+)', text)
    assert {"ingest-api", "postgres", "prometheus", "grafana"} <= {*asked} <= compose.keys()
    commands = re.findall(r"^(?:docker compose exec [a-z-]+|kubectl exec \S+ --) regulars (.+)$", text, re.MULTILINE)
    commands += re.findall(r"^asking (.+)$", text, re.MULTILINE)
    assert len(commands) >= 6
    for command in commands:
        exists(shlex.split(command, comments=True))


def exists(words: list[str]) -> None:
    """A command of ours with these words, and its options."""
    command = " ".join(words)
    found: Any = typer.main.get_command(app)
    while isinstance(found, TyperGroup):
        assert words, command
        name, *words = words
        assert name in found.commands, command
        found = found.commands[name]
    options = {option for parameter in found.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options, command


def test_every_request_of_a_runbook_exists() -> None:
    paths = json.loads((watching.ROOT / "docs/openapi.json").read_text(encoding="utf-8"))["paths"]
    asked = 0
    for book in BOOKS:
        for method, path, query in REQUEST.findall(book.read_text(encoding="utf-8")):
            operation = paths.get(path, {}).get(method.lower())
            assert operation is not None, (book.name, method, path)
            known = {parameter["name"] for parameter in operation.get("parameters", ())}
            assert {each.partition("=")[0] for each in query.split("&") if each} <= known, (book.name, path, query)
            asked += 1
    assert asked > 15


def test_losses_of_webhooks_are_made_up_for_by_asking_the_shop() -> None:
    for name in ("WebhookErrorBudgetBurn", "WebhookSignaturesRefused"):
        assert "POST /v1/backfills" in (watching.RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")


def test_every_path_of_a_runbook_exists() -> None:
    for book in BOOKS:
        for path in re.findall(r"`((?:services|libs|deploy|docs)/[^`]+)`", book.read_text(encoding="utf-8")):
            assert (watching.ROOT / path).exists(), (book.name, path)

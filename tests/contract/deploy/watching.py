"""What rules, dashboards and runbooks say, and which metrics the code has."""

import json
import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import REGISTRY

import libs
import services

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
RUNBOOKS = DEPLOY / "runbooks"
RULES = sorted((DEPLOY / "prometheus/rules").glob("*.yml"))
PROMTOOL_TESTS = sorted((DEPLOY / "prometheus/tests").glob("*.yml"))
DASHBOARDS = sorted((DEPLOY / "grafana/dashboards").glob("*.json"))

_METRIC = re.compile(r"\b(?:regulars[a-z0-9_:]*|up)\b(?!\s*[\"(])")
_ENDINGS = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}
OF_PROMETHEUS = {"up"}


def rules() -> list[dict[str, Any]]:
    """Every rule of every file."""
    documents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in RULES]
    return [rule for document in documents for group in document["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def recorded() -> set[str]:
    return {rule["record"] for rule in rules() if "record" in rule}


def promtool_cases() -> Iterator[dict[str, Any]]:
    for path in PROMTOOL_TESTS:
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            yield from test["promql_expr_test"]


def dashboards() -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in DASHBOARDS}


def metrics_in(expression: str) -> set[str]:
    """Names of series: neither labels' names nor what stands in quotes."""
    return set(_METRIC.findall(re.sub(r'"[^"]*"', '""', expression)))


def metrics_of_the_code() -> set[str]:
    """Every series that a process of ours may show, with its type's endings."""
    for package in (libs, services):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".migrations" not in module.name:
                import_module(module.name)
    return {
        metric.name + ending
        for metric in REGISTRY.collect()
        if metric.name.startswith("regulars_")
        for ending in _ENDINGS[metric.type]
    }

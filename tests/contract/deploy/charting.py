"""The chart, rendered as Helm does it; and what Kubernetes would be given."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

helm = pytest.importorskip("helm_python", reason="Helm as a library is not installed: make check fetches it")

CHART = Path(__file__).parents[3] / "deploy/helm/regulars"
EXAMPLES = sorted((CHART.parent / "examples").glob("*.yaml"))
CASES = {"default": {}, **{path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in EXAMPLES}}

Document = dict[str, Any]


def render(values: Document) -> list[Document]:
    """Every object, hooks as well."""
    with helm.Chart.load(str(CHART)) as chart:
        chart.validate_schema(values)
        files: dict[str, str] = chart.render(values=values, name="shop", namespace="shops")
    texts = [text for name, text in files.items() if name.endswith(".yaml")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


@cache
def rendered(case: str) -> list[Document]:
    return render(CASES[case])


def of_kind(case: str, *kinds: str) -> list[Document]:
    return [document for document in rendered(case) if document["kind"] in kinds]


def pods(case: str) -> Iterator[tuple[str, Document]]:
    """Pod templates by the name of what makes them."""
    for document in of_kind(case, "Deployment", "Job"):
        yield document["metadata"]["name"], document["spec"]["template"]


def containers(case: str) -> Iterator[tuple[str, Document]]:
    for name, pod in pods(case):
        for container in [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]:
            yield name, container


def chosen(selector: Document, labels: Document) -> bool:
    return selector.items() <= labels.items()

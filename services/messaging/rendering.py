"""Texts in Liquid: a head of `Name: value` lines, a blank line, paragraphs. Both parts of a mail come from one text.

Values are cleaned of control characters before they are filled in, so none can end a header or a line; in HTML they are
escaped. Loops, output and nesting are bounded: merchants write these texts.
"""

import re
from collections.abc import Mapping
from functools import cache
from html import unescape
from pathlib import Path
from typing import Any

from liquid import CachingDictLoader, Environment, StrictUndefined
from liquid.exceptions import LiquidError
from msgspec import Struct

FOLDER = Path(__file__).parent / "templates"
HEADS = ("subject", "preheader", "heading", "button", "because")

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]+")
_BLANKS = re.compile(r"\s+")


class TemplateError(Exception):
    """The text cannot be rendered, or a variable that it needs is empty."""


class Rendered(Struct, frozen=True, kw_only=True):
    """A message as it is read."""

    subject: str
    text: str
    html: str


class _Bounded(Environment):
    loop_iteration_limit = 2_000
    output_stream_limit = 200_000
    local_namespace_limit = 200_000
    context_depth_limit = 10


def clean(text: str, limit: int = 200) -> str:
    """One line without control or direction-changing characters, at most `limit` long.

    Nor anything that a header would decode: `=?utf-8?q?=0D=0ABcc:…?=` has all its characters in order until then.
    """
    line = _BLANKS.sub(" ", _CONTROL.sub(" ", text).replace("=?", "= ?")).strip()
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def render(template: str, values: Mapping[str, Any], required: tuple[str, ...]) -> Rendered:
    """Fills a text in. `required`: names in `values` that must not be empty. Raises TemplateError."""
    missing = [name for name in required if not values.get(name)]
    if missing:
        raise TemplateError(f"{template}: {', '.join(missing)} is empty")
    try:
        heads, paragraphs = _parsed(_environment(escaping=False), template, values)
        text = _environment(escaping=False).get_template("layout.txt").render(**values, **heads, paragraphs=paragraphs)
        # The paragraphs are text by now; the HTML layout escapes them whole.
        html = _environment(escaping=True).get_template("layout.html").render(**values, **heads, paragraphs=paragraphs)
    except LiquidError as error:
        raise TemplateError(f"{template}: {type(error).__name__}: {error}") from error
    return Rendered(subject=clean(unescape(heads["subject"])), text=_tidy(text), html=html)


def _parsed(environment: Environment, template: str, values: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    head, _, body = environment.get_template(template).render(**values).strip().partition("\n\n")
    heads = {name: value.strip() for name, _, value in (line.partition(":") for line in head.splitlines())}
    missing = [name for name in HEADS if not heads.get(name)]
    if missing:
        raise TemplateError(f"{template}: no {', '.join(missing)}")
    paragraphs = [" ".join(part.split()) for part in body.split("\n\n")]
    return heads, [paragraph for paragraph in paragraphs if paragraph]


def _tidy(text: str) -> str:
    lines = [line.rstrip() for line in text.splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


@cache
def _environment(*, escaping: bool) -> Environment:
    sources = {path.name.removesuffix(".liquid"): path.read_text(encoding="utf-8") for path in FOLDER.glob("*.liquid")}
    return _Bounded(loader=CachingDictLoader(sources), undefined=StrictUndefined, autoescape=escaping)

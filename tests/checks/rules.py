"""House rules that neither ruff nor mypy nor import-linter knows. `python -m tests.checks.rules` prints each breach."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRODUCT = ("libs", "services", "regulars")
LONGEST_MODULE = 400
NAMELESS = {"utils", "util", "helpers", "helper", "manager", "managers", "misc"}
LOCKS = ("requirements.lock", "deploy/requirements.lock", "requirements-chart.lock")
NOT_OURS = {"var", "__pycache__", ".git"}
"""Besides folders whose name begins with a dot: what tools and runs leave behind; in a worktree `.git` is a file."""

# A Protocol that waits for its second implementation, and why it may.
ONE_IMPLEMENTATION: dict[str, str] = {}
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|home|root|Users)/\w")


def modules(*folders: str) -> Iterator[tuple[Path, ast.Module]]:
    """Every Python module of these folders, parsed."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


def oversized() -> Iterator[str]:
    """A module is one subject."""
    for folder in (*PRODUCT, "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if (lines := path.read_text(encoding="utf-8").count("\n")) > LONGEST_MODULE:
                yield f"{path.relative_to(ROOT)}: {lines} lines; {LONGEST_MODULE} is the limit"


def nameless() -> Iterator[str]:
    """A name says the subject."""
    for path, _ in modules(*PRODUCT, "tests"):
        if path.stem in NAMELESS or NAMELESS & {*path.parent.parts}:
            yield f"{path}: name it by its subject"


def unread_settings() -> Iterator[str]:
    """No option that nothing reads."""
    fields: dict[str, str] = {}
    read: set[str] = set()
    for path, tree in modules(*PRODUCT):
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and any("Settings" in ast.unparse(base) for base in node.bases):
                for statement in node.body:
                    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                        fields[statement.target.id] = f"{path}:{statement.lineno}"
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith(("settings", "self")):
                read.add(node.attr)
    for name, place in fields.items():
        if name not in read:
            yield f"{place}: setting {name} is read nowhere"


def lonely_protocols() -> Iterator[str]:
    """An abstraction needs two running implementations; one that is called like a function has its functions."""
    protocols: dict[str, tuple[str, set[str]]] = {}
    classes: dict[str, set[str]] = {}
    for path, tree in modules(*PRODUCT):
        for node in ast.walk(tree):
            if not isinstance(node, ast.ClassDef):
                continue
            methods = {item.name for item in node.body if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef))}
            if any(ast.unparse(base).split("[")[0] in {"Protocol", "typing.Protocol"} for base in node.bases):
                protocols[node.name] = (f"{path}:{node.lineno}", methods)
            else:
                classes[f"{path}:{node.name}"] = methods
    for name, (place, methods) in protocols.items():
        implementing = [where for where, has in classes.items() if methods <= has]
        if methods != {"__call__"} and len(implementing) < 2 and name not in ONE_IMPLEMENTATION:
            yield f"{place}: Protocol {name} has {len(implementing)} implementation(s): {implementing}"


MOVES = {"positions.advance", "positions.open_partitions"}


def second_loops() -> Iterator[str]:
    """The loop of libs/common/worker.py, with its openings, is the only one that moves a position."""
    for path, tree in modules(*PRODUCT):
        if path in {Path("libs/common", name) for name in ("worker.py", "openings.py", "positions.py")}:
            continue
        for node in ast.walk(tree):
            name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
            if name == "AIOKafkaConsumer" and path.parts[:3] != ("libs", "common", "log"):
                yield f"{path}:{node.lineno}: a consumer beside the one loop"  # type: ignore[attr-defined]
            if isinstance(node, ast.Call) and ast.unparse(node.func) in MOVES:
                yield f"{path}:{node.lineno}: moves a position outside of the one loop"


def machine_paths() -> Iterator[str]:
    """A checkout works wherever it lies."""
    for path in sorted([*_files(ROOT), *(ROOT / ".ci").iterdir()]):
        if path == Path(__file__):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        for number, line in enumerate(text.splitlines(), 1):
            if MACHINE_PATH.search(line):
                yield f"{path.relative_to(ROOT)}:{number}: a path of one machine: {line.strip()[:80]}"


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name in NOT_OURS:
            continue
        if path.is_file():
            yield path
        elif not path.name.startswith("."):
            yield from _files(path)


def addresses_in_the_lock() -> Iterator[str]:
    """The lock pins versions and hashes; where they are downloaded from is each machine's affair."""
    for lock in LOCKS:
        for number, line in enumerate((ROOT / lock).read_text(encoding="utf-8").splitlines(), 1):
            if "://" in line or line.lstrip().startswith(("--index", "--extra", "--find", "-i ", "-f ")):
                yield f"{lock}:{number}: {line.strip()}"


def image_beside_the_lock() -> Iterator[str]:
    """The image is built of what is tested: its pins are those of requirements.lock and hold what the product needs."""
    pinned, shipped = (_pins(ROOT / lock) for lock in LOCKS[:2])
    for name, pin in shipped.items():
        if pinned.get(name) != pin:
            yield f"deploy/requirements.lock: {name} is pinned otherwise in requirements.lock: make image-lock"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for dependency in project["dependencies"]:
        name = re.split(r"[^A-Za-z0-9._-]", dependency, maxsplit=1)[0].lower()
        if name not in shipped:
            yield f"deploy/requirements.lock: {name} is missing: make image-lock"


def _pins(lock: Path) -> dict[str, str]:
    """Name -> version, condition and hashes."""
    blocks = re.split(r"\n(?=[a-z0-9])", lock.read_text(encoding="utf-8").strip())
    return {block.partition("==")[0]: block for block in blocks}


RULES = (
    oversized,
    nameless,
    unread_settings,
    lonely_protocols,
    second_loops,
    machine_paths,
    addresses_in_the_lock,
    image_beside_the_lock,
)


def main() -> int:
    """Prints what is broken; 1 if anything is."""
    breaches = [(rule.__name__, breach) for rule in RULES for breach in rule()]
    for rule_name, breach in breaches:
        print(f"{rule_name}: {breach}")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())

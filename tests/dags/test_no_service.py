"""Code knows no service: what is one service's own is in its plan, and what many have in common is a default there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUSINESS = re.compile(r"hotel|guest|booking|rooms\b|check[-_]?ins?\b", re.IGNORECASE)
NAMES = re.compile(
    r"""\bpms_[a-z](?<!pms_m)                        # connections; letters in a chat are marked with pms_message
    |\bX-(Version|Pod|Admin)|/-/                     # headers and paths
    |\b(npm|npx|yarn|pnpm|mvn|gradle|composer|bundle)\b  # commands
    |\b[a-z]\w*_total\b|\bhttp_\w+_(seconds|milliseconds|ms|bytes)  # metrics
    """,
    re.VERBOSE,
)
DEFAULTS = (
    "plugins/handover/plan/", "plugins/handover/telemetry/conventions.py", "plugins/handover/database/progress.py"
)  # fmt: skip
"""Those of the plan, and the tables of what libraries call their metrics and PostgreSQL its columns."""


def sources() -> Iterator[Path]:
    for folder in ("dags", "plugins"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of all that code works with; what is written for its readers is none of it."""
    tree = ast.parse(source)
    written = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in written:
            yield node.lineno, node.value


def named(source: str) -> list[int]:
    """The lines whose texts name something of a service."""
    return [line for line, text in texts(source) if NAMES.search(text)]


def test_nothing_in_dags_or_plugins_knows_the_business():
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in sources()
        for line in path.read_text().splitlines()
        if BUSINESS.search(line)
    ]
    assert found == []


def test_no_name_of_a_service_is_a_default_in_code():
    places = {path: str(path.relative_to(ROOT)) for path in sources()}
    found = [
        f"{place}:{line}"
        for path, place in places.items() if not place.startswith(DEFAULTS)
        for line in named(path.read_text())
    ]  # fmt: skip
    assert found == []


@pytest.mark.parametrize("text", [
    "http_requests_total", "X-Version", "/-/drain", "npm", "npm test", "npx", "pms_sentry", "cache_hits_total",
    "rate(http_request_duration_seconds_bucket[5m])", "X-Admin-Token",
])  # fmt: skip
def test_such_a_default_is_found(text):
    assert named(f"x = 1\nPATH = {text!r}\n") == [2]


def test_an_example_in_a_docstring_is_none():
    assert named('def f():\n    """Such as ``X-Version``."""\n') == []

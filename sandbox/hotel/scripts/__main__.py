"""`npm test` and `npm run <script> [-- arguments]`, for the scripts this image has."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

MODULES = {
    "test": "unit",
    "test:integration": "integration",
    "test:e2e": "e2e",
    "test:smoke": "smoke",
    "db:health-check": "database",
    "db:check": "database",
}
_SOURCE = str(Path(__file__).parents[1])
COMMANDS = {
    "lint": ["ruff", "check", "--no-cache", _SOURCE],
    "type-check": ["mypy", "--no-error-summary", _SOURCE],
}
"""Scripts that are other programs' work; they fail where the program is not installed."""


def main(words: list[str]) -> int:
    """Run a script; 1 for one that does not exist, as npm does."""
    if words and words[0] in ("test", "t"):
        script, rest = "test", words[1:]
    elif len(words) > 1 and words[0] in ("run", "run-script"):
        script, rest = words[1], words[2:]
    else:
        print("Usage: npm test | npm run <script> [-- arguments]", file=sys.stderr)
        return 1
    arguments = rest[1:] if rest[:1] == ["--"] else rest
    if script in MODULES:
        module = importlib.import_module(f"sandbox.hotel.scripts.{MODULES[script]}")
        return int(module.main(script, arguments))
    if script in COMMANDS:
        return subprocess.call([sys.executable, "-m", *COMMANDS[script], *arguments])
    known = "".join(f"\nnpm error   {name}" for name in [*MODULES, *COMMANDS])
    print(f'npm error Missing script: "{script}"\nnpm error\nnpm error Available:{known}', file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

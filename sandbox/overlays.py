"""What is laid over the plan of a sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sandbox.settings import REPOSITORY

OVERLAY = REPOSITORY / "sandbox" / "overlay.yaml"
"""Compresses the plan's time for demo and benches."""


def write_overlay(path: Path, changes: Mapping[str, Mapping[str, Any]]) -> Path:
    """The same with changes, by section."""
    values = yaml.safe_load(OVERLAY.read_text())
    for section, changed in changes.items():
        values[section] = values.get(section, {}) | changed
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values))
    return path

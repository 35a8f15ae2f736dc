"""YAML, read by libyaml where PyYAML has it: ten times faster, in every process that reads a plan. No I/O here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def from_yaml(text: str) -> Any:
    """One document. Raises `yaml.YAMLError`."""
    return yaml.load(text, Loader=_LOADER)  # noqa: S506 - both loaders are safe ones


def documents(text: str) -> Iterator[Any]:
    """Every document of a file. Raises `yaml.YAMLError`."""
    return yaml.load_all(text, Loader=_LOADER)

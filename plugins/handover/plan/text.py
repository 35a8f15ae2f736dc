"""YAML, read by libyaml where PyYAML has it: ten times faster, in every process that reads a plan. No I/O here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

MERGE = "<<"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def from_yaml(text: str) -> Any:
    """One document. Raises `yaml.YAMLError`."""
    return yaml.load(text, Loader=_LOADER)  # noqa: S506 - both loaders are safe ones


class TwiceThere(ValueError):
    """A key stands there twice, of which YAML would take the last; the text says where."""


def lines(text: str) -> dict[tuple[str | int, ...], int]:
    """The line of every key and item of one document, by its path. Raises `yaml.YAMLError` and `TwiceThere`."""
    root = yaml.compose(text, Loader=_LOADER)
    return dict(_lines(root, ())) if root is not None else {}


def _lines(node: yaml.Node, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], int]]:
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield (*path, number), item.start_mark.line + 1
            yield from _lines(item, (*path, number))
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in seen and name != MERGE:
                where = ".".join(map(str, (*path, name)))
                raise TwiceThere(f"{where} is in line {seen[name]} and again in line {line}")
            seen[name] = line
            yield (*path, name), line
            yield from _lines(value, (*path, name))


def documents(text: str) -> Iterator[Any]:
    """Every document of a file. Raises `yaml.YAMLError`."""
    return yaml.load_all(text, Loader=_LOADER)

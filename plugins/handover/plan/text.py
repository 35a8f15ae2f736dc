"""YAML, read by libyaml where PyYAML has it: ten times faster, in every process that reads a plan. No I/O here."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import yaml

MERGE = "<<"
MAX_NODES = 100_000
"""Keys, values and items of one document, each as often as it is there: a line of aliases can stand for billions."""
MAX_DEPTH, SHALLOW = 100, 1000
"""libyaml's loader calls itself for every level, until the process dies of it: no data of ours has as many."""
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NO_VALUE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What PyYAML raises for ``!!int x``, a month 13 and the like."""


class BadDocument(yaml.YAMLError):
    """It is YAML, and yet no data."""


def from_yaml(text: str) -> Any:
    """One document; None for none. Raises `yaml.YAMLError`, also for one that is too large or holds itself."""
    found = list(islice(documents(text), 2))
    if len(found) > 1:
        raise BadDocument("there is a second document in it, behind ---")
    return found[0] if found else None


class TwiceThere(ValueError):
    """A key stands there twice, of which YAML would take the last; the text says where."""


def lines(text: str) -> dict[tuple[str | int, ...], int]:
    """The line of every key and item of one document, by its path. Raises `yaml.YAMLError` and `TwiceThere`."""
    root = next(_nodes(_loader(text)), None)
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
    loader = _loader(text)
    for node in _nodes(loader):
        try:
            yield loader.construct_document(node)
        except _NO_VALUE as error:
            raise BadDocument(f"a value in it is none: {error}") from None


def _loader(text: str) -> Any:
    """Raises `BadDocument` for what must not be loaded at all. Its events are only asked where it could be that deep:
    a level is a bracket, or a mapping and a list in another column.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadDocument("half a character (a lone surrogate) is in it") from None
    widest = max(map(len, text.splitlines()), default=0)
    if text.count("[") + text.count("{") + 2 * widest > SHALLOW:
        depth = 0
        for event in yaml.parse(text, Loader=_LOADER):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise BadDocument(f"it is nested more than {MAX_DEPTH} levels deep")
    return _LOADER(text)


def _nodes(loader: Any) -> Iterator[yaml.Node]:
    try:
        while loader.check_node():
            node = loader.get_node()
            if (size := _size(node, {})) > MAX_NODES:
                raise BadDocument(f"{size} keys and values with all aliases, more than {MAX_NODES}")
            yield node
    except RecursionError:
        raise BadDocument("it is nested too deep") from None
    finally:
        loader.dispose()


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Of a node with everything in it; ``known``: of those that were counted, 0 while one is."""
    if (size := known.get(id(node))) is None:
        known[id(node)] = 0
        inner = chain.from_iterable(node.value) if isinstance(node, yaml.MappingNode) else node.value
        size = 1 + (0 if isinstance(node, yaml.ScalarNode) else sum(_size(one, known) for one in inner))
        known[id(node)] = size
    if not size:
        raise BadDocument("an alias in it holds itself")
    return size

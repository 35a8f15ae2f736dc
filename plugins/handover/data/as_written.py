"""YAML whose values are the text that stands there: ``NO`` is no boolean, ``01234`` is not 668, ``1.10`` is not 1.1.

What a value is says the column that it goes into. Only an empty value, ``~`` and ``null`` without quotes are none. No
I/O here.
"""

from __future__ import annotations

from typing import Any, ClassVar

import yaml
from yaml.constructor import SafeConstructor

from handover.plan.text import BadDocument, lines

_TAG = "tag:yaml.org,2002:"


def _text(loader: SafeConstructor, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


class _AsWritten(yaml.SafeLoader):
    """Any other tag is an error that names its line."""

    yaml_constructors: ClassVar[dict[str | None, Any]] = {
        **{_TAG + name: _text for name in ("str", "int", "float", "bool", "timestamp", "value")},
        _TAG + "null": SafeConstructor.construct_yaml_null,
        _TAG + "seq": SafeConstructor.construct_yaml_seq,
        _TAG + "map": SafeConstructor.construct_yaml_map,
        None: SafeConstructor.construct_undefined,
    }


def read(text: str) -> Any:
    """One document; None for none. Raises `yaml.YAMLError`, and `TwiceThere` for a key that stands there twice."""
    lines(text)  # neither too large nor too deep
    loader = _AsWritten(text)
    try:
        return loader.get_single_data()
    except RecursionError:
        raise BadDocument("it is nested too deep") from None
    finally:
        loader.dispose()

"""Reads ``include/plans/*.yaml`` into `Plan` objects, with an optional overlay that compresses time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from handover.plan.model import Plan
from handover.plan.parts import plans_folder
from handover.plan.text import TwiceThere, from_yaml, lines

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

OVERLAY_VARIABLE = "PMS_PLAN_OVERLAY"
"""Environment variable: a YAML file that is merged over each plan, e.g. to compress time."""
_MAY_BE_MISSING = frozenset(name for name, field in Plan.model_fields.items() if field.default is None)


class PlanError(ValueError):
    """A plan file is wrong; the text names file, key and reason."""


def load_plan(path: Path, overlay: Path | None = None) -> Plan:
    """The plan in ``path``, with ``overlay`` merged over it: over the sections that it has. Raises `PlanError`."""
    files = [_read(one) for one in (overlay, path) if one is not None]
    data = files[-1].data
    if overlay is not None:
        over = {key: value for key, value in files[0].data.items() if key in data or key not in _MAY_BE_MISSING}
        data = _merged(data, over)
    where = f"{path}" + (f" with overlay {overlay}" if overlay else "")
    try:
        return Plan.model_validate(data)
    except ValidationError as error:
        reasons = "\n".join(f"  {_reason(files, one)}" for one in error.errors(include_url=False))
        raise PlanError(f"{where}:\n{reasons}") from None
    except Exception as error:  # of a validator of ours: it is no reason to load none of the other plans
        raise PlanError(f"{where}: it cannot be checked: {_short(error)}") from error


def load_plan_in_use(path: Path) -> Plan:
    """The plan in ``path`` as this process is told to read it: with the overlay that the environment names, if any.
    Raises `PlanError`.
    """
    overlay = os.environ.get(OVERLAY_VARIABLE)
    return load_plan(path, Path(overlay) if overlay else None)


def load_plans() -> Iterator[Plan | PlanError]:
    """Every plan of the folder in the order of file names; a broken one comes as its error."""
    for path in sorted(plans_folder().glob("*.yaml")):
        try:
            yield load_plan_in_use(path)
        except PlanError as error:
            yield error


@dataclass(frozen=True)
class _File:
    """``lines``: of every key, by its path."""

    path: Path
    data: dict[str, Any]
    lines: dict[tuple[str | int, ...], int]

    def place(self, key: tuple[str | int, ...]) -> tuple[int, str]:
        """How many parts of a key's path this file has, and where the last of them is."""
        known = next((number for number in range(len(key), 0, -1) if key[:number] in self.lines), 0)
        return known, f"{self.path.name}:{self.lines[key[:known]] if known else 1}"


def _read(path: Path) -> _File:
    try:
        text = path.read_text(encoding="utf-8")
        data, places = from_yaml(text), lines(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TwiceThere) as error:
        raise PlanError(f"{path}: {error}") from None
    if not isinstance(data, dict):
        raise PlanError(f"{path}: a plan is a mapping of sections, this is {type(data).__name__}")
    return _File(path, data, places)


def _reason(files: Sequence[_File], error: ErrorDetails) -> str:
    """What is wrong, and where: in the file that says the most of this key."""
    key, value = error["loc"], error["input"]
    _, place = max((file.place(key) for file in files), key=lambda found: found[0])
    shown = "" if isinstance(value, (dict, list, tuple)) else f" (is {_short(value)})"
    return f"{place}: {'.'.join(map(str, key)) or 'plan'}: {error['msg']}{shown}"


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

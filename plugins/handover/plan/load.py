"""Reads ``include/plans/*.yaml`` into `Plan` objects, with an optional overlay that compresses time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from handover.plan.model import INCLUDE, Plan
from handover.plan.text import from_yaml

OVERLAY_VARIABLE = "PMS_PLAN_OVERLAY"
"""Environment variable: a YAML file that is merged over each plan, e.g. to compress time."""
FOLDER_VARIABLE = "PMS_PLANS"
"""Environment variable: a folder of plan files to use instead of ``include/plans``."""


class PlanError(ValueError):
    """A plan file is wrong; the text names file, key and reason."""


def load_plan(path: Path, overlay: Path | None = None) -> Plan:
    """The plan in ``path``, with ``overlay`` merged over it. Raises `PlanError`."""
    data = _read(path)
    if overlay is not None:
        data = _merged(data, _read(overlay))
    try:
        return Plan.model_validate(data)
    except ValidationError as error:
        reasons = "\n".join(
            f"  {'.'.join(map(str, e['loc'])) or 'plan'}: {e['msg']} (is {_short(e['input'])})"
            for e in error.errors(include_url=False)
        )
        where = f"{path}" + (f" with overlay {overlay}" if overlay else "")
        raise PlanError(f"{where}:\n{reasons}") from None


def load_plan_in_use(path: Path) -> Plan:
    """The plan in ``path`` as this process is told to read it: with the overlay that the environment names, if any.
    Raises `PlanError`.
    """
    overlay = os.environ.get(OVERLAY_VARIABLE)
    return load_plan(path, Path(overlay) if overlay else None)


def load_plans() -> Iterator[Plan | PlanError]:
    """Every plan of the folder in the order of file names; a broken one comes as its error."""
    folder = Path(os.environ.get(FOLDER_VARIABLE) or INCLUDE / "plans")
    for path in sorted(folder.glob("*.yaml")):
        try:
            yield load_plan_in_use(path)
        except PlanError as error:
            yield error


def _read(path: Path) -> dict[str, Any]:
    try:
        data = from_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PlanError(f"{path}: {error}") from None
    if not isinstance(data, dict):
        raise PlanError(f"{path}: a plan is a mapping of sections, this is {type(data).__name__}")
    return data


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

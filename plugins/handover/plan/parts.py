"""What the sections of a plan are made of: the base class, and names for kinds of values."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from handover.models import table_name
from handover.models.quantity import quantity

INCLUDE = Path(__file__).resolve().parents[3] / "include"
PLANS_VARIABLE = "PMS_PLANS"
"""Environment variable: a folder of plan files to use instead of ``include/plans``. What they name (manifests, SQL ...)
is looked for beside it first, then in ``include``.
"""

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Growth = Annotated[float, Field(gt=0)]
NAME = r"^[a-z][a-z0-9_]{0,39}$"
Name = Annotated[str, StringConstraints(pattern=NAME)]
TableName = Annotated[str, AfterValidator(table_name.canonical)]
"""Any table, also of another schema: see `handover.models.table_name`."""
ColumnName = Annotated[str, AfterValidator(table_name.identifier)]
KubeName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
"""Of a namespace, a Service or a container: a label of a domain."""
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SecretName = Annotated[str, StringConstraints(max_length=253, pattern=rf"^{_LABEL}(\.{_LABEL})*$")]
"""A domain's name, as Kubernetes has it for most objects."""
LabelValue = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")]
_CONNECTION = StringConstraints(pattern=r"^[A-Za-z0-9_.-]+$", min_length=1)
ConnectionId = Annotated[str, _CONNECTION]
UrlPath = Annotated[str, StringConstraints(pattern=r"^/\S*$")]
_QUANTITY = re.compile(r"(\d+(\.\d*)?|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][-+]?\d+)?", re.ASCII)


def _as_text(value: Any) -> Any:
    """A number that YAML has read, which Kubernetes takes, too."""
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _quantity(text: str) -> str:
    if not _QUANTITY.fullmatch(text) or quantity(text) <= 0:
        raise ValueError(f"{text!r} is no quantity of Kubernetes above 0: write 512Mi or 512M, 2 or 500m")
    return text


Quantity = Annotated[str, BeforeValidator(_as_text), AfterValidator(_quantity)]
Command = Annotated[tuple[str, ...], Field(min_length=1)]
Items = Annotated[tuple[str, ...], Field(min_length=1)]


def plans_folder() -> Path:
    """Where the plans in use are."""
    return Path(os.environ.get(PLANS_VARIABLE) or INCLUDE / "plans")


def included(folder: str, name: str) -> Path:
    """A file that a plan names. It may not be there."""
    own = plans_folder().parent / folder / name
    return own if own.is_file() else INCLUDE / folder / name


def in_include(folder: str) -> AfterValidator:
    def check(name: str) -> str:
        if not included(folder, name).is_file():
            raise ValueError(f"no such file: include/{folder}/{name}")
        return name

    return AfterValidator(check)


SqlFile = Annotated[str, in_include("sql")]
Calendar = Annotated[str, in_include("calendars")]
Checklist = Annotated[str, in_include("report")]
ChecklistFile = Annotated[str, in_include("readiness")]
SeedFile = Annotated[str, in_include("seed")]


T = TypeVar("T")


class LeftOut(ValueError):
    """The plan leaves something out that somebody asks for."""


def required(value: T | None, key: str) -> T:
    """A part of the plan that may be left out, for whoever cannot do without. Raises `LeftOut`."""
    if value is None:
        raise LeftOut(f"left out: the plan has no {key}")
    return value


def all_or_none(section: Section, *keys: str) -> None:
    """Raises `ValueError` when a section has some of these keys, which only make sense together."""
    there = [key for key in keys if getattr(section, key) is not None]
    if there and len(there) < len(keys):
        missing = ", ".join(key for key in keys if key not in there)
        raise ValueError(f"{', '.join(there)} without {missing}: say all of them, or none")


class Section(BaseModel):
    """A part of the plan: unknown keys are errors, values never change, and no number is endless or none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def connections_of(section: Section) -> Iterator[str]:
    """Every Airflow connection that a section names, however deep, told by the types of its fields, not by their names;
    in their order, and as often as they are named.
    """
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if _CONNECTION in field.metadata or _names_connections(field.annotation):
            yield from _texts(value)
        for inner in _values(value):
            if isinstance(inner, Section):
                yield from connections_of(inner)


def _names_connections(kind: Any) -> bool:
    """Whether a type is that of connections, or is made of it: an optional one, or several."""
    metadata = getattr(kind, "__metadata__", ())
    return _CONNECTION in metadata or any(_names_connections(one) for one in get_args(kind))


def _values(value: Any) -> Iterator[Any]:
    """What a value is made of, itself where that is nothing else."""
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else None
    if inner is None:
        yield value
    else:
        for one in inner:
            yield from _values(one)


def _texts(value: Any) -> Iterator[str]:
    yield from (one for one in _values(value) if isinstance(one, str))

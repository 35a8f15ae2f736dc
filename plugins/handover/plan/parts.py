"""What the sections of a plan are made of: the base class, and names for kinds of values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

INCLUDE = Path(__file__).resolve().parents[3] / "include"

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Growth = Annotated[float, Field(gt=0)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
KubeName = Annotated[str, StringConstraints(pattern=r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$")]
ConnectionId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+$", min_length=1)]
UrlPath = Annotated[str, StringConstraints(pattern=r"^/\S*$")]
Command = Annotated[tuple[str, ...], Field(min_length=1)]
Items = Annotated[tuple[str, ...], Field(min_length=1)]


def _in_include(folder: str) -> AfterValidator:
    def check(name: str) -> str:
        if not (INCLUDE / folder / name).is_file():
            raise ValueError(f"no such file: include/{folder}/{name}")
        return name

    return AfterValidator(check)


SqlFile = Annotated[str, _in_include("sql")]
Manifest = Annotated[str, _in_include("k8s")]
Calendar = Annotated[str, _in_include("calendars")]
Checklist = Annotated[str, _in_include("report")]
ChecklistFile = Annotated[str, _in_include("readiness")]
SeedFile = Annotated[str, _in_include("seed")]


class Section(BaseModel):
    """A part of the plan: unknown keys are errors, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid")

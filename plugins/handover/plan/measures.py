"""Section `measures` of the plan: by what a release is judged while it is watched, as data.

Each measure has a source, limits, a window, phases and a severity, and says what its silence means. `measures_of` gives
those of a plan: the ones that every plan has, made from ``thresholds``, ``watch`` and ``incidents``, and over them what
the plan lists: an entry replaces what it says of the measure of the same name and source, or adds one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, ValidationError, model_validator

from handover.models import names
from handover.models.incident import Severity
from handover.models.measures import Phase, Silence
from handover.models.names import DATABASE, ERROR_TRACKER, PODS, PROBE
from handover.plan.parts import Section

if TYPE_CHECKING:
    from handover.plan.model import Plan

UNITS: Mapping[str, tuple[str, Fraction | int]] = {
    "": ("number", 1), "%": ("number", Fraction(1, 100)),
    "s": ("time", 1), "ms": ("time", Fraction(1, 10**3)), "us": ("time", Fraction(1, 10**6)),
    "ns": ("time", Fraction(1, 10**9)), "min": ("time", 60), "h": ("time", 3600),
    "B": ("bytes", 1), "kB": ("bytes", 10**3), "MB": ("bytes", 10**6), "GB": ("bytes", 10**9),
    "KiB": ("bytes", 2**10), "MiB": ("bytes", 2**20), "GiB": ("bytes", 2**30),
    "B/s": ("bytes per second", 1), "kB/s": ("bytes per second", 10**3), "MB/s": ("bytes per second", 10**6),
    "KiB/s": ("bytes per second", 2**10), "MiB/s": ("bytes per second", 2**20),
    "1/s": ("rate", 1), "1/min": ("rate", Fraction(1, 60)), "1/h": ("rate", Fraction(1, 3600)),
}  # fmt: skip
"""What a unit measures, and how many of the first unit of its kind it is."""
GIVEN: Mapping[str, Mapping[str, str]] = {
    PODS: {
        names.ERROR_RATE: "", names.CPU: "", names.MEMORY: "", names.CACHE_HIT_RATE: "", names.POD_CONNECTIONS: "",
        names.DISK_IO: "B/s", names.NETWORK_IO: "B/s", names.THROUGHPUT: "1/s", names.RESTARTS: "",
    },
    PROBE: {names.ERROR_RATE: ""},
    DATABASE: {names.CONNECTIONS: "", names.REPLICATION_LAG: "s"},
    ERROR_TRACKER: {names.NEW_ERRORS: ""},
}  # fmt: skip
"""What the sources that every watch has can tell, and in which unit; pods and probes have percentiles too."""
SHARES = frozenset({names.ERROR_RATE, names.CACHE_HIT_RATE})
_QUANTILE = re.compile(r"p([1-9][0-9]?)(?:_([0-9]))?_seconds")

Window = Literal["fast", "sustained"]
Number = Annotated[float, Field(allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Worse = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@cache
def quantile_of(name: str) -> float | None:
    """0.99 for ``p99_seconds``, 0.999 for ``p99_9_seconds``; None for what is no percentile of response times."""
    found = _QUANTILE.fullmatch(name)
    return int(found[1] + (found[2] or "0")) / 1000 if found else None


def _told_in(source: str, name: str) -> str | None:
    """The unit in which a source that every watch has tells a measure; None when it does not."""
    percentile = "s" if source in (PODS, PROBE) and quantile_of(name) is not None else None
    return GIVEN.get(source, {}).get(name, percentile)


def in_unit(value: float, given: str, wanted: str) -> float | None:
    """The value in another unit, as it would be written there: 700 ms are 0.7 s, and not a little more. None when they
    do not measure the same. No unit at all is whatever is wanted.
    """
    if given in ("", wanted):
        return value
    kind, factor = UNITS.get(given, ("unknown", 0))
    wanted_kind, wanted_factor = UNITS[wanted]
    return _times(value, Fraction(factor) / wanted_factor) if kind == wanted_kind else None


def in_first(value: float, unit: str) -> float:
    """The value in the first unit of its kind: seconds, bytes, a share of one."""
    return _times(value, Fraction(UNITS[unit][1]))


def _times(value: float, ratio: Fraction) -> float:
    return value * ratio.numerator / ratio.denominator


def _known_unit(unit: str) -> str:
    if unit not in UNITS:
        raise ValueError(f"unknown unit {unit!r}; known are {', '.join(repr(one) for one in UNITS)}")
    return unit


Unit = Annotated[str, AfterValidator(_known_unit)]


class Limit(Section):
    """What a value must not be; any of these, in the measure's unit.

    ``relative`` is compared with the stable version, ``growth`` with what was normal before the deployment; for a value
    that has no distribution both are the same: normal plus that share of it.
    """

    above: Number | None = None
    below: Number | None = None
    relative: Worse | None = None
    """0.5: more than half as much again as the stable version has."""
    growth: Worse | None = None
    at_least: NotNegative = 0
    """Of ``relative`` and ``growth``: worse by less than this is noise, whatever the share."""
    floor: Number | None = None
    """Of ``relative`` and ``growth``: the limit is never below this."""
    normal: Number | None = None
    """What is normal as long as nobody knows; without it there is nothing to compare with then, and no data."""

    @model_validator(mode="after")
    def _limits_something(self) -> Limit:
        if all(one is None for one in (self.above, self.below, self.relative, self.growth)):
            raise ValueError("a limit is one of above, below, relative and growth, or several of them")
        modest = self.at_least or self.floor is not None or self.normal is not None
        if self.relative is None and self.growth is None and modest:
            raise ValueError("at_least, floor and normal are of a limit that is relative or of growth")
        if self.above is not None and self.below is not None and self.below >= self.above:
            raise ValueError("below must be less than above: no value would be good")
        return self

    @property
    def compares(self) -> float | None:
        """By which share a value may be worse than what is normal; None when it is not compared."""
        return self.growth if self.relative is None else self.relative

    def over(self, normal: float) -> float:
        """The limit of a value, from what is normal."""
        limit = normal + max(abs(normal) * (self.compares or 0.0), self.at_least)
        return limit if self.floor is None else max(limit, self.floor)


class Measure(Section):
    """One measure of a watch. ``limit`` is in ``unit``."""

    name: str
    source: str
    query: str = ""
    """What a source of the plan is asked for, in its own language (`handover.plan.sources`)."""
    unit: Unit
    limit: Limit
    window: Window
    """``fast``: as soon as it is sure, or ``samples`` values in a row are bad. ``sustained``: every value of
    ``watch.sustained_seconds`` is.
    """
    samples: Annotated[int, Field(ge=1)]
    """How many bad ones there have to be at least."""
    severity: Severity
    phases: tuple[Phase, ...]
    silence: Silence

    @property
    def key(self) -> tuple[str, str]:
        return self.source, self.name

    @property
    def quantile(self) -> float | None:
        return quantile_of(self.name) if self.source in (PODS, PROBE) else None

    @property
    def is_needed(self) -> bool:
        """Whether nobody may go on without it: it counts in some phase, and its silence is not ignored."""
        return bool(self.phases) and self.silence is not Silence.IGNORE

    @property
    def is_share(self) -> bool:
        """Whether it is judged by how many of all answers are bad, rather than by values."""
        return self.source in (PODS, PROBE) and (self.name in SHARES or self.quantile is not None)

    @model_validator(mode="after")
    def _can_be_judged(self) -> Measure:
        where, limit = f"{self.name} of {self.source}", self.limit
        if self.source in GIVEN:
            given = _told_in(self.source, self.name)
            if given is None:
                also = " and percentiles such as p99_seconds" if self.source in (PODS, PROBE) else ""
                told = f"{', '.join(GIVEN[self.source])}{also}"
                raise ValueError(f"unknown measure {self.name!r} of source {self.source!r}, which has {told}")
            if UNITS[given][0] != UNITS[self.unit][0]:
                raise ValueError(
                    f"{where} is in {given or 'no unit'!r}, which {self.unit or 'no unit'!r} does not measure"
                )
        if self.is_share:
            self._share_can_be_judged(where, limit)
        return self

    def _share_can_be_judged(self, where: str, limit: Limit) -> None:
        allowed = {"above", "relative"} if self.quantile is not None and self.source == PODS else {"above"}
        if self.name == names.CACHE_HIT_RATE:
            allowed = {"below"}
        used = {kind for kind in ("above", "below", "relative", "growth") if getattr(limit, kind) is not None}
        if used - allowed:
            raise ValueError(
                f"the limit of {where} is {' or '.join(sorted(allowed))}, not {', '.join(sorted(used - allowed))}"
            )
        value = limit.above if limit.below is None else limit.below
        if value is None or self.quantile is not None:
            if value is not None and value <= 0:
                raise ValueError(f"the limit of {where} must be above 0")
            return
        if not 0 < value * UNITS[self.unit][1] < 1:
            raise ValueError(f"the limit of {where} is a share between 0 and 1, this is {value:g}{self.unit}")


def _some_name(name: str) -> str:
    if name == names.NO_DATA:
        raise ValueError(f"{name} is what a measure without data is called")
    return name


MeasureName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$"), AfterValidator(_some_name)]
SourceName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class MeasureEntry(Section):
    """One entry of the plan's list. What it leaves out is as the measure of this name and source has it, else: the unit
    of a source that every watch has, or none, ``sustained``, ``watch.min_bad_samples``, the severity of ``incidents``,
    every phase, and silence is a breach. ``phases: []`` leaves a measure out, on record.
    """

    name: MeasureName
    source: SourceName
    query: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)] | None = None
    unit: Unit | None = None
    limit: Limit | None = None
    window: Window | None = None
    samples: Annotated[int, Field(ge=1)] | None = None
    severity: Severity | None = None
    phases: tuple[Phase, ...] | None = None
    silence: Silence | None = None


def measures_of(plan: Plan) -> tuple[Measure, ...]:
    """All measures of a plan, in the order in which they are judged. Raises `ValueError` for a list that is wrong."""
    found = {measure.key: measure for measure in _usual(plan)}
    seen: set[tuple[str, str]] = set()
    for entry in plan.measures:
        key = entry.source, entry.name
        if key in seen:
            raise ValueError(f"measures: {entry.name} of {entry.source} is there twice")
        seen.add(key)
        if why := _nobody_tells(plan, *key):
            raise ValueError(f"measures: {entry.name} of {entry.source}: {why}")
        said = {name: value for name, value in entry if value is not None}
        usual = found.get(key)
        if usual is None and entry.limit is None:
            raise ValueError(f"measures: {entry.name} of {entry.source} has no limit")
        base = dict(usual) if usual else _new(plan, entry.source, entry.name)
        try:
            found[key] = Measure.model_validate(base | said)
        except ValidationError as error:
            reasons = "; ".join(one["msg"].removeprefix("Value error, ") for one in error.errors())
            raise ValueError(f"measures: {reasons}") from None
    return tuple(found.values())


def _nobody_tells(plan: Plan, source: str, name: str) -> str:
    """Why a source that not every plan has cannot tell a measure of this plan, "" when it can."""
    if source == ERROR_TRACKER and not plan.health.error_tracker_connection:
        return "the plan has no health.error_tracker_connection"
    if source == DATABASE and not plan.migration:
        return "the plan has no migration, which says where the database is"
    if source == DATABASE and name == names.REPLICATION_LAG and not plan.database.replica_connections:
        return "the plan has no migration.replica_connections"
    return ""


def others_of(measures: Collection[Measure]) -> tuple[str, ...]:
    """The sources that not every watch has, each once."""
    return tuple(dict.fromkeys(one.source for one in measures if one.source not in GIVEN))


def _new(plan: Plan, source: str, name: str) -> dict[str, object]:
    return {
        "unit": _told_in(source, name) or "", "window": "sustained", "samples": plan.watch.min_bad_samples,
        "severity": plan.incidents.severity_of(name), "phases": tuple(Phase), "silence": Silence.BREACH,
    }  # fmt: skip


def _usual(plan: Plan) -> list[Measure]:
    """What every plan is judged by, from its thresholds."""
    t, most_errors = plan.thresholds, float(plan.health.max_new_errors)

    def measure(
        source: str, name: str, limit: Limit, *, fast: bool = False, must: bool = False, samples: int | None = None
    ) -> Measure:
        return Measure.model_construct(
            name=name, source=source, unit=GIVEN[source].get(name, "s"), limit=limit,
            window="fast" if fast else "sustained", samples=samples or plan.watch.min_bad_samples,
            severity=plan.incidents.severity_of(name), phases=tuple(Phase),
            silence=Silence.BREACH if must else Silence.IGNORE,
        )  # fmt: skip

    errors, p99, p50 = Limit(above=t.max_error_rate), Limit(above=t.max_p99_seconds), Limit(above=t.max_p50_seconds)
    slower = {"relative": t.rollback_degradation, "at_least": t.noise_floor_seconds}
    database, replicas = plan.migration, plan.migration and plan.migration.replica_connections
    issues = Limit(growth=0, at_least=most_errors, normal=0)
    connections = Limit(growth=t.max_connection_growth, at_least=t.min_connection_growth)
    asked = plan.health.error_tracker_connection is not None
    lag = Limit(above=t.max_replication_lag_seconds)
    traffic = Limit(growth=t.max_io_growth, floor=float(t.min_io_bytes_per_second))
    return [
        measure(PROBE, names.ERROR_RATE, errors, fast=True, must=True),
        measure(PODS, names.ERROR_RATE, errors, fast=True, must=True),
        measure(PROBE, names.P99, p99, fast=True, must=True),
        measure(PODS, names.P99, p99, fast=True, must=True),
        measure(PROBE, names.P50, p50, fast=True, must=True),
        measure(PODS, names.P50, Limit(above=t.max_p50_seconds, **slower), fast=True, must=True),
        measure(PODS, names.P95, Limit(**slower)),
        measure(PODS, names.RESTARTS, Limit(above=0), fast=True, samples=1),
        measure(PODS, names.CACHE_HIT_RATE, Limit(below=t.min_cache_hit_rate)),
        measure(PODS, names.CPU, Limit(above=t.max_cpu)),
        measure(PODS, names.MEMORY, Limit(above=t.max_memory)),
        *([measure(DATABASE, names.REPLICATION_LAG, lag, must=True)] if replicas else []),
        *([measure(ERROR_TRACKER, names.NEW_ERRORS, issues, must=True)] if asked else []),
        *([measure(DATABASE, names.CONNECTIONS, connections)] if database else []),
        measure(PODS, names.POD_CONNECTIONS, connections),
        measure(PODS, names.DISK_IO, traffic),
        measure(PODS, names.NETWORK_IO, traffic),
    ]

"""Reads the ledger for people who look around in it: pages of deployments, and measurements thinned for a plot."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from handover.models.deployment import Status
from handover.models.evidence import Verdict
from handover.record.ledger import WAIT_SECONDS, Ledger, NotRecorded

SECONDS = 5.0
"""A statement that takes longer is not worth waiting for; who looks asks again."""
POINTS = 400
"""Of one measure, at most."""
STRETCHES = (0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400)
"""Seconds that one point may stand for."""
DIGITS = 6

_PAGE = """
SELECT d.deployment, d.version, d.previous_version, d.requested_by, d.reason, date_part('epoch', d.started_at),
       date_part('epoch', s.switched_at), o.status, date_part('epoch', o.at)
FROM (
    SELECT * FROM deployments WHERE plan = %s ORDER BY started_at DESC, deployment DESC LIMIT %s OFFSET %s
) d
LEFT JOIN LATERAL (SELECT status, at FROM outcomes WHERE deployment = d.deployment ORDER BY at DESC LIMIT 1) o ON true
LEFT JOIN LATERAL (SELECT min(switched_at) AS switched_at FROM outcomes WHERE deployment = d.deployment) s ON true
ORDER BY d.started_at DESC, d.deployment DESC
"""
_PAIRS = """
WITH RECURSIVE pairs AS (
    (SELECT what, source FROM measurements WHERE deployment = %(run)s ORDER BY what, source LIMIT 1)
    UNION ALL
    SELECT next.what, next.source FROM pairs CROSS JOIN LATERAL (
        SELECT m.what, m.source FROM measurements m
        WHERE m.deployment = %(run)s AND (m.what, m.source) > (pairs.what, pairs.source)
        ORDER BY m.what, m.source LIMIT 1
    ) next
)
"""
"""Each measure once, without a look at every point of it."""
_OF_PAIR = "m.deployment = %(run)s AND m.what = pairs.what AND m.source = pairs.source"
_SPAN = f"""
{_PAIRS} SELECT date_part('epoch', min(span.first)), date_part('epoch', max(span.last)) FROM pairs CROSS JOIN LATERAL (
    SELECT min(m.at) AS first, max(m.at) AS last FROM measurements m WHERE {_OF_PAIR}
) span
"""  # noqa: S608 - texts of ours
_SLOT = "date_bin(make_interval(secs => %(seconds)s), m.at, to_timestamp(0))"
_WHOLE = f"""
SELECT m.what, m.source, max(m.unit), round(date_part('epoch', {_SLOT}) / %(seconds)s)::bigint AS slot,
       min(m.value), max(m.value)
FROM measurements m WHERE m.deployment = %(run)s GROUP BY m.what, m.source, {_SLOT} ORDER BY m.what, m.source, slot
"""  # noqa: S608 - texts of ours
_SINCE = f"""
{_PAIRS} SELECT pairs.what, pairs.source, thin.unit, round(date_part('epoch', thin.slot) / %(seconds)s)::bigint,
                thin.low, thin.high
FROM pairs CROSS JOIN LATERAL (
    SELECT max(m.unit) AS unit, {_SLOT} AS slot, min(m.value) AS low, max(m.value) AS high
    FROM measurements m WHERE {_OF_PAIR} AND m.at >= to_timestamp(%(since)s) GROUP BY {_SLOT}
) thin ORDER BY pairs.what, pairs.source, thin.slot
"""  # noqa: S608 - texts of ours
"""The same as `_WHOLE` for the end of it: then the index is quicker than to look at every point."""
_IS_OF = "SELECT 1 FROM deployments WHERE deployment = %s AND plan = %s"
_LAST_STEP = """
SELECT step, verdict, reason, date_part('epoch', at) FROM checks WHERE deployment = %s
ORDER BY at DESC, recorded_at DESC LIMIT 1
"""
_NEWEST = """
SELECT greatest(
    (SELECT max(recorded_at) FROM checks WHERE deployment = %(run)s),
    (SELECT max(recorded_at) FROM decisions WHERE deployment = %(run)s),
    (SELECT max(recorded_at) FROM messages WHERE deployment = %(run)s),
    (SELECT max(recorded_at) FROM incidents WHERE deployment = %(run)s),
    (SELECT max(recorded_at) FROM outcomes WHERE deployment = %(run)s),
    (SELECT max(recorded_at) FROM changes WHERE deployment = %(run)s),
    (SELECT max(recorded_at) FROM deployments WHERE deployment = %(run)s)
)::text
"""


@dataclass(frozen=True)
class Row:
    """One deployment in a list. ``status`` and ``ended_at``: of its last outcome, None while it has none."""

    deployment: str
    version: str
    previous_version: str
    requested_by: str
    reason: str
    started_at: float
    switched_at: float | None
    status: Status | None
    ended_at: float | None


@dataclass(frozen=True)
class Line:
    """One measure; ``points``: number of the stretch since the epoch to the least and the greatest value in it, None
    for what is no number.
    """

    what: str
    source: str
    unit: str
    points: dict[int, tuple[float | None, float | None]]


@dataclass(frozen=True)
class Thinned:
    """``seconds``: of one stretch."""

    seconds: float
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Mark:
    """What changes when something is added to the record of a deployment: ``entries`` for all but measurements, and the
    time of the last measurement. ``step``, ``verdict``, ``reason``, ``at``: of the step that ended last, "" for none.
    """

    entries: str = ""
    measured_at: float = 0.0
    step: str = ""
    verdict: Verdict = Verdict.UNKNOWN
    reason: str = ""
    at: float = 0.0


class Browser(Ledger):
    """The ledger as it is looked around in."""

    def page(self, plan: str, limit: int, offset: int) -> tuple[int, list[Row]]:
        """Newest first; and how many there are."""
        with self.reading() as connection:
            total = connection.execute("SELECT count(*) FROM deployments WHERE plan = %s", (plan,)).fetchone()
            found = connection.execute(_PAGE, (plan, limit, offset)).fetchall()
        return (total[0] if total else 0), [_row(one) for one in found]

    def mark(self, deployment: str) -> Mark:
        with self.reading() as connection:
            asked = {"run": deployment}
            entries = connection.execute(_NEWEST, asked).fetchone()
            span = connection.execute(_SPAN.encode(), asked).fetchone()
            last = connection.execute(_LAST_STEP, (deployment,)).fetchone()
        step, verdict, reason, at = last or ("", Verdict.UNKNOWN, "", 0.0)
        return Mark(
            (entries[0] if entries else "") or "", (span[1] if span else 0.0) or 0.0, step, Verdict(verdict), reason, at
        )

    def thinned(self, plan: str, deployment: str, since: float, points: int = POINTS) -> Thinned:
        """All measures since the stretch in which ``since`` lies. However long the deployment, a measure has at most so
        many points; what was highest and lowest in a stretch is never lost. Raises `NotRecorded`.
        """
        with self.reading() as connection:
            if not connection.execute(_IS_OF, (deployment, plan)).fetchone():
                raise NotRecorded(f"the ledger knows no deployment {deployment} of {plan}")
            span = connection.execute(_SPAN.encode(), {"run": deployment}).fetchone()
            first, last = span or (None, None)
            if first is None or last is None:
                return Thinned(STRETCHES[0], ())
            seconds = stretch(last - first, points)
            asked = {"run": deployment, "seconds": seconds, "since": math.floor(since / seconds) * seconds}
            asks = _WHOLE if since <= first else _SINCE
            found = connection.execute(asks.encode(), asked).fetchall()
        return Thinned(seconds, tuple(_lines(found)))


def stretch(span: float, points: int = POINTS) -> float:
    """Seconds that one point stands for, so that the span has no more points than these."""
    return next((one for one in STRETCHES if span / one < points - 1), span / (points - 2))


def _lines(found: list[tuple[Any, ...]]) -> Iterator[Line]:
    lines: dict[tuple[str, str], Line] = {}
    for what, source, unit, slot, low, high in found:
        line = lines.setdefault((what, source), Line(what, source, unit, {}))
        line.points[slot] = _number(low), _number(high)
    yield from lines.values()


def _number(value: float) -> float | None:
    """As exact as a plot can show."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _row(found: tuple[Any, ...]) -> Row:
    run, version, previous, who, why, started, switched, status, ended = found
    return Row(run, version, previous, who, why, started, switched, Status(status) if status else None, ended)


def browser(connection_id: str) -> Browser:
    """The ledger behind an Airflow connection."""
    from handover.adapters.postgres import database

    return Browser(database(connection_id), WAIT_SECONDS, SECONDS)

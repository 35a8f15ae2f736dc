"""The verdict on what a watch has seen, by the plan's measures. Pure.

Each measure is judged by itself and in one order: is there data that can be judged (validate, transform; the tracks of
`handover.analysis.tracks`), what does it say (`classify`), and what does all of that come to (`breach`, `conclude`).
Every result is kept; the first breach decides. Fast measures are sure by statistics, at any traffic; sustained ones
want a whole window of bad values. At the end, `conclude` passes only what was seen to be good: silence, too few
requests or a doubtful share are UNKNOWN, and only PASS is a pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from handover.analysis.observations import FindingKey, JudgedMeasure, Observations
from handover.analysis.tracks import ShareTrack, Track
from handover.models.evidence import Verdict
from handover.models.incident import Severity
from handover.models.measures import MeasureResult, MeasureVerdict, Silence
from handover.models.names import NO_DATA, PODS, PROBE
from handover.plan.measures import Measure


@dataclass(frozen=True)
class Finding:
    """One measure that breaks its limit or cannot be judged, and what shows it. ``rule``: the measure's name, or
    `NO_DATA`; ``measure``: its name in both cases; ``severity``: as the plan has it.
    """

    rule: str
    reason: str
    measure: str = field(default="", compare=False)
    source: str = field(default="", compare=False)
    severity: Severity = field(default=Severity.CRITICAL, compare=False)

    @property
    def key(self) -> FindingKey:
        return self.rule, self.source, self.measure

    def __str__(self) -> str:
        return f"{self.rule}: {self.reason}"


def results(seen: Observations, now: float) -> list[MeasureResult]:
    """What every measure of the plan has come to by now."""
    seen.overdue(now)
    return [classify(seen, one, now) for one in seen.watched]


def classify(seen: Observations, watched: JudgedMeasure, now: float) -> MeasureResult:
    """One measure by itself."""
    measure, first = watched.measure, watched.tracks[0]
    broken: Track | None = None
    if not _counts(seen, watched):
        verdict, reason = MeasureVerdict.NOT_IN_PHASE, f"counts in {', '.join(measure.phases) or 'no phase'}"
    elif broken := _broken(watched, now):
        verdict, reason = MeasureVerdict.BREACH, broken.reason(now)
    elif missing := _missing(seen, watched, now):
        verdict, reason = MeasureVerdict.NO_DATA, missing
    else:
        verdict, reason = MeasureVerdict.PASS, first.coarse if isinstance(first, ShareTrack) else ""
    value, limit = (broken or first).shown(now)
    return MeasureResult(
        measure=measure.name, source=measure.source, verdict=verdict, severity=measure.severity, value=value,
        limit=limit, unit="" if measure.is_share else measure.unit, reason=reason,
    )  # fmt: skip


def breach(seen: Observations, now: float) -> Finding | None:
    """The first measure that is broken, or has been silent for too long where that is as bad; else None."""
    if seen.muted:
        seen.muted &= _broken_or_silent(seen, now)
    if found := fast_breach(seen, now, everywhere=True):
        return found
    silences = (found for found, means in _silences(seen, now) if means is Silence.BREACH)
    silent = next((found for found in silences if found.key not in seen.muted), None)
    return silent or _first(seen, (one for one in seen.watched if one.measure.window != "fast"), now)


def fast_breach(seen: Observations, now: float, *, everywhere: bool = False) -> Finding | None:
    """The same for what can break between two samples: fast measures of pods and probes, or ``everywhere``."""
    seen.overdue(now)
    fast = (
        one for one in seen.watched
        if one.measure.window == "fast" and (everywhere or one.measure.source in (PODS, PROBE))
    )  # fmt: skip
    return _first(seen, fast, now)


def note(seen: Observations, finding: Finding) -> None:
    """People were told, and nothing is done about it: the watch goes on without it."""
    seen.noted.add(finding.key)
    seen.muted.add(finding.key)


def incidents(seen: Observations, now: float) -> list[Finding]:
    """What people have to hear of, though it moves nothing: silence that the plan takes for an incident, and our probes
    where something in front of the release refuses them while clients are served.
    """
    told = [found for found, means in _silences(seen, now) if means is Silence.INCIDENT]
    return [replace(one, severity=Severity.HIGH) if one.severity is Severity.CRITICAL else one for one in told]


def notes(seen: Observations, now: float) -> list[str]:
    """Degradation that is worth an alert, but no breach (plan 4.2: more than 10 %)."""
    alert = seen.plan.thresholds.alert_degradation
    return [
        f"{one.measure.name} is more than {alert:.0%} above the old version's{_from_to(seen, one.measure)}"
        for one, comparison in seen.comparisons
        if comparison.alerting(now)
    ]


def conclude(seen: Observations, now: float) -> tuple[Verdict, Finding | None]:
    """The verdict at the end of the soak, with what is against a pass."""
    if found := breach(seen, now):
        return Verdict.FAIL, found
    against = next((found for found in _against_a_pass(seen, now) if found.key not in seen.noted), None)
    return (Verdict.UNKNOWN, against) if against else (Verdict.PASS, None)


def told(seen: Observations, now: float) -> str:
    """What a pass rests on."""
    seconds = now - seen.started
    proves = [
        f"{one.measure.name} of {one.measure.source}: {proof}"
        for one in seen.watched
        if isinstance(track := one.tracks[0], ShareTrack) and (proof := track.coarse or track.proves)
    ]
    return "; ".join([
        f"{seconds:.0f} s, {seen.served.total:g} answers of pods ({seen.served.bad:g} bad), "
        f"{seen.probed.total:g} probes ({seen.probed.bad:g} bad)",
        *proves,
    ])  # fmt: skip


def _against_a_pass(seen: Observations, now: float) -> Iterator[Finding]:
    must = [one for one in seen.watched if _counts(seen, one) and one.measure.silence is Silence.BREACH]
    shares = [(one.measure, track) for one in must for track in one.tracks if isinstance(track, ShareTrack)]
    needed = seen.plan.watch.min_requests
    for measure, share in sorted(shares, key=lambda one: one[0].source):
        if not (total := share.whole.total + share.besides) >= needed:
            how = "" if measure.quantile is None else f" with their {measure.name}"
            few = f"{measure.source}: only {total:g} answers seen{how}, {needed} are needed"
            yield _no_data(seen, few, measure)
    for one in seen.watched:
        for track in one.tracks:
            if _counts(seen, one) and track.doubtful(now):
                yield _finding(one.measure, track.doubt(now))
    for source in (one for one in unheard(seen) if one in seen.sources):
        yield _no_data(seen, f"{source} never gave data", None, source)
    for one in must:
        if one.measure.source in seen.heard and (missing := _missing(seen, one, now)):
            yield _no_data(seen, f"{one.measure.source}: {one.measure.name}: {missing}", one.measure)


def unheard(seen: Observations) -> list[str]:
    """Sources that have told nothing yet, and that a measure which the plan needs is of; a source that no measure is of
    is there because somebody wants it.
    """
    asked = {one.measure.source for one in seen.watched}
    needed = {one.measure.source for one in seen.watched if one.measure.is_needed}
    silent = [source for source, heard in seen.heard.items() if heard <= seen.started]
    return [source for source in silent if source in needed or source not in asked]


def _silences(seen: Observations, now: float) -> Iterator[tuple[Finding, Silence]]:
    """Sources that say nothing for too long, measures that their source cannot tell; each with what that means."""
    longest = seen.plan.watch.no_data_seconds
    for source, heard in seen.heard.items():
        mine = [one for one in seen.watched if one.measure.source == source]
        if now - heard > longest and (means := _meaning(seen, mine)) is not Silence.IGNORE:
            why = f" ({seen.silence[source]})" if seen.silence.get(source) else ""
            clients = source == PROBE and seen.refused and now - seen.clients_seen <= longest
            found = _no_data(seen, f"{source} gave no data for {now - heard:.1f} s{why}", _of(mine), source)
            yield found, Silence.INCIDENT if clients else means
        for one in mine:
            if one.lacking and now - one.heard > longest and (means := _meaning(seen, [one])) is not Silence.IGNORE:
                reason = f"{source} gave no {one.measure.name} for {now - one.heard:.1f} s ({one.lacking})"
                yield _no_data(seen, reason, one.measure), means


def _meaning(seen: Observations, silent: list[JudgedMeasure]) -> Silence:
    """The worst of what their silence means; a source that no measure is of is there because somebody wants it."""
    means = {one.measure.silence for one in silent if _counts(seen, one)}
    if not silent or Silence.BREACH in means:
        return Silence.BREACH
    return Silence.INCIDENT if Silence.INCIDENT in means else Silence.IGNORE


def _first(seen: Observations, among: Iterable[JudgedMeasure], now: float) -> Finding | None:
    for one in among:
        if _counts(seen, one) and _key(one.measure) not in seen.muted and (track := _broken(one, now)):
            return _finding(one.measure, track.reason(now))
    return None


def _broken_or_silent(seen: Observations, now: float) -> set[FindingKey]:
    broken = {_key(one.measure) for one in seen.watched if _broken(one, now)}
    return broken | {found.key for found, _ in _silences(seen, now)}


def _key(measure: Measure) -> FindingKey:
    """Of what is found when it breaks its limit."""
    return measure.name, measure.source, measure.name


def _broken(watched: JudgedMeasure, now: float) -> Track | None:
    return next((track for track in watched.tracks if track.over(now)), None)


def _missing(seen: Observations, watched: JudgedMeasure, now: float) -> str:
    """Why there is nothing to judge; "" when there is."""
    source = watched.measure.source
    if source not in seen.heard:
        return "nobody asks for it"
    return watched.lacking or watched.tracks[0].nothing(now)


def _counts(seen: Observations, watched: JudgedMeasure) -> bool:
    phases = watched.measure.phases
    return bool(phases) and (seen.phase is None or seen.phase in phases)


def _finding(measure: Measure, reason: str) -> Finding:
    return Finding(measure.name, reason, measure.name, measure.source, measure.severity)


def _no_data(seen: Observations, reason: str, measure: Measure | None, source: str = "") -> Finding:
    """As severe as the plan has it for `NO_DATA`."""
    severity = seen.plan.incidents.severity_of(NO_DATA)
    name = measure.name if measure else ""
    return Finding(NO_DATA, reason, name, source or (measure.source if measure else ""), severity)


def _of(silent: list[JudgedMeasure]) -> Measure | None:
    return silent[0].measure if silent else None


def _from_to(seen: Observations, measure: Measure) -> str:
    last, normal = seen.last.get(measure.name), seen.baseline.get(measure.name)
    return f" {normal:.3g} s: {last.value:.3g} s" if last and last.value is not None and normal is not None else ""

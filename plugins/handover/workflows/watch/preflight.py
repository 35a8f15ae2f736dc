"""What the watch will judge by is tried on the version that serves now, before anything changes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from handover.analysis import preflight
from handover.analysis.sources import PodMetrics, Probe
from handover.models import names
from handover.models.evidence import Evidence, failed, passed
from handover.plan.measures import Measure, measures_of
from handover.step import Step, StepRun
from handover.workflows.watch.sources import sources_of

if TYPE_CHECKING:
    from handover.models.deployment import DeploymentState
    from handover.plan.model import Plan
    from handover.ports.metrics import MetricSource
    from handover.ports.public import PublicAddress

SOURCE_SECONDS = 40.0
"""Longer than any source may take by its own bound."""


class WatchPreflight(Step):
    """Reads every source for the stable version. What cannot be read is refused by name; of what the plan ignores when
    it is silent (``measures: silence: ignore``) it says that it is left out.
    """

    async def act(self, run: StepRun) -> Evidence:
        async with run.kube() as kube, run.public() as public:
            state = await run.state(kube)
            answered = await _of_public(self.plan, public, state)  # first: a counter may know nothing until it is asked
            looks = await preflight.looks_at(PodMetrics(kube, self.plan, state.stable))
            found = [
                *((str(one), _of_pods(self.plan, one.measures)) for one in preflight.problems(looks)),
                *await _of_sources(self.plan, sources_of(self.plan, state.previous_version, state.stable)),
                *answered,
            ]
        wrong = [reason for reason, counts in found if counts]
        left_out = [reason for reason, counts in found if not counts]
        if wrong:
            return failed(self.task_id, "; ".join(wrong) + "; nothing was changed")
        said = f"; left out: {'; '.join(left_out)}" if left_out else ""
        return passed(self.task_id, f"every source was read for {state.previous_version}{said}")


Found = tuple[str, bool]
"""What is wrong, and whether a deployment is refused for it."""


def _counts(measures: Iterable[Measure]) -> bool:
    return any(measure.is_needed for measure in measures)


def _of_pods(plan: Plan, without: Sequence[str]) -> bool:
    return _counts(one for one in measures_of(plan) if one.source == names.PODS and one.name in without)


async def _of_sources(plan: Plan, sources: Sequence[MetricSource]) -> list[Found]:
    reasons = await asyncio.gather(*map(_silence, sources))
    mine = {source.name: [one for one in measures_of(plan) if one.source == source.name] for source in sources}
    return [
        (f"{source.name}: {reason}", _counts(mine[source.name]) or not mine[source.name])
        for source, reason in zip(sources, reasons, strict=True)
        if reason
    ]


async def _silence(source: MetricSource) -> str:
    """Why a source gave no data, "" when it did."""
    try:
        async with asyncio.timeout(SOURCE_SECONDS):
            measured = await source.measure()
    except TimeoutError:
        return f"no answer within {SOURCE_SECONDS:g} s"
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]
    finally:
        await source.close()
    silent = [f"{one.what}: {one.why or 'no value'}" for one in measured if one.value is None]
    return "; ".join(silent) if measured else "nothing was measured"


async def _of_public(plan: Plan, public: PublicAddress, state: DeploymentState) -> list[Found]:
    """Whether our own requests are answered as a client's, and say which version answers."""
    probed = await Probe(public, plan).ask()
    wrong = [f"probe: GET {plan.health.path}: {why}" for why in (probed.problem, probed.silence) if why]
    if wrong:
        return [(reason, True) for reason in wrong]
    return [(reason, plan.traffic.origin is not None) for reason in await _of_origin(plan, public, state)]


async def _of_origin(plan: Plan, public: PublicAddress, state: DeploymentState) -> list[str]:
    origin = plan.traffic.origin
    if origin is None:
        return [
            "which version an answer is from (no traffic.origin): both serve for "
            f"{plan.traffic.entry_seconds:g} s at the cutover, and who answered is not looked at"
        ]
    answer = await public.get(origin.path or plan.health.path, plan.watch.probe_timeout_seconds)
    said, wanted = origin.said(answer.headers, answer.body), plan.said_by(state.stable, state.previous_version)
    if not said:
        why = answer.problem or f"status {answer.status}"
        return [f"answers say nothing in the {origin.place} ({why}): the switch could not tell which version gave them"]
    if not origin.is_from(said, wanted):
        return [f"the {origin.place} says {said}, and {wanted} serves: the switch could not rely on it"]
    return []

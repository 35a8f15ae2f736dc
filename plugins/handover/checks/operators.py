"""Checks of the running service: does it answer, how fast, does it work for a user, and what its monitors say."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from handover import clock
from handover.adapters.http import beginning_of, get
from handover.checks import verdicts
from handover.checks.sensors import said_by
from handover.models.answers import problem, silence
from handover.models.evidence import Evidence, Measurement, combined, failed, passed, unknown
from handover.plan.parts import required
from handover.ports.metrics import NoData
from handover.step import Step, StepRun

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import aiohttp

    from handover.checks.client import Load
    from handover.models.deployment import DeploymentState
    from handover.plan.model import Plan, Staging
    from handover.plan.traffic import Origin
    from handover.ports.metrics import MetricSource

SOURCE = "requests through the public service"
MAX_LOG_PAGES = 100


class KeyEndpoints(Step):
    """Plan 2.3: each key endpoint answers a logged-in user well, and from the wanted version.

    :param version: the version that must answer, the ``new`` one or the ``old`` one
    """

    def __init__(self, *, version: Literal["new", "old"] = "new", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.version = version

    async def act(self, run: StepRun) -> Evidence:
        from handover.checks.client import LoginFailed, endpoint, log_in, origin_of, session

        wanted, origin = said_by(self.plan, await run.known(), self.version), self.plan.traffic.origin
        api = await endpoint(self.plan.traffic.api_connection)
        async with session() as http:
            try:
                headers = await log_in(http, api, self.plan.health.login_path)
            except LoginFailed as error:
                return error.evidence(self.task_id)
            parts = [await self._one(http, api.url, path, headers, wanted) for path in self.plan.health.key_endpoints]
            if origin and not origin.in_every_answer:
                seen = await origin_of(http, api.url, self.plan.health.path, origin)
                parts.append(_from(origin.place, "an answer", origin, seen, wanted))
        return combined(self.task_id, parts)

    async def _one(
        self, http: aiohttp.ClientSession, url: str, path: str, headers: dict[str, str], wanted: str
    ) -> Evidence:
        async with get(http, f"{url}{path}", headers) as answer:
            await beginning_of(answer)
        status, origin = answer.status, self.plan.traffic.origin
        measured = Measurement(what=f"status {path}", value=status, source=SOURCE)
        if wrong := problem(status):
            return failed(path, wrong, measured)
        if nothing := silence(status):
            return unknown(path, nothing, measured)
        if origin is None or not origin.in_every_answer:
            return passed(path, str(status), measured)
        return _from(path, str(status), origin, origin.said(answer.headers, ""), wanted, measured)


def _from(check: str, what: str, origin: Origin, seen: str, wanted: str, *measured: Measurement) -> Evidence:
    """Whether the right version gave it."""
    if origin.is_from(seen, wanted):
        return passed(check, f"{what} from {seen}", *measured)
    return failed(check, f"answered by {seen or 'an unnamed version'} instead of {wanted}", *measured)


class ResponseTimes(Step):
    """Plan 2.3: p50 and p99 of ``performance.requests`` requests through the public Service are within the SLA."""

    def work(self, run: StepRun) -> Evidence:
        from handover.checks.client import LoginFailed, measure

        try:
            load = asyncio.run(measure(self.plan))
        except LoginFailed as error:
            return error.evidence(self.task_id)
        return verdicts.response_times(self.task_id, load, self.plan.thresholds, SOURCE)


class Baseline(Step):
    """What the old version measures before anything changes (plan 4.2), kept in the state for later comparisons.

    :param sources: more to keep for the watch, made from plan and state, e.g. database connections; each is asked
        before and after the requests, so that rates have two looks. One that does not answer is left out.
    """

    def __init__(
        self, *, sources: Callable[[Plan, DeploymentState], Sequence[MetricSource]] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.sources = sources

    def work(self, run: StepRun) -> Evidence:
        from handover.checks.client import LoginFailed

        try:
            return asyncio.run(self._measure(run))
        except LoginFailed as error:
            return unknown(self.task_id, str(error))

    async def _measure(self, run: StepRun) -> Evidence:
        from handover.checks.client import measure

        state = await run.known()
        sources = self.sources(self.plan, state) if self.sources else ()
        await self._look(sources)
        load = await measure(self.plan)
        if wrong := verdicts.answered(self.task_id, load, self.plan.thresholds, SOURCE):
            return unknown(self.task_id, f"before the deployment: {wrong.reason}", *wrong.measurements)
        measured = [*verdicts.summary(load, SOURCE), *await self._look(sources)]
        found = verdicts.values(measured)
        found.pop(verdicts.FAILURE_RATE, None)
        async with run.kube() as kube:
            await run.change(kube, lambda old: old.model_copy(update={"baseline": old.baseline | found}))
        text = ", ".join(f"{name} {value:.3g}" for name, value in found.items())
        return passed(self.task_id, text, *measured)

    async def _look(self, sources: Sequence[MetricSource]) -> list[Measurement]:
        measured: list[Measurement] = []
        for source in sources:
            try:
                measured.extend(await source.measure())
            except Exception as error:
                self.log.warning("%s gives no baseline: %r", source.name, error)
        return measured


class Performance(Step):
    """Plan 4.2: the baseline's procedure again; worse by 10 % is a warning, worse by 50 % fails (plan's thresholds).

    One bad series is not yet a slow release: it fails only when every one of three series is too slow.
    """

    def work(self, run: StepRun) -> Evidence:
        from handover.checks.client import LoginFailed

        try:
            return asyncio.run(self._compare(run))
        except LoginFailed as error:
            return error.evidence(self.task_id)

    async def _compare(self, run: StepRun) -> Evidence:
        from handover.checks.client import measure_until_good

        baseline = (await run.known()).baseline
        if not baseline:
            return unknown(self.task_id, "there is no baseline to compare with")
        limits, at_a_time = self.plan.thresholds, self.plan.performance.concurrency

        def judge(load: Load) -> Evidence:
            return verdicts.answered(self.task_id, load, limits, SOURCE) or verdicts.compare(
                self.task_id, baseline, verdicts.summary(load, SOURCE), limits, at_a_time
            )

        return await measure_until_good(self.plan, judge)


class ErrorTracker(Step):
    """Plan 2.3: the error tracker has no more than ``health.max_new_errors`` unresolved issues that were first seen in
    the new version.
    """

    needs = "health.error_tracker_connection"

    async def act(self, run: StepRun) -> Evidence:
        from handover.checks.sources import ErrorTrackerSource

        source = ErrorTrackerSource(self.plan, (await run.known()).version)
        try:
            measured = await source.measure()
        except NoData as error:
            return unknown(self.task_id, f"the error tracker cannot be asked: {error}")
        finally:
            await source.close()
        return verdicts.new_errors(self.task_id, measured, self.plan.health.max_new_errors)


class RecentErrors(Step):
    """Plan 1.1: no error spike in staging's logs (CloudWatch Logs) within the last ``staging.recent_seconds``."""

    needs = "staging"

    @property
    def rules(self) -> Staging:
        return required(self.plan.staging, self.needs)

    def work(self, run: StepRun) -> Evidence:
        from botocore.exceptions import BotoCoreError, ClientError

        staging = self.rules
        source = f"cloudwatch logs {staging.log_group}"
        try:
            found = self._count()
        except (BotoCoreError, ClientError) as error:
            nothing = Measurement(what="recent_errors", value=None, source=source)
            return unknown(self.task_id, f"{staging.log_group} cannot be read: {error}", nothing)
        measured = Measurement(what="recent_errors", value=found, source=source)
        if found is None:
            return unknown(self.task_id, f"{staging.log_group}: the search did not end", measured)
        at_least = "at least " if found > staging.max_recent_errors else ""
        text = f"{at_least}{found} errors in the last {staging.recent_seconds / 60:.0f} min"
        text = f"{text}, at most {staging.max_recent_errors} are allowed"
        return (passed if found <= staging.max_recent_errors else failed)(self.task_id, text, measured)

    def _count(self) -> int | None:
        """Matching log lines, counted until they are too many; None when the search takes too many pages."""
        from airflow.providers.amazon.aws.hooks.logs import AwsLogsHook
        from botocore.config import Config

        staging = self.rules
        config = Config(connect_timeout=5, read_timeout=15, retries={"total_max_attempts": 2})
        client = AwsLogsHook(aws_conn_id=staging.aws_connection, config=config).conn
        query: dict[str, Any] = {
            "logGroupName": staging.log_group,
            "filterPattern": staging.error_pattern,
            "startTime": int((clock.epoch() - staging.recent_seconds) * 1000),
        }
        found = 0
        for _ in range(MAX_LOG_PAGES):
            page = client.filter_log_events(**query)
            found += len(page["events"])
            if found > staging.max_recent_errors or not page.get("nextToken"):
                return found
            query["nextToken"] = page["nextToken"]
        return None


class CriticalPaths(Step):
    """Plan 4.1: the scenario of the plan's ``functional`` section, for real, through the public Service.

    :param version: the version that must answer, the ``new`` one or (after a rollback) the ``old`` one
    """

    needs = "functional"

    def __init__(self, *, version: Literal["new", "old"] = "new", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.version = version

    def work(self, run: StepRun) -> Evidence:
        from handover.adapters.straight import Straight
        from handover.checks.client import LoginFailed, endpoint
        from handover.checks.scenario import Scenario, StepFailed, beginnings

        functional, origin = required(self.plan.functional, self.needs), self.plan.traffic.origin
        wanted = said_by(self.plan, asyncio.run(run.known()), self.version)
        telling = origin if origin and origin.in_every_answer else None  # `KeyEndpoints` asks where answers do not tell
        api = asyncio.run(endpoint(self.plan.traffic.api_connection))
        measured: list[Measurement] = []
        try:
            variables = beginnings(functional, api, clock.utc().date())
            with Straight() as http:
                scenario = Scenario(http, api, variables, telling, wanted)
                for step in functional.steps:
                    done = scenario.call(step)
                    measured.append(Measurement(what=done.name, value=done.seconds, unit="s", source=SOURCE))
        except (StepFailed, LoginFailed) as error:
            return failed(self.task_id, str(error), *measured)
        return passed(self.task_id, ", ".join(f"{m.what} {m.value:.3f} s" for m in measured), *measured)

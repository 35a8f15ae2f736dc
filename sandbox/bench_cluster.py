"""`make bench-cluster`: our rollback beside Argo Rollouts', on one cluster; written to ``bench-cluster.json``.

In turn: a release under our watch, and the same pods under Argo's, never at the same time. The same guests send the
same requests to either, and what they saw is the measure. What each was told to look at is in the file (`rules`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from rich.console import Console
from rich.table import Table

from handover.plan.load import OVERLAY_VARIABLE, load_plan
from handover.plan.model import Plan
from sandbox.airflow_client import AirflowError
from sandbox.argo import Argo, Rollout, manifests
from sandbox.argo.comparison import Cause, Round, Who, as_json, compare
from sandbox.argo.observing import RATE, Disturbed, Event, observe
from sandbox.argo.rollout import ABORT
from sandbox.kubernetes import Cluster, build
from sandbox.overlays import write_overlay
from sandbox.rounds import NEW, OLD, ask_for_rollback, break_pods, new_pods, roll_back_now, under_watch
from sandbox.runs import Team
from sandbox.services.access import Access
from sandbox.settings import REPOSITORY, SandboxError
from sandbox.stack import Sandbox

ROUNDS = 5
TRIES = 3
"""Of a round that a busy machine disturbs."""
PLAN = REPOSITORY / "include" / "plans" / "pms.yaml"
CHANGES: dict[str, dict[str, Any]] = {
    "backup": {"min_bytes": "100KB"},
    "watch": {"after_switch_seconds": 60, "no_data_seconds": manifests.MISSED * manifests.RETRY_SECONDS},
    "thresholds": {"min_connection_growth": 200},
}
"""On top of that: little data, a watch long enough for a source to fall silent in it, and as patient as Argo then.
Guests come only to the side that is measured, so the database's connections grow by theirs."""
Say = Callable[[str], None]
OUR_REASONS = {
    Cause.FAULT: "error_rate: ",
    Cause.HAND: "measuring",
    Cause.NOW: "measuring now",
    Cause.COMMAND: "any more",
    Cause.SILENCE: "error_tracker gave no data",
}
"""What the reason of our rollback says, for each cause."""
ONE_SIDED = {(Who.OURS, Cause.FAULT_EVERY_SECOND), (Who.ARGO, Cause.NOW)}
"""What the other side has nothing of."""
ARGOS_REASONS = {
    Cause.FAULT: manifests.ANSWERS,
    Cause.FAULT_EVERY_SECOND: manifests.ANSWERS,
    Cause.SILENCE: manifests.TRACKER,
}
"""The metric that Argo's verdict names; without one there is no verdict."""


def measure(
    home: Path, cluster: Path | None, console: Console, rounds: int = ROUNDS, only: Sequence[Cause] = ()
) -> bool:
    """On a sandbox of its own; prints a table. True if ours takes at most Argo's time in every line.

    :param only: these causes; none for all
    """
    if cluster is None:
        raise SandboxError("Argo Rollouts needs a real cluster: --cluster kubernetes, or a file that describes one.")

    def say(text: str) -> None:
        console.print(f"[dim]{time.strftime('%H:%M:%S')}[/dim]  {text}")

    described = Cluster.read(cluster)
    overlay = write_overlay(home / "bench-cluster.yaml", CHANGES)
    say("the sandbox, and Argo Rollouts (built when it is not in the cache: minutes)")
    with (
        Sandbox(home / "bench-cluster", small=True, overlay=overlay, cluster=described) as running,
        Argo(running.endpoints, running.home / "run" / "argo") as argo,
    ):
        bench = Bench(running.endpoints, overlay, argo, running.home / "run")
        result = bench.run(_order(rounds, only or list(Cause)), home / "bench-cluster.json", say)
    return _print(console, result)


class Bench:
    """Both sides on one sandbox.

    :param overlay: of the plan with which the sandbox runs
    :param folder: for what the guests write
    """

    def __init__(self, endpoints: dict[str, Any], overlay: Path, argo: Argo, folder: Path) -> None:
        self._endpoints, self._overlay, self._argo, self._folder = endpoints, overlay, argo, folder
        self._team = Team(endpoints)

    def run(self, order: Sequence[tuple[int, Cause, Who]], file: Path, say: Say) -> dict[str, Any]:
        """All rounds; the file is written after each, so that an interrupted bench has what it has measured."""
        done: list[Round] = []
        disturbed: list[str] = []
        result: dict[str, Any] = {}
        _ask_it(self._endpoints["public"])
        before = os.getloadavg()
        for number, cause, who in order:
            done.append(self._undisturbed(who, cause, disturbed, say))
            say(f"{number} of {order[-1][0]}, {cause}, {who}: back after {done[-1].traffic_back_seconds:.3f} s")
            result = {
                "lines": compare(done),
                "rules": rules(load_plan(PLAN, self._overlay)),
                "requests_per_second": RATE,
                "cores": os.cpu_count(),
                "load_average_before_and_after": [before[0], os.getloadavg()[0]],
                "disturbed": disturbed,
                "rounds": as_json(done),
            }
            file.write_text(json.dumps(result, indent=1) + "\n")
        return result

    def _undisturbed(self, who: Who, cause: Cause, disturbed: list[str], say: Say) -> Round:
        """One round, again if something came in between; whatever did is kept."""
        for _ in range(TRIES):
            try:
                return self.ours(cause) if who is Who.OURS else self.argos(cause)
            except Disturbed as error:
                disturbed.append(str(error))
                say(f"once more: {error}")
        raise SandboxError(f"the machine is too busy to measure: {'; '.join(disturbed[-TRIES:])}")

    def ours(self, cause: Cause) -> Round:
        """A deployment by Airflow up to its watch, the cause, and the rollback to its end."""
        run_id = under_watch(self._team)
        events: dict[Cause, Event] = {
            Cause.FAULT: lambda: break_pods(self._endpoints, new_pods(self._endpoints)).begun,
            Cause.HAND: lambda: ask_for_rollback(self._team, run_id),
            Cause.NOW: lambda: roll_back_now(self._team),
            Cause.COMMAND: self._our_command,
            Cause.SILENCE: self._silence,
        }
        found, disturbance = None, ""
        try:
            found = self._observe(Who.OURS, cause, events[cause], self._endpoints, self._we_decided)
        except (Disturbed, AirflowError) as error:  # a run of the rollback is there already: the watch has seen more
            disturbance = str(error)
        outcome = self._team.follow(NEW, run_id)
        if outcome.outcome != "rolled_back":
            raise SandboxError(f"our rollback ({cause}) did not end well, and keeps the lock: {outcome}")
        if found is None or OUR_REASONS[cause] not in outcome.reason:
            raise Disturbed(f"{disturbance or f'{Who.OURS}, {cause}'}; rolled back because of {outcome.reason}")
        return found

    def argos(self, cause: Cause) -> Round:
        """A rollout by Argo up to its analysis, the cause, and the old version serving again."""
        images, url = self._endpoints["images"], _with_port(self._endpoints["guests"]["url"], manifests.ACTIVE_PORT)
        guests = {**self._endpoints["guests"], "url": url}
        interval = manifests.TIGHTEST if cause is Cause.FAULT else manifests.EVERY_SECOND
        with Rollout(self._argo, images[OLD], images[NEW], url, interval) as rollout:

            def fail() -> float:
                return break_pods(self._endpoints, rollout.new_pods(), manifests.NAMESPACE).begun

            events: dict[Cause, Event] = {
                Cause.FAULT: fail,
                Cause.FAULT_EVERY_SECOND: fail,
                Cause.HAND: lambda: _timed(rollout.abort),
                Cause.COMMAND: self._argos_command,
                Cause.SILENCE: self._silence,
            }
            where = {**self._endpoints, "guests": guests}
            found = self._observe(Who.ARGO, cause, events[cause], where, rollout.has_a_verdict)
            verdict = rollout.verdict() if rollout.has_a_verdict() else ""
        if ARGOS_REASONS.get(cause, "") not in verdict or bool(verdict) != (cause in ARGOS_REASONS):
            raise Disturbed(f"{Who.ARGO}, {cause}: {verdict or 'no verdict'}")
        return found

    def _observe(
        self, who: Who, cause: Cause, event: Event, endpoints: dict[str, Any], decided: Callable[[], bool]
    ) -> Round:
        """What came of it; the error tracker answers again afterwards."""
        silent = cause is Cause.SILENCE
        try:
            return observe(who, cause, event, endpoints, self._folder, decided if silent else None)
        finally:
            if silent:
                httpx.delete(f"{self._endpoints['recorder']}/answers/sentry", trust_env=False).raise_for_status()

    def _silence(self) -> float:
        """The error tracker, which both watch, answers 503 from now on."""
        body = {"status": 503, "body": {}}
        httpx.put(f"{self._endpoints['recorder']}/answers/sentry", json=body, trust_env=False).raise_for_status()
        return time.time()

    def _we_decided(self) -> bool:
        with Access(**self._endpoints["kubernetes"]).client() as kube:
            service = kube.get("/api/v1/namespaces/production/services/pms-api").raise_for_status().json()
        return bool(service["metadata"]["annotations"]["handover/stage"] == "aborted")

    def _our_command(self) -> float:
        argv = [sys.executable, "-m", "handover", "back", "--plan", str(PLAN), "--reason", "measuring"]
        env = {"PYTHONPATH": str(REPOSITORY / "plugins"), OVERLAY_VARIABLE: str(self._overlay)}
        return _command([*argv, "--kubeconfig", self._endpoints["kubeconfig"]], env)

    def _argos_command(self) -> float:
        program = shutil.which("kubectl") or str(build.obtain(lambda _: None) / "kubectl")
        argv = [program, "--kubeconfig", str(self._argo.kubeconfig), "--namespace", manifests.NAMESPACE, "patch"]
        what = [f"rollouts.argoproj.io/{manifests.NAME}", "--subresource=status", "--type=merge"]
        return _command([*argv, *what, "--patch", json.dumps(ABORT)], {})


def _ask_it(url: str, times: int = 20) -> None:
    """Before the first deployment, which refuses to judge by pods that nobody has ever asked."""
    for _ in range(times):
        httpx.get(f"{url}/banner", trust_env=False).raise_for_status()


def _order(rounds: int, causes: Sequence[Cause]) -> list[tuple[int, Cause, Who]]:
    """One side after the other, so that both meet the same machine."""
    each = [(cause, who) for cause in causes for who in Who if (who, cause) not in ONE_SIDED]
    return [(number, *one) for number in range(1, rounds + 1) for one in each]


def rules(plan: Plan) -> dict[str, dict[str, Any]]:
    """What each looks at, how often, and how much of it is a breach."""
    watch, limits = plan.watch, plan.thresholds
    certainty = f"at least {watch.min_bad_samples} bad ones and a sequential test (z {watch.confidence_z:g})"
    return {
        "ours": {
            "answers": f"a probe of /health by the public Service every {watch.probe_interval_seconds:g} s, and the "
            f"counters of every pod every {watch.metrics_interval_seconds:g} s",
            "bad": f"in a window of {watch.window_seconds:g} s {certainty} above {limits.max_error_rate:g}",
            "error_tracker": f"every {watch.slow_interval_seconds:g} s",
            "silence": f"{watch.no_data_seconds:g} s without an answer of it",
        },
        "argo": {
            "answers": f"a probe of /health by the active Service every {manifests.EVERY_SECOND}, in the rounds "
            f"`{Cause.FAULT}` every {manifests.TIGHTEST} (provider web)",
            "bad": "one sample that is not 200 (consecutiveErrorLimit 0, failureLimit 0): its tightest rule",
            "error_tracker": f"every {manifests.EVERY_SECOND} (provider web)",
            "silence": f"{manifests.MISSED + 1} samples without an answer (consecutiveErrorLimit {manifests.MISSED}); "
            f"after one it asks again {manifests.RETRY_SECONDS} s later",
        },
    }


def _timed(action: Callable[[], None]) -> float:
    began = time.time()
    action()
    return began


def _command(argv: list[str], env: dict[str, str]) -> float:
    """Runs it; gives when it was started."""
    began = time.time()
    done = subprocess.run(argv, env=os.environ | env, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SandboxError(f"{' '.join(argv[:4])} ... failed with code {done.returncode}: {done.stderr[-1000:]}")
    return began


def _with_port(url: str, port: int) -> str:
    return f"http://{urlsplit(url).hostname}:{port}"


def _print(console: Console, result: dict[str, Any]) -> bool:
    table = Table("line", "ours", "worst", "Argo", "worst", "ours/Argo", title="Our rollback beside Argo Rollouts'")
    for name, line in result["lines"].items():
        ratio = "" if line["ratio"] is None else f"{line['ratio']:g}"
        mark = "" if line["at_most_argo"] else "[red]"
        values = [line[who][what] for who in ("ours", "argo") for what in ("median", "worst")]
        table.add_row(f"{mark}{name}", *(f"{value:g}" for value in values), ratio)
    console.print(table)
    lost = {name: line for name, line in result["lines"].items() if not line["at_most_argo"]}
    for name, line in lost.items():
        console.print(f"{name}: {line['more_by']:g} more than Argo. {line['why_not']}")
    return not lost

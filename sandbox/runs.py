"""A deployment as its people do it: trigger the DAG, answer as each role's own user, wait, and see what came of it."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from sandbox.airflow_client import AirflowClient, AirflowError

Progress = Callable[[str], None]
DEPLOYMENT, ROLLBACK = "pms_deployment", "pms_rollback"
POLL_SECONDS = 0.5
THINK_SECONDS = 2.0
"""Nobody answers at the moment of being asked: Airflow loses an answer that comes before the task has paused, and
takes a task that waited for less than a second for a lost one."""
AGREE = "Agree"
"""What a second person says to overrides, whatever else is answered."""
ENDED = frozenset({"success", "failed", "upstream_failed", "skipped"})


@dataclass
class Outcome:
    """How one deployment ended. Times are seconds."""

    version: str
    run_id: str
    outcome: str
    """``succeeded``, ``rolled_back``, ``rollback_failed``, ``refused`` or ``skipped``."""
    seconds: float
    seconds_by_phase: dict[str, float]
    reason: str = ""
    answered: list[str] = field(default_factory=list)
    rollback_seconds: float | None = None
    failed_tasks: dict[str, str] = field(default_factory=dict)
    """Task id to what its log says of it; of the rollback's tasks too."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Team:
    """The roles of the plan, each signed in as its own user of this Airflow."""

    def __init__(self, endpoints: dict[str, Any], say: Progress = lambda _: None, *, plan: str = "pms") -> None:
        self.deployment, self.rollback = f"{plan}_deployment", f"{plan}_rollback"
        airflow = endpoints["airflow"]
        self._admin_password = airflow["password"]
        self.admin = AirflowClient(airflow["url"], airflow["user"], self._admin_password)
        self.roles = {
            role: AirflowClient(airflow["url"], who["user"], who["password"]) for role, who in airflow["users"].items()
        }
        self.say = say
        self._asked: dict[tuple[str, int], float] = {}

    def admin_of(self) -> AirflowClient:
        """Another session of the admin, for another thread."""
        return AirflowClient(self.admin.url, self.admin.user, self._admin_password)

    def deploy(self, version: str, *, answer: str = "Proceed", timeout: float = 600, **conf: Any) -> Outcome:
        """Deploys like the lead would by the form, answers the questions, and waits for the end, rollback included."""
        run_id = self.start(version, **conf)
        return self.follow(version, run_id, answer=answer, timeout=timeout)

    def start(self, version: str, **conf: Any) -> str:
        asked = {
            "version": version,
            "reason": f"release {version}",
            "window_override": True,
            "window_override_reason": "the sandbox has no Tuesdays",
            "readiness_override_reason": "readiness has runs of its own",
            **conf,
        }
        return self.roles["lead"].trigger(self.deployment, asked)

    def follow(self, version: str, run_id: str, *, answer: str = "Proceed", timeout: float = 600) -> Outcome:
        seen: dict[str, str] = {}
        answered: list[str] = []
        deadline = time.monotonic() + timeout
        while (state := self.admin.run(self.deployment, run_id)["state"]) not in ("success", "failed"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{version}: {run_id} is still {state} after {timeout:.0f} s: {seen}")
            self._tell(self.admin.task_instances(self.deployment, run_id), seen)
            answered += self._answer(run_id, answer)
            time.sleep(POLL_SECONDS)
        tasks = self.admin.task_instances(self.deployment, run_id)
        self._tell(tasks, seen)
        return self._outcome(version, run_id, state, tasks, answered, deadline)

    def until(self, run_id: str, task_id: str, state: str, *, timeout: float = 240, answer: str = "Proceed") -> None:
        """Waits until a task of a deployment is in this state, answering what is asked of people before it."""
        deadline = time.monotonic() + timeout
        while (states := self.admin.task_states(self.deployment, run_id)).get(task_id) != state:
            if (
                states.get(task_id) in ("success", "failed", "upstream_failed", "skipped")
                or time.monotonic() > deadline
            ):
                raise RuntimeError(f"{task_id} is {states.get(task_id)}, never {state}: {states}")
            if states.get(task_id) != "awaiting_input":
                self._answer(run_id, answer)
            time.sleep(POLL_SECONDS)

    def answer_before(self, run_id: str, task_id: str, answer: str = "Proceed") -> None:
        """Answers what is asked of people, but not by this task."""
        if self.admin.task_states(self.deployment, run_id).get(task_id) != "awaiting_input":
            self._answer(run_id, answer)

    def follow_rollback(self, run_id: str, *, timeout: float = 300) -> dict[str, Any]:
        """The rollback run once it has ended; raises TimeoutError."""
        seen: dict[str, str] = {}
        deadline = time.monotonic() + timeout
        while (run := self._rollback(run_id))["state"] not in ("success", "failed"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{run_id} is still {run['state']} after {timeout:.0f} s: {seen}")
            if run["state"]:
                self._tell(self.admin.task_instances(self.rollback, run_id), seen)
            time.sleep(POLL_SECONDS)
        self._tell(self.admin.task_instances(self.rollback, run_id), seen)
        return run

    def _rollback(self, run_id: str) -> dict[str, Any]:
        """The run, or one without a state while it is not there: callbacks start it a moment after the failure."""
        try:
            return self.admin.run(self.rollback, run_id)
        except AirflowError as error:
            if error.status != 404:
                raise
            return {"state": None}

    def logs(self, dag_id: str, run_id: str) -> dict[str, str]:
        """The log of the last try of every task that ran."""
        tasks = self.admin.task_instances(dag_id, run_id)
        return {
            t["task_id"]: self.admin.log(dag_id, run_id, t["task_id"], t["try_number"])
            for t in tasks
            if t["start_date"]
        }

    def _errors(self, dag_id: str, run_id: str, tasks: list[dict[str, Any]]) -> dict[str, str]:
        errors = {}
        for task in tasks:
            if task["state"] == "failed":
                log = self.admin.log(dag_id, run_id, task["task_id"], task["try_number"]) if task["start_date"] else ""
                errors[task["task_id"]] = ([line for line in log.splitlines() if " error " in line] or [""])[-1][:1500]
        return errors

    def thought_over(self, questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those that were first seen long enough ago to be answered."""
        now, ripe = time.monotonic(), []
        for question in questions:
            task = question["task_instance"]
            if now >= self._asked.setdefault((str(task["id"]), int(task["try_number"])), now) + THINK_SECONDS:
                ripe.append(question)
        return ripe

    def _answer(self, run_id: str, answer: str) -> list[str]:
        """Answers what is open and has such an answer, as the user it was assigned to."""
        answered = []
        for question in self.thought_over(self.admin.questions(self.deployment, run_id)):
            said = next((one for one in (answer, AGREE) if one in question["options"]), None)
            if said is None:
                continue
            who = question["assigned_users"][0]["id"]
            try:
                self.roles[who].answer(question, [said])
            except AirflowError as error:
                if error.status != 409:  # it timed out, or somebody answered, since we looked
                    raise
                continue
            answered.append(f"{question['subject']}: {said} by {who}")
            self.say(answered[-1])
        return answered

    def _tell(self, tasks: list[dict[str, Any]], seen: dict[str, str]) -> None:
        for task in tasks:
            name, state = task["task_id"], task["state"]
            if state in ("success", "failed", "up_for_retry") and seen.get(name) != state:
                took = f" {task['duration']:.1f} s" if task.get("duration") else ""
                self.say(f"{'✓' if state == 'success' else '✗'} {name.replace('.', ' › ')}{took}")
            seen[name] = state

    def _outcome(
        self, version: str, run_id: str, state: str, tasks: list[dict[str, Any]], answered: list[str], deadline: float
    ) -> Outcome:
        run = self.admin.run(self.deployment, run_id)
        outcome = Outcome(
            version, run_id, "succeeded", _seconds(run), _phases(tasks), answered=answered,
            failed_tasks=self._errors(self.deployment, run_id, tasks),
        )  # fmt: skip
        if state == "success":
            if all(t["state"] == "skipped" for t in tasks):
                outcome.outcome = "skipped"
            return outcome
        if any(t["task_id"] in ("release_due", "second_person", "open") and t["state"] == "failed" for t in tasks):
            outcome.outcome = "refused"
            return outcome
        back = self.follow_rollback(f"rollback__{run_id}", timeout=max(10.0, deadline - time.monotonic()))
        outcome.outcome = "rolled_back" if back["state"] == "success" else "rollback_failed"
        outcome.reason = back["conf"]["reason"]
        rollback = back["dag_run_id"]
        outcome.failed_tasks |= self._errors(
            self.rollback, rollback, self.admin.task_instances(self.rollback, rollback)
        )
        outcome.rollback_seconds = _seconds(back)
        return outcome


def _seconds(run: dict[str, Any]) -> float:
    return round(time_of(run["end_date"]) - time_of(run["start_date"]), 1)


def time_of(text: str) -> float:
    return datetime.datetime.fromisoformat(text).timestamp()


def _phases(tasks: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds from the first start to the last end of each phase that ran."""
    spans: dict[str, tuple[float, float]] = {}
    for task in tasks:
        phase, dot, _ = task["task_id"].partition(".")
        if dot and task["start_date"] and task["end_date"] and task["state"] != "skipped":
            start, end = time_of(task["start_date"]), time_of(task["end_date"])
            old = spans.get(phase, (start, end))
            spans[phase] = (min(old[0], start), max(old[1], end))
    return {phase: round(end - start, 1) for phase, (start, end) in sorted(spans.items())}

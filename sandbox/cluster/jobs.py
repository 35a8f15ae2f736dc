"""Job: one pod after the other until one has succeeded, or too many have failed."""

from __future__ import annotations

import copy
from typing import Any

from sandbox.cluster import objects
from sandbox.cluster.controller import Controller
from sandbox.cluster.events import record
from sandbox.cluster.kinds import JOB, POD
from sandbox.cluster.objects import condition, is_active, is_ready, timestamp, with_condition
from sandbox.cluster.store import Object


class Jobs(Controller):
    kind, owns = JOB, POD

    def reconcile(self, found: Object) -> None:
        last = condition(found, "Complete") or condition(found, "Failed")
        if last:
            self._expire(found, last)
            return
        pods = self.owned(found)
        phases = [pod["status"]["phase"] for pod in pods]
        active = [pod for pod in pods if is_active(pod)]
        status: dict[str, Any] = copy.deepcopy(found["status"])
        status.setdefault("startTime", timestamp())
        verdict = self._verdict(found, status["startTime"], phases, active)
        if verdict:
            for pod in active:
                self.registry.delete(POD, pod["metadata"]["namespace"], pod["metadata"]["name"])
            active = []
            self._conclude(found, status, *verdict)
        elif all(objects.is_finished(pod) for pod in pods):
            active.append(self.create_pod(found))
        status.update(active=len(active), ready=sum(is_ready(pod) for pod in active))
        status.update(succeeded=phases.count("Succeeded"), failed=phases.count("Failed"))
        self.registry.set_status(JOB, found, status)

    def _verdict(
        self, found: Object, start: str, phases: list[str], active: list[Object]
    ) -> tuple[str, str, str] | None:
        """The final condition, its reason and message; None while the job goes on."""
        spec = found["spec"]
        if "Succeeded" in phases:
            return "Complete", "CompletionsReached", "Reached expected number of succeeded pods"
        restarts = sum(one["restartCount"] for pod in active for one in pod["status"].get("containerStatuses") or ())
        if max(phases.count("Failed"), restarts) > spec["backoffLimit"]:
            return "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        if spec.get("activeDeadlineSeconds"):
            left = spec["activeDeadlineSeconds"] - objects.seconds_since(start)
            if left <= 0:
                return "Failed", "DeadlineExceeded", "Job was active longer than specified deadline"
            self.again(found, left)
        return None

    def _conclude(self, found: Object, status: Object, kind: str, reason: str, message: str) -> None:
        complete = kind == "Complete"
        for one in ("SuccessCriteriaMet" if complete else "FailureTarget", kind):
            with_condition(status, one, True, reason, message)
        if complete:
            status["completionTime"] = timestamp()
        record(self.registry, JOB, found, "Completed" if complete else reason, message, warning=not complete)

    def _expire(self, found: Object, last: Object) -> None:
        limit = found["spec"].get("ttlSecondsAfterFinished")
        if limit is None:
            return
        left = limit - objects.seconds_since(last["lastTransitionTime"])
        if left > 0:
            self.again(found, left)
        else:
            self.registry.delete(JOB, found["metadata"]["namespace"], found["metadata"]["name"])

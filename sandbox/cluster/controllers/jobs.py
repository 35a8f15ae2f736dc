"""Job: pods until enough of them have succeeded, or too many have failed."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from sandbox.cluster.controllers.base import Controller
from sandbox.cluster.kinds import JOB, POD
from sandbox.cluster.pods import condition, is_active, is_finished, is_ready, seconds_since, with_condition
from sandbox.cluster.registry import owner_reference, timestamp
from sandbox.cluster.store import Change, Key, Object


class Jobs(Controller):
    name = "job-controller"

    def affected(self, change: Change) -> Iterable[Key]:
        return self.own_and_owner(change, POD, JOB)

    def reconcile(self, key: Key) -> None:
        job = self.store.get(JOB, key)
        if job is None or job["metadata"].get("deletionTimestamp"):
            return
        if condition(job, "Complete") or condition(job, "Failed"):
            self._expire(key, job)
            return
        spec, pods = job["spec"], self.owned(POD, job)
        succeeded = [pod for pod in pods if pod["status"]["phase"] == "Succeeded"]
        failed = [pod for pod in pods if pod["status"]["phase"] == "Failed"]
        active = [pod for pod in pods if is_active(pod)]
        status: dict[str, Any] = copy.deepcopy(job.get("status") or {})
        if not spec.get("suspend"):
            status.setdefault("startTime", timestamp())
        verdict = self._verdict(key, spec, status, len(succeeded), failed, pods)
        if verdict or spec.get("suspend"):
            for pod in active:
                self.registry.delete(POD, key[0], pod["metadata"]["name"])
            active = []
        else:
            room = min(spec["parallelism"], spec["completions"] - len(succeeded)) - len(active)
            ending = [pod for pod in pods if pod["metadata"].get("deletionTimestamp") and not is_finished(pod)]
            for _ in range(room - len(ending)):
                active.append(self._create_pod(job))
        ready = sum(is_ready(pod) for pod in active)
        status.update(active=len(active), succeeded=len(succeeded), failed=len(failed), ready=ready, terminating=0)
        self._conclude(job, status, verdict)

    def _verdict(self, key: Key, spec: Object, status: Object, succeeded: int, failed: list[Object],
                 pods: list[Object]) -> tuple[str, str, str] | None:  # fmt: skip
        """The final condition, its reason and message; None while the job goes on."""
        if succeeded >= spec["completions"]:
            return "Complete", "CompletionsReached", "Reached expected number of succeeded pods"
        restarts = sum(
            one["restartCount"]
            for pod in pods
            if is_active(pod)
            for one in pod["status"].get("containerStatuses") or ()
        )
        if len(failed) > spec["backoffLimit"] or restarts > spec["backoffLimit"]:
            return "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        limit = spec.get("activeDeadlineSeconds")
        if limit and status.get("startTime"):
            left = limit - seconds_since(status["startTime"])
            if left <= 0:
                return "Failed", "DeadlineExceeded", "Job was active longer than specified deadline"
            self.enqueue_after(key, left + 0.05)
        return None

    def _create_pod(self, job: Object) -> Object:
        meta, template = job["metadata"], job["spec"]["template"]
        about = {
            **(template.get("metadata") or {}),
            "generateName": f"{meta['name']}-",
            "ownerReferences": [owner_reference(JOB, job)],
        }
        about.pop("name", None)
        about.pop("creationTimestamp", None)
        pod = self.registry.create(POD, meta["namespace"], {"metadata": about, "spec": template["spec"]})
        self.recorder.event(JOB, job, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")
        return pod

    def _conclude(self, job: Object, status: Object, verdict: tuple[str, str, str] | None) -> None:
        if verdict:
            kind, reason, message = verdict
            before = "SuccessCriteriaMet" if kind == "Complete" else "FailureTarget"
            for one in (before, kind):
                with_condition(status, one, True, reason, message)
            for item in status["conditions"]:
                item["lastProbeTime"] = item.pop("lastUpdateTime", item.get("lastProbeTime"))
            if kind == "Complete":
                status["completionTime"] = timestamp()
            self.recorder.event(
                JOB, job, "Completed" if kind == "Complete" else reason, message, warning=kind == "Failed"
            )
        shown = {field: value for field, value in status.items() if value != 0 or field in ("ready", "terminating")}
        self.registry.set_status(JOB, job, shown)

    def _expire(self, key: Key, job: Object) -> None:
        limit = job["spec"].get("ttlSecondsAfterFinished")
        if limit is None:
            return
        last = condition(job, "Complete") or condition(job, "Failed")
        assert last
        left = limit - seconds_since(last["lastTransitionTime"])
        if left > 0:
            self.enqueue_after(key, left + 0.05)
        else:
            self.registry.delete(JOB, *key)

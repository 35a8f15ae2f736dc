"""Deployment: ReplicaSets, one for each version of the template, and the way from one to the next.

A ReplicaSet is so many pods of one template.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable
from typing import Any

from sandbox.cluster.controller import Controller
from sandbox.cluster.events import record
from sandbox.cluster.kinds import DEPLOYMENT, POD, REPLICA_SET
from sandbox.cluster.objects import (
    condition,
    is_active,
    is_ready,
    owner_reference,
    ready_for,
    seconds_since,
    with_condition,
)  # fmt: skip
from sandbox.cluster.store import Object

HASH = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
_NOT_INHERITED = ("kubectl.kubernetes.io/last-applied-configuration", REVISION)


class ReplicaSets(Controller):
    kind, owns = REPLICA_SET, POD

    def reconcile(self, found: Object) -> None:
        pods = [pod for pod in self.owned(found) if is_active(pod)]
        missing = found["spec"]["replicas"] - len(pods)
        for _ in range(missing):
            pods.append(self.create_pod(found))
        if missing < 0:
            pods.sort(key=lambda pod: (is_ready(pod), ready_for(pod)))  # the unready go first, then the youngest
            for pod in pods[:-missing]:
                self.registry.delete(POD, pod["metadata"]["namespace"], pod["metadata"]["name"])
                message = f"Deleted pod: {pod['metadata']['name']}"
                record(self.registry, REPLICA_SET, found, "SuccessfulDelete", message)
            pods = pods[-missing:]
        self._report(found, pods)

    def _report(self, found: Object, pods: list[Object]) -> None:
        ready = [pod for pod in pods if is_ready(pod)]
        missing = [found["spec"].get("minReadySeconds", 0) - ready_for(pod) for pod in ready]
        soon = [seconds for seconds in missing if seconds > 0]
        if soon:
            self.again(found, min(soon))
        status = {
            "replicas": len(pods),
            "fullyLabeledReplicas": len(pods),
            "readyReplicas": len(ready),
            "availableReplicas": len(ready) - len(soon),
            "observedGeneration": found["metadata"]["generation"],
        }
        self.registry.set_status(REPLICA_SET, found, status)


class Deployments(Controller):
    kind, owns = DEPLOYMENT, REPLICA_SET

    def reconcile(self, found: Object) -> None:
        wanted = _hash(found["spec"]["template"])
        new, old = self._sets(found, wanted)
        revision = max((_revision(one) for one in old), default=0) + 1
        if new is None:
            new = self._create(found, wanted, revision)
        elif _revision(new) < revision:  # a rollback: an earlier template is the newest again
            new = self._change(new, lambda one: one["metadata"]["annotations"].update({REVISION: str(revision)}))
        self._roll(found, new, old)
        self._clean_up(found, old)
        new, old = self._sets(found, wanted)
        assert new
        self._report(found, new, old)

    def _sets(self, found: Object, wanted: str) -> tuple[Object | None, list[Object]]:
        """The ReplicaSet of the template as it is now, if there is one, and those before it, oldest first."""
        sets = sorted(self.owned(found), key=_revision)
        new = next((one for one in sets if one["metadata"]["labels"][HASH] == wanted), None)
        return new, [one for one in sets if one is not new]

    def _create(self, found: Object, wanted: str, revision: int) -> Object:
        meta, spec = found["metadata"], found["spec"]
        template = copy.deepcopy(spec["template"])
        template["metadata"]["labels"][HASH] = wanted
        annotations = (meta.get("annotations") or {}).items()
        body = {
            "metadata": {
                "name": f"{meta['name']}-{wanted}",
                "labels": template["metadata"]["labels"],
                "annotations": {
                    **{key: text for key, text in annotations if key not in _NOT_INHERITED},
                    REVISION: str(revision),
                },
                "ownerReferences": [owner_reference(DEPLOYMENT, found)],
            },
            "spec": {
                "replicas": 0,
                "minReadySeconds": spec.get("minReadySeconds", 0),
                "selector": {"matchLabels": {**spec["selector"]["matchLabels"], HASH: wanted}},
                "template": template,
            },
        }
        return self.registry.create(REPLICA_SET, meta["namespace"], body)

    def _change(self, one: Object, change: Callable[[Object], Any]) -> Object:
        def changed(current: Object) -> Object:
            change(current)
            return current

        return self.registry.update(REPLICA_SET, one["metadata"]["namespace"], one["metadata"]["name"], changed)

    # --- from old to new

    def _roll(self, found: Object, new: Object, old: list[Object]) -> None:
        """Grow the new one up to the surge; shrink the old ones as far as enough pods stay available."""
        desired, size = found["spec"]["replicas"], new["spec"]["replicas"]
        surge, unavailable = _limits(found)
        total = size + sum(one["spec"]["replicas"] for one in old)
        room = max(0, desired + surge - total)
        new = self._scale(found, new, min(desired, size + room))
        total += new["spec"]["replicas"] - size
        new_unavailable = new["spec"]["replicas"] - _available(new)
        may_go = total - (desired - unavailable) - new_unavailable
        for index, one in enumerate(old):  # what is not available serves nobody: it goes first
            useless = min(one["spec"]["replicas"] - _available(one), may_go)
            if useless > 0:
                old[index] = self._scale(found, one, one["spec"]["replicas"] - useless)
                may_go -= useless
        may_go = min(may_go, sum(_available(one) for one in (new, *old)) - (desired - unavailable))
        for one in old:
            count = min(one["spec"]["replicas"], may_go)
            if count > 0:
                self._scale(found, one, one["spec"]["replicas"] - count)
                may_go -= count

    def _scale(self, found: Object, one: Object, size: int) -> Object:
        before, name = one["spec"]["replicas"], one["metadata"]["name"]
        if before == size:
            return one
        way = "up" if size > before else "down"
        message = f"Scaled {way} replica set {name} from {before} to {size}"
        record(self.registry, DEPLOYMENT, found, "ScalingReplicaSet", message)
        return self._change(one, lambda current: current["spec"].update(replicas=size))

    def _clean_up(self, found: Object, old: list[Object]) -> None:
        empty = [one for one in old if not one["spec"]["replicas"] and not one["status"].get("replicas")]
        for one in empty[: max(0, len(empty) - found["spec"]["revisionHistoryLimit"])]:
            self.registry.delete(REPLICA_SET, one["metadata"]["namespace"], one["metadata"]["name"])

    # --- status

    def _report(self, found: Object, new: Object, old: list[Object]) -> None:
        fields, desired = ("replicas", "readyReplicas", "availableReplicas"), found["spec"]["replicas"]
        count = {field: sum(one["status"].get(field, 0) for one in (new, *old)) for field in fields}
        status: dict[str, Any] = {
            "observedGeneration": found["metadata"]["generation"],
            **count,
            "updatedReplicas": new["status"].get("replicas", 0),
            "unavailableReplicas": max(0, desired - count["availableReplicas"]),
            "conditions": list(found["status"].get("conditions") or ()),
        }
        enough = count["availableReplicas"] >= desired - _limits(found)[1]
        reason = "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable"
        text = f"Deployment {'has' if enough else 'does not have'} minimum availability."
        with_condition(status, "Available", enough, reason, text)
        self._progress(found, status, new["metadata"]["name"])
        status = {field: value for field, value in status.items() if value != 0}
        annotations = {**(found["metadata"].get("annotations") or {}), REVISION: str(_revision(new))}
        self.registry.set_status(DEPLOYMENT, found, status, annotations)

    def _progress(self, found: Object, status: dict[str, Any], name: str) -> None:
        """The Progressing condition: complete, moving, or stuck for longer than the deadline."""
        desired, deadline = found["spec"]["replicas"], found["spec"]["progressDeadlineSeconds"]
        if status["updatedReplicas"] == status["replicas"] == status["availableReplicas"] == desired:
            done = f'ReplicaSet "{name}" has successfully progressed.'
            with_condition(status, "Progressing", True, "NewReplicaSetAvailable", done)
            return
        moving, stuck = f'ReplicaSet "{name}" is progressing.', f'ReplicaSet "{name}" has timed out progressing.'
        known = condition(found, "Progressing")
        if known is None or known["message"] not in (moving, stuck) or _moved(found["status"], status):
            status["conditions"] = [item for item in status["conditions"] if item["type"] != "Progressing"]
            with_condition(status, "Progressing", True, "ReplicaSetUpdated", moving)
            self.again(found, deadline + 0.1)
        elif known["message"] == moving:
            left = deadline - seconds_since(known["lastUpdateTime"])
            if left > 0:
                self.again(found, left + 0.1)
            else:
                with_condition(status, "Progressing", False, "ProgressDeadlineExceeded", stuck)


def _moved(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """More of the new, less of the old, more ready or available: any of these is progress."""

    def old_pods(counts: dict[str, Any]) -> int:
        return int(counts.get("replicas", 0) - counts.get("updatedReplicas", 0))

    grown = ("updatedReplicas", "readyReplicas", "availableReplicas")
    return old_pods(after) < old_pods(before) or any(after[field] > before.get(field, 0) for field in grown)


def _hash(template: Object) -> str:
    """A name for a template, in letters that Kubernetes would use."""
    digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).digest()
    return "".join("bcdfghjklmnpqrstvwxz2456789"[byte % 27] for byte in digest[:10])


def _revision(one: Object) -> int:
    return int((one["metadata"].get("annotations") or {}).get(REVISION, 0))


def _available(one: Object) -> int:
    return int(one["status"].get("availableReplicas", 0))


def _limits(found: Object) -> tuple[int, int]:
    """maxSurge rounded up and maxUnavailable rounded down; never both 0."""
    rolling, desired = found["spec"]["strategy"]["rollingUpdate"], found["spec"]["replicas"]

    def number(value: Any, round_to: Callable[[float], int]) -> int:
        return round_to(desired * int(value[:-1]) / 100) if isinstance(value, str) else int(value)

    surge, unavailable = number(rolling["maxSurge"], math.ceil), number(rolling["maxUnavailable"], math.floor)
    return surge, (unavailable or (0 if surge else 1))

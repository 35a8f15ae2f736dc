"""Deployment: ReplicaSets, one for each version of the template, and the way from one to the next."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Iterable
from typing import Any

from sandbox.cluster.controllers.base import Controller
from sandbox.cluster.kinds import DEPLOYMENT, POD, REPLICA_SET
from sandbox.cluster.pods import condition, seconds_since, with_condition
from sandbox.cluster.registry import owner_reference
from sandbox.cluster.store import Change, Key, Object

HASH = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"


class Deployments(Controller):
    name = "deployment-controller"

    def affected(self, change: Change) -> Iterable[Key]:
        return self.own_and_owner(change, REPLICA_SET, DEPLOYMENT)

    def reconcile(self, key: Key) -> None:
        found = self.store.get(DEPLOYMENT, key)
        if found is None or found["metadata"].get("deletionTimestamp"):
            return
        sets = self.owned(REPLICA_SET, found)
        wanted = template_hash(found["spec"]["template"])
        new = next((one for one in sets if one["metadata"]["labels"][HASH] == wanted), None)
        if not found["spec"].get("paused"):
            new = self._current(found, new, sets, wanted)
            old = [one for one in self.owned(REPLICA_SET, found) if one["metadata"]["uid"] != new["metadata"]["uid"]]
            if found["spec"]["strategy"]["type"] == "Recreate":
                self._recreate(found, new, old)
            else:
                self._roll(found, new, old)
            self._clean_up(found)
        elif new is not None:
            self._scale(found, new, found["spec"]["replicas"])
        self._report(key, wanted)

    # --- the new ReplicaSet

    def _current(self, found: Object, new: Object | None, sets: list[Object], wanted: str) -> Object:
        """The ReplicaSet of the template as it is now, with the highest revision."""
        others = [_revision(one) for one in sets if one is not new]
        revision = max([*others, 0]) + 1 if new is None or _revision(new) <= max([*others, 0]) else _revision(new)
        return self._create(found, wanted, revision) if new is None else self._annotate(new, found, revision)

    def _create(self, found: Object, wanted: str, revision: int) -> Object:
        meta, spec = found["metadata"], found["spec"]
        template = copy.deepcopy(spec["template"])
        template["metadata"]["labels"][HASH] = wanted
        selector = copy.deepcopy(spec["selector"])
        selector["matchLabels"] = {**(selector.get("matchLabels") or {}), HASH: wanted}
        body = {
            "metadata": {
                "name": f"{meta['name']}-{wanted}",
                "labels": template["metadata"]["labels"],
                "annotations": {**_inherited(found), REVISION: str(revision)},
                "ownerReferences": [owner_reference(DEPLOYMENT, found)],
            },
            "spec": {
                "replicas": 0,
                "minReadySeconds": spec.get("minReadySeconds", 0),
                "selector": selector,
                "template": template,
            },
        }
        return self.registry.create(REPLICA_SET, meta["namespace"], body)

    def _annotate(self, new: Object, found: Object, revision: int) -> Object:
        def change(current: Object) -> Object:
            annotations = {**(current["metadata"].get("annotations") or {}), **_inherited(found)}
            current["metadata"]["annotations"] = {**annotations, REVISION: str(revision)}
            current["spec"]["minReadySeconds"] = found["spec"].get("minReadySeconds", 0)
            return current

        return self.registry.update(REPLICA_SET, new["metadata"]["namespace"], new["metadata"]["name"], change)

    # --- from old to new

    def _roll(self, found: Object, new: Object, old: list[Object]) -> None:
        """Grow the new one up to the surge; shrink the old ones as far as enough pods stay available."""
        desired = found["spec"]["replicas"]
        surge, unavailable = _limits(found)
        total = sum(one["spec"]["replicas"] for one in (new, *old))
        size = new["spec"]["replicas"]
        if size > desired:
            new = self._scale(found, new, desired)
        elif size < desired:
            new = self._scale(found, new, min(desired, size + max(0, desired + surge - total)))
        available = sum(one["status"].get("availableReplicas", 0) for one in (new, *old))
        new_unavailable = new["spec"]["replicas"] - new["status"].get("availableReplicas", 0)
        total = sum(one["spec"]["replicas"] for one in (new, *old))
        may_go = total - (desired - unavailable) - new_unavailable
        for index, one in enumerate(old):  # what is not available serves nobody: it goes first
            useless = min(one["spec"]["replicas"] - one["status"].get("availableReplicas", 0), may_go)
            if useless > 0:
                old[index] = self._scale(found, one, one["spec"]["replicas"] - useless)
                may_go -= useless
        may_go = min(may_go, available - (desired - unavailable))
        for one in sorted(old, key=_revision):
            count = min(one["spec"]["replicas"], may_go)
            if count > 0:
                self._scale(found, one, one["spec"]["replicas"] - count)
                may_go -= count

    def _recreate(self, found: Object, new: Object, old: list[Object]) -> None:
        for one in old:
            self._scale(found, one, 0)
        uids = {one["metadata"]["uid"] for one in old}
        pods = self.store.objects(POD, found["metadata"]["namespace"])
        left = [pod for pod in pods for owner in pod["metadata"].get("ownerReferences") or () if owner["uid"] in uids]
        if left:
            self.enqueue_after((found["metadata"]["namespace"], found["metadata"]["name"]), 0.1)
        else:
            self._scale(found, new, found["spec"]["replicas"])

    def _scale(self, found: Object, one: Object, size: int) -> Object:
        before = one["spec"]["replicas"]
        if before == size:
            return one

        def change(current: Object) -> Object:
            current["spec"]["replicas"] = size
            return current

        name = one["metadata"]["name"]
        way = "up" if size > before else "down"
        self.recorder.event(
            DEPLOYMENT, found, "ScalingReplicaSet", f"Scaled {way} replica set {name} from {before} to {size}"
        )
        return self.registry.update(REPLICA_SET, one["metadata"]["namespace"], name, change)

    def _clean_up(self, found: Object) -> None:
        empty = [one for one in self.owned(REPLICA_SET, found) if not one["spec"]["replicas"]]
        empty = [one for one in empty if one["metadata"]["labels"][HASH] != template_hash(found["spec"]["template"])]
        excess = len(empty) - found["spec"]["revisionHistoryLimit"]
        for one in sorted(empty, key=_revision)[: max(0, excess)]:
            if not one["status"].get("replicas"):
                self.registry.delete(REPLICA_SET, one["metadata"]["namespace"], one["metadata"]["name"])

    # --- status

    def _report(self, key: Key, wanted: str) -> None:
        found = self.store.get(DEPLOYMENT, key)
        assert found
        sets = self.owned(REPLICA_SET, found)
        new = next((one for one in sets if one["metadata"]["labels"][HASH] == wanted), None)
        count = {
            field: sum(one["status"].get(field, 0) for one in sets)
            for field in ("replicas", "readyReplicas", "availableReplicas")
        }
        updated = new["status"].get("replicas", 0) if new else 0
        desired = found["spec"]["replicas"]
        status: dict[str, Any] = {
            "observedGeneration": found["metadata"]["generation"],
            **count,
            "updatedReplicas": updated,
            "unavailableReplicas": max(0, desired - count["availableReplicas"]),
            "conditions": copy.deepcopy(found["status"].get("conditions") or []),
        }
        if count["availableReplicas"] >= desired - _limits(found)[1]:
            with_condition(
                status, "Available", True, "MinimumReplicasAvailable", "Deployment has minimum availability."
            )
        else:
            text = "Deployment does not have minimum availability."
            with_condition(status, "Available", False, "MinimumReplicasUnavailable", text)
        self._progress(found, status, new)
        status = {field: value for field, value in status.items() if value not in (0, [])}
        annotations = dict(found["metadata"].get("annotations") or {})
        if new is not None:
            annotations[REVISION] = str(_revision(new))
        self.registry.set_status(DEPLOYMENT, found, status, annotations or None)

    def _progress(self, found: Object, status: dict[str, Any], new: Object | None) -> None:
        """The Progressing condition: complete, moving, or stuck for longer than the deadline."""
        if new is None or found["spec"].get("paused"):
            with_condition(status, "Progressing", True, "DeploymentPaused", "Deployment is paused")
            return
        name, desired = new["metadata"]["name"], found["spec"]["replicas"]
        deadline, key = found["spec"]["progressDeadlineSeconds"], self._key(found)
        known = condition(found, "Progressing")
        complete = status["updatedReplicas"] == status["replicas"] == status["availableReplicas"] == desired
        if complete:
            done = f'ReplicaSet "{name}" has successfully progressed.'
            with_condition(status, "Progressing", True, "NewReplicaSetAvailable", done)
            return
        text = f'ReplicaSet "{name}" is progressing.'
        moved = known is None or known.get("message") not in (text, _stuck(name)) or self._moved(found, status)
        if moved or known is None:
            status["conditions"] = [item for item in status["conditions"] if item["type"] != "Progressing"]
            with_condition(status, "Progressing", True, "ReplicaSetUpdated", text)
            self.enqueue_after(key, deadline + 0.1)
        elif known["reason"] != "ProgressDeadlineExceeded":
            left = deadline - seconds_since(known["lastUpdateTime"])
            if left > 0:
                self.enqueue_after(key, left + 0.1)
                return
            with_condition(status, "Progressing", False, "ProgressDeadlineExceeded", _stuck(name))

    def _moved(self, found: Object, status: dict[str, Any]) -> bool:
        """More of the new, less of the old, more ready or available: any of these is progress."""
        before = found["status"]

        def old_pods(counts: dict[str, Any]) -> int:
            return int(counts.get("replicas", 0) - counts.get("updatedReplicas", 0))

        grown = ("updatedReplicas", "readyReplicas", "availableReplicas")
        return old_pods(status) < old_pods(before) or any(
            status.get(field, 0) > before.get(field, 0) for field in grown
        )

    def _key(self, found: Object) -> Key:
        return found["metadata"]["namespace"], found["metadata"]["name"]


def template_hash(template: Object) -> str:
    """A name for a template, in letters that Kubernetes would use."""
    digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).digest()
    return "".join("bcdfghjklmnpqrstvwxz2456789"[byte % 27] for byte in digest[:10])


def _stuck(name: str) -> str:
    return f'ReplicaSet "{name}" has timed out progressing.'


def _revision(one: Object) -> int:
    return int((one["metadata"].get("annotations") or {}).get(REVISION, 0))


def _inherited(found: Object) -> dict[str, str]:
    own = ("kubectl.kubernetes.io/last-applied-configuration", REVISION)
    return {key: text for key, text in (found["metadata"].get("annotations") or {}).items() if key not in own}


def _limits(found: Object) -> tuple[int, int]:
    """maxSurge rounded up and maxUnavailable rounded down; never both 0."""
    rolling = found["spec"]["strategy"].get("rollingUpdate") or {"maxSurge": 0, "maxUnavailable": "100%"}
    desired = found["spec"]["replicas"]

    def number(value: Any, round_to: Any) -> int:
        return round_to(desired * int(value[:-1]) / 100) if isinstance(value, str) else int(value)

    surge, unavailable = number(rolling["maxSurge"], math.ceil), number(rolling["maxUnavailable"], math.floor)
    return surge, (unavailable or (0 if surge else 1))

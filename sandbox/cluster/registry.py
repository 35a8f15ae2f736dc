"""Reads and writes of objects by the API's rules: one way in for clients, controllers and the kubelet.

Everything here is synchronous. In one event loop that makes each call atomic, which is what compare-and-swap,
allocation of addresses and dry runs rest on.
"""

from __future__ import annotations

import contextlib
import copy
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sandbox.cluster import apply, rules
from sandbox.cluster.errors import StatusError, bad_request, conflict, invalid, not_found
from sandbox.cluster.kinds import JOB, KINDS, LEASE, NAMESPACE, POD, SERVICE, Kind
from sandbox.cluster.objects import is_finished, now, suffix, timestamp
from sandbox.cluster.store import Change, Key, Object, Store

NODE_NAME = "sandbox"
_SERVER_SET = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds")


@dataclass(frozen=True)
class Write:
    """Who writes, and whether only to see what would come of it."""

    manager: str = ""
    dry_run: bool = False


QUIET = Write()  # a controller's write: its fields are not tracked in managedFields


@dataclass(frozen=True)
class DeleteOptions:
    grace: int | None = None
    uid: str | None = None
    version: str | None = None
    dry_run: bool = False


class Registry:
    def __init__(self, store: Store, subnet: str) -> None:
        self.store = store
        self.subnet = subnet
        store.subscribe(self._collect)

    def find(self, kind: Kind, namespace: str, name: str) -> Object | None:
        return self.store.get(kind, (namespace if kind.namespaced else "", name))

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        found = self.find(kind, namespace, name)
        if found is None:
            raise not_found(kind.resource, name)
        return found

    def create(self, kind: Kind, namespace: str, body: Object, write: Write = QUIET) -> Object:
        new = _without_nulls(body)
        meta = _envelope(kind, namespace, new)
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = f"{meta['generateName'][:58]}{suffix()}"
        if not meta.get("name"):
            raise invalid(kind.name, "", ("metadata.name", "Required value: name or generateName is required"))
        if meta.get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        if kind.namespaced:
            self.get(NAMESPACE, "", namespace)
        if self.find(kind, namespace, meta["name"]):
            about = {"name": meta["name"], "kind": kind.resource}
            raise StatusError(409, "AlreadyExists", f'{kind.resource} "{meta["name"]}" already exists', about)
        meta.update(uid=str(uuid.uuid4()), creationTimestamp=timestamp())
        if kind.status:
            meta["generation"] = 1
            new["status"] = {}
        with shape(kind):
            rules.set_defaults(kind, new)
            if kind is POD:
                new["status"] = {"phase": "Pending"}
                new.setdefault("spec", {})["nodeName"] = NODE_NAME  # there is only this one: nothing to schedule
            elif kind is JOB:
                _label_pods(new)
            rules.validate(kind, new, None)
        if kind is SERVICE:
            self._allocate_address(new)
        if write.manager and not meta.get("managedFields"):
            apply.track(None, new, write.manager)
        return new if write.dry_run else self.store.put(kind, _key(new), new)

    def update(
        self, kind: Kind, namespace: str, name: str, change: Callable[[Object], Object], write: Write = QUIET, *,
        subresource: str = "", applying: bool = False,
    ) -> Object:  # fmt: skip
        """Replace the object by `change` of a copy of it. A resourceVersion that `change` brings is a condition."""
        old = self.get(kind, namespace, name)
        with shape(kind):
            new = _without_nulls(change(copy.deepcopy(old)))
        meta = _envelope(kind, namespace, new)
        if meta.setdefault("name", name) != name:
            raise bad_request(f"the name of the object ({meta['name']}) does not match the name on the URL ({name})")
        _check_conditions(kind, old, meta.get("uid"), meta.get("resourceVersion"))
        if kind is LEASE and not meta.get("resourceVersion"):
            raise invalid(kind.name, name, ("metadata.resourceVersion", "must be specified for an update"))
        with shape(kind):
            if subresource == "status":
                new = {**copy.deepcopy(old), "status": new.get("status") or {}}
            elif kind.status and not subresource:
                new["status"] = old["status"]
            rules.set_defaults(kind, new)
            _keep_fixed(kind, old, new)
            rules.validate(kind, new, old)
        if write.manager and not applying:
            apply.track(old, new, write.manager)
        if new == old:
            return old  # nothing changes: no new version, no event, as on a real server
        return new if write.dry_run else self.store.put(kind, _key(new), new)

    def set_status(self, kind: Kind, obj: Object, status: Object, annotations: Object | None = None) -> Object:
        """A controller reports; unlike a client's status write this may carry annotations."""

        def change(current: Object) -> Object:
            if annotations:
                current["metadata"]["annotations"] = annotations
            return {**current, "status": status}

        meta = obj["metadata"]
        return self.update(kind, meta["namespace"], meta["name"], change, subresource="report")

    def delete(self, kind: Kind, namespace: str, name: str, options: DeleteOptions = DeleteOptions()) -> Object:
        """Remove the object; a pod that may run is marked, and removed by the kubelet once it has stopped."""
        old = self.get(kind, namespace, name)
        meta = old["metadata"]
        _check_conditions(kind, old, options.uid, options.version)
        grace = 0
        if kind is POD and not is_finished(old):
            grace = old["spec"]["terminationGracePeriodSeconds"] if options.grace is None else options.grace
        if options.dry_run:
            return old
        if grace == 0:
            return self.store.remove(kind, _key(old))
        if grace >= meta.get("deletionGracePeriodSeconds", grace + 1):
            return old
        marked = copy.deepcopy(old)
        end = timestamp(now() + timedelta(seconds=grace))
        marked["metadata"].update(deletionGracePeriodSeconds=grace, deletionTimestamp=end)
        return self.store.put(kind, _key(marked), marked)

    def _collect(self, change: Change) -> None:
        """Garbage collection: what belonged to a removed owner goes with it, and so does a namespace's content."""
        if change.new is not None or change.old is None:
            return
        gone, whole = change.old["metadata"], change.kind is NAMESPACE
        namespace = gone["name"] if whole else gone.get("namespace", "")
        for kind in KINDS if namespace else ():
            for obj in self.store.objects(kind, namespace):
                owners = obj["metadata"].get("ownerReferences") or ()
                if whole or any(owner["uid"] == gone["uid"] for owner in owners):
                    with contextlib.suppress(StatusError):  # it went with another one already
                        self.delete(kind, namespace, obj["metadata"]["name"], DeleteOptions(grace=0 if whole else None))

    def _allocate_address(self, service: Object) -> None:
        spec = service["spec"]
        taken = {other["spec"]["clusterIP"] for other in self.store.objects(SERVICE)}
        free = (f"{self.subnet}.2.{last}" for last in range(10, 255))
        asked = spec.get("clusterIP") or next(address for address in free if address not in taken)
        if not asked.startswith(f"{self.subnet}.2.") or asked in taken:
            why = "already allocated" if asked in taken else f"not in the range {self.subnet}.2.0/24"
            name = service["metadata"]["name"]
            raise invalid("Service", name, ("spec.clusterIPs", f"Invalid value: {asked!r}: {why}"))
        spec["clusterIP"], spec["clusterIPs"] = asked, [asked]


def _key(obj: Object) -> Key:
    return (obj["metadata"].get("namespace", ""), obj["metadata"]["name"])


def _envelope(kind: Kind, namespace: str, obj: Object) -> dict[str, Any]:
    """Check that this is an object of that kind in that namespace; returns its metadata."""
    given = (obj.setdefault("apiVersion", kind.api_version), obj.setdefault("kind", kind.name))
    if given != (kind.api_version, kind.name):
        raise bad_request(f"{given[0]}, Kind={given[1]} is not the expected {kind.api_version}, Kind={kind.name}")
    meta = obj.setdefault("metadata", {})
    if not isinstance(meta, dict) or not isinstance(meta.get("name", ""), str):
        raise bad_request("metadata must be an object with a name")
    if kind.namespaced and meta.setdefault("namespace", namespace) != namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    return meta


def _check_conditions(kind: Kind, old: Object, uid: str | None, version: str | None) -> None:
    meta = old["metadata"]
    if uid and uid != meta["uid"]:
        raise conflict(kind.resource, meta["name"], f"Precondition failed: the UID is {meta['uid']}, not {uid}")
    if version and version != meta["resourceVersion"]:
        why = "the object has been modified; please apply your changes to the latest version and try again"
        raise conflict(kind.resource, meta["name"], why)


def _label_pods(job: Object) -> None:
    """A job selects its pods by its own uid, so that two jobs never share any."""
    meta, spec = job["metadata"], job.get("spec")
    if not isinstance(spec, dict) or not isinstance(spec.get("template"), dict):
        return  # validation has something to say about that
    labels = {prefix + "controller-uid": meta["uid"] for prefix in ("", "batch.kubernetes.io/")}
    labels |= {prefix + "job-name": meta["name"] for prefix in ("", "batch.kubernetes.io/")}
    template = spec["template"].setdefault("metadata", {})
    template["labels"] = {**(template.get("labels") or {}), **labels}
    spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": meta["uid"]}}


def _keep_fixed(kind: Kind, old: Object, new: Object) -> None:
    """Undo what no update may touch."""
    before, meta = old["metadata"], new["metadata"]
    for field in _SERVER_SET:
        meta.pop(field, None)
        if field in before:
            meta[field] = before[field]
    meta["resourceVersion"] = before["resourceVersion"]
    if not meta.get("managedFields"):
        meta.pop("managedFields", None)
        meta.update({field: before[field] for field in ("managedFields",) if field in before})
    if kind is SERVICE and isinstance(new.get("spec"), dict):
        new["spec"] = {**{field: old["spec"][field] for field in ("clusterIP", "clusterIPs")}, **new["spec"]}
    if kind.status and new.get("spec") != old.get("spec"):
        meta["generation"] = before["generation"] + 1


@contextlib.contextmanager
def shape(kind: Kind) -> Iterator[None]:
    """A list where a map belongs, a number where a text does: the object cannot be one of this kind."""
    try:
        yield
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise bad_request(f"{kind.name} in version 'v1' cannot be handled as such: {error!r}") from error


def _without_nulls(value: Any) -> Any:
    """A copy without nulls and empty labels or annotations: both mean the same as nothing."""
    if isinstance(value, dict):
        copied = {name: _without_nulls(item) for name, item in value.items() if item is not None}
        return {name: item for name, item in copied.items() if item or name not in ("labels", "annotations")}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value

"""Reads and writes of objects by the API's rules: one way in for clients, controllers and the kubelet.

Everything here is synchronous. In one event loop that makes each call atomic, which is what compare-and-swap,
allocation of addresses and dry runs rest on.
"""

from __future__ import annotations

import contextlib
import copy
import random
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from sandbox.cluster import apply, rules
from sandbox.cluster.errors import StatusError, already_exists, bad_request, conflict, invalid, not_found
from sandbox.cluster.kinds import JOB, KINDS, NAMESPACE, POD, SERVICE, Kind
from sandbox.cluster.store import Key, Object, Store

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # as Kubernetes: no vowels, so no words


def now() -> datetime:
    return datetime.now(UTC)


def timestamp(moment: datetime | None = None) -> str:
    return (moment or now()).strftime("%Y-%m-%dT%H:%M:%SZ")


def suffix(length: int = 5) -> str:
    return "".join(random.choices(_ALPHABET, k=length))


def owner_reference(kind: Kind, owner: Object) -> dict[str, Any]:
    meta = owner["metadata"]
    return {
        "apiVersion": kind.api_version,
        "kind": kind.name,
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def controller_uid(obj: Object) -> str | None:
    """The uid of the one owner that manages this object."""
    owners = obj["metadata"].get("ownerReferences") or ()
    return next((owner["uid"] for owner in owners if owner.get("controller")), None)


@dataclass(frozen=True)
class DeleteOptions:
    grace: int | None = None
    propagation: str = "Background"
    uid: str | None = None
    version: str | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class Write:
    """Who writes, and whether only to see what would come of it."""

    manager: str = ""
    dry_run: bool = False


QUIET = Write()  # a controller's write: its fields are not tracked in managedFields


class Registry:
    def __init__(self, store: Store, subnet: str) -> None:
        self.store = store
        self.subnet = subnet

    # --- reading

    def find(self, kind: Kind, namespace: str, name: str) -> Object | None:
        return self.store.get(kind, (namespace if kind.namespaced else "", name))

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        found = self.find(kind, namespace, name)
        if found is None:
            raise not_found(kind.resource, name)
        return found

    # --- writing

    def create(self, kind: Kind, namespace: str, body: Object, write: Write = QUIET) -> Object:
        new = _without_nulls(body)
        meta = self._envelope(kind, namespace, new)
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = f"{meta['generateName'][:58]}{suffix()}"
        if not meta.get("name"):
            raise invalid(kind.name, "", ("metadata.name", "Required value: name or generateName is required"))
        if meta.get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        key = self._key(kind, namespace, meta["name"])
        self._require_namespace(kind, namespace)
        if self.store.get(kind, key) is not None:
            raise already_exists(kind.resource, meta["name"])
        for field in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
            meta.pop(field, None)
        meta.update(uid=str(uuid.uuid4()), creationTimestamp=timestamp())
        if kind.generation:
            meta["generation"] = 1
        with shape(kind):
            rules.set_defaults(kind, new)
            self._prepare_new(kind, new)
            rules.validate(kind, new, None)
            if kind is SERVICE:
                self._allocate_address(new)
        if write.manager and not meta.get("managedFields"):
            apply.track(None, new, write.manager)
        return new if write.dry_run else self.store.put(kind, key, new)

    def update(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        change: Callable[[Object], Object],
        write: Write = QUIET,
        *,
        subresource: str = "",
        applying: bool = False,
    ) -> Object:
        """Replace the object by `change` of a copy of it. A resourceVersion that `change` brings is a condition."""
        old = self.get(kind, namespace, name)
        with shape(kind):
            new = _without_nulls(change(copy.deepcopy(old)))
        meta = self._envelope(kind, namespace, new)
        if meta.setdefault("name", name) != name:
            raise bad_request(f"the name of the object ({meta['name']}) does not match the name on the URL ({name})")
        self._check_conditions(kind, old, meta.get("uid"), meta.get("resourceVersion"))
        if kind.create_on_update and not meta.get("resourceVersion"):
            raise invalid(
                kind.name,
                name,
                ("metadata.resourceVersion", "Invalid value: 0x0: must be specified for an update"),
            )
        with shape(kind):
            rules.set_defaults(kind, new)
            self._keep_fixed(kind, old, new, subresource)
            rules.validate(kind, new, old)
        if write.manager and not applying and subresource != "status":
            apply.track(old, new, write.manager)
        if _content(new) == _content(old) and (not applying or _same_managers(old, new)):
            return old  # nothing changes: no new version, no event, as on a real server
        if write.dry_run:
            return new
        stored = self.store.put(kind, self._key(kind, namespace, name), new)
        if stored["metadata"].get("deletionTimestamp") and self._may_vanish(kind, stored):
            self.store.remove(kind, self._key(kind, namespace, name))
        return stored

    def set_status(self, kind: Kind, obj: Object, status: Object, annotations: Object | None = None) -> Object:
        """A controller reports; unlike a client's status write this may carry annotations."""

        def change(current: Object) -> Object:
            current["status"] = status
            if annotations is not None:
                current["metadata"]["annotations"] = annotations
            return current

        meta = obj["metadata"]
        return self.update(kind, meta.get("namespace", ""), meta["name"], change, subresource="report")

    def delete(self, kind: Kind, namespace: str, name: str, options: DeleteOptions = DeleteOptions()) -> Object:
        """Remove the object, or mark it when somebody (kubelet, finalizer, namespace) has to finish first."""
        old = self.get(kind, namespace, name)
        self._check_conditions(kind, old, options.uid, options.version)
        key = self._key(kind, namespace, name)
        if options.propagation == "Orphan" and not options.dry_run:
            self._orphan_dependents(old["metadata"]["uid"])
        grace = self._grace(kind, old, options.grace)
        marked = copy.deepcopy(old)
        meta = marked["metadata"]
        if grace == 0 and not meta.get("finalizers"):
            if options.dry_run:
                return old
            return self.store.remove(kind, key)
        known = meta.get("deletionGracePeriodSeconds")
        if meta.get("deletionTimestamp") and (known is None or grace >= known):
            return old
        meta["deletionGracePeriodSeconds"] = grace
        meta["deletionTimestamp"] = timestamp(now() + timedelta(seconds=grace))
        if kind.generation:
            meta["generation"] = meta.get("generation", 1) + 1
        if kind is NAMESPACE:
            marked["status"] = {"phase": "Terminating"}
        return marked if options.dry_run else self.store.put(kind, key, marked)

    # --- the rules' parts

    def _key(self, kind: Kind, namespace: str, name: str) -> Key:
        return (namespace if kind.namespaced else "", name)

    def _envelope(self, kind: Kind, namespace: str, obj: Object) -> dict[str, Any]:
        """Check that this is an object of that kind in that namespace; returns its metadata."""
        if obj.get("kind", kind.name) != kind.name or obj.get("apiVersion", kind.api_version) != kind.api_version:
            raise bad_request(
                f"{obj.get('apiVersion')}, Kind={obj.get('kind')} is not the expected "
                f"{kind.api_version}, Kind={kind.name}"
            )
        obj["kind"], obj["apiVersion"] = kind.name, kind.api_version
        meta = obj.setdefault("metadata", {})
        if not isinstance(meta, dict) or not isinstance(meta.get("name", ""), str):
            raise bad_request("metadata must be an object with a name")
        if kind.namespaced and (meta.get("namespace") or namespace) != namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        if kind.namespaced:
            meta["namespace"] = namespace
        else:
            meta.pop("namespace", None)
        return meta

    def _require_namespace(self, kind: Kind, namespace: str) -> None:
        if not kind.namespaced:
            return
        found = self.find(NAMESPACE, "", namespace)
        if found is None:
            raise not_found("namespaces", namespace)
        if found["metadata"].get("deletionTimestamp"):
            message = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise StatusError(403, "Forbidden", message)

    def _check_conditions(self, kind: Kind, old: Object, uid: str | None, version: str | None) -> None:
        meta = old["metadata"]
        if uid and uid != meta["uid"]:
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {meta['uid']}"
            raise conflict(kind.resource, meta["name"], why)
        if version and version != meta["resourceVersion"]:
            raise conflict(kind.resource, meta["name"])

    def _prepare_new(self, kind: Kind, new: Object) -> None:
        if kind.status and kind.name != "Node":
            new.pop("status", None)
        if kind is POD:
            new["status"] = {"phase": "Pending", "qosClass": "BestEffort"}
            new.setdefault("spec", {}).setdefault("serviceAccountName", "default")
        elif kind is NAMESPACE:
            new.setdefault("spec", {})["finalizers"] = ["kubernetes"]
            new["status"] = {"phase": "Active"}
            new["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = new["metadata"]["name"]
        elif kind is SERVICE:
            new["status"] = {"loadBalancer": {}}
        elif kind is JOB and isinstance(new.get("spec"), dict) and isinstance(new["spec"].get("template"), dict):
            self._prepare_job(new)
        elif kind.status:
            new["status"] = new.get("status") or {}

    def _prepare_job(self, job: Object) -> None:
        """A job selects its pods by its own uid, so that two jobs never share any."""
        job["status"] = {}
        meta, spec = job["metadata"], job["spec"]
        if spec.get("manualSelector"):
            return
        labels = {
            "batch.kubernetes.io/controller-uid": meta["uid"],
            "batch.kubernetes.io/job-name": meta["name"],
            "controller-uid": meta["uid"],
            "job-name": meta["name"],
        }
        template = spec["template"].setdefault("metadata", {})
        template["labels"] = {**(template.get("labels") or {}), **labels}
        spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": meta["uid"]}}

    def _keep_fixed(self, kind: Kind, old: Object, new: Object, subresource: str) -> None:
        """Undo what this write may not touch: identity, and status or everything but status."""
        before, meta = old["metadata"], new["metadata"]
        if subresource == "status":
            new = _replace(new, {**old, "status": new.get("status") or {}})
            new["metadata"] = meta = {**before, "managedFields": before.get("managedFields")}
        elif kind.status and not subresource:
            new["status"] = old.get("status", {})
        for field in ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds"):
            meta.pop(field, None)
            if field in before:
                meta[field] = before[field]
        meta["resourceVersion"] = before["resourceVersion"]
        if not meta.get("managedFields"):
            meta.pop("managedFields", None)
            if before.get("managedFields"):
                meta["managedFields"] = copy.deepcopy(before["managedFields"])
        if kind is SERVICE and isinstance(new.get("spec"), dict):
            for field in ("clusterIP", "clusterIPs"):
                if not new["spec"].get(field) and field in old["spec"]:
                    new["spec"][field] = old["spec"][field]
        if kind.generation and new.get("spec") != old.get("spec"):
            meta["generation"] = before.get("generation", 1) + 1

    def _grace(self, kind: Kind, old: Object, asked: int | None) -> int:
        """How long the deletion may take. Only what the kubelet has to stop, or a namespace, is not deleted at once."""
        if kind is NAMESPACE:
            return 1 if self._has_content(old["metadata"]["name"]) else 0
        if kind is not POD:
            return 0
        finished = old.get("status", {}).get("phase") in ("Succeeded", "Failed")
        if not old["spec"].get("nodeName") or finished:
            return 0
        return int(old["spec"].get("terminationGracePeriodSeconds", 30) if asked is None else max(asked, 0))

    def _has_content(self, namespace: str) -> bool:
        return any(self.store.objects(kind, namespace) for kind in KINDS if kind.namespaced)

    def _may_vanish(self, kind: Kind, marked: Object) -> bool:
        """Whether only the finalizers, which are now gone, held back this deletion."""
        meta = marked["metadata"]
        return kind is not NAMESPACE and not meta.get("finalizers") and meta["deletionGracePeriodSeconds"] == 0

    def _orphan_dependents(self, uid: str) -> None:
        for kind in KINDS:
            for obj in self.store.objects(kind):
                owners = obj["metadata"].get("ownerReferences") or []
                if any(owner["uid"] == uid for owner in owners):
                    rest = [owner for owner in owners if owner["uid"] != uid]
                    meta = {**obj["metadata"], "ownerReferences": rest}
                    left = {**obj, "metadata": meta}
                    self.update(kind, meta.get("namespace", ""), meta["name"], partial(_replace, source=left))

    def _allocate_address(self, service: Object) -> None:
        spec = service["spec"]
        if spec["type"] == "ExternalName" or spec.get("clusterIP") == "None":
            return
        taken = {other["spec"].get("clusterIP") for other in self.store.objects(SERVICE)}
        free = (f"{self.subnet}.2.{last}" for last in range(10, 255))
        asked = spec.get("clusterIP") or next((address for address in free if address not in taken), "")
        if not asked.startswith(f"{self.subnet}.2."):
            why = f"Invalid value: {asked!r}: not in the range {self.subnet}.2.0/24"
            raise invalid("Service", service["metadata"]["name"], ("spec.clusterIPs", why))
        if asked in taken:
            why = f"Invalid value: {asked!r}: provided IP is already allocated"
            raise invalid("Service", service["metadata"]["name"], ("spec.clusterIPs", why))
        spec["clusterIP"], spec["clusterIPs"] = asked, [asked]


@contextlib.contextmanager
def shape(kind: Kind) -> Iterator[None]:
    """A list where a map belongs, a number where a text does: the object cannot be one of this kind."""
    try:
        yield
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise bad_request(f"{kind.name} in version {kind.version!r} cannot be handled as such: {error}") from error


def _replace(target: Object, source: Object) -> Object:
    target.clear()
    target.update(source)
    return target


def _without_nulls(value: Any) -> Any:
    """A copy without nulls and empty labels or annotations: both mean the same as nothing."""
    if isinstance(value, dict):
        copied = {name: _without_nulls(item) for name, item in value.items() if item is not None}
        return {name: item for name, item in copied.items() if item or name not in ("labels", "annotations")}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _content(obj: Object) -> Object:
    """All of an object but who manages its fields, which alone is no change worth a version."""
    meta = {field: value for field, value in obj["metadata"].items() if field != "managedFields"}
    return {**obj, "metadata": meta}


def _same_managers(old: Object, new: Object) -> bool:
    return apply.managers(old) == apply.managers(new)

"""Removes what belongs to something that is gone: objects of deleted owners, and the content of namespaces."""

from __future__ import annotations

from collections.abc import Iterable

from sandbox.cluster.controllers.base import Controller
from sandbox.cluster.kinds import KINDS, NAMESPACE, SERVICE_ACCOUNT
from sandbox.cluster.registry import DeleteOptions
from sandbox.cluster.store import Change, Key

_OWNED = "owner"  # stands for the namespace in keys that are the uid of a deleted owner


class Collector(Controller):
    name = "garbage-collector"

    def affected(self, change: Change) -> Iterable[Key]:
        if change.new is None and change.old is not None:
            yield _OWNED, change.old["metadata"]["uid"]
            if change.kind.namespaced:
                yield "", change.key[0]  # a namespace may be empty now
        elif change.old is None and change.new is not None:
            for owner in change.new["metadata"].get("ownerReferences") or ():
                yield _OWNED, owner["uid"]
        if change.kind is NAMESPACE and change.new is not None:
            yield "", change.key[1]

    def reconcile(self, key: Key) -> None:
        if key[0] == _OWNED:
            self._collect(key[1])
        else:
            self._namespace(key[1])

    def _collect(self, uid: str) -> None:
        """Delete what only this owner held, if there is no object with this uid."""
        everything = [(kind, obj) for kind in KINDS for obj in self.store.objects(kind)]
        existing = {obj["metadata"]["uid"] for _, obj in everything}
        if uid in existing:
            return
        for kind, obj in everything:
            meta = obj["metadata"]
            owners = {owner["uid"] for owner in meta.get("ownerReferences") or ()}
            if uid in owners and not owners & existing:
                self.registry.delete(kind, meta.get("namespace", ""), meta["name"], DeleteOptions())

    def _namespace(self, name: str) -> None:
        """A new namespace gets its service account; one that ends is emptied and then removed."""
        namespace = self.store.get(NAMESPACE, ("", name))
        if namespace is None:
            return
        if not namespace["metadata"].get("deletionTimestamp"):
            if self.store.get(SERVICE_ACCOUNT, (name, "default")) is None:
                self.registry.create(SERVICE_ACCOUNT, name, {"metadata": {"name": "default"}})
            return
        for kind in KINDS:
            for obj in self.store.objects(kind, name) if kind.namespaced else ():
                if not obj["metadata"].get("deletionTimestamp"):
                    self.registry.delete(kind, name, obj["metadata"]["name"], DeleteOptions())
        self.registry.delete(NAMESPACE, "", name)

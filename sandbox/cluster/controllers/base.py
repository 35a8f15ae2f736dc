"""A controller: changes name keys, keys are reconciled one by one, failures are tried again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from sandbox.cluster.errors import StatusError
from sandbox.cluster.kinds import Kind
from sandbox.cluster.recorder import Recorder
from sandbox.cluster.registry import Registry, controller_uid
from sandbox.cluster.store import Change, Key, Object

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.5


class Controller:
    name = "controller"

    def __init__(self, registry: Registry) -> None:
        self.registry, self.store = registry, registry.store
        self.recorder = Recorder(registry, self.name)
        self._queue: dict[Key, None] = {}  # a set that keeps its order
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self.store.subscribe(self._changed)

    def affected(self, change: Change) -> Iterable[Key]:
        """The keys to look at after a change."""
        raise NotImplementedError

    def reconcile(self, key: Key) -> None:
        """Bring one object closer to its spec. Synchronous: nothing changes meanwhile."""
        raise NotImplementedError

    def enqueue(self, key: Key) -> None:
        if not self._queue:
            asyncio.get_running_loop().call_soon(self._drain)
        self._queue[key] = None

    def enqueue_after(self, key: Key, seconds: float) -> None:
        """Look again later; the earliest of several wishes wins."""
        loop = asyncio.get_running_loop()
        known = self._timers.get(key)
        if known is not None and known.when() <= loop.time() + seconds:
            return
        if known is not None:
            known.cancel()
        self._timers[key] = loop.call_later(seconds, self._wake, key)

    def _wake(self, key: Key) -> None:
        del self._timers[key]
        self.enqueue(key)

    def _changed(self, change: Change) -> None:
        for key in self.affected(change):
            self.enqueue(key)

    def _drain(self) -> None:
        while self._queue:
            key = next(iter(self._queue))
            del self._queue[key]  # first, so that what changes meanwhile brings it back
            try:
                self.reconcile(key)
            except StatusError as error:
                log.info("%s: %s: %s", self.name, key, error)
                self.enqueue_after(key, RETRY_SECONDS)
            except Exception:
                log.exception("%s: %s", self.name, key)
                self.enqueue_after(key, RETRY_SECONDS)

    # --- shared by controllers that own objects

    def owned(self, kind: Kind, owner: Object) -> list[Object]:
        meta = owner["metadata"]
        return [obj for obj in self.store.objects(kind, meta["namespace"]) if controller_uid(obj) == meta["uid"]]

    def own_and_owner(self, change: Change, kind: Kind, owner: Kind) -> Iterable[Key]:
        """The key of an owner that changed, or of the owner of a `kind` that changed."""
        if change.kind is owner:
            yield change.key
        elif change.kind is kind:
            for obj in (change.old, change.new):
                for reference in (obj or {"metadata": {}})["metadata"].get("ownerReferences") or ():
                    if reference.get("controller") and reference["kind"] == owner.name:
                        yield change.key[0], reference["name"]

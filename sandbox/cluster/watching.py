"""WATCH: the changes of a collection as lines of JSON, from a version on and without a gap."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from sandbox.cluster.errors import StatusError
from sandbox.cluster.kinds import Kind
from sandbox.cluster.selectors import Matcher
from sandbox.cluster.store import Change, Object, Store

BOOKMARK_SECONDS = 30.0
Event = tuple[str, Object]


@dataclass(frozen=True)
class Watching:
    kind: Kind
    namespace: str
    selected: Matcher
    version: int  # 0: begin with what exists
    bookmarks: bool
    initial_events: bool  # end the initial objects with a bookmark
    seconds: float


async def watch(store: Store, wanted: Watching) -> AsyncIterator[bytes]:
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[Change]()
    deadline = loop.time() + wanted.seconds
    stop = store.subscribe(queue.put_nowait)  # before the first look at the store: nothing falls in between
    try:
        for event in _beginning(store, wanted):
            yield _line(event)
        version = store.version
        while (left := deadline - loop.time()) > 0:
            try:
                async with asyncio.timeout(min(left, BOOKMARK_SECONDS)):
                    change = await queue.get()
            except TimeoutError:
                if wanted.bookmarks:
                    yield _line(_bookmark(wanted, version))
                continue
            version = change.version
            if found := _event(change, wanted):
                yield _line(found)
    except StatusError as error:  # as on a real server: too old a version is an event, not a status code
        yield _line(("ERROR", error.status()))
    finally:
        stop()


def _beginning(store: Store, wanted: Watching) -> list[Event]:
    if wanted.version and not wanted.initial_events:
        return [event for change in store.since(wanted.version) if (event := _event(change, wanted))]
    existing = [("ADDED", obj) for obj in store.objects(wanted.kind, wanted.namespace) if wanted.selected(obj)]
    if wanted.initial_events:
        existing.append(_bookmark(wanted, store.version, {"k8s.io/initial-events-end": "true"}))
    return existing


def _event(change: Change, wanted: Watching) -> Event | None:
    """What a change looks like to somebody who sees only what the selector takes."""
    if change.kind is not wanted.kind or (wanted.namespace and change.key[0] != wanted.namespace):
        return None
    old = change.old if change.old is not None and wanted.selected(change.old) else None
    new = change.new if change.new is not None and wanted.selected(change.new) else None
    if new is not None:
        return ("MODIFIED" if old is not None else "ADDED"), new
    if old is not None:
        return "DELETED", {**old, "metadata": {**old["metadata"], "resourceVersion": str(change.version)}}
    return None


def _bookmark(wanted: Watching, version: int, annotations: dict[str, str] | None = None) -> Event:
    meta: dict[str, Any] = {"resourceVersion": str(version), "annotations": annotations or {}}
    return "BOOKMARK", {"kind": wanted.kind.name, "apiVersion": wanted.kind.api_version, "metadata": meta}


def _line(event: Event) -> bytes:
    return json.dumps({"type": event[0], "object": event[1]}, separators=(",", ":")).encode() + b"\n"

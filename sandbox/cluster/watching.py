"""WATCH: the changes of a collection as lines of JSON, from a version on and without a gap."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.cluster.errors import StatusError
from sandbox.cluster.kinds import Kind
from sandbox.cluster.query import flag, number
from sandbox.cluster.selectors import Matcher
from sandbox.cluster.store import Change, Object, Store
from sandbox.cluster.tables import table

BOOKMARK_SECONDS = 30.0


@dataclass(frozen=True)
class Watching:
    kind: Kind
    namespace: str
    version: int  # 0: begin with what exists
    bookmarks: bool
    initial_events: bool  # end the initial objects with a bookmark
    seconds: float
    as_table: bool

    @classmethod
    def parse(cls, query: Mapping[str, str], kind: Kind, namespace: str, as_table: bool) -> Watching:
        version, seconds = number(query, "resourceVersion") or 0, number(query, "timeoutSeconds") or 3600
        initial = flag(query, "sendInitialEvents")
        bookmarks = flag(query, "allowWatchBookmarks")
        return cls(kind, namespace, 0 if initial else version, bookmarks, initial, seconds, as_table)


async def watch(store: Store, options: Watching, selected: Matcher) -> AsyncIterator[bytes]:
    queue: asyncio.Queue[Change] = asyncio.Queue()
    stop = store.subscribe(queue.put_nowait)  # before the first look at the store: nothing falls in between
    try:
        for event in _beginning(store, options, selected):
            yield _line(event, options)
        deadline = asyncio.get_running_loop().time() + options.seconds
        version = store.version
        while (left := deadline - asyncio.get_running_loop().time()) > 0:
            try:
                async with asyncio.timeout(min(left, BOOKMARK_SECONDS)):
                    change = await queue.get()
            except TimeoutError:
                if options.bookmarks:
                    yield _line(("BOOKMARK", _bookmark(options, version)), options)
                continue
            version = change.version
            found = _event(change, options, selected)
            if found:
                yield _line(found, options)
    except StatusError as error:  # as on a real server: too old a version is an event, not a status code
        yield json.dumps({"type": "ERROR", "object": error.status()}).encode() + b"\n"
    finally:
        stop()


def _beginning(store: Store, options: Watching, selected: Matcher) -> list[tuple[str, Object]]:
    if options.version:
        changes = list(store.since(options.version))
        return [event for change in changes if (event := _event(change, options, selected))]
    existing = [("ADDED", obj) for obj in store.objects(options.kind, options.namespace) if selected(obj)]
    if options.initial_events:
        existing.append(("BOOKMARK", _bookmark(options, store.version, {"k8s.io/initial-events-end": "true"})))
    return existing


def _event(change: Change, options: Watching, selected: Matcher) -> tuple[str, Object] | None:
    """What a change looks like to somebody who sees only what the selector takes."""
    if change.kind is not options.kind or (options.namespace and change.key[0] != options.namespace):
        return None
    old = change.old if change.old is not None and selected(change.old) else None
    new = change.new if change.new is not None and selected(change.new) else None
    if new is not None:
        return ("MODIFIED" if old is not None else "ADDED"), new
    if old is not None:
        return "DELETED", {**old, "metadata": {**old["metadata"], "resourceVersion": str(change.version)}}
    return None


def _bookmark(options: Watching, version: int, annotations: dict[str, str] | None = None) -> Object:
    meta: dict[str, Any] = {"resourceVersion": str(version), "creationTimestamp": None}
    if annotations:
        meta["annotations"] = annotations
    return {"kind": options.kind.name, "apiVersion": options.kind.api_version, "metadata": meta}


def _line(event: tuple[str, Object], options: Watching) -> bytes:
    kind, obj = event
    if options.as_table and kind != "BOOKMARK":
        obj = table(options.kind, [obj], {"resourceVersion": obj["metadata"]["resourceVersion"]})
    return json.dumps({"type": kind, "object": obj}, separators=(",", ":")).encode() + b"\n"

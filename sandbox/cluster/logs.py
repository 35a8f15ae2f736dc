"""What containers print: one file for each run of a container, each line behind the time it came."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from starlette.responses import Response, StreamingResponse

from sandbox.cluster.errors import bad_request
from sandbox.cluster.query import flag, number
from sandbox.cluster.store import Object


@dataclass(frozen=True)
class LogOptions:
    container: str = ""
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail: int | None = None
    since: datetime | None = None
    limit: int | None = None

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> LogOptions:
        try:
            since = datetime.fromisoformat(query["sinceTime"]) if query.get("sinceTime") else None
        except ValueError as error:
            raise bad_request(f"Invalid value for sinceTime: {error}") from error
        seconds = number(query, "sinceSeconds")
        if seconds is not None:
            since = datetime.now(UTC) - timedelta(seconds=seconds)
        return cls(
            container=query.get("container", ""),
            follow=flag(query, "follow"),
            previous=flag(query, "previous"),
            timestamps=flag(query, "timestamps"),
            tail=number(query, "tailLines"),
            since=since.replace(tzinfo=since.tzinfo or UTC) if since else None,
            limit=number(query, "limitBytes"),
        )


class LogWriter(asyncio.Protocol):
    """Takes a container's output from its pipe, splits it in lines, and wakes those who follow."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("ab", buffering=0)
        self._partial = b""
        self.more = asyncio.Event()
        self.closed = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._write(lines)

    def connection_lost(self, exc: Exception | None) -> None:
        self.close()

    def close(self) -> None:
        if not self.closed.is_set():
            self.closed.set()
            self._write([self._partial] if self._partial else [])
            self._file.close()
            self._wake()

    def _write(self, lines: list[bytes]) -> None:
        if lines:
            stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z ").encode()
            self._file.write(b"".join(stamp + line + b"\n" for line in lines))
            self._wake()

    def _wake(self) -> None:
        waited, self.more = self.more, asyncio.Event()
        waited.set()


class PodLogs:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._writers: dict[Path, LogWriter] = {}

    def writer(self, uid: str, container: str, restart: int) -> LogWriter:
        path = self._path(uid, container, restart)
        self._writers[path] = LogWriter(path)
        return self._writers[path]

    def forget(self, uid: str) -> None:
        for path in [path for path in self._writers if path.is_relative_to(self._root / uid)]:
            self._writers.pop(path).close()
        shutil.rmtree(self._root / uid, ignore_errors=True)

    def response(self, pod: Object, options: LogOptions) -> Response:
        """The answer to GET .../log: text, which goes on until the container ends if the client follows."""
        meta, spec, status = pod["metadata"], pod["spec"], pod["status"]
        names = [item["name"] for field in ("containers", "initContainers") for item in spec.get(field) or ()]
        if not options.container and len(spec["containers"]) > 1:
            raise bad_request(f"a container name must be specified for pod {meta['name']}, choose one of: {names}")
        container = options.container or names[0]
        if container not in names:
            raise bad_request(f"container {container} is not valid for pod {meta['name']}")
        statuses = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
        known = next((item for item in statuses if item["name"] == container), None)
        restart = (known["restartCount"] if known else 0) - options.previous
        path = self._path(meta["uid"], container, restart)
        if options.previous and not path.exists():
            raise bad_request(f'previous terminated container "{container}" in pod "{meta["name"]}" not found')
        if not path.exists():
            reason = ((known or {}).get("state", {}).get("waiting") or {}).get("reason", "ContainerCreating")
            raise bad_request(f'container "{container}" in pod "{meta["name"]}" is waiting to start: {reason}')
        return StreamingResponse(self._stream(path, options), media_type="text/plain")

    def _path(self, uid: str, container: str, restart: int) -> Path:
        return self._root / uid / container / f"{restart}.log"

    async def _stream(self, path: Path, options: LogOptions) -> AsyncIterator[bytes]:
        left = options.limit
        writer = self._writers.get(path)
        with path.open("rb") as file:
            lines: list[bytes] = list(_selected(file, options))
            if options.tail is not None:
                lines = lines[-options.tail :] if options.tail else []
            while True:
                text = b"".join(lines)[:left]
                if text:
                    yield text
                left = None if left is None else left - len(text)
                if not options.follow or writer is None or left == 0:
                    return
                finished, more = writer.closed.is_set(), writer.more
                lines = list(_selected(file, options))
                if not lines and finished:
                    return
                if not lines:
                    await more.wait()


def _selected(file: BinaryIO, options: LogOptions) -> Iterator[bytes]:
    for line in file:
        stamp, _, text = line.partition(b" ")
        if options.since is None or datetime.fromisoformat(stamp.decode()[:26] + "+00:00") >= options.since:
            yield line if options.timestamps else text

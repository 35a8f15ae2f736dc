"""What containers print: one file for each run of a container, each line behind the time it came."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from starlette.responses import Response, StreamingResponse

from sandbox.cluster.errors import bad_request
from sandbox.cluster.store import Object

FOLLOW_SECONDS = 0.05


class LogWriter(asyncio.Protocol):
    """Takes a container's output from its pipe and splits it in lines."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("ab", buffering=0)
        self._partial = b""
        self.closed = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._write(lines)

    def connection_lost(self, exc: Exception | None) -> None:
        self._write([self._partial] if self._partial else [])
        self._file.close()
        self.closed.set()

    def _write(self, lines: list[bytes]) -> None:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z ").encode()
        self._file.write(b"".join(stamp + line + b"\n" for line in lines))


class PodLogs:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._writers: dict[Path, LogWriter] = {}

    def writer(self, uid: str, restart: int) -> LogWriter:
        path = self._path(uid, restart)
        self._writers[path] = LogWriter(path)
        return self._writers[path]

    def forget(self, uid: str) -> None:
        self._writers = {path: writer for path, writer in self._writers.items() if path.parent.name != uid}
        shutil.rmtree(self._root / uid, ignore_errors=True)

    def response(self, pod: Object, query: Mapping[str, str]) -> Response:
        """The answer to GET .../log: text, which goes on until the container ends if the client follows."""
        meta, name = pod["metadata"], pod["spec"]["containers"][0]["name"]
        if query.get("container", name) != name:
            raise bad_request(f"container {query['container']} is not valid for pod {meta['name']}")
        status = (pod["status"].get("containerStatuses") or [{}])[0]
        path = self._path(meta["uid"], status.get("restartCount", 0))
        if not path.exists():
            reason = status.get("state", {}).get("waiting", {}).get("reason", "ContainerCreating")
            raise bad_request(f'container "{name}" in pod "{meta["name"]}" is waiting to start: {reason}')
        return StreamingResponse(self._stream(path, query), media_type="text/plain")

    def _path(self, uid: str, restart: int) -> Path:
        return self._root / uid / f"{restart}.log"

    async def _stream(self, path: Path, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        writer, tail = self._writers.get(path), query.get("tailLines")
        with path.open("rb") as file:
            lines = list(_selected(file, query))
            text = b"".join(lines[-int(tail) :] if tail and int(tail) else [] if tail else lines)
            limit = query.get("limitBytes")
            yield text[: int(limit)] if limit else text
            following = query.get("follow") in ("true", "True", "1") and writer is not None
            while following:
                following = not (writer and writer.closed.is_set())  # first: what it wrote last is still to be read
                if text := b"".join(_selected(file, query)):
                    yield text
                elif following:
                    await asyncio.sleep(FOLLOW_SECONDS)


def _selected(file: BinaryIO, query: Mapping[str, str]) -> Iterator[bytes]:
    seconds = query.get("sinceSeconds")
    since = datetime.now(UTC) - timedelta(seconds=int(seconds)) if seconds else None
    for line in file:
        stamp, _, text = line.partition(b" ")
        if since is None or datetime.fromisoformat(stamp.decode()[:26] + "+00:00") >= since:
            yield line if query.get("timestamps") in ("true", "True", "1") else text

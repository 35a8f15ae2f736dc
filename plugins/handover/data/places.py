"""Where a file to import lies and where its report goes: S3, or a folder of the workers."""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Protocol, cast

if TYPE_CHECKING:
    from handover.data.csv_file import Lines

BUFFER_BYTES = 1024 * 1024
REPORT = ".rejects.csv"


class BadSource(ValueError):
    """There is no such file, or it may not be read; the text says what to do."""


class FileStore(Protocol):
    """A file, and room for a report beside it."""

    @property
    def report(self) -> str:
        """Where `write_report` writes."""

    @contextmanager
    def open(self) -> Iterator[Lines]:
        """The file as a stream. Raises `BadSource`; at its end, too, if it was changed meanwhile."""

    def write_report(self, content: IO[bytes]) -> None:
        """Puts the whole report in place of an older one, or changes nothing. Raises `BadSource` if the file is not
        the one that was read any more.
        """


class _Same:
    """Tells whether a file is still what it was: one that somebody is still writing must not be taken as whole.

    ``now``: what its place says of it; ``before``: what it said when the file was opened.
    """

    def __init__(self, name: str, before: object, now: Callable[[], object]) -> None:
        self._name, self._before, self._now = name, before, now

    def check(self) -> None:
        if self._now() != self._before:
            raise BadSource(
                f"{self._name} was changed while it was read: is it still being written? Run it again when it is whole"
            )


class _ToTheEnd:
    """The lines of a file that has to be the same when they end."""

    def __init__(self, stream: Lines, same: _Same) -> None:
        self._stream, self._same = stream, same

    def readline(self, size: int = -1, /) -> bytes:
        line = self._stream.readline(size)
        if not line:
            self._same.check()
        return line


class Local:
    """A file in a folder. ``roots``: the folders below which files may be read."""

    def __init__(self, path: Path, roots: list[Path]) -> None:
        try:
            self._path = path.resolve()
        except (OSError, RuntimeError):  # too long, a circle of links
            raise BadSource(f"{str(path)!r:.200} is no path of a file") from None
        if not any(self._path.is_relative_to(root.resolve()) for root in roots):
            raise BadSource(f"{path} is not below any of the plan's data.sources")
        self._same: _Same | None = None

    @property
    def report(self) -> str:
        return f"{self._path}{REPORT}"

    @contextmanager
    def open(self) -> Iterator[Lines]:
        try:
            if not stat.S_ISREG(self._path.stat().st_mode):
                raise BadSource(f"{self._path} is not a file")
            self._same = _Same(str(self._path), self._state(), self._state)
            stream = self._path.open("rb", buffering=BUFFER_BYTES)
        except OSError as error:
            raise BadSource(f"{self._path} cannot be read: {error.strerror}") from None
        with stream:
            yield _ToTheEnd(stream, self._same)

    def _state(self) -> object:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def write_report(self, content: IO[bytes]) -> None:
        if self._same:
            self._same.check()
        draft = Path(f"{self.report}.{os.getpid()}.new")
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                while data := content.read(BUFFER_BYTES):
                    file.write(data)
            draft.replace(self.report)
        except OSError:
            with suppress(OSError):
                draft.unlink()
            raise


class InS3:
    """An object in S3, below one of ``roots``, which are addresses that end with a slash."""

    def __init__(self, uri: str, roots: list[str], client: Callable[[], Any]) -> None:
        found = re.fullmatch(r"s3://([^/]+)/(.+[^/])", uri)
        if not found or not any(uri.startswith(root) for root in roots):
            raise BadSource(f"{uri} is not below any of the plan's data.sources")
        self._uri, self._bucket, self._key = uri, found.group(1), found.group(2)
        self._client = client()
        self._same: _Same | None = None

    @property
    def report(self) -> str:
        return f"{self._uri}{REPORT}"

    @contextmanager
    def open(self) -> Iterator[Lines]:
        found = self._ask(self._client.get_object)
        if found is None:
            raise BadSource(f"there is no {self._uri}")
        self._same = _Same(self._uri, found["ETag"], self._state)
        with io.BufferedReader(_Raw(found["Body"]), BUFFER_BYTES) as stream:
            yield _ToTheEnd(cast("BinaryIO", stream), self._same)

    def _state(self) -> object:
        return (self._ask(self._client.head_object) or {}).get("ETag")

    def _ask(self, question: Callable[..., Any]) -> Any:
        """None when there is no such object."""
        from botocore.exceptions import ClientError

        try:
            return question(Bucket=self._bucket, Key=self._key)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("404", "NoSuchKey", "NoSuchBucket", "NotFound"):
                return None
            raise

    def write_report(self, content: IO[bytes]) -> None:
        if self._same:
            self._same.check()
        self._client.upload_fileobj(content, self._bucket, f"{self._key}{REPORT}")


class _Raw(io.RawIOBase):
    """S3's answer as Python's streams want it. ``read`` raises when fewer bytes come than were announced."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._body.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._body.close()
        super().close()


def place(source: str, roots: tuple[str, ...], client: Callable[[], Any]) -> FileStore:
    """The file that ``source`` names. Raises `BadSource` unless it lies below one of ``roots``."""
    if not source.isprintable():
        raise BadSource(f"{source!r:.200} has characters that no name of a file should have")
    if source.startswith("s3://"):
        return InS3(source, [root for root in roots if root.startswith("s3://")], client)
    if not source.startswith("/"):
        raise BadSource(f"{source!r} is neither s3://bucket/key nor an absolute path")
    return Local(Path(source), [Path(root) for root in roots if root.startswith("/")])

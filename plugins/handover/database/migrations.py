"""What a release's migrations are, and whether they may run: pure decisions, no I/O (plan 3.1 and 3.2).

A bundle is what the release's image carries: ``<name>/migration.sql`` in the order of names, as Prisma lays them out,
and ``<name>/down.sql``, which undoes it. Prisma itself notices neither an edited nor a missing migration that was
applied before; `drift` does.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import io
import re
import tarfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath

from handover.database import statements

MAX_BYTES = 32 * 1024 * 1024
"""Of an unpacked bundle."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")


class BundleError(ValueError):
    """This is no folder of migrations, or none that can be trusted."""


@dataclass(frozen=True)
class Script:
    """One migration. ``sql`` and ``down`` are the files as they are, byte for byte."""

    name: str
    sql: bytes = field(repr=False)
    down: bytes | None = field(default=None, repr=False)

    @cached_property
    def checksum(self) -> str:
        """As Prisma keeps it."""
        return hashlib.sha256(self.sql).hexdigest()

    @cached_property
    def statements(self) -> list[str]:
        return statements.split(self.sql.decode("utf-8"))

    @property
    def transactional(self) -> bool:
        """Whether it all happens or nothing."""
        return not any(statements.needs_no_transaction(s) for s in self.statements)

    @property
    def problem(self) -> str | None:
        """Why our runner cannot keep its promise for this script."""
        try:
            found = self.statements
        except UnicodeDecodeError:
            return f"{self.name}: migration.sql is not UTF-8"
        if any(statements.controls_transaction(s) for s in found):
            return (
                f"{self.name}: BEGIN, COMMIT and the like are not allowed, every migration is one transaction already"
            )
        alone = [s for s in found if statements.needs_no_transaction(s)]
        if alone and len(found) > 1:
            return f"{self.name}: {alone[0][:60]!r} runs in no transaction, so it must be alone in its file"
        return None


@dataclass(frozen=True)
class Bundle:
    """The migrations of one release, oldest first."""

    scripts: tuple[Script, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(script.name for script in self.scripts)

    def script(self, name: str) -> Script | None:
        return next((script for script in self.scripts if script.name == name), None)

    @classmethod
    def from_files(cls, files: dict[str, bytes]) -> Bundle:
        """``files``: contents by ``<name>/migration.sql`` and ``<name>/down.sql``."""
        names = sorted(path.rpartition("/")[0] for path in files if path.endswith("/migration.sql"))
        return cls(tuple(Script(name, files[f"{name}/migration.sql"], files.get(f"{name}/down.sql")) for name in names))

    @classmethod
    def from_base64(cls, text: str) -> Bundle:
        """From ``tar -cz . | base64``. Raises `BundleError`."""
        try:
            packed = base64.b64decode("".join(text.split()), validate=True)
            with gzip.open(io.BytesIO(packed)) as unpacking:
                data = unpacking.read(MAX_BYTES + 1)
        except (binascii.Error, OSError, EOFError, zlib.error) as error:
            raise BundleError(f"not an archive: {error}") from None
        if len(data) > MAX_BYTES:
            raise BundleError(f"more than {MAX_BYTES} bytes of migrations")
        return cls.from_tar(data)

    @classmethod
    def from_tar(cls, data: bytes) -> Bundle:
        """From a tar file in memory; nothing is ever written to a path that it names. Raises `BundleError`."""
        files: dict[str, bytes] = {}
        try:
            with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
                for member in archive:
                    path = _path(member)
                    if path is not None and (content := archive.extractfile(member)) is not None:
                        files[path] = content.read()
        except tarfile.TarError as error:
            raise BundleError(f"not an archive: {error}") from None
        return cls.from_files(files)


def _path(member: tarfile.TarInfo) -> str | None:
    """``<name>/<file>`` of a member that belongs to a bundle, None for one to pass over."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise BundleError(f"{member.name!r} points out of the folder")
    if member.isdir():
        return None
    if not member.isreg():
        raise BundleError(f"{member.name!r} is neither a file nor a folder")
    if len(path.parts) != 2 or path.name not in ("migration.sql", "down.sql"):
        return None
    if not _NAME.fullmatch(path.parts[0]):
        raise BundleError(f"{path.parts[0]!r} is no name of a migration")
    return str(path)


@dataclass(frozen=True)
class Row:
    """One row of ``_prisma_migrations``. ``xid``: the transaction that wrote the row last."""

    id: str
    name: str
    checksum: str
    finished: bool
    rolled_back: bool
    logs: str | None
    xid: str = ""

    @property
    def applied(self) -> bool:
        return self.finished and not self.rolled_back

    @property
    def open(self) -> bool:
        """Begun and neither finished nor rolled back: it failed, was killed, or still runs."""
        return not self.finished and not self.rolled_back


def applied(rows: Iterable[Row]) -> tuple[str, ...]:
    """Names of what is applied, oldest first."""
    return tuple(sorted({row.name for row in rows if row.applied}))


def pending(bundle: Bundle, rows: Sequence[Row]) -> tuple[Script, ...]:
    """What this release adds."""
    done = set(applied(rows))
    return tuple(script for script in bundle.scripts if script.name not in done)


def drift(bundle: Bundle, rows: Iterable[Row]) -> list[str]:
    """How the database's history departs from the release: applied migrations that were edited or are missing."""
    problems = []
    for row in rows:
        if row.applied:
            script = bundle.script(row.name)
            if script is None:
                problems.append(f"{row.name} is applied, and the release does not have it")
            elif script.checksum != row.checksum:
                problems.append(f"{row.name} was edited after it was applied")
    return problems


def stuck(rows: Iterable[Row], own_mark: str | None = None) -> list[str]:
    """Migrations that began and never ended. Prisma refuses to go on after one of them, and so do we.

    ``own_mark``: rows whose log is this one are not stuck: nothing of them can be left behind.
    """
    return [
        f"{row.name} began and did not end: see whether it left something, then mark it with prisma migrate resolve"
        for row in rows
        if row.open and (own_mark is None or row.logs != own_mark)
    ]


def unfit(scripts: Iterable[Script]) -> list[str]:
    """Why these scripts cannot be run by us."""
    return [problem for script in scripts if (problem := script.problem)]

"""What a release's migrations are, and whether they may run: pure decisions, no I/O (plan 3.1 and 3.2).

A bundle is what the release's image carries: ``<name>/migration.sql`` in the order of names, as Prisma lays them out,
and ``<name>/down.sql``, which undoes it. Prisma itself notices neither an edited nor a missing migration that was
applied before; `drift` does.
"""

from __future__ import annotations

import base64
import codecs
import gzip
import hashlib
import io
import re
import tarfile
import zlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath

from handover.database import statements
from handover.database.quoting import without_texts
from handover.database.statements import Statement

FILES = ("migration.sql", "down.sql")
LOCK_FILE = "migration_lock.toml"
"""What Prisma puts into its folder before there is a migration."""
MAX_BYTES = 32 * 1024 * 1024
"""Of an unpacked bundle."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")


class BundleError(ValueError):
    """This is no folder of migrations, or none that can be trusted."""


@dataclass(frozen=True)
class SqlFile:
    """``migration.sql`` or ``down.sql``, byte for byte, and how the runner sends it."""

    kind: str
    data: bytes = field(repr=False)

    @cached_property
    def parsed(self) -> list[Statement]:
        """Its statements, in order; none where nobody can read it."""
        return [] if self.unreadable else statements.read(self.data.decode("utf-8"))

    @property
    def statements(self) -> list[str]:
        """Their texts, in the order in which PostgreSQL counts them."""
        return [s.text for s in self.parsed if not _ours(s)]

    @property
    def alone(self) -> Statement | None:
        """The statement that runs in no transaction, where it is one."""
        found = [one for one in self.parsed if not one.limits]
        return found[0] if len(found) == 1 and found[0].alone else None

    @property
    def atomic(self) -> bool:
        """Whether all of it or nothing is done for whoever sends it as one query, as Prisma does."""
        found = self.parsed
        inner = found[1:-1] if len(found) > 1 and found[0].opens and found[-1].closes else found
        by_itself = len(found) == 1 and found[0].words[0] in ("CALL", "DO")  # may have a COMMIT within
        return not (self.unreadable or by_itself or any(one.controls or one.alone for one in inner))

    @property
    def sent(self) -> bytes:
        """What is sent. BEGIN and COMMIT are left out: all of it is one transaction anyway. So are limits of its own:
        with them a statement would wait for a lock for longer than the plan allows, and everybody behind it.
        """
        return self._without([(s.start, s.end) for s in self.parsed if _ours(s)])

    @property
    def joined(self) -> bytes:
        """The same for a transaction that does more than this: without CONCURRENTLY."""
        if (one := self.alone) is None or "CONCURRENTLY" not in one.words:
            return self.sent
        place = one.places[one.words.index("CONCURRENTLY")]
        return self._without([(place, place + len("CONCURRENTLY"))])

    def _without(self, parts: Sequence[tuple[int, int]]) -> bytes:
        text, kept, position = self.data.decode("utf-8"), list[str](), 0
        for start, end in parts:
            kept += [text[position:start], " " * (end - start)]
            position = end
        return "".join([*kept, text[position:]]).encode()

    @cached_property
    def unreadable(self) -> str | None:
        """Why nobody can run it, or not all of it."""
        if b"\0" in self.data or self.data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return f"{self.kind} has NUL bytes or is UTF-16: save it as UTF-8"
        if self.data.startswith(codecs.BOM_UTF8):
            return f"{self.kind} begins with an invisible byte order mark: save it as UTF-8 without one"
        try:
            self.data.decode("utf-8")
        except UnicodeDecodeError:
            return f"{self.kind} is not UTF-8"
        return None

    @cached_property
    def problem(self) -> str | None:
        """Why our runner cannot keep its promise for this file."""
        if self.unreadable:
            return self.unreadable
        found = self.parsed
        for number, one in enumerate(found, 1):
            if one.problem:
                return f"{self.kind}, statement {number} ({without_texts(one.text)}): {one.problem}"
        return self._transactions(found)

    def _transactions(self, found: Sequence[Statement]) -> str | None:
        open_ = False
        for one in found:
            if one.controls and not (one.closes if open_ else one.opens):
                return (
                    f"{without_texts(one.text)!r}: but for pairs of BEGIN and COMMIT nothing of that kind is allowed,"
                    " every migration is one transaction already"
                )
            open_ ^= one.controls
        if open_:
            return f"{self.kind} has a BEGIN without its COMMIT"
        alone = [one for one in found if one.alone]
        if alone and self.alone is None:
            return f"{without_texts(alone[0].text)!r} runs in no transaction, so it must be alone in its file"
        return None


def _ours(statement: Statement) -> bool:
    """What the runner sees to by itself."""
    return statement.opens or statement.closes or statement.limits


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

    def matches(self, checksum: str) -> bool:
        """Whether this is what was applied, as Prisma sees it: with any ends of lines, and with the checksums of its
        old versions, which lost the zero of a byte below 16.
        """
        unix = self.sql.replace(b"\r\n", b"\n")
        digests = [hashlib.sha256(text).digest() for text in (self.sql, unix, unix.replace(b"\n", b"\r\n"))]
        return any(checksum in (digest.hex(), "".join(f"{byte:x}" for byte in digest)) for digest in digests)

    @cached_property
    def forward(self) -> SqlFile:
        return SqlFile("migration.sql", self.sql)

    @cached_property
    def back(self) -> SqlFile | None:
        """The way back."""
        return None if self.down is None else SqlFile("down.sql", self.down)

    @property
    def statements(self) -> list[str]:
        return self.forward.statements

    @property
    def transactional(self) -> bool:
        """Whether it all happens or nothing."""
        return self.forward.alone is None

    @property
    def problem(self) -> str | None:
        """Why our runner cannot keep its promise for this script, or for its way back."""
        found = self.forward.problem or self._way_back
        return f"{self.name}: {found}" if found else None

    @property
    def reversible(self) -> bool:
        """Whether it has a way back that can be run."""
        return self.back is not None and self._way_back is None

    @cached_property
    def _way_back(self) -> str | None:
        """What is wrong with the way back, if there is one."""
        if (back := self.back) is None:
            return None
        if back.problem:
            return back.problem if back.kind in back.problem else f"{back.kind}: {back.problem}"
        if not back.statements:
            return "down.sql has no statement: leave it out, or write SELECT 1 where there is nothing to undo"
        if (one := back.alone) and not (one.detaches or (one.concurrent and one.words[0] != "REINDEX")):
            return f"down.sql: {without_texts(one.text)!r} undoes nothing and runs in no transaction"
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
        except (ValueError, OSError, EOFError, zlib.error) as error:
            raise BundleError(f"not an archive: {error}") from None
        if len(data) > MAX_BYTES:
            raise BundleError(f"more than {MAX_BYTES} bytes of migrations")
        return cls.from_tar(data)

    @classmethod
    def from_tar(cls, data: bytes) -> Bundle:
        """From a tar file in memory; nothing is ever written to a path that it names. Raises `BundleError`."""
        files: dict[str, bytes] = {}
        folders, others = set[str](), set[PurePosixPath]()
        try:
            with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
                for member in archive:
                    path = _path(member)
                    if member.isdir():
                        folders.update(path.parts[:1])
                    elif len(path.parts) != 2 or path.name not in FILES:
                        others.add(path)
                    elif (content := archive.extractfile(member)) is not None:
                        files[str(path)] = content.read()
        except BundleError:
            raise
        except (tarfile.TarError, ValueError, LookupError, OverflowError, OSError, RecursionError) as error:
            raise BundleError(f"not an archive: {error or type(error).__name__}") from None
        if problems := _misplaced(files, folders, others):
            raise BundleError("this is no folder of migrations: " + "; ".join(problems))
        return cls.from_files(files)


def _path(member: tarfile.TarInfo) -> PurePosixPath:
    """Where a member lies below the folder."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise BundleError(f"{member.name!r} points out of the folder")
    if not member.isdir() and not member.isreg():
        raise BundleError(f"{member.name!r} is neither a file nor a folder")
    if not path.parts and not member.isdir():
        raise BundleError("there is a file without a name in it")
    if member.issparse():
        raise BundleError(f"{member.name!r} is sparse: it may say to be of any size")
    return path


def _misplaced(files: Iterable[str], empty: set[str], others: set[PurePosixPath]) -> list[str]:
    """Why these are not the files of a bundle: whatever could be a migration and would be passed over in silence.

    :param files: ``<name>/migration.sql`` and ``<name>/down.sql``
    :param empty: names of folders, also of those with files
    :param others: everything else
    """
    there = set(files)
    folders = empty | {path.partition("/")[0] for path in there} | {p.parts[0] for p in others if len(p.parts) > 1}
    problems = [f"{name!r} is no name of a migration" for name in sorted(folders) if not _NAME.fullmatch(name)]
    for name in sorted(folders):
        if f"{name}/migration.sql" not in there:
            inside = sorted(str(p) for p in others if p.parts[0] == name and p.suffix.lower() == ".sql")
            high = "; is the path one level too high?" if any(path.count("/") > 1 for path in inside) else ""
            problems.append(f"{name} has no migration.sql" + (f", but {inside[0]}{high}" if inside else ""))
    for path in sorted(others):
        if path.name.lower() in FILES and not (len(path.parts) > 1 and f"{path.parts[0]}/migration.sql" not in there):
            problems.append(f"{path}: {path.name.lower()} is looked for as <name>/{path.name.lower()}")
    if not there and not any(path.name == LOCK_FILE for path in others):
        problems.append("there is no migration in it")
    return problems


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

    def marked(self, marks: Collection[str]) -> bool:
        """Whether its log begins with one of these."""
        return any((self.logs or "").startswith(mark) for mark in marks)


def applied(rows: Iterable[Row]) -> tuple[str, ...]:
    """Names of what is applied, oldest first."""
    return tuple(sorted({row.name for row in rows if row.applied}))


def pending(bundle: Bundle, rows: Sequence[Row]) -> tuple[Script, ...]:
    """What this release adds."""
    done = set(applied(rows))
    return tuple(script for script in bundle.scripts if script.name not in done)


def rolled_back(scripts: Iterable[Script], rows: Iterable[Row]) -> list[str]:
    """Names of those that were applied, or begun, and rolled back before: they would run again."""
    undone = {row.name for row in rows if row.rolled_back}
    return [script.name for script in scripts if script.name in undone]


def drift(bundle: Bundle, rows: Iterable[Row]) -> list[str]:
    """How the database's history departs from the release: applied migrations that were edited or are missing."""
    problems = []
    for row in rows:
        if row.applied:
            script = bundle.script(row.name)
            if script is None:
                problems.append(f"{row.name} is applied, and the release does not have it")
            elif not script.matches(row.checksum):
                problems.append(f"{row.name} was edited after it was applied")
    return problems


def stuck(rows: Iterable[Row], own_marks: Collection[str] = ()) -> list[str]:
    """Migrations that began and never ended. Prisma refuses to go on after one of them, and so do we.

    ``own_marks``: rows whose log begins with one of these are not stuck: what is left of them is known.
    """
    return [
        f"{row.name} began and did not end: see whether it left something, then mark it with prisma migrate resolve"
        for row in rows
        if row.open and not row.marked(own_marks)
    ]


def unreadable(scripts: Iterable[Script]) -> list[str]:
    """Why nobody can run these scripts, or not all of them; also for the release's own Prisma."""
    return [f"{script.name}: {problem}" for script in scripts if (problem := script.forward.unreadable)]


def unfit(scripts: Iterable[Script]) -> list[str]:
    """Why these scripts cannot be run by us."""
    return [problem for script in scripts if (problem := script.problem)]

"""Reads a backup back into a database of its own (plan 1.2 "restore test", rollback step 4 method 2)."""

from __future__ import annotations

import re
import subprocess
import tempfile
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any

from handover import clock
from handover.adapters.messages import printed
from handover.adapters.postgres import Database, server_major
from handover.database import catalog, digest, encryption, locales, packing, storage, tools
from handover.models.deployment import BackupRecord

if TYPE_CHECKING:
    from psycopg import Connection


OF_THE_CLUSTER = (
    "PUBLICATION", "PUBLICATION TABLE", "PUBLICATION TABLES IN SCHEMA", "SUBSCRIPTION", "SUBSCRIPTION TABLE", "POLICY",
    "ROW SECURITY", "EVENT TRIGGER", "USER MAPPING", "SECURITY LABEL",
)  # fmt: skip
"""Kinds of entries in a backup that name roles or other servers, or need a superuser, and hold no data. Row security
without its policies would hide every row."""
SWITCHES = (
    "--no-owner", "--no-privileges", "--no-tablespaces", "--no-publications", "--no-subscriptions",
    "--no-security-labels", "--exit-on-error", "--no-password",
)  # fmt: skip
GOES_ALONG = ("COMMENT", "ACL", "SERVER", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW", "MATERIALIZED VIEW DATA")
"""Kinds that hold no data either: they are left out with what they are of."""
_PARTS = ("TRIGGER", "RULE", "DEFAULT", "STATISTICS")
"""Those of a relation; one that is left out takes them along."""
_UNNAMED = ("COMMENT", "ACL")
_ROWS = ("TABLE DATA", "SEQUENCE SET")
_TOLD_APART = "|".join(
    sorted({*OF_THE_CLUSTER, *GOES_ALONG, *_PARTS, *_ROWS, "EXTENSION", "TABLE", "TABLE ATTACH"}, key=len, reverse=True)
)
_ENTRY = re.compile(rf"^(?P<id>\d+); \d+ \d+ (?P<what>{_TOLD_APART}|[A-Z]+(?: [A-Z]+)*) (?P<which>.*)$")
_NEEDS = re.compile(r"^;\s+depends on: (?P<ids>[\d ]+)$")
_SPACE = re.compile(r"^SET default_tablespace = (?!'')(.+);$", re.MULTILINE)
_END_OURS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND usename = current_user"
_CREATABLE = """
SELECT name FROM pg_available_extension_versions v WHERE NOT superuser OR trusted
OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
"""


class RestoreFailed(Exception):
    """pg_restore did not accept the backup."""


@dataclass(frozen=True)
class Restored:
    """What was found in the restored database. ``left_out``: what was not restored, since the cluster has it and not
    the data."""

    counts: dict[str, int]
    objects: dict[str, int]
    seconds: float
    left_out: tuple[str, ...] = ()


@contextmanager
def scratch_database(server: Database, name: str, like: Database | None = None) -> Iterator[Database]:
    """An empty database of this name, dropped at the end; one that a killed try left is dropped first.

    :param like: the database whose backup it takes: it gets the same encoding, and the same
        locale where the server has it
    """
    with server.connect() as admin:
        _drop(admin, name)
        locales.create(admin, name, like)
    try:
        yield server.named(name)
    finally:
        with server.connect() as admin:
            _drop(admin, name)


def _drop(admin: Connection[Any], name: str) -> None:
    """Whoever is in it. FORCE gives up at a session that this role may not end, and autovacuum's are no role's; DROP
    DATABASE without it makes them go by itself, and waits some seconds for the others.
    """
    import psycopg
    from psycopg import sql

    drop = sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name))
    try:
        admin.execute(drop + sql.SQL(" WITH (FORCE)"))
    except psycopg.errors.InsufficientPrivilege:
        admin.execute(_END_OURS, (name,))
        admin.execute(drop)


def restore(
    client: Any, record: BackupRecord, target: Database, *, open_with: encryption.BackupKey | None = None,
    timeout_seconds: float = 3600,
) -> Restored:  # fmt: skip
    """Streams a backup from S3 into an empty database; nothing of it is run before its hash is known and right.

    What belongs to the cluster and not to the data is left out and named: owners, rights, policies, tablespaces,
    publications, subscriptions, extensions that this role or server cannot have and what is made of them. Raises
    `handover.database.storage.BackupDamaged` (`handover.database.encryption.BadKey` is one) or `RestoreFailed`.
    """
    begin = clock.monotonic()
    with target.connect() as connection:
        pg_restore = tools.program("pg_restore", server_major(connection))
        creatable = {row[0] for row in connection.execute(_CREATABLE)}
    program = _Program(pg_restore, target, open_with, timeout_seconds)
    archive = storage.prove(client, record)
    contents = program.fed(archive, "--list", "--verbose")
    spaces = _SPACE.findall(program.fed(archive, "--schema-only", "--file=-"))
    wanted, left_out = _choose(contents, creatable)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as chosen:
        chosen.write(wanted)
        chosen.flush()
        program.fed(archive, *SWITCHES, f"--use-list={chosen.name}", f"--dbname={target.name}")
    left_out += [f"tablespace {name}" for name in dict.fromkeys(spaces)]
    with target.connect() as connection:
        locales.read_names(connection)
        counts, objects = catalog.row_counts(connection), catalog.object_counts(connection)
    return Restored(counts, objects, clock.monotonic() - begin, tuple(left_out))


@dataclass(frozen=True)
class _Entry:
    """One of a backup's table of contents. ``needs``: numbers of others."""

    line: str
    number: str
    what: str
    which: str
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.what.lower()} {self.which.removeprefix('- ').strip()}"


def _entries(contents: str) -> list[_Entry]:
    """Of what ``pg_restore --list --verbose`` says: each before those that need it."""
    found = list[_Entry]()
    for line in contents.splitlines():
        if entry := _ENTRY.match(line):
            found.append(_Entry(line, entry["id"], entry["what"], entry["which"]))
        elif found and (needs := _NEEDS.match(line)):
            found[-1] = replace(found[-1], needs=tuple(needs["ids"].split()))
    return found


def _choose(contents: str, creatable: Collection[str]) -> tuple[str, list[str]]:
    """The entries that are restored, as pg_restore takes them, and the names of those that are not. Raises
    `RestoreFailed` where something of the service itself needs one of these.
    """
    entries, out = _entries(contents), dict[str, _Entry]()
    numbers = {entry.number for entry in entries}
    foreign = {
        entry.number
        for entry in entries
        if entry.what == "EXTENSION" and entry.which.removeprefix("- ").strip() not in creatable
    }
    for entry in entries:
        needed = [out[number] for number in entry.needs if number in out]
        goes_along = any(one.what in GOES_ALONG for one in needed) and entry.what in _PARTS
        rows_of_extension = bool(foreign) and entry.what in _ROWS and not numbers.issuperset(entry.needs)
        if needed and not goes_along and entry.what not in (*GOES_ALONG, *OF_THE_CLUSTER, "EXTENSION"):
            raise RestoreFailed(f"{entry.name} needs {needed[0].name}, which this role or server cannot have")
        if needed or rows_of_extension or entry.what in OF_THE_CLUSTER or entry.number in foreign:
            out[entry.number] = entry
    wanted = [
        entry.line
        for entry in entries
        if entry.number not in out and not (entry.what == "COMMENT" and entry.which.startswith("- EXTENSION "))
    ]
    return "\n".join(wanted) + "\n", [entry.name for entry in out.values() if entry.what not in _UNNAMED]


@dataclass(frozen=True)
class _Program:
    """pg_restore, whose input is a backup."""

    path: str
    target: Database
    open_with: encryption.BackupKey | None
    timeout_seconds: float

    def fed(self, archive: storage.Proven, *arguments: str) -> str:
        """What it says on its output. Raises `RestoreFailed` or `handover.database.storage.BackupDamaged`."""
        with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                [self.path, *arguments], stdin=subprocess.PIPE, stdout=output, stderr=errors,
                env=self.target.environment(),
            )  # fmt: skip
            timer = threading.Timer(self.timeout_seconds, process.kill)
            timer.start()
            try:
                _pump(archive, self.open_with, process)
                code = process.wait()
            finally:
                timer.cancel()
                process.kill()
                process.wait()
            said, answer = (_read(file) for file in (errors, output))
        if code != 0:
            raise RestoreFailed(f"pg_restore ended with {code}: {printed(said)}")
        return answer.decode("utf-8", "replace")


def _read(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _pump(archive: storage.Proven, key: encryption.BackupKey | None, process: subprocess.Popen[bytes]) -> None:
    """Feeds pg_restore until it wants no more."""
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin, encryption.decrypted(archive.read(), key) as blocks:
        for data in packing.unpacked(blocks):
            process.stdin.write(data)


def other_contents(record: BackupRecord, restored: Database) -> list[str]:
    """Tables of the backup whose restored rows are not those that were backed up, in words; empty for a record without
    digests. Raises psycopg's errors.
    """
    with restored.connect() as connection:
        locales.read_names(connection)
        there = [table for table in record.digests if catalog.find(connection, table) is not None]
        now = digest.content_digests(connection, there)
    return [
        f"{table}: as many rows came back, but not with what was backed up"
        for table in there
        if now[table].digest != record.digests[table] and now[table].rows == record.counts.get(table)
    ]


def differences(record: BackupRecord, restored: Restored) -> list[str]:
    """What the restored database lacks or has too much, in words; empty when it is what was backed up."""
    before, after = record.counts | record.objects, restored.counts | restored.objects
    return [
        f"{name}: {before.get(name, 'none')} backed up, {after.get(name, 'none')} restored"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]

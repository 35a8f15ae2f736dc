"""Where a PostgreSQL database is and how to speak with it: one value for psycopg, asyncpg and PostgreSQL's programs.

The password is in no representation and on no command line: programs get it through their environment. What server,
database and role have set for sessions is for the service; a session of ours sets what it relies on (`SESSION`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from handover.adapters import messages
from handover.adapters.children import harmless
from handover.adapters.http import names_loopback
from handover.models.annotations import AGENT

if TYPE_CHECKING:
    from collections.abc import Mapping

    import asyncpg
    import psycopg

CONNECT_SECONDS = 10
VARIABLES = {
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslcrl": "PGSSLCRL",
    "channel_binding": "PGCHANNELBINDING",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}
"""libpq options that an Airflow connection may carry in its extra, and the variables of PostgreSQL's programs."""
TLS = ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl")
VERIFIED = ("verify-ca", "verify-full")
"""Values of ``sslmode`` with which a server has to show a certificate that is believed."""

SCHEMA = "public"
"""Where the service's tables are, and the only one in the search path: no schema that appears later hides them."""
LOCK_SECONDS = 60
"""Nothing of ours waits longer for a lock, unless it says so."""
SESSION = {
    "application_name": AGENT,
    "search_path": SCHEMA,
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "DateStyle": "ISO",  # the order of day and month stays the server's
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "row_security": "off",  # a policy that would hide rows is an error
    "default_transaction_read_only": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "statement_timeout": "0",
    "lock_timeout": f"{LOCK_SECONDS}s",
    "transaction_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "client_connection_check_interval": "100ms",  # what we are not there for any more is not gone on with
    "tcp_keepalives_idle": "10",  # nor where our machine is gone
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
"""What every session of ours has, whatever the defaults of server, database and role are; the time zone stays theirs.
Set by a query, since a pool refuses unknown options at the start of a session."""
_VALUES = ", ".join(f"('{name}', '{value}')" for name, value in SESSION.items())
_SET = f"""
SELECT pg_catalog.set_config(s.name, v.value, false) FROM pg_catalog.pg_settings s
JOIN (VALUES {_VALUES}) v (name, value) ON v.name OPERATOR(pg_catalog.=) s.name
"""  # noqa: S608 - an older server does not know all names, so it is asked for them


def settle(connection: psycopg.Connection[Any]) -> None:
    """Makes a session what a new one of ours is, but for its advisory locks.

    Within a transaction too; then temporary tables stay until `forget`.
    """
    connection.execute("RESET SESSION AUTHORIZATION")
    connection.execute("RESET ROLE")
    connection.execute("RESET ALL")
    connection.execute(_SET.encode())


def forget(connection: psycopg.Connection[Any]) -> None:
    """`settle`, and drops what belongs to the session: temporary tables, cursors, prepared statements, channels."""
    settle(connection)
    for what in ("CLOSE ALL", "DEALLOCATE ALL", "UNLISTEN *", "DISCARD SEQUENCES", "DISCARD TEMP"):
        connection.execute(what.encode())


def cause(error: psycopg.Error) -> str:
    """What went wrong, for people: without values, and without what PostgreSQL tells beside it (DETAIL, CONTEXT)."""
    if (error.sqlstate or "")[:2] in _OWN_WORDS or error.diag.source_function in _OWN_FUNCTIONS:
        return messages.RAISED
    said = error.diag.message_primary or str(error).partition("\n")[0]
    itself = error.diag.statement_position is not None and error.diag.context is None
    return messages.masked(said, of_statement=itself)


_OWN_WORDS = ("P0", "38")
"""Classes of errors that functions of the service raise: in PL/pgSQL and in other languages."""
_OWN_FUNCTIONS = ("exec_stmt_raise", "exec_stmt_assert")
"""Of PostgreSQL, through which PL/pgSQL raises whatever class it likes."""


def secured(host: str, options: Mapping[str, str]) -> dict[str, str]:
    """The options of a session with a server: off this machine its certificate has to bear the host's name
    (``verify-full``) unless they say otherwise. Without ``sslrootcert`` this machine's authorities are believed, from
    their file, since not every libpq finds what it calls ``system``.
    """
    found = dict(options) if stays_here(host) else {"sslmode": "verify-full", **options}
    if found.get("sslmode") == "verify-full" and found.get("sslrootcert", "system") == "system":
        found["sslrootcert"] = _authorities()
    return found


def stays_here(host: str) -> bool:
    """Whether what is sent to a host, as libpq takes one or several, stays on this machine."""
    return all(one.startswith(("/", "@")) or names_loopback(one) for one in host.split(","))


def _authorities() -> str:
    """Those that https is verified by, too."""
    import ssl

    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    usual = ssl.get_default_verify_paths()
    return os.environ.get(usual.openssl_cafile_env) or usual.cafile or DEFAULT_CA_BUNDLE_PATH


@dataclass(frozen=True)
class Database:
    """One database on one server. ``options``: see `VARIABLES`."""

    host: str
    port: int
    name: str
    user: str
    password: str = field(default="", repr=False)
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_uri(cls, uri: str) -> Database:
        """From ``postgresql://user:password@host:port/name?sslmode=...`` or libpq's ``key=value`` form."""
        from psycopg.conninfo import conninfo_to_dict

        found = {key: str(value) for key, value in conninfo_to_dict(uri).items() if value is not None}
        user = found.get("user", "postgres")
        return cls(
            host=found.get("host", "127.0.0.1"),
            port=int(found.get("port", 5432)),
            name=found.get("dbname", user),
            user=user,
            password=found.get("password", ""),
            options=_known(found),
        )

    @classmethod
    def of(cls, connection: Any, extra: dict[str, Any]) -> Database:
        """From an Airflow connection of type postgres, and its extra."""
        return cls(
            host=connection.host or "127.0.0.1",
            port=int(connection.port or 5432),
            name=connection.schema or connection.login or "postgres",
            user=connection.login or "postgres",
            password=connection.password or "",
            options=_known(extra),
        )

    @property
    def unverified(self) -> str:
        """Why somebody on the way could answer for this server, "" where nobody can."""
        mode = secured(self.host, dict(self.options)).get("sslmode", "")
        return "" if stays_here(self.host) or mode in VERIFIED else f"sslmode={mode}"

    @property
    def server(self) -> tuple[str, int]:
        return self.host, self.port

    def named(self, name: str) -> Database:
        """Another database of the same server."""
        return replace(self, name=name)

    def connect(self, *, autocommit: bool = True, wait_seconds: int = CONNECT_SECONDS) -> psycopg.Connection[Any]:
        """A session of our own (`SESSION`); it ends by itself when the network does. psycopg waits 2 s or longer."""
        import psycopg

        options: dict[str, Any] = {
            "host": self.host, "port": self.port, "dbname": self.name, "user": self.user,
            "password": self.password or None, "application_name": AGENT, "connect_timeout": wait_seconds,
            "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "client_encoding": "UTF8",
            **secured(self.host, dict(self.options)),
        }  # fmt: skip
        connection = psycopg.connect(autocommit=True, prepare_threshold=None, **options)
        try:
            connection.execute(_SET.encode())
            connection.autocommit = autocommit
        except BaseException:
            connection.close()
            raise
        return connection

    async def open(self, *, command_timeout: float = 2.0, bare: bool = False) -> asyncpg.Connection:
        """The same for asyncio; a query without an answer for ``command_timeout`` seconds is an error.

        ``bare``: the session stays as the server gives it, for queries that people write for this role; it may be one
        of a pool, which others get after us.
        """
        import asyncpg

        known = {key: value for key, value in secured(self.host, dict(self.options)).items() if key in TLS}
        connection = await asyncpg.connect(
            dsn=f"postgresql:///?{urlencode(known)}", host=self.host, port=self.port, database=self.name,
            user=self.user, password=self.password or None, timeout=command_timeout, command_timeout=command_timeout,
            server_settings={"application_name": AGENT}, statement_cache_size=0,
        )  # fmt: skip
        try:
            if not bare:
                await connection.execute(_SET)
        except BaseException:
            connection.terminate()
            raise
        return connection

    def environment(self) -> dict[str, str]:
        """For PostgreSQL's programs: what says which database, and nothing else that is a secret."""
        mine = {
            "PGHOST": self.host, "PGPORT": str(self.port), "PGDATABASE": self.name, "PGUSER": self.user,
            "PGPASSWORD": self.password, "PGAPPNAME": AGENT, "PGCONNECT_TIMEOUT": str(CONNECT_SECONDS),
        } | {VARIABLES[key]: value for key, value in secured(self.host, dict(self.options)).items()}  # fmt: skip
        return harmless() | {name: value for name, value in mine.items() if value}


def _known(options: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((key, str(options[key])) for key in VARIABLES if options.get(key))


def database(connection_id: str) -> Database:
    """The database behind an Airflow connection, for tasks."""
    from airflow.sdk import BaseHook

    connection = BaseHook.get_connection(connection_id)
    return Database.of(connection, connection.extra_dejson)


async def database_async(connection_id: str) -> Database:
    """The same for triggers: none of them may ask Airflow in a way that blocks, not even what to hide from the log."""
    from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson

    connection = await get_async_connection(connection_id)
    return Database.of(connection, await get_async_extra_dejson(connection))


def server_major(connection: psycopg.Connection[Any]) -> int:
    """18 for PostgreSQL 18.6."""
    return connection.info.server_version // 10000

"""How a database sorts, compares and reads letters: a copy takes over what the server has of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from handover.adapters.postgres import Database, cause, server_major

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.sql import Composed

log = logging.getLogger(__name__)
PROVIDERS_SINCE = 15
"""The version that knows several providers."""
_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}
_QUERY = """
SELECT pg_catalog.pg_encoding_to_char(encoding), pg_catalog.to_jsonb(d) FROM pg_catalog.pg_database d WHERE datname =
"""
_NAMES = """
SELECT nspname FROM pg_catalog.pg_namespace UNION ALL SELECT relname FROM pg_catalog.pg_class
UNION ALL SELECT attname FROM pg_catalog.pg_attribute WHERE attnum > 0
"""


@dataclass(frozen=True)
class Locale:
    """That of a database; ``name`` and ``rules``: of another provider than libc."""

    encoding: str
    collate: str
    ctype: str
    provider: str = "libc"
    name: str = ""
    rules: str = ""

    def __str__(self) -> str:
        return f"{self.name or self.ctype} of {self.provider} in {self.encoding}"

    def clause(self, major: int) -> Composed:
        """For CREATE DATABASE on a server of this version."""
        from psycopg import sql

        said = sql.SQL(" ENCODING {} LC_COLLATE {} LC_CTYPE {}").format(self.encoding, self.collate, self.ctype)
        if major >= PROVIDERS_SINCE or self.provider != "libc":
            said += sql.SQL(" LOCALE_PROVIDER {}").format(sql.SQL(self.provider))
        if self.name:
            said += sql.SQL(" {} {}").format(sql.SQL(f"{self.provider.upper()}_LOCALE"), sql.Literal(self.name))
        return said + sql.SQL(" ICU_RULES {}").format(self.rules) if self.rules else said


def of(connection: Connection[Any], database: str | None = None) -> Locale:
    """That of a database, or of the session's own. Every version of PostgreSQL names its columns its own way."""
    which = "pg_catalog.current_database()" if database is None else "%s"
    found = connection.execute((_QUERY + which).encode(), None if database is None else (database,)).fetchone()
    assert found is not None
    encoding, row = found
    return Locale(
        encoding, row["datcollate"], row["datctype"], _PROVIDERS.get(row.get("datlocprovider", "c"), "unknown"),
        row.get("datlocale") or row.get("daticulocale") or "", row.get("daticurules") or "",
    )  # fmt: skip


def read_names(connection: Connection[Any]) -> None:
    """In a database without an encoding (SQL_ASCII) names may be in any: where they are no UTF-8, this session reads
    each byte as a letter, and finds them again.
    """
    from psycopg import errors

    if connection.info.parameter_status("server_encoding") != "SQL_ASCII":
        return
    try:
        connection.execute(_NAMES)
    except errors.CharacterNotInRepertoire:
        connection.execute("SET client_encoding = LATIN1")


def create(admin: Connection[Any], name: str, like: Database | None) -> None:
    """Makes an empty database with the locale of another one; where the server lacks it, with the encoding alone, in
    the locale C where the server's usual one is of another encoding (`missing` says so).
    """
    from psycopg import errors, sql

    made = sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name))
    if like is None:
        admin.execute(made)
        return
    usual, major = of(admin, "template0"), server_major(admin)
    with like.connect() as source:
        wanted = of(source)
    try:
        admin.execute(made + wanted.clause(major) if wanted != usual else made)
    except (errors.ProgrammingError, errors.DataError, errors.NotSupportedError) as error:
        if isinstance(error, errors.InsufficientPrivilege | errors.DuplicateDatabase):
            raise
        log.warning("%s is not in the locale %s, which this server does not have: %s", name, wanted, cause(error))
        plain = Locale(wanted.encoding, "C", "C")
        admin.execute(made + plain.clause(major) if wanted.encoding != usual.encoding else made)


def missing(copy: Database, like: Database) -> str:
    """The locale that a copy does not have, in words; "" when it is as its original's."""
    with copy.connect() as connection, like.connect() as source:
        now, wanted = of(connection), of(source)
    return "" if now == wanted else f"the locale {wanted} (this server lacks it, so it came back in {now})"

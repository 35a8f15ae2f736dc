"""Whether a server is production, by what PostgreSQL says of itself and not by its address."""

from __future__ import annotations

from typing import Any

from handover.adapters.postgres import Database

_IDENTITY = "SELECT system_identifier FROM pg_catalog.pg_control_system()"


class NotApart(Exception):
    """Nobody may restore anything there: it is production, a copy of its files, or nobody knows."""


def stay_apart(server: Database, production: Database) -> None:
    """Raises `NotApart` unless the two are known to be different servers; psycopg's errors when one does not answer."""
    if identity(server) == identity(production):
        raise NotApart("backup.restore_connection leads to production, or to a physical copy of it")


def identity(server: Database) -> Any:
    """Of its cluster, and so of every physical copy of it. Raises `NotApart` when this role may not ask."""
    import psycopg

    try:
        with server.connect() as connection:
            return connection.execute(_IDENTITY).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        raise NotApart(f"{server.user} may not call pg_control_system(): nobody knows which server this is") from None
